package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A tracker that joins is ready when the proxies have filled it, or after a minute.
func TestReady(t *testing.T) {
	for _, fills := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, _, x, y := settled(t, 2, "t-0", "t-1", "t-2")
			if s := c.at("t-0").Status(); !s.Ready || !s.Seat || !s.Granting || s.Sessions != 2 || s.Proxies != 2 || s.Members != 3 {
				t.Errorf("a seat: %+v", s)
			}
			began := time.Now()
			c.start("t-3")
			if s := c.at("t-3").Status(); s.Ready || s.Why != "no view yet" {
				t.Errorf("without a view: %+v", s)
			}
			p := c.show("t-0", "t-1", "t-2", "t-3")
			throughout(t, time.Second, func() string {
				if c.at("t-3").Status().Ready {
					return "ready before a proxy came"
				}
				return ""
			})
			x.connect("t-3")
			y.connect("t-3")
			time.Sleep(time.Second)
			if s := c.at("t-3").Status(); s.Ready || s.Why == "" {
				t.Errorf("before the proxies have sent all: %+v", s)
			}
			if !fills {
				eventually(t, readyAfter, func() string { return c.at("t-3").Status().Why })
				if d := time.Since(began); d < readyAfter-time.Second {
					t.Errorf("ready after %v", d)
				}
				return
			}
			x.follow(p)
			y.follow(p)
			eventually(t, time.Second, func() string { return c.at("t-3").Status().Why })
			x.connect("t-4") // a proxy that comes later makes it no less ready
			if !c.at("t-3").Status().Ready {
				t.Error("not ready any more")
			}
		})
	}
}

// In a pool without proxies a joiner is ready when its shards are open.
func TestReadyWithoutProxies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0", "t-1", "t-2")
		c.awaitOpen(time.Second, "t-0")
		c.start("t-3")
		c.show("t-0", "t-1", "t-2", "t-3")
		eventually(t, poolTerm/2, func() string { return c.at("t-3").Status().Why })
	})
}

// A tracker drains only when every serving tracker of the view has its unary claims,
// also one that was no serving member when it came.
func TestDrainWaitsForCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0", "t-1", "t-2")
		c.awaitOpen(time.Second, "t-0")
		c.start("t-3")
		c.showMembers(c.member("t-0", ring.Serving), c.member("t-1", ring.Serving), c.member("t-2", ring.Serving), c.member("t-3", ring.Joining))
		for i := range 50 {
			if _, err := c.at("t-2").AddNode(t.Context(), Claim{Node: ID(fmt.Sprint(i)), Proxy: testProxy("z")}); err != nil {
				t.Fatal(err)
			}
		}
		c.show("t-0", "t-1", "t-2", "t-3")
		c.awaitOpen(time.Second, "t-3")
		c.wire("t-2", "t-3").Hold()
		c.showMembers(c.member("t-0", ring.Serving), c.member("t-1", ring.Serving), c.member("t-2", ring.Leaving), c.member("t-3", ring.Serving))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := c.at("t-2").Drain(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "t-3 has not confirmed") {
			t.Errorf("got %v", err)
		}
		c.wire("t-2", "t-3").Heal()
		if err := c.at("t-2").Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A tracker drains only when the seats know that it relies on no former word, so that
// the shards which were placed on it need not wait for that word to run out.
func TestDrainWaitsForSeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0", "t-1", "t-2")
		c.awaitOpen(time.Second, "t-0")
		c.start("t-3")
		c.show("t-0", "t-1", "t-2", "t-3")
		c.awaitOpen(time.Second, "t-0", "t-1", "t-2", "t-3")
		leaving := []ring.Member{c.member("t-0", ring.Serving), c.member("t-1", ring.Serving), c.member("t-2", ring.Serving), c.member("t-3", ring.Leaving)}

		c.showTo([]ring.MemberID{"t-3"}, leaving...) // the seats do not know yet
		synctest.Wait()
		if what := c.at("t-3").undrained(); !strings.Contains(what, "former word") {
			t.Errorf("undrained: %q", what)
		}
		c.showTo([]ring.MemberID{"t-0", "t-1", "t-2"}, leaving...)
		if err := c.at("t-3").Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.crash("t-3")
		c.awaitOpen(poolTerm/10, "t-0", "t-1", "t-2")
	})
}

