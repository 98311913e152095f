package node

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// Unary claims may be made, asked for and removed at any tracker.
func TestUnaryAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := []ring.MemberID{"t-0", "t-1", "t-2"}
		c := newCluster(t, 2, ids...)
		c.awaitOpen(time.Second, ids...)
		for i, at := range ids {
			n := ID(fmt.Sprintf("unary-%d", i))
			want := Claim{Node: n, Proxy: testProxy("z"), Generation: 3, Age: time.Minute}
			w, err := c.at(at).AddNode(t.Context(), want)
			if err != nil || w != (Written{Copies: 2, Replicas: 2, Counted: true}) {
				t.Fatalf("AddNode at %s: %+v, %v", at, w, err)
			}
			for _, id := range ids {
				if a, claims := c.get(id, n); a != Found || len(claims) != 1 || claims[0] != want {
					t.Errorf("%s at %s: %v %+v", n, id, a, claims)
				}
			}
			r, err := c.at(ids[(i+1)%3]).RemoveNode(t.Context(), n, "z")
			if err != nil || r.Claims != 1 || r.Copies != 2 || r.Replicas != 2 || r.Kept != nil {
				t.Errorf("RemoveNode: %+v, %v", r, err)
			}
			for _, id := range ids {
				if a, _ := c.get(id, n); a != Absent {
					t.Errorf("after its removal %s at %s is %v", n, id, a)
				}
			}
			if w, err := c.at(at).AddNode(t.Context(), want); err != nil || w.Copies != 2 {
				t.Errorf("AddNode again: %+v, %v", w, err)
			}
			if a, _ := c.get(at, n); a != Found {
				t.Errorf("added again %s is %v", n, a)
			}
		}
	})
}

// Many that write one claim at once through several trackers all come through.
func TestUnaryContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := []ring.MemberID{"t-0", "t-1", "t-2"}
		c := newCluster(t, 2, ids...)
		c.awaitOpen(time.Second, ids...)
		for i, a := range ids {
			for _, b := range ids[i+1:] {
				c.wire(string(a), string(b)).Slow(time.Duration(i+1) * time.Millisecond)
			}
		}
		var wg sync.WaitGroup
		for g := range 12 {
			wg.Go(func() {
				for round := range 20 {
					claim := Claim{Node: "shared", Proxy: testProxy("z"), Generation: uint64(20*g + round)}
					if w, err := c.at(ids[g%3]).AddNode(t.Context(), claim); err != nil || w.Copies != 2 {
						t.Errorf("AddNode: %+v, %v", w, err)
					}
				}
			})
		}
		wg.Wait()
		all := ring.FullShardSet(poolShards)
		list := c.at("t-0").snap.Load().Placement.List(shardOf("shared"))
		x, y := c.at(list[0]).unaries.Sums(time.Now(), all), c.at(list[1]).unaries.Sums(time.Now(), all)
		if fmt.Sprint(x) != fmt.Sprint(y) {
			t.Errorf("%s has %v, %s has %v", list[0], x, list[1], y)
		}
	})
}

// Renewing one claim of a proxy keeps no other, and what is not renewed is gone after
// the interval.
func TestUnaryDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0", "t-1", "t-2")
		c.awaitOpen(time.Second, "t-0", "t-1", "t-2")
		add := func(n ID) {
			if _, err := c.at("t-0").AddNode(t.Context(), Claim{Node: n, Proxy: testProxy("z")}); err != nil {
				t.Fatal(err)
			}
		}
		add("old")
		for range 7 {
			add("kept")
			if a, _ := c.get("t-1", "old"); a != Found {
				t.Errorf("old is %v", a)
			}
			time.Sleep(8 * time.Second)
		}
		time.Sleep(4 * time.Second)
		old, _ := c.get("t-1", "old")
		kept, _ := c.get("t-1", "kept")
		if old != Absent || kept != Found {
			t.Errorf("old is %v, kept is %v", old, kept)
		}
		time.Sleep(time.Minute)
		if n := c.at("t-0").unaries.Len() + c.at("t-1").unaries.Len() + c.at("t-2").unaries.Len(); n != 0 {
			t.Errorf("%d unary claims are left", n)
		}
	})
}

