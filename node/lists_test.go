package node

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const wireDelay = 5 * time.Millisecond

// settled starts a pool of trackers with two proxies, whose claims all count.
func settled(t *testing.T, replicas int, ids ...ring.MemberID) (c *cluster, p *ring.Placement, x, y *client) {
	t.Helper()
	c = newCluster(t, replicas, ids...)
	for _, a := range append([]ring.MemberID{"x", "y", "t-3"}, ids...) {
		for _, b := range append([]ring.MemberID{"t-3"}, ids...) {
			c.wire(string(a), string(b)).Slow(wireDelay)
		}
	}
	c.awaitOpen(time.Second, ids...)
	p = c.at(ids[0]).snap.Load().Placement
	x, y = c.newClient("x", p, ids...), c.newClient("y", p, ids...)
	x.add(1, nodesOf(300, anyShard)...)
	y.add(1, nodesOf(320, anyShard)[300:]...)
	x.settle(2 * time.Second)
	y.settle(2 * time.Second)
	return c, p, x, y
}

// lost says which of the nodes are not found through some tracker, and whether a node
// that is nowhere was found.
func (c *cluster) lost(at ...ring.MemberID) func() string {
	nodes := nodesOf(320, anyShard)
	var i int
	return func() string {
		for _, id := range at {
			i = (i + 37) % len(nodes) // a sample, all in time
			if a, _ := c.get(id, nodes[i]); a != Found {
				return fmt.Sprintf("%s of shard %d at %s is %v; here: %+v", nodes[i], shardOf(nodes[i]), id, a, c.look(id, nodes[i]))
			}
			if a, claims := c.get(id, "nowhere"); a == Found {
				return fmt.Sprintf("found nowhere: %v", claims)
			}
		}
		return ""
	}
}

// whole says what is missing until each claim is at the holders of its shard, and
// nowhere else, and all is open.
func (c *cluster) whole(p *ring.Placement, claims int, ids ...ring.MemberID) func() string {
	return func() string {
		n := 0
		for _, id := range ids {
			if held, _, open := c.tally(id); open < held || held != p.Held(id).Len() {
				return fmt.Sprintf("%s: %d of %d shards are open", id, open, p.Held(id).Len())
			}
			n += c.at(id).table.Len()
		}
		if want := claims * len(p.List(0)); n != want {
			return fmt.Sprintf("%d claims in all tables, want %d", n, want)
		}
		return ""
	}
}

// A joining tracker: shards that do not move are not touched, the others are not in
// force for some round trips only, and open when the proxies have confirmed.
func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		c.start("t-3")
		x.connect("t-3")
		y.connect("t-3")
		next := c.show("t-0", "t-1", "t-2", "t-3")
		stays := 0
		for sh := range ring.Shard(poolShards) {
			if p.SameList(next, sh) {
				stays++
			}
		}
		if stays == 0 || stays == poolShards {
			t.Fatalf("%d shards stay", stays)
		}
		lost := c.lost("t-0", "t-1", "t-2")
		// Only the proxies open the joiner's shards.
		throughout(t, 200*time.Millisecond, func() string {
			for sh := range p.Held("t-0").All() {
				if now := time.Now(); p.SameList(next, sh) && !c.at("t-0").snap.Load().Open(now, sh) {
					return fmt.Sprintf("shard %d, which stays, is not open", sh)
				}
			}
			if _, _, open := c.tally("t-3"); open > 0 {
				return "a shard of the joiner is open before the proxies confirmed"
			}
			return lost()
		})
		for _, id := range []ring.MemberID{"t-0", "t-1", "t-2", "t-3"} {
			if held, forced, _ := c.tally(id); held != forced || held != next.Held(id).Len() {
				t.Errorf("%s holds %d, in force are %d", id, held, forced)
			}
		}
		x.follow(next)
		y.follow(next)
		c.awaitOpen(300*time.Millisecond, "t-0", "t-1", "t-2", "t-3")
		x.settle(300 * time.Millisecond)
		y.settle(300 * time.Millisecond)
		eventually(t, time.Second, c.whole(next, 320, "t-0", "t-1", "t-2", "t-3"))
		throughout(t, 2*poolTerm, lost)
	})
}

// A crashed tracker keeps its shards from coming into force until its words ran out;
// then they open. What is registered is found all the while.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		c.crash("t-2")
		at := time.Now()
		throughout(t, 4*time.Second, c.lost("t-0", "t-1"))
		next := c.show("t-0", "t-1")
		x.follow(next)
		y.follow(next)
		moved := nodesOf(1, heldBy(p, "t-2"))[0]
		early := 0
		eventually(t, poolTerm, func() string {
			if what := c.lost("t-0", "t-1")(); what != "" {
				t.Fatal(what)
			}
			if a, _ := c.get("t-0", moved+"?"); a == Absent {
				early++
			}
			return c.whole(next, 320, "t-0", "t-1")()
		})
		// Its word held a term from its last nonce; a third of a term may have passed then.
		if d := time.Since(at); d < poolTerm/2 || d > poolTerm*11/10+300*time.Millisecond {
			t.Errorf("its shards were open %v after the crash", d)
		}
		throughout(t, 2*poolTerm, c.lost("t-0", "t-1"))
	})
}

