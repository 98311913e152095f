package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// Claims that a tracker lost are noticed, and those shards sent again that differ.
// The others stay covered, counted and open; so does the lease.
func TestAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, _ := settled(t, 2, "t-0", "t-1", "t-2")
		tracker := c.at("t-1")
		s := c.session("t-1", "x")
		claims, ops := tracker.table.Len(), tracker.Stats().Ops
		harmed, due := tracker.Lose("x", 6, 2)
		found := c.lost("t-0", "t-1", "t-2")
		throughout(t, 3*poolTerm, func() string {
			_, _, open := c.tally("t-1")
			switch {
			case open < p.Held("t-1").Len():
				return "a shard is not open"
			case !s.life.live(time.Now()):
				return "the lease has run out"
			}
			for sh := range minus(p.Held("t-1"), harmed).All() {
				if !s.life.covered(time.Now().UnixNano(), sh) {
					return "a shard that nothing is wrong with is not covered"
				}
			}
			return found()
		})
		if n := tracker.table.Len(); n != claims {
			t.Errorf("%d claims, want %d", n, claims)
		}
		if sent := tracker.Stats().Ops - ops; sent != uint64(due) {
			t.Errorf("%d claims were sent again, want the %d of %d shards", sent, due, harmed.Len())
		}
		if n := tracker.Stats().Differs; n != 1 {
			t.Errorf("%d renewals differed, want 1", n)
		}
		if what := x.unsettled(); what != "" {
			t.Error(what)
		}
	})
}