// Unary claims outlive the loss of R-1 trackers, also while lists change.
func TestUnaryOutlivesLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []ring.MemberID{"t-0", "t-1", "t-2", "t-3"}
		c := newCluster(t, 3, all...)
		c.config.KeepAlive = 10 * time.Minute
		c.awaitOpen(2*time.Second, all...)
		const n = 100
		node := func(i int) ID { return ID(fmt.Sprintf("unary-%d", i)) }
		for i := range n {
			if w, err := c.at(all[i%4]).AddNode(t.Context(), Claim{Node: node(i), Proxy: testProxy("z")}); err != nil || !w.Counted {
				t.Fatalf("AddNode: %+v, %v", w, err)
			}
		}
		c.start("t-4")
		c.show("t-0", "t-1", "t-2", "t-3", "t-4")
		time.Sleep(20 * time.Millisecond)
		c.crash("t-2")
		c.crash("t-3")
		time.Sleep(3 * time.Second)
		p := c.show("t-0", "t-1", "t-4")
		eventually(t, 20*time.Second, func() string {
			for i := range n {
				if a, _ := c.get("t-0", node(i)); a == Absent {
					t.Fatalf("%s is ABSENT", node(i))
				}
			}
			for _, id := range []ring.MemberID{"t-0", "t-1", "t-4"} {
				if held, _, open := c.tally(id); open < held {
					return fmt.Sprintf("%s: %d of %d are open", id, open, held)
				}
			}
			return ""
		})
		for i := range n {
			for _, id := range p.List(shardOf(node(i))) {
				if r := c.look(id, node(i)); r.Answer != Found {
					t.Errorf("%s is %v at %s", node(i), r.Answer, id)
				}
			}
		}
	})
}

// Copies that differ are made equal within a term, and nothing is sent when all is
// said.
func TestCopiesHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0", "t-1")
		c.awaitOpen(time.Second, "t-0", "t-1")
		claim := func(n ID, version uint64) UnaryClaim {
			return UnaryClaim{Node: n, Proxy: testProxy("z"), Version: version, Left: time.Minute}
		}
		now := time.Now()
		c.at("t-0").unaries.Store(now, claim("a", 1))
		c.at("t-1").unaries.Store(now, claim("b", 1))
		c.at("t-0").unaries.Store(now, claim("c", 2))
		c.at("t-1").unaries.Store(now, claim("c", 3))
		all := ring.FullShardSet(poolShards)
		eventually(t, poolTerm+time.Second, func() string {
			x, y := c.at("t-0").unaries.Sums(time.Now(), all), c.at("t-1").unaries.Sums(time.Now(), all)
			if len(x) == 0 || fmt.Sprint(x) != fmt.Sprint(y) {
				return fmt.Sprintf("%v and %v", x, y)
			}
			return ""
		})
		if c.look("t-0", "b").Answer != Found || c.at("t-0").unaries.Versions("c", "z") != 3 {
			t.Error("b or c is not copied")
		}
	})
}

