package node

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

// A session of the same incarnation takes over the claims of the one before. The
// former lease covers them to its end, whether or not the newer session proves some
// of the shards.
func TestTakeOver(t *testing.T) {
	for _, closed := range []bool{true, false} {
		name := map[bool]string{true: "after a break", false: "fencing"}[closed]
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testTakeOver(t, closed) }) })
	}
}

func testTakeOver(t *testing.T, closed bool) {
	c := newCluster(t, 1, "t-0")
	c.awaitOpen(time.Second, "t-0")
	a, b := twoShards()
	first := c.hello("t-0", "p", 1, 1)
	first.add(a, b)
	first.renew()
	first.await("counting", func() bool { return first.acked == first.seq && first.state.Counted.Has(shardOf(a)) })
	until := time.Now().Add(poolTerm)
	if closed {
		first.close()
		synctest.Wait()
	}
	second := c.hello("t-0", "p", 1, 1)
	if !closed {
		first.over(EndReplaced)
	}
	if second.sum != sumOf(t, a, b) {
		t.Errorf("welcome has %v", second.welcome.Sums)
	}
	second.await("a state", func() bool { return second.state != nil })
	if second.counts(shardOf(a)) || second.why(shardOf(a)) != NoLease {
		t.Errorf("a claim counts before the session proved it, or for another reason: %v", second.why(shardOf(a)))
	}
	second.section(shardOf(a), true, false, a)
	second.sum = sumOf(t, b)
	second.renew()
	second.stored()
	third := c.hello("t-0", "p", 1, 1) // has proven nothing: what both covered stays covered
	third.section(shardOf(a), true, false, a)
	third.sum = sumOf(t, b)
	third.renew()
	third.stored()
	stop := third.keepRenewing()
	throughout(t, time.Until(until)-50*time.Millisecond, func() string {
		if c.look("t-0", a).Answer != Found || c.look("t-0", b).Answer != Found {
			return "the former lease covers no more"
		}
		return ""
	})
	eventually(t, 100*time.Millisecond, func() string {
		if c.look("t-0", a).Answer == Found {
			return "the former lease goes on"
		}
		return ""
	})
	stop()
	if c.look("t-0", b).Answer != Found {
		t.Error("b is not covered by the present lease")
	}
	third.section(shardOf(a), false, true)
	third.sum.Add(sumOf(t, a))
	third.renew()
	third.await("counting", func() bool { return third.acked == third.seq && third.state.Counted.Has(shardOf(a)) })
}

// However many sessions of one life take over from one another at once, the last one's
// sum is that of what is in the table.
func TestTakeOversAtOnce(t *testing.T) {
	x := stillTracker(t)
	nodes := nodesOf(64, anyShard)
	for round := range 50 {
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				s, _, end, _ := x.admit(&Hello{Proxy: testProxy("p"), Incarnation: incarnationOf(1, 1)})
				if end != nil {
					t.Errorf("%+v", end)
					return
				}
				for seq := range uint64(20) {
					n := nodes[(int(seq)*7+g+round)%len(nodes)]
					if err := s.apply(&ProxyFrame{Batch: &Batch{Seq: seq + 1, Ops: opsOf(t, n)}}); err != nil {
						break
					}
				}
				if g%2 == 0 {
					x.dismiss(s)
				}
			})
		}
		wg.Wait()
		s, _, _, _ := x.admit(&Hello{Proxy: testProxy("p"), Incarnation: incarnationOf(1, 1)})
		var total Sum
		for _, sum := range x.table.Sums(s.life.owner) {
			total.Add(sum.Sum)
		}
		if s.sum != total || s.before.Load() != nil {
			t.Fatalf("round %d: sum %v, want %v", round, s.sum, total)
		}
		r, _, _, _ := x.admit(&Hello{Proxy: testProxy("r"), Incarnation: incarnationOf(uint64(round)+1, 1)}) // another life's are left alone
		if r.sum != (Sum{}) {
			t.Fatalf("round %d: a new life has %v", round, r.sum)
		}
		x.dismiss(s)
	}
}

