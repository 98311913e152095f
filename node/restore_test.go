package node

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// restores has the next tracker to start take a snapshot.
func (c *cluster) restores(snapshot []byte) {
	c.prepare = func(x *Tracker) {
		c.prepare = nil
		if _, err := x.Restore(bytes.NewReader(snapshot), savedAt); err != nil {
			c.t.Errorf("restore: %v", err)
		}
	}
}

// silentOn checks that a tracker says nothing of nodes, not even a hint.
func (c *cluster) silentOn(at ring.MemberID, nodes []ID) string {
	for _, n := range nodes {
		if r := c.look(at, n); r.Answer == Found || len(r.Claims) > 0 {
			return fmt.Sprintf("%s is %v with %v", n, r.Answer, r.Claims)
		}
	}
	return ""
}

// A tracker that restarts with a snapshot answers nothing from it until the proxy has
// come. The proxy sends the shards that changed meanwhile and no others, and its claims
// are covered and count after its first Renew.
func TestRestartWithSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := []ring.MemberID{"t-0", "t-1", "t-2"}
		c := newCluster(t, 2, ids...)
		c.awaitOpen(time.Second, ids...)
		p := c.show(ids...)
		x := c.newClient("p", p, ids...)
		nodes := nodesOf(400, anyShard)
		held := nodesOf(100, heldBy(p, "t-1"))
		x.add(1, nodes...)
		x.settle(time.Second)
		snapshot := saveOf(t, c.at("t-1"))

		changed := held[0]
		x.remove(changed)
		x.settle(time.Second)
		resent := uint64(0)
		for _, n := range nodes {
			if shardOf(n) == shardOf(changed) && n != changed {
				resent++
			}
		}
		if resent == 0 || resent > 20 {
			t.Fatalf("%d claims in the shard that changed: choose another", resent)
		}

		c.wire("p", "t-1").Cut()
		c.restores(snapshot)
		c.start("t-1")
		c.show(ids...)
		throughout(t, 5*time.Second, func() string { return c.silentOn("t-1", held) })
		if st := c.at("t-1").Status(); st.Restored != 1 || st.Proxies != 0 || st.Claims == 0 {
			t.Errorf("status %+v", st)
		}
		c.wire("p", "t-1").Heal()
		x.settle(time.Second)
		for _, n := range held {
			want := Found
			if n == changed {
				want = Absent
			}
			if r := c.look("t-1", n); r.Answer != want {
				t.Errorf("%s is %v, want %v", n, r.Answer, want)
			}
		}
		if got := c.at("t-1").Stats(); got.Ops != resent || got.Differs != 0 {
			t.Errorf("the proxy sent %d claims and %d wrong sums; want %d, those of the shard that changed, and none", got.Ops, got.Differs, resent)
		}
		if st := c.at("t-1").Status(); st.Restored != 0 || st.Proxies != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

// restarted is a pool of one that holds a and b of a proxy's life 5, which it has from
// a snapshot.
func restarted(t *testing.T) (c *cluster, a, b ID) {
	c = newCluster(t, 1, "t-0")
	c.awaitOpen(time.Second, "t-0")
	a, b = twoShards()
	s := c.hello("t-0", "p", 5, 5)
	s.add(a, b)
	s.stored()
	snapshot := saveOf(t, c.at("t-0"))
	s.close()
	c.restores(snapshot)
	c.start("t-0")
	c.show("t-0")
	synctest.Wait()
	return c, a, b
}

// The same life of a proxy has its sums in the Welcome, hints from then on, and answers
// after its Renew.
func TestRestoredLifeComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, a, b := restarted(t)
		if what := c.silentOn("t-0", []ID{a, b}); what != "" {
			t.Error(what)
		}
		s := c.hello("t-0", "p", 5, 5)
		if s.sum != sumOf(t, a, b) {
			t.Errorf("welcome has %v", s.welcome.Sums)
		}
		if r := c.look("t-0", a); r.Answer != Unknown {
			t.Errorf("a is %v before a Renew", r.Answer)
		}
		s.renew()
		s.stored()
		if c.look("t-0", a).Answer != Found || c.look("t-0", b).Answer != Found {
			t.Error("a Renew with the right sum does not cover what was restored")
		}
	})
}

// A Renew with another sum covers nothing of what was restored.
func TestRestoredLifeDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, a, b := restarted(t)
		s := c.hello("t-0", "p", 5, 5)
		s.sum = sumOf(t, a)
		s.renew()
		s.stored()
		if c.look("t-0", a).Answer == Found || c.look("t-0", b).Answer == Found || s.differs == nil {
			t.Error("covered, or the proxy was not told")
		}
	})
}

// Another life of the proxy voids what was restored, a higher or a lower one.
func TestRestoredLifeIsVoided(t *testing.T) {
	for _, number := range []uint64{4, 6} {
		synctest.Test(t, func(t *testing.T) {
			c, a, b := restarted(t)
			s := c.hello("t-0", "p", number, 5)
			if s.welcome.Sums != nil || c.silentOn("t-0", []ID{a, b}) != "" {
				t.Errorf("life %d has what life 5 had: %v", number, s.welcome.Sums)
			}
			s.renew()
			s.stored()
			if what := c.silentOn("t-0", []ID{a, b}); what != "" {
				t.Error(what)
			}
			eventually(t, 2*sweepPause, func() string {
				if st := c.at("t-0").Status(); st.Claims != 0 || st.Restored != 0 {
					return fmt.Sprintf("%+v", st)
				}
				return ""
			})
		})
	}
}

// What nobody comes for is dropped two terms after the start, and was never answered.
func TestRestoredLifeIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c, a, b := restarted(t)
		forgotten := c.config.Pool.Term.Forgotten()
		throughout(t, forgotten+2*poolTerm, func() string {
			st := c.at("t-0").Status()
			if time.Since(began) < forgotten && st.Restored != 1 {
				return "dropped too early"
			}
			return c.silentOn("t-0", []ID{a, b})
		})
		if st := c.at("t-0").Status(); st.Claims != 0 || st.Restored != 0 {
			t.Errorf("status %+v", st)
		}
		if r := c.look("t-0", a); r.Answer != Absent {
			t.Errorf("a is %v after all", r.Answer)
		}
		if s := c.hello("t-0", "p", 5, 5); s.welcome.Sums != nil {
			t.Errorf("who comes too late finds %v", s.welcome.Sums)
		}
	})
}
