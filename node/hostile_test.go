package node

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// A proxy with a certificate of its own claims nodes that it does not have, with the
// highest generation, and never proves a sum. It stands before the right proxy in
// answers, but cannot take its claims away; without a lease it is not even told; and
// whoever operates the pool ends it at once, for good.
func TestHostileProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		right, wrong := c.hello("t-0", "right", 1, 1), c.hello("t-0", "wrong", 1, 1)
		right.add("n", "m")
		right.renew()
		right.stored()
		stop := right.keepRenewing()
		defer stop()

		lie := AppendAdd(nil, mustKey(t, "n"), math.MaxUint64, 0)
		wrong.send(&ProxyFrame{Batch: &Batch{Seq: wrong.next(), Ops: lie}})
		wrong.stored()
		told := func(want ...ProxyID) {
			t.Helper()
			r := c.look("t-0", "n")
			if r.Answer != Found || len(r.Claims) != len(want) {
				t.Fatalf("n is %v, by %+v; want it found by %v", r.Answer, r.Claims, want)
			}
			for i, p := range want {
				if r.Claims[i].Proxy.ID != p {
					t.Errorf("claim %d is %s's, want %s's", i, r.Claims[i].Proxy.ID, p)
				}
			}
		}
		told("right") // no lease: no word of it
		wrong.sum = Sum{Count: 7, Sum: 7}
		wrong.renew()
		wrong.await("that it differs", func() bool { return len(wrong.differs) > 0 })
		told("right") // no lease by a wrong sum
		wrong.sum = Sum{}
		wrong.sum.AddClaim(mustKey(t, "n").Hash(), math.MaxUint64)
		wrong.renew()
		wrong.stored()
		told("wrong", "right")

		wrong.send(&ProxyFrame{Batch: &Batch{Seq: wrong.next(), Ops: AppendRemove(nil, mustKey(t, "m"))}})
		wrong.stored()
		if r := c.look("t-0", "m"); r.Answer != Found || r.Claims[0].Proxy.ID != "right" {
			t.Errorf("another proxy's removal took m away: %+v", r)
		}
		if err := c.at("t-0").RemoveProxy(t.Context(), "wrong", 0); err != nil {
			t.Fatal(err)
		}
		told("right")
		if _, _, end, _ := c.at("t-0").admit(&Hello{Proxy: testProxy("wrong"), Incarnation: incarnationOf(1, 2)}); end == nil {
			t.Error("a life that was removed comes back")
		}
	})
}
