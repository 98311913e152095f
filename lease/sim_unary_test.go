package lease

import (
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// unaryClaim is a claim without a session, or its removal, at one holder.
type unaryClaim struct {
	version  int
	deadline time.Time // on the holder's clock
	gone     bool
}

// simWrite is a call of AddNode or RemoveNode, at the tracker that took it.
type simWrite struct {
	node    *simNode
	version int
	gone    bool
	end     time.Duration // the true deadline
	placed  *ring.Placement
	stored  map[int]*simTracker
	counted bool
	tries   int
}

// custody is an acknowledged unary claim, with the trackers that have kept it since
// and that all see. With none left, R trackers were lost at once.
type custody struct {
	version int
	end     time.Duration
	safe    map[int]*simTracker
}

// store takes a unary claim unless it has a later one.
func (t *simTracker) store(n *simNode, version int, gone bool, left time.Duration) bool {
	o, ok := t.unary[n]
	if ok && o.version > version {
		return false
	}
	deadline := t.now().Add(left)
	if ok && o.version == version && o.deadline.Before(deadline) {
		deadline = o.deadline
	}
	t.unary[n] = unaryClaim{version, deadline, gone}
	if k := t.s.custody[n]; k != nil && k.version == version && t.s.allSee(t) {
		k.safe[t.index] = t
	}
	return true
}

func (t *simTracker) expireUnary(now time.Time) {
	for n, u := range t.unary {
		if !now.Before(u.deadline) {
			delete(t.unary, n)
		}
	}
}

// unaryCall has some tracker take a call.
func (s *sim) unaryCall() {
	if s.calm || s.r.Float64() > s.cfg.Unary {
		return
	}
	t := s.someTracker()
	if t == nil {
		return
	}
	s.writes++
	w := &simWrite{version: s.writes, end: s.now + s.between(4*term, 20*term), stored: map[int]*simTracker{}}
	if s.r.IntN(3) == 0 {
		if n := s.someNode(); n != nil && n.proxy == nil {
			w.node, w.gone = n, s.r.IntN(2) == 0
			delete(s.custody, n) // nothing is promised until the call is acknowledged
			n.write = w
		}
	}
	if w.node == nil {
		w.node = s.newNode(nil)
		w.node.write = w
	}
	t.try(w)
}

// try writes to the holders that lack the claim, for two seconds and a half.
func (t *simTracker) try(w *simWrite) {
	s := t.s
	if w.tries++; w.tries > 12 || w.node.write != w {
		return
	}
	if w.placed == nil || !w.placed.SameList(t.placed, w.node.shard) {
		clear(w.stored)
		w.placed, w.counted = t.placed, false
	}
	sum := w.placed.ListSum(w.node.shard)
	for _, id := range w.placed.List(w.node.shard) {
		h := s.tracker(id)
		if h == nil || !h.up || w.stored[h.index] == h || !s.connected(&t.process, &h.process) {
			continue
		}
		s.at(s.now+s.between(0, simRoundTrip), &h.process, func() {
			if h.placed.ListSum(w.node.shard) != sum || w.node.write != w {
				return // refused under another list: who asks looks again
			}
			ok := h.store(w.node, w.version, w.gone, w.end-s.now)
			counted := ok && h.l.Snapshot().InForce(h.now(), w.node.shard)
			if !s.connected(&h.process, &t.process) {
				return
			}
			s.at(s.now+s.between(0, simRoundTrip), &t.process, func() {
				if ok && w.placed.ListSum(w.node.shard) == sum {
					w.stored[h.index] = h
					w.counted = w.counted || counted
					s.finish(t, w)
				}
			})
		})
	}
	s.at(s.now+200*time.Millisecond, &t.process, func() { t.try(w) })
}

// finish acknowledges a call that all R holders have stored, one under a list in force.
func (s *sim) finish(t *simTracker, w *simWrite) {
	if !w.counted || len(w.stored) < s.cfg.Replicas || w.node.write != w || s.custody[w.node] != nil || w.tries > 12 {
		return
	}
	w.tries = 100
	if w.gone {
		return
	}
	k := &custody{version: w.version, end: s.now + time.Duration(.9*float64(w.end-s.now)), safe: map[int]*simTracker{}}
	for i, h := range w.stored {
		if s.trackers[i] == h && h.up && h.unary[w.node].version == w.version && s.allSee(h) {
			k.safe[i] = h
		}
	}
	s.custody[w.node] = k
}

// allSee reports whether all running trackers have t in their views.
func (s *sim) allSee(t *simTracker) bool {
	for _, o := range s.trackers {
		if o != nil && o.up && !o.viewHas(t.index) {
			return false
		}
	}
	return t.up && s.trackers[t.index] == t
}

func (t *simTracker) viewHas(i int) bool {
	_, ok := t.placed.View().Member(memberID(i))
	return ok
}

// custodySees takes note of a new view, or of a crash: copies that somebody does not
// see are lost.
func (s *sim) custodySees(t *simTracker) {
	for _, k := range s.custody {
		for i, h := range k.safe {
			if !h.up || t.up && !t.viewHas(i) {
				delete(k.safe, i)
			}
		}
	}
}

// askCopies asks all other trackers for their unary claims of the shards that are in
// force here and not open.
func (t *simTracker) askCopies() {
	if !t.l.waiting() {
		return
	}
	nonce := t.l.Nonce(t.now())
	for _, m := range t.placed.View().Members() {
		o := t.s.tracker(m.ID)
		if o == nil || o == t {
			continue
		}
		if t.s.without("copies") {
			t.l.CopiesConfirmed(t.now(), m.ID, nonce, t.placed.Fingerprint())
			continue
		}
		if st := o.copyLinks[t.self]; o.up && (st == nil || st.broken) {
			if st = t.s.dial(&o.process, &t.process, func() {}, func() {}); st != nil {
				o.copyLinks[t.self] = st
			}
		}
		if st := o.copyLinks[t.self]; o.up && st != nil {
			t.s.send(st, &t.process, func() { o.sendCopies(t, st, nonce) })
		}
	}
}

// sendCopies sends a holder all unary claims that this tracker's view places there,
// and confirms.
func (t *simTracker) sendCopies(h *simTracker, st *stream, nonce Nonce) {
	type sent struct {
		n    *simNode
		u    unaryClaim
		left time.Duration
	}
	var l []sent
	now, placed := t.now(), t.placed.Held(h.self.ID)
	for n, u := range t.unary {
		if placed.Has(n.shard) && now.Before(u.deadline) {
			l = append(l, sent{n, u, u.deadline.Sub(now)})
		}
	}
	view := t.placed
	t.s.send(st, &t.process, func() {
		for _, c := range l {
			h.store(c.n, c.u.version, c.u.gone, c.left)
		}
		h.l.Know(h.now(), view)
		h.l.CopiesConfirmed(h.now(), t.self.ID, nonce, view.Fingerprint())
		h.settle()
	})
}

// tracker is the present or last life of a tracker.
func (s *sim) tracker(id ring.MemberID) *simTracker {
	for i, t := range s.trackers {
		if memberID(i) == id {
			return t
		}
	}
	return nil
}
