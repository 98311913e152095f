package pool

import (
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A holder is what a session knows that decides what may be released elsewhere.
type holder struct {
	held    ring.ShardSet // by the present view
	stored  ring.ShardSet // whose claims it has told that it stored, all of them
	counted ring.ShardSet // our claims count there
	same    ring.ShardSet // the lists by which they count are the present view's
	recent  bool          // it has stored something that was sent after the present view was taken
}

// releasable returns the shards that former holders need not keep any more: those
// that some holder of the present view's list counts, by that very list, so that no
// earlier list is in force any more; and that every holder with a session has
// stored, so that a claim is never held by fewer than before.
func releasable(shards int, holders []holder) ring.ShardSet {
	free := ring.NewShardSet(shards)
	for _, h := range holders {
		if h.recent {
			counted := h.counted.Clone()
			counted.And(h.held)
			counted.And(h.same)
			free.Or(counted)
		}
	}
	for _, h := range holders {
		lacking := h.held.Clone()
		lacking.AndNot(h.stored)
		free.AndNot(lacking)
	}
	return free
}

// sameLists returns the shards of which two placements have the same list.
func sameLists(a, b *ring.Placement) ring.ShardSet {
	if b != nil && a.Fingerprint() == b.Fingerprint() {
		return ring.FullShardSet(a.Params().Shards)
	}
	same := ring.NewShardSet(a.Params().Shards)
	for i := range a.Params().Shards {
		if shard := ring.Shard(i); a.SameList(b, shard) {
			same.Add(shard)
		}
	}
	return same
}

// releaseLocked releases what sessions keep beyond the present view and may.
func (c *Client) releaseLocked() {
	if !c.beyond {
		return
	}
	present := c.present.placement
	beyond := make(map[*session]ring.ShardSet)
	for _, s := range c.welcomedLocked() {
		set := s.kept()
		if set.AndNot(present.Held(s.link.id)); !set.Empty() {
			beyond[s] = set
		}
	}
	if c.beyond = len(beyond) > 0; !c.beyond {
		return
	}
	var holders []holder
	for _, s := range c.welcomedLocked() {
		holders = append(holders, holder{
			held:    present.Held(s.link.id),
			stored:  s.stored,
			counted: s.counted,
			same:    c.sameAsPresentLocked(s.stateView),
			recent:  s.ackedSeq >= s.sinceView,
		})
	}
	free := releasable(c.shards, holders)
	now := c.cfg.Now()
	for s, set := range beyond {
		set.And(free)
		if now.Before(s.settled) { // a tracker that has just restarted has its claims before a view has it again
			set.AndNot(s.leftover)
		}
		if !set.Empty() {
			s.letGoLocked(set)
		}
	}
}

// letGoLocked queues a Release.
func (s *session) letGoLocked(shards ring.ShardSet) {
	had, wrong := s.dropLocked(shards)
	var delta node.Sum
	delta.Sub(had)
	s.releases.push(release{at: s.pushLocked(op{kind: opRelease, delta: delta}), shards: shards, wrong: wrong})
	// A view that placed these shards here is not complete any more.
	if n := len(s.marks); n > 1 {
		s.marks = s.marks[n-1:]
	}
}

// maxSame is how many views are compared with the present one without doing it
// again.
const maxSame = 16

// sameAsPresentLocked is sameLists of the present view and one that a State named.
func (c *Client) sameAsPresentLocked(fp ring.Fingerprint) ring.ShardSet {
	same, ok := c.same[fp]
	if !ok {
		if len(c.same) >= maxSame {
			clear(c.same)
		}
		same = sameLists(c.present.placement, c.placementLocked(fp))
		c.same[fp] = same
	}
	return same
}