// The last tracker of its view drains at once.
func TestLastDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		s.add("a")
		s.renew()
		s.stored()
		for _, state := range []ring.State{ring.Serving, ring.Leaving} {
			v, err := ring.NewView(c.member("t-0", state))
			if err != nil {
				t.Fatal(err)
			}
			c.host("t-0").views <- v
			synctest.Wait()
			began := time.Now()
			if err := c.at("t-0").Drain(t.Context()); err != nil || time.Since(began) > 0 {
				t.Errorf("%v: drained after %v: %v", state, time.Since(began), err)
			}
			if c.look("t-0", "a").Answer != Found { // the placement before stays
				t.Errorf("%v: the claim is lost", state)
			}
		}
	})
}

// A proxy that does not confirm for a minute is marked by the seats, the only seat
// being the tracker itself, and recovers when it confirms.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		s.add("a")
		right := s.sum
		s.sum.Sum++
		began := time.Now()
		stop := s.keepRenewing()
		eventually(t, lease.Patience+poolTerm, func() string {
			if s.why(shardOf("a")) != Stalled {
				return fmt.Sprintf("the State says %v", s.why(shardOf("a")))
			}
			return ""
		})
		if d := time.Since(began); d < lease.Patience-time.Second {
			t.Errorf("marked after %v", d)
		}
		stop()
		s.sum = right
		s.renew()
		eventually(t, poolTerm, func() string {
			if !s.counts(shardOf("a")) {
				return "it has not recovered"
			}
			return ""
		})
		if c.at("t-0").Status().Selfish {
			t.Error("the tracker blames itself for one proxy")
		}
	})
}

// A tracker to which most proxies do not confirm blames itself, the only seat too.
func TestSelfish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		for i := range 3 {
			s := c.hello("t-0", fmt.Sprintf("p-%d", i), 1, 1)
			s.add("a")
			s.sum.Sum++
			stop := s.keepRenewing()
			defer stop()
		}
		eventually(t, lease.Patience+poolTerm, func() string {
			if !c.at("t-0").Status().Selfish {
				return "it does not blame itself"
			}
			return ""
		})
	})
}

// A view that a word names is fetched from whichever seat gives it.
func TestViewsAreFetchedFromAny(t *testing.T) {
	for _, silent := range []ring.MemberID{"t-0", "t-1", "t-2"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 2, "t-0", "t-1", "t-2", "t-3")
			c.awaitOpen(time.Second, "t-3")
			c.mu.Lock()
			c.noViews = silent
			c.mu.Unlock()
			for _, id := range []ring.MemberID{"t-0", "t-1", "t-2"} {
				if id != silent { // whose word comes first
					c.wire(string(id), "t-3").Slow(20 * time.Millisecond)
				}
			}
			c.start("t-4")
			next := c.showTo([]ring.MemberID{"t-0", "t-1", "t-2"}, // t-3 lags
				c.member("t-0", ring.Serving), c.member("t-1", ring.Serving), c.member("t-2", ring.Serving), c.member("t-3", ring.Serving), c.member("t-4", ring.Serving))
			time.Sleep(100 * time.Millisecond) // until the words have come
			eventually(t, 500*time.Millisecond, func() string {
				snap := c.at("t-3").snap.Load()
				for sh := range snap.Held.All() {
					if next.SameList(snap.Placement, sh) && !snap.Open(time.Now(), sh) {
						return fmt.Sprintf("%s gives no view: shard %d, which stays, is not open", silent, sh)
					}
				}
				return ""
			})
		})
	}
}

