package node

import (
	"context"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// write tells the proxy what has changed, until ctx or the session ends. What has
// come together goes in one frame.
func (s *session) write(ctx context.Context, stream SessionStream, w *Welcome) error {
	ping := time.NewTicker(PingInterval)
	defer ping.Stop()
	next := time.NewTimer(0) // when the State may change by time alone
	defer next.Stop()
	told := &told{credits: s.t.cfg.Credits}
	frame := &TrackerFrame{Welcome: w, Nonce: s.nonceFirst}
	for {
		over := s.gather(frame, told)
		if *frame != (TrackerFrame{}) {
			if err := stream.Send(frame); err != nil {
				return err
			}
			ping.Reset(PingInterval)
		}
		if over {
			return nil
		}
		if at := told.next(); !at.IsZero() {
			next.Reset(max(at.Sub(s.t.cfg.Now()), time.Millisecond))
		}
		frame = &TrackerFrame{}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.t.closed:
			return ErrClosed
		case <-s.wake:
		case <-next.C:
		case <-ping.C:
			if now := s.t.cfg.Now().UnixNano(); now-s.heardAt.Load() > int64(PingTimeout) {
				return errSilent
			}
			if err := stream.Send(&TrackerFrame{}); err != nil {
				return err
			}
		}
	}
}

// told is what the proxy was told last.
type told struct {
	view  ViewSums
	state *State
	from  stateGrounds
	until time.Time // when the State changes by time alone; zero: never
	acked uint64

	credits uint32
	held    bool      // there is an Ack that waits for ackAt: the proxy must not grow
	ackAt   time.Time // the earliest time of the next Ack
}

// next is when there may be something to tell by time alone; zero: never.
func (t *told) next() time.Time {
	if t.held && (t.until.IsZero() || t.ackAt.Before(t.until)) {
		return t.ackAt
	}
	return t.until
}

// stateGrounds is what a State was worked out from.
type stateGrounds struct {
	counting *lease.Counting
	lease    *coverage
}

// gather puts into frame what the proxy is to be told. The Ack is read first, and the
// clock after it: what the Ack covers was stored at the time that the State is of, also
// where the process was frozen in between.
func (s *session) gather(frame *TrackerFrame, last *told) (over bool) {
	stored := s.stored.Load()
	now := s.t.cfg.Now()
	if v := s.t.viewSums(); v != last.view {
		last.view = v
		frame.View = &v
	}
	g := stateGrounds{s.counting.Load(), s.life.lease.Load()}
	if g != last.from || !last.until.IsZero() && !now.Before(last.until) {
		state, until := g.state(now)
		last.from, last.until = g, until
		if last.state == nil || !state.equal(last.state) {
			last.state = state
			frame.State = state
		}
	}
	tight := s.t.short.Load().tight(s.life)
	if c := s.credits(tight); c != last.credits {
		last.credits, frame.Credits = c, c
	}
	last.held = tight && stored > last.acked && now.Before(last.ackAt)
	if stored > last.acked && !last.held {
		s.takenAcked.Store(s.taken.Load()) // after stored was read: what stored covers is in it
		last.acked, last.ackAt = stored, now.Add(tightAck)
		frame.Ack = stored
	}
	if s.nonceDue.Swap(false) {
		s.t.mu.Lock()
		n := s.t.ledger.Nonce(now)
		s.t.mu.Unlock()
		s.nonceLast.Store(int64(n))
		frame.Nonce = n
	}
	s.out.Lock()
	defer s.out.Unlock()
	frame.Differ, s.differ = s.differ, nil
	if len(s.drops) > 0 {
		frame.Drop, s.drops = s.drops[0], s.drops[1:]
		if len(s.drops) > 0 {
			s.ring()
		}
	}
	frame.End = s.ended
	return s.hasEnd
}

// state says in which shards the claims count at now, and until when that holds.
func (g stateGrounds) state(now time.Time) (*State, time.Time) {
	snap := g.counting.Snapshot
	st := &State{Known: g.counting.Known}
	if snap.Placement == nil {
		return st, time.Time{}
	}
	st.View = snap.Placement.Fingerprint()
	until, _ := g.counting.Until(now)
	known := g.counting.Shards(now)
	forced := snap.Forced(now)

	why := func(w Why, shards ring.ShardSet) {
		if !shards.Empty() {
			st.Why = append(st.Why, Uncounted{w, shards})
		}
	}
	why(NotInForce, minus(snap.Held, forced))
	unknown := NotKnown
	if g.counting.Stalled {
		unknown = Stalled
	}
	why(unknown, minus(forced, known))
	if !g.lease.live(now) {
		why(NoLease, known)
		st.Counted = known.Clone()
		clear(st.Counted)
		return st, until
	}
	why(NotProven, minus(known, g.lease.shards))
	known.And(g.lease.shards)
	st.Counted = known
	if end := time.Unix(0, g.lease.until); until.IsZero() || end.Before(until) {
		until = end
	}
	return st, until
}

func minus(a, b ring.ShardSet) ring.ShardSet {
	c := a.Clone()
	c.AndNot(b)
	return c
}

func (s *State) equal(o *State) bool {
	return s.View == o.View && s.Known == o.Known && s.Counted.Equal(o.Counted) &&
		slices.EqualFunc(s.Why, o.Why, func(a, b Uncounted) bool { return a.Why == b.Why && a.Shards.Equal(b.Shards) })
}

// drop asks the proxy to drop claims and waits for its answer.
func (s *session) drop(ctx context.Context, ids []ID, why string) (kept []ID, err error) {
	answer := make(chan []ID, 1) // so that the answer never waits for the asker
	s.out.Lock()
	token := s.t.counts.drops.Add(1)
	s.waiting[token] = answer
	s.drops = append(s.drops, &Drop{Token: token, IDs: ids, Why: why})
	s.out.Unlock()
	s.ring()
	defer func() {
		s.out.Lock()
		delete(s.waiting, token)
		s.drops = slices.DeleteFunc(s.drops, func(d *Drop) bool { return d.Token == token }) // who does not read must not make them pile up
		s.out.Unlock()
	}()
	select {
	case kept = <-answer:
		return kept, nil
	case <-ctx.Done():
		return ids, ctx.Err()
	case <-s.t.closed:
		return ids, ErrClosed
	}
}

func (s *session) dropped(d *Dropped) {
	s.out.Lock()
	if c, ok := s.waiting[d.Token]; ok {
		delete(s.waiting, d.Token)
		c <- d.Kept
	}
	s.out.Unlock()
}