// While a proxy has a session, unary writes for it are refused, and RemoveNode
// without a proxy asks the session.
func TestUnaryAndSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, _ := settled(t, 2, "t-0", "t-1", "t-2")
		n := nodesOf(2, anyShard)
		if _, err := c.at("t-1").AddNode(t.Context(), Claim{Node: "u", Proxy: x.proxy}); !errors.Is(err, ErrHasSession) {
			t.Errorf("AddNode: %v", err)
		}
		if _, err := c.at("t-1").RemoveNode(t.Context(), n[0], "x"); !errors.Is(err, ErrHasSession) {
			t.Errorf("RemoveNode: %v", err)
		}
		if a, _ := c.get("t-1", n[0]); a != Found {
			t.Errorf("after a refused removal: %v", a)
		}
		x.mu.Lock()
		x.keeps[n[1]] = true
		x.mu.Unlock()
		if r, err := c.at("t-1").RemoveNode(t.Context(), n[0], ""); err != nil || r.Claims != 1 || r.Kept != nil {
			t.Errorf("RemoveNode of all: %+v, %v", r, err)
		}
		eventually(t, 100*time.Millisecond, func() string {
			if a, _ := c.get("t-0", n[0]); a != Absent {
				return a.String()
			}
			return ""
		})
		if r, err := c.at("t-1").RemoveNode(t.Context(), n[1], ""); err != nil || r.Claims != 0 || fmt.Sprint(r.Kept) != "[x]" {
			t.Errorf("RemoveNode of what is kept: %+v, %v", r, err)
		}
		if a, _ := c.get("t-0", n[1]); a != Found {
			t.Errorf("what was kept is %v", a)
		}
		x.close()
		if _, err := c.at("t-1").AddNode(t.Context(), Claim{Node: "u", Proxy: x.proxy}); !errors.Is(err, ErrHasSession) {
			t.Errorf("AddNode while the lease runs: %v", err)
		}
		time.Sleep(poolTerm + time.Second)
		if w, err := c.at("t-1").AddNode(t.Context(), Claim{Node: "u", Proxy: x.proxy}); err != nil || w.Copies != len(p.List(0)) {
			t.Errorf("AddNode after the lease: %+v, %v", w, err)
		}
	})
}

// A proxy that made a claim by AddNode and then opened a session: it is told once, and
// RemoveNode takes back both.
func TestUnaryBeforeSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0", "t-1", "t-2")
		c.awaitOpen(time.Second, "t-0", "t-1", "t-2")
		for _, n := range []ID{"both", "unary"} {
			if _, err := c.at("t-0").AddNode(t.Context(), Claim{Node: n, Proxy: testProxy("x")}); err != nil {
				t.Fatal(err)
			}
		}
		x := c.newClient("x", c.at("t-0").snap.Load().Placement, "t-0", "t-1", "t-2")
		x.add(1, "both")
		x.settle(time.Second)
		for _, id := range []ring.MemberID{"t-0", "t-1", "t-2"} {
			if a, claims := c.get(id, "both"); a != Found || len(claims) != 1 || claims[0].Generation != 1 {
				t.Errorf("%v %+v", a, claims)
			}
		}
		for _, n := range []ID{"both", "unary"} {
			if r, err := c.at("t-1").RemoveNode(t.Context(), n, ""); err != nil || r.Claims != 1 || r.Copies != r.Replicas {
				t.Errorf("%s: %+v, %v", n, r, err)
			}
			eventually(t, 100*time.Millisecond, func() string {
				if a, _ := c.get("t-2", n); a != Absent {
					return fmt.Sprintf("%s is %v", n, a)
				}
				return ""
			})
		}
	})
}

// A proxy that does not read its Drops makes callers wait, and nothing pile up.
func TestDropsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		s := c.hello("t-0", "p", 1, 1)
		s.add("a")
		s.renew()
		s.stored()
		stop := s.keepRenewing()
		for range 3 {
			r, err := c.at("t-0").RemoveNode(t.Context(), "a", "")
			if err != nil || fmt.Sprint(r.Kept) != "[p]" {
				t.Errorf("got %+v, %v; the proxy did not answer", r, err)
			}
		}
		stop()
		c.wire("p", "t-0").Hold()
		x := c.session("t-0", "p")
		for range pipeRoom + 10 { // fill the stream, so that the writer waits
			x.out.Lock()
			x.differ = &Differ{}
			x.out.Unlock()
			x.ring()
			synctest.Wait()
		}
		for range 5 {
			go func() { _, _ = c.at("t-0").RemoveNode(t.Context(), "a", "") }()
		}
		time.Sleep(callWait + 100*time.Millisecond)
		x.out.Lock()
		if n, w := len(x.drops), len(x.waiting); n != 0 || w != 0 {
			t.Errorf("%d drops and %d callers are left", n, w)
		}
		x.out.Unlock()
		c.wire("p", "t-0").Heal()
	})
}

// session is a tracker's end of a proxy's session.
func (c *cluster) session(at ring.MemberID, p ProxyID) *session {
	t := c.at(at)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proxies[p].session
}