// Nothing of a fenced session applies.
func TestFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		c.wire("p", "t-0").Slow(time.Second)
		first := c.openSession("t-0", "p")
		first.send(&ProxyFrame{Hello: &Hello{Proxy: testProxy("p"), Incarnation: incarnationOf(1, 1), HasClaims: true}})
		first.await("a welcome", func() bool { return first.welcome != nil })
		first.add("late") // on its way while the next session begins
		synctest.Wait()
		c.wire("p", "t-0").Slow(0)
		second := c.hello("t-0", "p", 1, 1)
		second.renew()
		second.stored()
		first.over(EndReplaced)
		time.Sleep(2 * time.Second)
		if r := c.look("t-0", "late"); r.Answer != Absent {
			t.Errorf("got %v", r)
		}
		if n := c.at("t-0").table.Len(); n != 0 {
			t.Errorf("the table has %d claims", n)
		}
	})
}

// The same, of each thing that a session may say: one that has not noticed yet that it
// is over, since its writer has still to tell the proxy.
func TestFencedSaysNothing(t *testing.T) {
	x := stillTracker(t)
	ids := nodesOf(2, anyShard)
	a, b := ids[0], ids[1]
	all := ring.FullShardSet(x.cfg.Shards)
	for _, tt := range []struct {
		name string
		said *ProxyFrame
	}{
		{"batch", &ProxyFrame{Batch: &Batch{Seq: 2, Ops: opsOf(t, b)}}},
		{"release", &ProxyFrame{Release: &Release{Seq: 2, Shards: all}}},
		{"renew", &ProxyFrame{Renew: &Renew{Seq: 2, HasClaims: true, Sum: sumOf(t, a)}}},
		{"goodbye", &ProxyFrame{Goodbye: true}},
		{"out of turn", &ProxyFrame{Batch: &Batch{Seq: 9}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hello := &Hello{Proxy: testProxy(tt.name), Incarnation: incarnationOf(1, 1)}
			first, _, _, _ := x.admit(hello)
			if err := first.apply(&ProxyFrame{Batch: &Batch{Seq: 1, Ops: opsOf(t, a)}}); err != nil {
				t.Fatal(err)
			}
			second, _, _, _ := x.admit(hello)
			before := x.table.Sums(first.life.owner)
			if err := first.apply(tt.said); !errors.Is(err, errFenced) {
				t.Errorf("error %v, want %v", err, errFenced)
			}
			if diff := cmp.Diff(before, x.table.Sums(first.life.owner)); diff != "" {
				t.Errorf("the table has changed (-before +after):\n%s", diff)
			}
			if first.stored.Load() != 1 || first.life.dead.Load() || second.life.lease.Load() != nil {
				t.Errorf("stored up to %d, dead %v, lease %v", first.stored.Load(), first.life.dead.Load(), second.life.lease.Load())
			}
		})
	}
}

// Which lives are welcomed and which are told to end.
func TestIncarnations(t *testing.T) {
	for _, tt := range []struct {
		name           string
		number, random uint64
		end            EndReason // 0: welcomed
		voids          bool
	}{
		{"same", 5, 5, 0, false},
		{"higher", 6, 1, 0, true},
		{"same number, higher random", 5, 6, EndSuperseded, false},
		{"same number, lower random", 5, 4, EndSuperseded, false},
		{"lower", 4, 9, EndSuperseded, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, "t-0")
				c.awaitOpen(time.Second, "t-0")
				first := c.hello("t-0", "p", 5, 5)
				first.add("a")
				first.renew()
				first.await("counting", func() bool { return first.state.Counted.Has(shardOf("a")) })
				s := c.hello("t-0", "p", tt.number, tt.random)
				want := Found
				if tt.voids {
					want = Absent
				}
				if r := c.look("t-0", "a"); r.Answer != want {
					t.Errorf("a is %v, want %v", r.Answer, want)
				}
				switch {
				case tt.end != 0:
					if end := s.over(tt.end); end.Known != (incarnationOf(5, 5)) {
						t.Errorf("end %+v", end)
					}
				case tt.voids:
					if end := first.over(EndSuperseded); end.Known != (incarnationOf(tt.number, tt.random)) {
						t.Errorf("end %+v", end)
					}
					if s.welcome.Sums != nil {
						t.Errorf("the sums of another life: %v", s.welcome.Sums)
					}
				}
			})
		})
	}
}

func TestGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0", "t-1", "t-2")
		c.awaitOpen(time.Second, "t-0")
		n := nodesOf(1, c.at("t-0").snap.Load().Held.Has)[0]
		s := c.hello("t-0", "p", 5, 5)
		s.add(n)
		s.renew()
		s.await("counting", func() bool { return s.state.Counted.Has(shardOf(n)) })
		s.send(&ProxyFrame{Goodbye: true})
		<-s.ended
		if r := c.look("t-0", n); r.Answer != Absent {
			t.Errorf("after goodbye: %v", r)
		}
		again := c.hello("t-0", "p", 5, 5)
		again.over(EndSuperseded)
		// The others learn of it through the seats.
		eventually(t, poolTerm, func() string {
			if _, floor := c.knownLife("t-2", "p"); floor != (incarnationOf(5, 6)) {
				return "t-2 knows no floor"
			}
			return ""
		})
		next := c.hello("t-2", "p", 6, 1)
		next.renew()
		next.stored()
	})
}

func (c *cluster) knownLife(at ring.MemberID, p ProxyID) (i, floor Incarnation) {
	t := c.at(at)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ledger.KnownLife(p)
}

// A proxy that says no more: FOUND to the end of its lease, then UNKNOWN with a hint,
// and after two terms ABSENT, and nothing of it is left.
func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		s.add("a")
		s.renew()
		s.stored()
		nonce := s.nonces[len(s.nonces)-1].Time()
		last := time.Now()
		s.close()
		is := func(want Answer, hints int) func() string {
			return func() string {
				if r := c.look("t-0", "a"); r.Answer != want || len(r.Claims) != hints {
					return r.Answer.String()
				}
				return ""
			}
		}
		throughout(t, time.Until(nonce.Add(poolTerm))-time.Millisecond, is(Found, 1))
		eventually(t, 20*time.Millisecond, is(Unknown, 1))
		throughout(t, time.Until(last.Add(2*poolTerm*11/10))-20*time.Millisecond, is(Unknown, 1))
		eventually(t, poolTerm, is(Absent, 0))
		eventually(t, time.Second, func() string {
			if st := c.at("t-0").Status(); st.Claims != 0 || st.Proxies != 0 {
				return "something is left"
			}
			return ""
		})
	})
}

// The number of a dead life's claims is given again only after all of them are gone,
// and not at once, since a request may still have it in hand.
func TestOwnersAreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		s.add(nodesOf(100, anyShard)...)
		s.renew()
		s.stored()
		stop := s.keepRenewing()
		time.Sleep(10500 * time.Millisecond)
		stop()
		dead := c.session("t-0", "p").life.owner
		c.hello("t-0", "p", 2, 1)
		s.over(EndSuperseded)
		began := time.Now()
		for i := 0; ; i++ {
			q := c.hello("t-0", fmt.Sprintf("q-%d", i), 1, 1)
			if c.session("t-0", ProxyID(fmt.Sprintf("q-%d", i))).life.owner == dead {
				if d := time.Since(began); d < 900*time.Millisecond || d > 3*time.Second {
					t.Errorf("given again after %v", d)
				}
				if n := c.at("t-0").table.Len(); n != 0 || q.welcome.Sums != nil {
					t.Errorf("%d claims are left, welcome says %v", n, q.welcome.Sums)
				}
				break
			}
			if i > 100 {
				t.Fatal("never given again")
			}
			time.Sleep(50 * time.Millisecond)
		}
		for _, n := range nodesOf(100, anyShard) {
			if r := c.look("t-0", n); r.Answer != Absent {
				t.Fatalf("%s is %v", n, r)
			}
		}
	})
}
