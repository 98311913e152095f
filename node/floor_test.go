package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A floor comes to a tracker that was away when the proxy was removed, and outlives
// rolling restarts of all trackers: those that start learn it from the seats' words,
// and seats from what they are asked with, by those too that learnt it so.
func TestFloorOutlivesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []ring.MemberID{"t-0", "t-1", "t-2", "t-3"}
		c, _, x, _ := settled(t, 2, "t-0", "t-1", "t-2")
		c.start("t-3")
		c.show(all...)
		c.crash("t-2")
		if err := c.at("t-3").RemoveProxy(t.Context(), "x", 0); err == nil {
			t.Error("RemoveProxy reached a tracker that is away")
		}
		x.close()
		restart := func(id ring.MemberID) {
			c.start(id)
			c.show(all...)
			eventually(t, 3*poolTerm, func() string {
				if s := c.at(id).Status(); !s.Ready || s.Seat && !s.Granting {
					return string(id) + " is not ready: " + s.Why
				}
				return ""
			})
		}
		removed := func(id ring.MemberID) {
			t.Helper()
			began := time.Now()
			s := c.openSession(id, "x")
			s.send(&ProxyFrame{Hello: &Hello{Proxy: testProxy("x"), Incarnation: incarnationOf(1, 9), HasClaims: true}})
			if end := s.over(EndRemoved); end.Known.Number != 2 {
				t.Errorf("%s: %+v after %v", id, end, time.Since(began))
			}
		}
		restart("t-2")
		removed("t-2")
		for range 2 { // to change the seats takes as many
			for _, id := range all {
				restart(id)
				removed(id)
			}
		}
		for _, id := range all {
			removed(id)
		}
		s := c.hello("t-1", "x", 2, 1)
		s.renew()
		s.stored()
	})
}
