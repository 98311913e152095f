package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// errSilent is why a session ends whose tracker says nothing any more.
var errSilent = errors.New("the tracker has said nothing for 3 s")

// receive is the session's receiver. It returns why the session ended, never nil.
func (s *session) receive(ctx context.Context) error {
	silence := time.AfterFunc(node.PingTimeout, func() { s.cancel(errSilent) })
	defer silence.Stop()
	for {
		f, err := s.stream.Recv()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		silence.Reset(node.PingTimeout)
		if err := s.apply(f); err != nil {
			return err
		}
	}
}

// apply takes a frame's fields in their order.
func (s *session) apply(f *node.TrackerFrame) error {
	c := s.c
	if f.Differ != nil {
		c.cfg.Metrics.Count(MetricDiffers, 1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.End != nil && f.Welcome != nil { // refused: the Welcome is not meant
		return s.endedLocked(f.End)
	}
	if f.Welcome != nil {
		if err := s.welcomeLocked(f.Welcome); err != nil {
			return err
		}
	}
	if f.View != nil {
		c.advertisedLocked(s.link, *f.View)
	}
	if f.End != nil {
		return s.endedLocked(f.End)
	}
	if s.proc == nil {
		return nil
	}
	if f.State != nil {
		s.stateLocked(f.State)
	}
	if f.Ack != 0 {
		if err := s.ackLocked(f.Ack); err != nil {
			return err
		}
	}
	if f.State != nil || f.Ack != 0 {
		c.releaseLocked()
		c.changedLocked()
	}
	if f.Credits != 0 {
		s.window = int(f.Credits)
		s.ring()
	}
	if f.Nonce != 0 {
		s.proc.heard(f.Nonce, c.cfg.Now())
		s.nonce, s.nonceTail, s.nonceNew = f.Nonce, s.tail, true
		s.ring()
	}
	if f.Differ != nil {
		s.differLocked(f.Differ)
	}
	if f.Drop != nil {
		c.dropAskedLocked(s, f.Drop)
	}
	return nil
}

// welcomeLocked begins to keep here what the view places here and what the
// tracker already has.
func (s *session) welcomeLocked(w *node.Welcome) error {
	c := s.c
	present := c.present.placement
	switch {
	case s.proc != nil:
		return errors.New("welcomed twice")
	case w.Tracker.ID != s.link.id:
		return fmt.Errorf("the tracker at %s is %s: the view says %s; waiting for another view", s.link.addr, w.Tracker.ID, s.link.id)
	case w.Params.Shards != c.shards:
		return fmt.Errorf("tracker %s has %d shards, this pool has %d: is it of another pool?", w.Tracker.ID, w.Params.Shards, c.shards)
	case conflicts(w.Incarnation, s.inc):
		return c.supersededLocked(s, w.Incarnation)
	}
	s.proc = c.processLocked(w.Tracker)
	s.proc.session = s
	s.window = int(w.Credits)
	if s.window == 0 {
		s.window = node.MaxChunk
	}
	theirs := make(map[ring.Shard]node.Sum, len(w.Sums))
	wanted := present.Held(s.link.id).Clone()
	wanted.Or(s.proc.told)
	for _, sum := range w.Sums {
		if int(sum.Shard) >= c.shards {
			return fmt.Errorf("tracker %s sums shard %d: the pool has %d", w.Tracker.ID, sum.Shard, c.shards)
		}
		theirs[sum.Shard] = sum.Sum
		wanted.Add(sum.Shard)
		s.proc.told.Add(sum.Shard)
		s.sum.Add(sum.Sum)
	}
	for shard := range wanted.All() {
		s.keepLocked(shard, theirs[shard])
	}
	s.leftover = wanted
	s.leftover.AndNot(present.Held(s.link.id))
	s.settled = c.cfg.Now().Add(c.term.Renewal())
	s.marks = []mark{{present.Fingerprint(), s.tail}}
	s.sinceView = 1
	c.beyond = true // maybe
	c.adoptAddsLocked(s, s.kept())
	c.adoptRemovalsLocked(s)
	c.releaseLocked()
	c.changedLocked()
	s.ring()
	return nil
}

// adoptAddsLocked makes a session that has come to keep shards a place where the
// additions to them that are under way are stored and counted: those that have no
// other place, and those that wait at others, which may never count them now.
func (c *Client) adoptAddsLocked(s *session, shards ring.ShardSet) {
	c.orphans.filter(func(it *item) bool {
		if dropIdle(it) {
			return true
		}
		if !shards.Has(it.shard) {
			return false
		}
		it.of.refs--
		s.awaitLocked(it)
		return true
	})
	adopted := make(map[*item]bool) // an item may wait in several places
	adopt := func(it *item) {
		if it.of.adds && !it.counted && !it.idle() && shards.Has(it.shard) && !adopted[it] {
			adopted[it] = true
			s.awaitLocked(it)
		}
	}
	for _, p := range c.processes {
		other := p.session
		if other == nil || other == s {
			continue
		}
		for _, w := range other.waits.all() {
			adopt(w.it)
		}
		for _, it := range other.uncounted.all {
			adopt(it)
		}
	}
}

// adoptRemovalsLocked makes a session that was just welcomed a place where the
// removals are stored that wait for the end of the lease at its tracker.
func (c *Client) adoptRemovalsLocked(s *session) {
	c.dead.filter(func(d dead) bool {
		if dropIdleDead(d) {
			return true
		}
		if d.proc != s.proc {
			return false
		}
		d.it.of.refs--
		d.it.open--
		s.awaitLocked(d.it)
		return true
	})
}

// stateLocked takes over in which shards our claims count.
func (s *session) stateLocked(st *node.State) {
	s.stateView = st.View
	s.counted = ring.NewShardSet(s.c.shards)
	copy(s.counted, st.Counted)
	if st.Known {
		s.c.known = true
	}
	s.uncounted.filter(func(it *item) bool {
		if dropIdle(it) {
			return true
		}
		if !it.counted && !s.counted.Has(it.shard) {
			return false
		}
		it.of.refs--
		it.counted = true
		it.settle()
		return true
	})
}

// ackLocked notes that everything up to seq is stored.
func (s *session) ackLocked(seq uint64) error {
	if seq > s.seq {
		return fmt.Errorf("tracker acknowledges seq %d: the last one sent is %d", seq, s.seq)
	}
	n := 0
	for _, f := range s.flights.all() {
		if f.seq > seq {
			break
		}
		s.acked = f.upTo
		s.unacked -= f.claims
		n++
	}
	if n == 0 {
		return nil
	}
	s.flights.pop(n)
	s.ackedSeq = seq

	n = 0
	for _, w := range s.waits.all() {
		if w.at > s.acked {
			break
		}
		w.it.of.refs--
		s.storedLocked(w.it)
		n++
	}
	s.waits.pop(n)
	for s.fills.len() > 0 && s.fills.front().at <= s.acked {
		if shard := s.fills.front().shard; s.told.Has(shard) {
			s.stored.Add(shard)
		}
		s.fills.pop(1)
	}
	for s.releases.len() > 0 && s.releases.front().at <= s.acked {
		for shard := range s.releases.front().shards.All() {
			if !s.keeps(shard) {
				s.proc.told.Remove(shard)
			}
		}
		s.releases.pop(1)
	}
	if s.ops.len() > 0 {
		s.ring()
	}
	return nil
}

// differLocked wants a Replace of each shard whose sum differs from ours. That
// may be more than needed, since changes are on their way; it is never less.
func (s *session) differLocked(d *node.Differ) {
	c := s.c
	theirs := make(map[ring.Shard]node.Sum, len(d.Sums))
	for _, sum := range d.Sums {
		if int(sum.Shard) < c.shards {
			theirs[sum.Shard] = sum.Sum
		}
	}
	for shard := range s.told.Clone().All() {
		if theirs[shard] != c.claims.sums[shard] {
			s.mendLocked(shard)
		}
	}
	for shard := range theirs {
		if !s.keeps(shard) {
			s.mendLocked(shard)
		}
	}
	c.beyond = true // maybe
	s.ring()
}

// conflicts reports whether a known incarnation is another process's, and not an
// earlier one.
func conflicts(known, mine lease.Incarnation) bool {
	return known.Number > mine.Number || known.Number == mine.Number && known.Random != mine.Random
}

// endedLocked says what becomes of the client when a tracker ends its session.
func (s *session) endedLocked(e *node.End) error {
	c := s.c
	switch e.Reason {
	case node.EndRemoved:
		c.failLocked(fmt.Errorf("tracker %s: %w", s.link.id, node.ErrRemoved))
	case node.EndSuperseded:
		return c.supersededLocked(s, e.Known)
	}
	return &endError{e.Reason, e.Detail}
}

// An endError is a tracker's reason to end a session that may be opened again.
type endError struct {
	reason node.EndReason
	detail string
}

func (e *endError) Error() string {
	if e.detail == "" {
		return "the tracker ended the session: " + e.reason.String()
	}
	return "the tracker ended the session: " + e.reason.String() + ": " + e.detail
}

// supersededLocked is for an incarnation that is known and not ours. Until the
// seats have known ours it may be that our clock is behind, and a later number
// will do; afterwards another process has taken our place.
func (c *Client) supersededLocked(s *session, known lease.Incarnation) error {
	if c.known {
		c.failLocked(fmt.Errorf("tracker %s knows incarnation %d, this process is %d: %w", s.link.id, known.Number, c.inc.Number, node.ErrSuperseded))
		return node.ErrSuperseded
	}
	if c.inc.Number <= known.Number {
		c.inc.Number = known.Number + 1
		for _, l := range c.links {
			if l.session != nil && l.session.inc != c.inc {
				l.session.cancel(errLaterIncarnation)
			}
		}
	}
	return errLaterIncarnation
}

// errLaterIncarnation is why a session ends that a later incarnation begins anew.
var errLaterIncarnation = errors.New("the pool knows a later incarnation: saying hello with one after it")
