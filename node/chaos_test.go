package node

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// Under random short cuts, joins, leaves and one crash at a time no claim that once
// counted is ABSENT to a reader of any tracker's view, and no removed one is found once
// its removal has reached all; after the last fault all is whole again.
func TestChaos(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		replicas := 1 + int(seed)%2
		t.Run(fmt.Sprintf("seed=%d,replicas=%d", seed, replicas), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 0)), replicas) })
		})
	}
}

func chaos(t *testing.T, r *rand.Rand, replicas int) {
	seats := []ring.MemberID{"t-0", "t-1", "t-2"}
	all := append(slices.Clone(seats), "t-3")
	c, p, x, y := settled(t, replicas, seats...)
	c.start("t-3")
	x.connect("t-3")
	y.connect("t-3")
	p = c.show(seats...)
	counted := map[ID]*client{}
	pool := nodesOf(400, anyShard)[320:]
	view := seats
	restarted := time.Now()
	turn := func(next []ring.MemberID) {
		view = next
		p = c.show(next...)
		lag := time.Duration(r.IntN(300)) * time.Millisecond
		first, second := x, y
		if r.IntN(2) == 0 {
			first, second = y, x
		}
		first.follow(p)
		time.Sleep(lag)
		second.follow(p)
	}
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); {
		switch id := all[r.IntN(len(all))]; r.IntN(10) {
		case 0:
			other := []string{"t-0", "t-1", "t-2", "t-3", "x", "y"}[r.IntN(6)]
			if w := c.wire(string(id), other); other != string(id) {
				w.Cut()
				time.AfterFunc(time.Duration(r.IntN(3000))*time.Millisecond, w.Heal)
			}
		case 1:
			if next := all; len(view) == len(all) {
				turn(seats)
			} else {
				turn(next)
			}
		case 2:
			if time.Since(restarted) > 3*poolTerm { // a seat is silent for two
				restarted = time.Now()
				c.crash(id)
				time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
				c.start(id)
				turn(view)
			}
		default:
			n, k := pool[r.IntN(len(pool))], []*client{x, y}[r.IntN(2)]
			if r.IntN(3) == 0 {
				k.remove(n)
				if counted[n] == k {
					delete(counted, n)
				}
			} else {
				k.add(1, n)
			}
		}
		for range 10 {
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
			for _, n := range pool {
				for _, k := range []*client{x, y} {
					if counted[n] == nil && k.has(n) && k.counted(n) {
						counted[n] = k
					}
				}
				if counted[n] != nil {
					c.notAbsent(n, all)
				}
			}
		}
	}
	for _, a := range []string{"t-0", "t-1", "t-2", "t-3", "x", "y"} {
		for _, b := range all {
			c.wire(a, string(b)).Heal()
		}
	}
	turn(all)
	claims := func() int {
		x.mu.Lock()
		defer x.mu.Unlock()
		y.mu.Lock()
		defer y.mu.Unlock()
		return len(x.claims) + len(y.claims)
	}
	eventually(t, 3*poolTerm, c.whole(p, claims(), all...))
	x.settle(time.Second)
	y.settle(time.Second)
	for _, n := range pool {
		want := Absent
		if x.has(n) || y.has(n) {
			want = Found
		}
		if a, _ := c.get("t-0", n); a != want {
			t.Errorf("in the end %s is %v, want %v", n, a, want)
		}
	}
}

func (x *client) has(n ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.claims[n]
	return ok
}

// notAbsent checks what a reader by each tracker's view would make of a node, if it
// asked all holders at this moment.
func (c *cluster) notAbsent(n ID, ids []ring.MemberID) {
	c.t.Helper()
	sh := shardOf(n)
	for _, id := range ids {
		p := c.at(id).snap.Load().Placement
		if p == nil {
			continue
		}
		q := QuestionOf(p, sh)
		var replies []Reply
		for _, h := range q.List {
			replies = append(replies, Reply{From: h, Result: c.look(h, n)})
		}
		if a, _, _ := q.Merge(replies); a == Absent {
			c.t.Fatalf("%s of shard %d counted, and is ABSENT by %s's view", n, sh, id)
		}
	}
}
