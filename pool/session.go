package pool

import (
	"context"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A sessionStream is the proxy's end of a session.
type sessionStream = node.Stream[*node.TrackerFrame, *node.ProxyFrame]

// A session is the one stream of this life of the proxy to one life of a tracker.
// It has two goroutines, which live as long as it: one sends, the other receives.
type session struct {
	c      *Client
	link   *link
	stream sessionStream
	cancel context.CancelCauseFunc
	bell   bell          // there may be something to send
	ended  chan struct{} // closed when both goroutines have ended

	// All below is guarded by Client.mu.

	inc     lease.Incarnation // that the Hello said
	proc    *process          // nil until Welcome
	window  int               // credits: claims that may be sent and not acknowledged
	goodbye bool              // one is to be sent
	toldHas bool              // the last Hello or Renew said that there are claims
	dropped []*node.Dropped   // to be sent

	// A shard is told, or in queued, or untold. Of a told shard each change is in
	// the queue.
	told   ring.ShardSet
	stored ring.ShardSet // of told, those of which the tracker has acknowledged all that it had to be sent at first
	fills  fifo[fill]    // Replaces on their way
	queued map[ring.Shard]marker
	marked ring.ShardSet // the keys of queued
	wrong  int           // how many shards are wrong at the tracker, as long as what mends them is in the queue

	ops      fifo[op]
	tail     uint64 // position of the youngest op that ever was in the queue, from 1
	sent     uint64 // position up to which everything is in frames that were sent
	releases fifo[release]
	leftover ring.ShardSet // what the tracker had at first beyond the view
	settled  time.Time     // until when leftover is kept all the same
	partial  snapshot      // the sender's: the shard of which some chunks have gone and the last has not
	sum      node.Sum      // of all that was sent, less the shard in partial
	full     bool          // the queue has reached its limit

	seq       uint64 // of the last frame that has one
	flights   fifo[flight]
	unacked   int    // claims in flights
	acked     uint64 // position that is acknowledged
	ackedSeq  uint64
	sinceView uint64 // the first seq that could be given after the present view was taken

	marks     []mark      // the youngest last
	nonce     lease.Nonce // the newest of this session
	nonceTail uint64      // the tail when it came
	nonceNew  bool        // no Renew has echoed it
	replaced  bool        // shards were replaced since the last Renew
	renewed   ring.Fingerprint

	counted   ring.ShardSet    // as the last State said
	stateView ring.Fingerprint // whose lists that State spoke of
	waits     fifo[wait]
	uncounted list[*item] // stored here, and not counted then
}

func newSession(c *Client, l *link, stream sessionStream, cancel context.CancelCauseFunc) *session {
	return &session{
		c: c, link: l, stream: stream, cancel: cancel,
		bell:    newBell(),
		ended:   make(chan struct{}),
		told:    ring.NewShardSet(c.shards),
		stored:  ring.NewShardSet(c.shards),
		counted: ring.NewShardSet(c.shards),
		queued:  make(map[ring.Shard]marker),
		marked:  ring.NewShardSet(c.shards),
	}
}

// ring wakes the sender.
func (s *session) ring() { s.bell.ring() }

// keeps reports whether the shard is told or queued.
func (s *session) keeps(shard ring.Shard) bool {
	if s.told.Has(shard) {
		return true
	}
	_, ok := s.queued[shard]
	return ok
}

// kept returns the shards that are told or queued.
func (s *session) kept() ring.ShardSet {
	set := s.told.Clone()
	set.Or(s.marked)
	return set
}

// pushLocked appends an op and returns its position.
func (s *session) pushLocked(o op) uint64 {
	if s.ops.len() == 0 {
		s.ring()
	}
	s.ops.push(o)
	s.tail++
	if !s.full && s.ops.len() >= s.c.cfg.QueueLimit {
		s.full = true
		s.c.full++
	}
	return s.tail
}

// poppedLocked notes that the n oldest ops have gone.
func (s *session) poppedLocked(n int) {
	s.ops.pop(n)
	s.sent += uint64(n)
	if s.full && s.ops.len() < s.c.cfg.QueueLimit {
		s.roomLocked()
	}
}

func (s *session) roomLocked() {
	s.full = false
	if s.c.full--; s.c.full == 0 {
		close(s.c.room)
		s.c.room = make(chan struct{})
	}
}

// keepLocked begins to keep a shard here of which the tracker has theirs: told
// where that is all there is, queued otherwise.
func (s *session) keepLocked(shard ring.Shard, theirs node.Sum) {
	if s.keeps(shard) {
		return
	}
	s.c.tellers[shard] = append(s.c.tellers[shard], s)
	if s.c.claims.sums[shard] == theirs {
		s.told.Add(shard)
		s.stored.Add(shard)
		s.proc.told.Add(shard)
		return
	}
	s.queueLocked(shard, theirs, theirs != node.Sum{})
}

// queueLocked wants a Replace of a shard of which the tracker will have before
// when its turn comes.
func (s *session) queueLocked(shard ring.Shard, before node.Sum, wrong bool) {
	s.told.Remove(shard)
	s.stored.Remove(shard)
	at := s.pushLocked(op{kind: opReplace, shard: shard})
	s.queued[shard] = marker{at, before, wrong}
	s.marked.Add(shard)
	if wrong {
		s.wrong++
	}
}

// mendLocked wants a Replace of a shard that differs at the tracker.
func (s *session) mendLocked(shard ring.Shard) {
	switch {
	case !s.keeps(shard):
		// A leftover that nothing here speaks of; it is released like any former
		// holder's.
		s.c.tellers[shard] = append(s.c.tellers[shard], s)
		s.queueLocked(shard, node.Sum{}, true)
	case s.told.Has(shard):
		s.queueLocked(shard, s.c.claims.sums[shard], true)
	}
}

// dropLocked ends the keeping of shards: none of them is told or queued after it.
// It returns what of them has been sent when the queue has gone so far, and how
// many of them are wrong at the tracker until then.
func (s *session) dropLocked(shards ring.ShardSet) (had node.Sum, wrong int) {
	for shard := range shards.All() {
		if m, ok := s.queued[shard]; ok {
			had.Add(m.before)
			if m.wrong {
				wrong++
			}
			delete(s.queued, shard)
			s.marked.Remove(shard)
		} else {
			had.Add(s.c.claims.sums[shard])
		}
		s.told.Remove(shard)
		s.stored.Remove(shard)
		tellers := s.c.tellers[shard]
		if i := slices.Index(tellers, s); i >= 0 {
			s.c.tellers[shard] = slices.Delete(tellers, i, i+1)
		}
	}
	return had, wrong
}

// forgoLocked forgoes, before another view is taken, the Replaces that wait to be
// sent of shards which that view does not place here and of which the tracker has
// nothing. While all trackers start, each view in between would else have most
// claims sent to where they do not belong.
func (s *session) forgoLocked(p *ring.Placement) {
	held := p.Held(s.link.id)
	forgone := ring.NewShardSet(s.c.shards)
	for shard, m := range s.queued {
		if !held.Has(shard) && !m.wrong && m.before == (node.Sum{}) && !s.proc.told.Has(shard) {
			forgone.Add(shard)
		}
	}
	if forgone.Empty() {
		return
	}
	s.dropLocked(forgone)
	s.marks = nil // a view that placed these shards here is not complete any more
	s.waits.filter(func(w wait) bool {
		if !forgone.Has(w.it.shard) {
			return false
		}
		w.it.of.refs--
		if !w.it.idle() {
			w.it.open--
			s.c.bereaveLocked(w.it)
		}
		return true
	})
}

// takeViewLocked keeps what a view that was just taken places here.
func (s *session) takeViewLocked(p *ring.Placement) {
	fresh := p.Held(s.link.id).Clone()
	fresh.AndNot(s.kept())
	for shard := range fresh.All() {
		s.keepLocked(shard, node.Sum{})
	}
	s.c.adoptAddsLocked(s, fresh)
	s.sinceView = s.seq + 1
	s.marks = append(slices.DeleteFunc(s.marks, func(m mark) bool { return m.view == p.Fingerprint() }), mark{p.Fingerprint(), s.tail})
	if len(s.marks) > maxMarks {
		s.marks = slices.Delete(s.marks, 0, len(s.marks)-maxMarks)
	}
	s.ring()
}

// maxMarks is how many views a session keeps in mind for which it may be
// complete.
const maxMarks = 4

// complete returns the newest view for which every claim that it places here has
// gone, among them all that were made before the newest nonce came; 0 for none.
//
// What counted at a former holder before this tracker's list came into force was
// made before the nonce which this tracker sent then. So a confirm that echoes
// the nonce, and goes after all that was made before it, misses no counted claim.
func (s *session) complete() ring.Fingerprint {
	if s.sent < s.nonceTail || s.partial.underWay() {
		return 0
	}
	for _, m := range slices.Backward(s.marks) {
		if s.sent >= m.at {
			return m.view
		}
	}
	return 0
}

// awaitLocked makes an item wait until all that is in the queue is stored here.
// It counts one more open place of the item.
func (s *session) awaitLocked(it *item) {
	it.open++
	if s.acked >= s.tail {
		s.storedLocked(it)
		return
	}
	it.of.refs++
	s.waits.push(wait{s.tail, it})
}

// storedLocked notes that the tracker has stored an item.
func (s *session) storedLocked(it *item) {
	it.open--
	it.stored++
	if it.of.adds && !it.counted && !it.of.over {
		if s.counted.Has(it.shard) {
			it.counted = true
		} else {
			it.of.refs++
			s.uncounted.add(it, dropIdle)
		}
	}
	it.settle()
}

// endLocked takes the session out of everything. What waited for it is counted as
// having no session here or, for a removal, waits for the end of the lease.
func (s *session) endLocked() {
	c := s.c
	if s.link.session == s {
		s.link.session = nil
	}
	if s.proc == nil {
		return
	}
	if s.proc.session == s {
		s.proc.session = nil
	}
	s.dropLocked(s.kept())
	if s.full {
		s.roomLocked()
	}
	now := c.cfg.Now()
	for _, w := range s.waits.all() {
		w.it.of.refs--
		switch {
		case w.it.idle():
		case w.it.of.adds:
			w.it.open--
			c.bereaveLocked(w.it)
		default:
			c.awaitLeaseLocked(w.it, s.proc, now)
		}
	}
	for _, it := range s.uncounted.all {
		it.of.refs--
		if !it.idle() {
			c.bereaveLocked(it)
		}
	}
	s.waits, s.uncounted, s.ops = fifo[wait]{}, list[*item]{}, fifo[op]{}
	c.changedLocked()
}

// bereaveLocked is for an item that has lost a session which it waited for.
func (c *Client) bereaveLocked(it *item) {
	if it.open == 0 && it.of.adds && !it.counted {
		c.orphanLocked(it)
		return
	}
	it.settle() // whoever waited may have given the item back by now
}
