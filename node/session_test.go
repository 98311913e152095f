package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

func anyShard(ring.Shard) bool { return true }

// The first proxy of a new pool is welcomed, its claims count after its first Renew,
// and are found; other nodes are ABSENT.
func TestFirstCounting(t *testing.T) {
	for _, ids := range [][]ring.MemberID{{"t-0"}, {"t-0", "t-1", "t-2"}} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 2, ids...)
			c.awaitOpen(time.Second, ids...)
			held := c.at("t-0").snap.Load().Held
			nodes := nodesOf(10, held.Has)
			if r := c.look("t-0", nodes[0]); r.Answer != Absent {
				t.Errorf("before it was added: %v", r)
			}
			s := c.hello("t-0", "p", 7, 1)
			if w := s.welcome; w.Tracker.ID != "t-0" || w.Pool != "test" || w.Params.Shards != poolShards || w.Incarnation != (incarnationOf(7, 1)) || w.Sums != nil {
				t.Errorf("welcome %+v", w)
			}
			s.add(nodes...)
			s.stored()
			if r := c.look("t-0", nodes[0]); r.Answer != Unknown || len(r.Claims) != 1 {
				t.Errorf("before the first Renew: %v; want UNKNOWN with a hint", r)
			}
			if s.counts(shardOf(nodes[0])) {
				t.Error("a claim counts without a lease")
			}
			s.renew()
			s.await("counting", func() bool { return s.acked == s.seq && s.state.Counted.Equal(held) })
			if !s.state.Known || len(s.state.Why) != 0 {
				t.Errorf("state %+v", s.state)
			}
			for _, n := range nodes {
				r := c.look("t-0", n)
				if r.Answer != Found || len(r.Claims) != 1 || r.Claims[0].Proxy != testProxy("p") || r.Claims[0].Generation != 1 {
					t.Errorf("%s: %+v", n, r)
				}
			}
			s.remove(nodes[0])
			s.stored()
			if r := c.look("t-0", nodes[0]); r.Answer != Absent {
				t.Errorf("after its removal: %v", r)
			}
		})
	}
}

// A seat that starts into an old pool grants nothing for two terms of 1.1 (rule 5):
// what is there is found, what is not is UNKNOWN.
func TestSilenceOfASeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := seatedCluster(t, 1, "t-0")
		began := time.Now()
		c.start("t-0")
		c.show("t-0")
		synctest.Wait()
		s := c.hello("t-0", "p", 1, 1)
		s.add("a")
		s.renew()
		s.stored()
		stop := s.keepRenewing()
		if w, err := c.at("t-0").AddNode(t.Context(), Claim{Node: "u", Proxy: testProxy("z")}); err != nil || w != (Written{Copies: 1, Replicas: 1}) {
			t.Errorf("AddNode: %+v, %v; want it stored and not counted", w, err)
		}
		throughout(t, 2*poolTerm*11/10-time.Since(began)-50*time.Millisecond, func() string {
			st := c.at("t-0").Status()
			switch {
			case c.look("t-0", "a").Answer != Found:
				return "a claim under a lease is not found"
			case c.look("t-0", "b").Answer != Unknown:
				return "a miss is not UNKNOWN"
			case s.counts(shardOf("a")):
				return "a claim counts"
			case st.Ready || st.Granting:
				return "the seat is ready"
			}
			return ""
		})
		if why := s.why(shardOf("a")); why != NotInForce {
			t.Errorf("a does not count: %v; want %v", why, NotInForce)
		}
		eventually(t, 100*time.Millisecond, func() string {
			if !s.counts(shardOf("a")) || c.look("t-0", "b").Answer != Absent || !c.at("t-0").Status().Ready {
				return "the seat does not grant after two terms"
			}
			return ""
		})
		stop()
	})
}

// A Renew with a wrong sum is answered with the sums by shard and prolongs nothing.
func TestWrongSumDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		s.add("a", "b")
		s.renew()
		began := time.Now()
		s.await("counting", func() bool { return s.acked == s.seq && s.state.Counted.Has(shardOf("a")) })
		right := s.sum
		throughout(t, poolTerm-time.Since(began)-50*time.Millisecond, func() string {
			s.sum = Sum{right.Count, right.Sum + 1}
			s.renew()
			s.stored()
			if c.look("t-0", "a").Answer != Found {
				return "the lease is over"
			}
			return ""
		})
		last := s.differs[len(s.differs)-1]
		if last.Seq != s.seq {
			t.Errorf("Differ of %d, want %d", last.Seq, s.seq)
		}
		var total Sum
		for _, sum := range last.Sums {
			total.Add(sum.Sum)
		}
		if total != right {
			t.Errorf("Differ sums up to %v, want %v", total, right)
		}
		eventually(t, 100*time.Millisecond, func() string {
			if r := c.look("t-0", "a"); r.Answer != Unknown || len(r.Claims) != 1 || s.counts(shardOf("a")) {
				return "the lease goes on"
			}
			return ""
		})
		s.await("a reason", func() bool { return s.state.Why != nil })
		if why := s.why(shardOf("a")); why != NoLease {
			t.Errorf("got %v, want %v", why, NoLease)
		}
		s.sum = right
		s.renew()
		s.await("counting", func() bool { return s.state.Counted.Has(shardOf("a")) })
		if c.look("t-0", "a").Answer != Found {
			t.Error("the right sum does not renew the lease")
		}
	})
}