// A seat that finds its own word changed while it tells another one relies on it too.
func TestOwnWordIsTakenOver(t *testing.T) {
	now := time.Unix(1000, 0)
	seat := ring.Member{ID: "t-0", Boot: 1, State: ring.Serving, Algorithm: 1, Replicas: ring.ReplicasOf(1)}
	cfg := Config{Pool: Pool{Name: "test", Seats: [][]ring.MemberID{{"t-0"}}}, Shards: poolShards, Now: func() time.Time { return now }}
	x, err := New(seat, cfg)
	if err != nil {
		t.Fatal(err)
	}
	other := seat
	other.ID = "t-1"
	v, err := ring.NewView(seat, other)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.adopt(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	to := lease.Process{ID: "t-1", Boot: 1}
	x.asked(&lease.Ask{From: to, SeatSets: []uint64{ring.SetSum(cfg.Pool.Seats[0])}, Nonce: 1})
	now = now.Add(lease.DefaultTerm.Forgotten())
	if w := x.wordTo(to, true); w == nil || !w.Grants {
		t.Fatalf("the seat does not grant: %+v", w)
	}
	if held, forced, _ := x.snap.Load().Tally(now); held == 0 || forced != held {
		t.Errorf("%d of %d shards are in force at the seat itself", forced, held)
	}
}

// Unary claims are bounded: another one is refused by name, and those that are there
// can be renewed and removed.
func TestUnariesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := seatedCluster(t, 1, "t-0")
		c.config.NewPool, c.config.MaxUnaries = true, 10
		c.start("t-0")
		c.show("t-0")
		c.awaitOpen(time.Second, "t-0")
		add := func(n int) error {
			_, err := c.at("t-0").AddNode(t.Context(), Claim{Node: ID(fmt.Sprint(n)), Proxy: testProxy("z")})
			return err
		}
		for n := range 10 {
			if err := add(n); err != nil {
				t.Fatal(err)
			}
		}
		var overload *OverloadError
		if err := add(10); !errors.As(err, &overload) || overload.After <= 0 {
			t.Errorf("got %v", err)
		}
		if err := add(9); err != nil {
			t.Errorf("renewal: %v", err)
		}
		if err := c.at("t-0").Remove(t.Context(), "z", "9"); err != nil {
			t.Errorf("removal: %v", err)
		}
	})
}

// While the new holder of a node is not filled yet, the former one is asked.
func TestFormerHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, y := settled(t, 1, "t-0", "t-1", "t-2")
		c.start("t-3")
		x.connect("t-3")
		y.connect("t-3")
		next := c.show("t-0", "t-1", "t-2", "t-3")
		synctest.Wait()
		lost := c.lost("t-0", "t-1", "t-2")
		throughout(t, 5*time.Second, lost)
		x.follow(next)
		y.follow(next)
		throughout(t, 5*time.Second, lost)
		if p.Fingerprint() == next.Fingerprint() {
			t.Error("nothing has changed")
		}
	})
}

// When Run has returned nothing is served any more.
func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		x := c.at("t-0")
		s := c.hello("t-0", "p", 1, 1)
		f := c.find("t-0")
		f.ask("a")
		c.crash("t-0")
		<-s.ended
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := &wire{}
		h := &host{tracker: x, ctx: ctx} // serves, though its tracker has ended
		for name, open := range map[string]func() error{
			"session": func() error {
				s, err := openPipe(ctx, w, h, func(ctx context.Context, t *Tracker, s SessionStream) error { return t.Session(ctx, s) })
				return errors.Join(err, s.Send(&ProxyFrame{Hello: &Hello{Proxy: testProxy("p"), Incarnation: incarnationOf(2, 1)}}), drained(s))
			},
			"find": func() error {
				s, err := openPipe(ctx, w, h, func(ctx context.Context, t *Tracker, s FindStream) error { return t.Find(ctx, s) })
				return errors.Join(err, drained(s))
			},
			"seat": func() error {
				s, err := openPipe(ctx, w, h, func(ctx context.Context, t *Tracker, s SeatStream) error { return t.Seat(ctx, s) })
				return errors.Join(err, s.Send(&lease.Ask{From: lease.Process{ID: "t-1", Boot: 1}}), drained(s))
			},
			"copies": func() error {
				s, err := openPipe(ctx, w, h, func(ctx context.Context, t *Tracker, s CopyStream) error { return t.Copies(ctx, s) })
				return errors.Join(err, s.Send(&CopyFrame{From: lease.Process{ID: "t-1", Boot: 1}}), drained(s))
			},
			"view":  func() error { return x.WatchView(ctx, func(ViewSums) error { return nil }) },
			"drain": func() error { return x.Drain(ctx) },
		} {
			if err := open(); !errors.Is(err, ErrClosed) && (name != "drain" || err != nil) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}

// drained receives all that a stream has and returns why it ended.
func drained[In, Out any](s Stream[In, Out]) error {
	for {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
}
