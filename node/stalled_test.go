package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// whyAt says why a client's claims of a shard do not count at a tracker; 0: they do.
func (x *client) whyAt(at ring.MemberID, sh ring.Shard) Why {
	x.mu.Lock()
	defer x.mu.Unlock()
	if st := x.links[at].state; st != nil {
		for _, u := range st.Why {
			if u.Shards.Has(sh) {
				return u.Why
			}
		}
	}
	return 0
}

// A proxy that reaches the pool, but not a tracker that joins, keeps that one's shards
// from opening for a minute and two terms. From the minute on its claims do not count
// anywhere; they are found all the while. With the link all is as it was.
func TestNeverConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		c.start("t-3")
		y.connect("t-3") // and x does not
		began := time.Now()
		next := c.show("t-0", "t-1", "t-2", "t-3")
		x.follow(next)
		y.follow(next)
		ids := nodesOf(320, func(sh ring.Shard) bool { return !heldBy(next, "t-3")(sh) })
		mine := ids[0] // a node of x, all of whose holders it reaches
		sh := shardOf(mine)
		at := next.List(sh)[0]
		found := c.lost("t-0", "t-1", "t-2", "t-3")
		marked := func() (n int) {
			for _, id := range []ring.MemberID{"t-0", "t-1", "t-2"} {
				n += c.at(id).Status().Stalled
			}
			return n
		}
		eventually(t, poolTerm, func() string {
			if x.whyAt(at, sh) != 0 || !y.counted(nodesOf(320, anyShard)[310]) {
				return "the claims do not count after the change of view"
			}
			return ""
		})
		throughout(t, lease.Patience-time.Since(began)-time.Second, func() string {
			switch _, _, open := c.tally("t-3"); {
			case open > 0:
				return fmt.Sprintf("%d shards of t-3 are open without x", open)
			case marked() > 0:
				return "x is marked before a minute is over"
			case x.whyAt(at, sh) != 0:
				return fmt.Sprintf("the claims of x do not count: %v", x.whyAt(at, sh))
			}
			return found()
		})
		eventually(t, poolTerm, func() string {
			if marked() < 3 || x.whyAt(at, sh) != Stalled {
				return fmt.Sprintf("%d seats have marked x; its claims: %v", marked(), x.whyAt(at, sh))
			}
			return ""
		})
		since := time.Now()
		throughout(t, lease.Term(poolTerm).Forgotten()-time.Since(since)-2*time.Second, func() string {
			if _, _, open := c.tally("t-3"); open > 0 {
				return "the marks are not two terms old, and shards of t-3 are open"
			}
			if x.whyAt(at, sh) != Stalled {
				return "the claims of x count"
			}
			return found()
		})
		eventually(t, poolTerm, func() string {
			if held, _, open := c.tally("t-3"); open < held {
				return fmt.Sprintf("%d of %d shards of t-3 are open", open, held)
			}
			return ""
		})
		if a, _ := c.get("t-0", "nowhere"); a != Absent {
			t.Errorf("a node that is nowhere is %v", a)
		}
		throughout(t, poolTerm, func() string {
			if !y.counted(nodesOf(320, anyShard)[310]) {
				return "the claims of the other proxy do not count"
			}
			return found()
		})

		c.wire("x", "t-3").Slow(wireDelay)
		x.connect("t-3")
		eventually(t, poolTerm, func() string {
			if n := marked(); n > 0 {
				return fmt.Sprintf("%d seats still mark x", n)
			}
			return x.unsettled()
		})
		throughout(t, 2*poolTerm, found)
	})
}