// While a shard comes in sections, adds and removals go to what was there and to what
// is to come, and a Renew covers and confirms the other shards alone.
func TestReplaceInSections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		shard := shardOf("a")
		in := nodesOf(8, func(s ring.Shard) bool { return s == shard })
		out := nodesOf(1, func(s ring.Shard) bool { return s != shard })[0]
		s.add(in[0], in[1], out)
		s.section(shard, true, false, in[2], in[3]) // in[0] and in[1] are not to stay
		s.sum = sumOf(t, out)
		s.send(&ProxyFrame{Batch: &Batch{Seq: s.next(), Ops: AppendRemove(opsOf(t, in[4]), mustKey(t, string(in[3])))}})
		s.send(&ProxyFrame{Batch: &Batch{Seq: s.next(), Ops: AppendRemove(nil, mustKey(t, string(in[0])))}})
		s.renew()
		s.await("counting of the others", func() bool { return s.acked == s.seq && s.state.Counted.Has(shardOf(out)) })
		if why := s.why(shard); why != NotProven {
			t.Errorf("the shard being replaced: %v, want %v", why, NotProven)
		}
		for id, want := range map[ID]Answer{out: Found, in[0]: Absent, in[1]: Unknown, in[2]: Absent, in[3]: Absent, in[4]: Unknown} {
			if r := c.look("t-0", id); r.Answer != want {
				t.Errorf("between the sections: %s is %v, want %v", id, r.Answer, want)
			}
		}
		s.section(shard, false, true, in[5])
		s.sum.Add(sumOf(t, in[2], in[4], in[5]))
		s.renew()
		s.await("counting of all", func() bool { return s.acked == s.seq && s.state.Counted.Has(shard) })
		if s.differs != nil {
			t.Errorf("differs: %+v", s.differs)
		}
		for i, want := range []Answer{Absent, Absent, Found, Absent, Found, Found} {
			if r := c.look("t-0", in[i]); r.Answer != want {
				t.Errorf("after the last section: in[%d] is %v, want %v", i, r.Answer, want)
			}
		}
		// Again in the same session: what was proven before is not while it is replaced.
		s.section(shard, true, false, in[2])
		s.sum = sumOf(t, out)
		s.renew()
		s.await("the shard to be unproven", func() bool { return s.acked == s.seq && !s.state.Counted.Has(shard) })
		if why := s.why(shard); why != NotProven {
			t.Errorf("replaced again: %v, want %v", why, NotProven)
		}
		s.section(shard, true, true, in[2]) // begun anew, and whole
		s.sum.Add(sumOf(t, in[2]))
		s.renew()
		s.await("counting of all", func() bool { return s.acked == s.seq && s.state.Counted.Has(shard) })
		if r := c.look("t-0", in[4]); r.Answer != Absent {
			t.Errorf("in[4] is %v", r)
		}
	})
}

// A released shard is empty at once. What is put there later is not proven by what
// was proven before.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		a, b := twoShards()
		s.add(a, b)
		s.renew()
		s.await("counting", func() bool { return s.acked == s.seq && s.state.Counted.Has(shardOf(a)) })
		set := ring.NewShardSet(poolShards)
		set.Add(shardOf(a))
		s.send(&ProxyFrame{Release: &Release{Seq: s.next(), Shards: set}})
		s.section(shardOf(a), true, false, a)
		s.sum = sumOf(t, b)
		s.renew()
		s.await("the shard to be unproven", func() bool { return s.acked == s.seq && !s.state.Counted.Has(shardOf(a)) })
		if c.look("t-0", a).Answer == Found || c.look("t-0", b).Answer != Found {
			t.Error("the released shard is there, or the other is not")
		}
		s.send(&ProxyFrame{Release: &Release{Seq: s.next(), Shards: set}}) // amid the Replace
		s.renew()
		s.stored()
		if s.differs != nil {
			t.Errorf("differs: %+v", s.differs)
		}
		if n := c.at("t-0").table.Len(); n != 1 {
			t.Errorf("%d claims are left, want 1", n)
		}
	})
}

// twoShards returns nodes of different shards.
func twoShards() (a, b ID) {
	a = nodesOf(1, anyShard)[0]
	return a, nodesOf(1, func(s ring.Shard) bool { return s != shardOf(a) })[0]
}

// A session that does not even ping ends after PingTimeout.
func TestSilentSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		began := time.Now()
		c.wire("p", "t-0").Hold()
		eventually(t, PingTimeout+2*PingInterval, func() string {
			if c.at("t-0").Status().Sessions > 0 {
				return "the session goes on"
			}
			return ""
		})
		if d := time.Since(began); d < PingTimeout {
			t.Errorf("it ended after %v", d)
		}
		c.wire("p", "t-0").Heal()
		<-s.ended
	})
}