// A leaving tracker drains when the proxies have released it.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, x, y := settled(t, 2, "t-0", "t-1", "t-2", "t-3")
		if w, err := c.at("t-3").AddNode(context.Background(), Claim{Node: "u", Proxy: testProxy("z")}); err != nil || w.Copies != 2 || !w.Counted {
			t.Fatalf("AddNode: %+v, %v", w, err)
		}
		if what := c.at("t-3").undrained(); what == "" {
			t.Error("it is drained while shards are placed on it")
		}
		next := c.showMembers(c.member("t-0", ring.Serving), c.member("t-1", ring.Serving), c.member("t-2", ring.Serving), c.member("t-3", ring.Leaving))
		began := time.Now()
		drained := make(chan error, 1)
		go func() { drained <- c.at("t-3").Drain(t.Context()) }()
		time.Sleep(100 * time.Millisecond)
		if what := c.at("t-3").undrained(); what == "" {
			t.Error("it is drained before it was released")
		}
		x.follow(next)
		y.follow(next)
		if err := <-drained; err != nil || time.Since(began) > time.Second {
			t.Errorf("drained after %v: %v", time.Since(began), err)
		}
		eventually(t, time.Second, c.whole(next, 320, "t-0", "t-1", "t-2"))
		c.crash("t-3")
		c.show("t-0", "t-1", "t-2")
		throughout(t, poolTerm, c.lost("t-0", "t-1", "t-2"))
		if a, _ := c.get("t-0", "u"); a != Found {
			t.Errorf("the unary claim is %v", a)
		}
	})
}

// A view, another, and the first again, in quick turn and with proxies that lag.
func TestThereAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		c.start("t-3")
		x.connect("t-3")
		y.connect("t-3")
		all := []ring.MemberID{"t-0", "t-1", "t-2", "t-3"}
		next := c.show(all...)
		time.Sleep(3 * wireDelay)
		x.follow(next)
		time.Sleep(wireDelay)
		c.show("t-0", "t-1", "t-2")
		time.Sleep(wireDelay)
		y.follow(next)
		c.show(all...)
		time.Sleep(wireDelay)
		c.show("t-0", "t-1", "t-2")
		x.follow(p)
		y.follow(p)
		lost := c.lost("t-0", "t-1", "t-2")
		eventually(t, time.Second, func() string {
			if what := lost(); what != "" {
				t.Fatal(what)
			}
			return c.whole(p, 320, "t-0", "t-1", "t-2")()
		})
		if n := c.at("t-3").table.Len(); n != 0 {
			t.Errorf("%d claims are left at t-3", n)
		}
	})
}

// The smaller side of a split never says ABSENT of what the other side counts.
func TestSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		c.isolate("t-2", "t-0", "t-1", "x", "y")
		split := time.Now()
		rest := c.showTo([]ring.MemberID{"t-0", "t-1"}, c.member("t-0", ring.Serving), c.member("t-1", ring.Serving))
		x.follow(rest)
		y.follow(rest)
		added := nodesOf(4000, heldBy(p, "t-2"))[3990:]
		x.add(1, added...)
		counted := false
		throughout(t, 3*poolTerm, func() string {
			for _, n := range added {
				if x.counted(n) {
					counted = true
					if r := c.look("t-2", n); r.Answer == Absent {
						return fmt.Sprintf("%s counts, and is ABSENT at t-2 %v after the split", n, time.Since(split))
					}
				}
			}
			return ""
		})
		if !counted {
			t.Error("no claim counted")
		}
		if !c.at("t-2").Status().CutOff {
			t.Error("t-2 does not know that it is cut off")
		}
		for _, o := range []string{"t-0", "t-1", "x", "y"} {
			c.wire("t-2", o).Heal()
		}
		c.show("t-0", "t-1", "t-2")
		x.follow(p)
		y.follow(p)
		eventually(t, 3*poolTerm, c.whole(p, 330, "t-0", "t-1", "t-2"))
		if c.at("t-2").Status().CutOff {
			t.Error("t-2 still means that it is cut off")
		}
	})
}

// All trackers crash at once and start again: what proxies send again is found at
// once, and after two terms misses are ABSENT again.
func TestAllTrackersLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		for _, id := range []ring.MemberID{"t-0", "t-1", "t-2"} {
			c.crash(id)
		}
		began := time.Now()
		for _, id := range []ring.MemberID{"t-0", "t-1", "t-2"} {
			c.start(id)
		}
		p := c.show("t-0", "t-1", "t-2")
		x.follow(p)
		y.follow(p)
		time.Sleep(2 * time.Second)
		throughout(t, 18*time.Second, func() string {
			if a, _ := c.get("t-0", "nowhere"); a != Unknown {
				return fmt.Sprintf("a miss is %v", a)
			}
			return c.lost("t-0", "t-1", "t-2")()
		})
		eventually(t, 2*poolTerm*11/10-time.Since(began)+300*time.Millisecond, c.whole(p, 320, "t-0", "t-1", "t-2"))
		x.settle(time.Second)
	})
}

// A tracker that restarts under the same ID has another address: readers of the view
// learn it, though its fingerprint is the same.
func TestRestartMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, "t-0", "t-1", "t-2")
		c.awaitOpen(time.Second, "t-0")
		before, err := c.at("t-0").View(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		c.start("t-2")
		p := c.show("t-0", "t-1", "t-2")
		synctest.Wait()
		for _, fp := range []ring.Fingerprint{0, p.Fingerprint()} {
			after, err := c.at("t-0").View(t.Context(), fp)
			if err != nil || after.View.Sum() == before.View.Sum() || after.View.Sum() != p.View().Sum() {
				t.Errorf("view %v: sum %x, error %v; before %x, want %x", fp, after.View.Sum(), err, before.View.Sum(), p.View().Sum())
			}
		}
	})
}
