package node

import (
	"context"
	"fmt"
	"time"
)

const (
	// ceilingInterval is how often it is looked how much memory the table takes.
	ceilingInterval = 100 * time.Millisecond

	// tightCredits and tightAck are what a proxy gets that must not grow: so many claims
	// for each Ack, which comes so late.
	tightCredits = MaxChunk
	tightAck     = time.Second
)

// A shortage says whose claims must not grow, because the table takes too much memory.
// It is immutable; nil says that there is room.
type shortage struct {
	greedy *life // the one with the most claims
	all    bool  // and everybody
}

// tight reports whether a life must not grow.
func (s *shortage) tight(l *life) bool { return s != nil && (s.all || s.greedy == l) }

// keepCeiling looks how much memory the table takes, until ctx ends.
func (t *Tracker) keepCeiling(ctx context.Context) {
	tick := time.NewTicker(ceilingInterval)
	defer tick.Stop()
	for {
		t.lookAtCeiling()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (t *Tracker) lookAtCeiling() {
	var next *shortage
	bytes := t.table.Bytes()
	if bytes > t.cfg.MaxBytes {
		next = &shortage{all: bytes-t.cfg.MaxBytes > t.cfg.MaxBytes/8}
		most := uint64(0)
		for _, s := range t.allSessions() {
			if n := s.held.Load(); n >= most && n > 0 {
				most, next.greedy = n, s.life
			}
		}
	}
	before := t.short.Swap(next)
	if (before == nil) != (next == nil) {
		t.log.Warn("the table of claims is above its ceiling, or below it again", "bytes", bytes, "max_bytes", t.cfg.MaxBytes, "above", next != nil)
	}
	if before == nil && next == nil || before != nil && next != nil && *before == *next {
		return
	}
	for _, s := range t.allSessions() {
		if before.tight(s.life) != next.tight(s.life) {
			s.ring() // it is told its credits
		}
	}
}

// checkCeiling refuses what would make the table grow.
func (t *Tracker) checkCeiling() error {
	if t.short.Load() == nil {
		return nil
	}
	return t.overload(refusedMemory, "bytes are the most for claims, and more are taken", t.cfg.MaxBytes, t.term.Renewal())
}

// credits are what the proxy may have sent and not acknowledged.
func (s *session) credits(tight bool) uint32 {
	if tight {
		return min(tightCredits, s.t.cfg.Credits)
	}
	return s.t.cfg.Credits
}

// take counts claims that have come, and refuses those for which the proxy had no
// credits, with room for a frame whose Ack is on its way.
func (s *session) take(n uint64) error {
	if over := s.taken.Add(n) - s.takenAcked.Load(); over > uint64(s.t.cfg.Credits)+MaxChunk {
		return s.t.overload(refusedClaims, fmt.Sprintf("claims may be sent and not acknowledged, and %d were", over), int(s.t.cfg.Credits), s.t.term.Renewal())
	}
	return nil
}

// full reports whether with so many more the proxy would have too many claims.
func (s *session) full(added int) bool {
	return s.sum.Count+uint64(s.staged+added) > uint64(s.t.cfg.MaxClaims)
}

func (s *session) tooMany() error {
	return s.t.overload(refusedClaims, "claims are the most of one proxy", s.t.cfg.MaxClaims, s.t.term.Renewal())
}
