package node

import (
	"context"
	"time"
)

// audit looks, at one session every third of a term, whether the sum that the session
// keeps is that of the claims in the table. To read the table takes some 10 ms for a
// million claims; a Renew compares sums alone. Should claims have got lost here, the
// next Renew shows it, and the proxy sends again the shards that differ.
func (t *Tracker) audit(ctx context.Context) {
	tick := time.NewTicker(t.term.Renewal())
	defer tick.Stop()
	var left []*session // of this round
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if len(left) == 0 {
			left = t.allSessions()
		}
		if len(left) == 0 {
			continue
		}
		s := left[0]
		left = left[1:]
		if kept, is, ok := s.audit(); !ok {
			t.counts.auditFailures.Add(1)
			t.log.Error("a session's sum is not that of its claims here: those of shards that differ will be sent again",
				"proxy", s.life.id, "claims_due", kept.Count, "claims", is.Count)
		}
	}
}

func (t *Tracker) allSessions() []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*session, 0, len(t.sessions))
	for s := range t.sessions {
		all = append(all, s)
	}
	return all
}

// audit makes the sum that of the claims in the table, and reports whether it was.
func (s *session) audit() (kept, is Sum, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fenced || s.seq == 0 || s.life.dead.Load() { // before its first frame it is still being admitted
		return kept, is, true
	}
	for _, sum := range s.t.table.Sums(s.life.owner) {
		if _, under := s.replacing[sum.Shard]; !under {
			is.Add(sum.Sum)
		}
	}
	kept = s.sum
	s.sum = is
	return kept, is, kept == is
}
