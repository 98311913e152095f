package node

import (
	"context"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	// selfishFor is how long a tracker that would call most proxies stalled stays
	// LEAVING: the fault is its own.
	selfishFor = 10 * time.Minute

	// readyAfter is when a tracker that is no seat is ready, filled or not.
	readyAfter = time.Minute
)

// A Status is what an operator asks a tracker first.
type Status struct {
	Seat, Granting bool
	Silence        time.Duration // until this seat grants; 0 if it does, or is none
	CutOff         bool          // no word of more than half of the seats for two terms: hold nothing
	Selfish        bool          // it would call most proxies stalled: the fault is its own, hold nothing
	Stalled        int           // of a seat: proxies that it marks as stalled
	Ready          bool
	Why            string // why it is not ready
	Members        int
	Placed         int // members that the view places shards on
	Shards         struct{ Held, InForce, Open int }
	Owned          int                                // of the held: those that this tracker is the first holder of
	Share          float64                            // of a fair share of all copies of shards: 1 is even
	Seats          struct{ All, Granting, Agree int } // whose words are in hand, and by this tracker's view
	Claims         int                                // of sessions
	UnaryClaims    int
	Sessions       int
	Proxies        int
	Restored       int // proxies that have claims of a snapshot, and did not come for them yet
	View           ring.Fingerprint
}

// TableBytes returns how much memory the claims of sessions take.
func (t *Tracker) TableBytes() int { return t.table.Bytes() }

// Status returns how the tracker is now.
func (t *Tracker) Status() Status {
	now := t.cfg.Now()
	s := Status{Claims: t.table.Len(), UnaryClaims: t.unaries.Len()}
	snap := t.snap.Load()
	s.Shards.Held, s.Shards.InForce, s.Shards.Open = snap.Tally(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := snap.Placement; p != nil {
		for sh := range snap.Held.All() {
			if p.List(sh)[0] == t.self.ID {
				s.Owned++
			}
		}
		s.Placed = p.View().Placed()
		s.Share = float64(s.Shards.Held*s.Placed) / float64(p.Params().Shards*min(p.Params().Replicas, s.Placed))
	}
	s.Restored = len(t.restored)
	s.Sessions, s.Proxies, s.Members, s.View = len(t.sessions), len(t.proxies), t.view.Len(), t.sums.Fingerprint
	s.CutOff = t.ledger.Cut(now) && t.seesMostSeatsLocked()
	s.Selfish = now.Before(t.selfish)
	if t.grantor != nil {
		s.Seat = true
		s.Silence = max(0, t.grantor.GrantsFrom().Sub(now))
		s.Granting = s.Silence == 0 && s.View != 0
		s.Stalled = len(t.heard.Stalled())
	}
	for _, seat := range t.ledger.Seats() {
		s.Seats.All++
		if view, _, ok := t.ledger.Word(now, seat); ok {
			s.Seats.Granting++
			if view == s.View {
				s.Seats.Agree++
			}
		}
	}
	s.Ready, s.Why = t.readyLocked(now, &s)
	return s
}

// seesMostSeatsLocked reports whether gossip shows more than half of each set of
// seats alive.
func (t *Tracker) seesMostSeatsLocked() bool {
	for _, set := range t.cfg.Pool.Seats {
		n := 0
		for _, id := range set {
			if _, ok := t.view.Member(id); ok {
				n++
			}
		}
		if 2*n <= len(set) {
			return false
		}
	}
	return true
}

// readyLocked says whether this tracker is ready, or why not. Once ready it stays
// so: what is not open is no reason to send clients away.
func (t *Tracker) readyLocked(now time.Time, s *Status) (bool, string) {
	switch {
	case t.ready:
	case s.View == 0:
		return false, "no view yet"
	case s.Seat && !s.Granting:
		return false, fmt.Sprintf("this seat grants again in %v", s.Silence.Round(time.Second))
	case s.Seat || now.Sub(t.started) >= readyAfter:
		t.ready = true
	case s.Shards.Held > 0 && s.Shards.Open == s.Shards.Held: // all proxies heard of have confirmed
		t.ready = true
	default:
		for x := range t.sessions {
			if ring.Fingerprint(x.view.Load()) != s.View {
				return false, fmt.Sprintf("proxy %s has not sent all its claims yet", x.life.id)
			}
		}
		if now.Sub(t.started) < t.term.Held() {
			return false, "proxies may be on their way"
		}
		t.ready = true
	}
	return true, ""
}

// Drain returns when nothing that is held here alone is covered any more: proxies
// have released it, and the other trackers have its unary claims. Announce LEAVING
// first. The last tracker of its view drains at once.
func (t *Tracker) Drain(ctx context.Context) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		left := t.undrained()
		if left == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drain: %s: %w", left, ctx.Err())
		case <-t.closed:
			return ErrClosed
		case <-look.C:
		}
	}
}

// undrained says what this tracker still holds, if anything.
func (t *Tracker) undrained() string {
	now := t.cfg.Now()
	changes := t.unaries.Changes()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.view.Placed() == 0 || t.view.Placed() == 1 && t.snap.Load().Held.Len() > 0 {
		return ""
	}
	if n := t.snap.Load().Held.Len(); n > 0 {
		return fmt.Sprintf("%d shards are still placed here", n)
	}
	if seat, yes := t.reliesLocked(now); yes {
		return fmt.Sprintf("seat %s does not know yet that nothing here relies on its former word", seat)
	}
	if t.table.Len() > 0 { // what the dead had is not swept yet, perhaps
		for _, l := range t.proxies {
			switch {
			case l.session != nil && l.session.held.Load() > 0:
				return fmt.Sprintf("proxy %s has not released %d claims", l.id, l.session.held.Load())
			case l.session == nil && l.live(now):
				return fmt.Sprintf("the lease of proxy %s, which has no session, has not run out", l.id)
			}
		}
	}
	if t.unaries.Len() > 0 {
		for id, p := range t.peers {
			m, _ := t.view.Member(id)
			if m.State == ring.Serving && !p.copied.settled(t.sums.Fingerprint, changes) {
				return fmt.Sprintf("tracker %s has not confirmed the unary claims", id)
			}
		}
	}
	return ""
}