// RemoveProxy ends a proxy's sessions, voids its unary claims and keeps its lives up to
// the number from coming back, at trackers that it did not reach too.
func TestRemoveProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, _ := settled(t, 2, "t-0", "t-1", "t-2")
		for i, n := range nodesOf(300, anyShard) {
			if i%50 == 0 {
				if a, _ := c.get("t-0", n); a != Found {
					t.Errorf("%s is %v", n, a)
				}
			}
		}
		if _, err := c.at("t-1").AddNode(t.Context(), Claim{Node: "u", Proxy: testProxy("z")}); err != nil {
			t.Fatal(err)
		}
		c.wire("t-1", "t-2").Cut()
		if err := c.at("t-1").RemoveProxy(t.Context(), "x", 0); err == nil || !strings.Contains(err.Error(), "t-2 learns of it later") {
			t.Errorf("got %v", err)
		}
		eventually(t, poolTerm/3+time.Second, func() string { // t-2 hears of it when it asks t-0 next
			for i, n := range nodesOf(300, anyShard) {
				if i%20 > 0 {
					continue
				}
				for _, id := range p.List(shardOf(n)) {
					if r := c.look(id, n); r.Answer == Found {
						return fmt.Sprintf("%s is %v at %s", n, r.Answer, id)
					}
				}
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.ended == nil || x.ended.Reason != EndRemoved || x.ended.Known.Number != 2 {
				return fmt.Sprintf("the sessions have not ended so: %+v", x.ended)
			}
			return ""
		})
		c.wire("t-1", "t-2").Heal()
		s := c.hello("t-2", "x", 1, 99)
		s.over(EndRemoved)
		s = c.hello("t-2", "x", 2, 1)
		if s.welcome.Sums != nil {
			t.Error("the next life has claims")
		}
		if err := c.at("t-0").RemoveProxy(t.Context(), "z", 0); err != nil {
			t.Error(err)
		}
		if a, _ := c.get("t-1", "u"); a != Absent {
			t.Errorf("the removed proxy's unary claim is %v", a)
		}
		if a, _ := c.get("t-0", nodesOf(320, anyShard)[310]); a != Found {
			t.Errorf("another proxy's claim is %v", a)
		}
	})
}

// What is not valid is refused by the name of its field and does nothing.
func TestUnaryInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		x := c.at("t-0")
		if _, err := x.AddNode(t.Context(), Claim{Node: "a", Proxy: testProxy("z")}); err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("x", MaxIDBytes+1)
		add := func(c Claim) error {
			_, err := x.AddNode(t.Context(), c)
			return err
		}
		remove := func(id ID, p ProxyID) error {
			_, err := x.RemoveNode(t.Context(), id, p)
			return err
		}
		for _, tt := range []struct {
			name, field string
			err         error
		}{
			{"add no node", "node_id", add(Claim{Proxy: testProxy("z")})},
			{"add no proxy", "proxy_id", add(Claim{Node: "a", Proxy: testProxy("")})},
			{"add no address", "proxy_addr", add(Claim{Node: "a", Proxy: Proxy{ID: "z"}})},
			{"add an age below 0", "age", add(Claim{Node: "a", Proxy: testProxy("z"), Age: -1})},
			{"remove a long node", "node_id", remove(ID(long), "z")},
			{"remove a long proxy", "proxy_id", remove("a", ProxyID(long))},
			{"remove what is no UTF-8", "proxy_id", remove("a", "\xff")},
			{"remove no proxy's", "proxy_id", x.Remove(t.Context(), "", "a")},
			{"remove no proxy", "proxy_id", x.RemoveProxy(t.Context(), "", 0)},
			{"remove a proxy that is no UTF-8", "proxy_id", x.RemoveProxy(t.Context(), "\xff", 0)},
			{"remove all lives for ever", "number", x.RemoveProxy(t.Context(), "z", math.MaxUint64)},
		} {
			var invalid *InvalidError
			if !errors.As(tt.err, &invalid) || invalid.Field != tt.field {
				t.Errorf("%s: got %v, want an InvalidError for %s", tt.name, tt.err, tt.field)
			}
		}
		if a, claims := c.get("t-0", "a"); a != Found || len(claims) != 1 {
			t.Errorf("a is %v %v", a, claims)
		}
	})
}
