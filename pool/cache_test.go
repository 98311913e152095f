package pool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

func key(t testing.TB, id string) (uint64, node.Key) {
	t.Helper()
	k, err := node.ParseID(node.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	return k.Hash(), k
}

func TestCacheKeepsForATime(t *testing.T) {
	c := newCache(1000)
	h, k := key(t, "n")
	now := time.Now()
	found := lookup{answer: node.Found, claims: []node.Claim{{Node: "n"}}}

	e, kept, mine := c.get(h, k, now)
	if kept || !mine {
		t.Fatalf("an empty cache: kept %v, mine %v", kept, mine)
	}
	c.put(h, e, found, now, time.Second)
	if e, kept, _ := c.get(h, k, now.Add(time.Second-1)); !kept || e.answer != node.Found || len(e.claims) != 1 {
		t.Errorf("within its time: kept %v, %+v", kept, e)
	}
	e, kept, mine = c.get(h, k, now.Add(time.Second))
	if kept || !mine {
		t.Errorf("after its time: kept %v, mine %v", kept, mine)
	}
	c.put(h, e, lookup{answer: node.Unknown}, now, 0)
	if _, kept, mine := c.get(h, k, now); kept || !mine {
		t.Errorf("UNKNOWN: kept %v, mine %v", kept, mine)
	}
}

func TestCacheForgets(t *testing.T) {
	c := newCache(1000)
	h, k := key(t, "n")
	now := time.Now()
	e, _, _ := c.get(h, k, now)
	c.put(h, e, lookup{answer: node.Found}, now, time.Hour)
	c.forget(h, k)
	e, kept, mine := c.get(h, k, now)
	if kept || !mine {
		t.Fatalf("kept %v, mine %v", kept, mine)
	}
	c.forget(h, k) // while it is looked up
	later, kept, mine := c.get(h, k, now)
	if kept || !mine {
		t.Fatalf("a lookup that began before answers one that came after: kept %v, mine %v", kept, mine)
	}
	c.put(h, e, lookup{answer: node.Found}, now, time.Hour)
	if _, kept, _ := c.get(h, k, now); kept {
		t.Error("a lookup that was forgotten is kept")
	}
	c.put(h, later, lookup{answer: node.Absent}, now, time.Hour)
	if e, kept, _ := c.get(h, k, now); !kept || e.answer != node.Absent {
		t.Errorf("kept %v", kept)
	}
}

func TestCacheSharesALookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(1000)
		h, k := key(t, "n")
		mineToo, found := 0, 0
		var mu sync.Mutex
		for range 10 {
			go func() {
				e, _, mine := c.get(h, k, time.Now())
				if mine {
					time.Sleep(time.Second)
					c.put(h, e, lookup{answer: node.Found}, time.Now(), time.Hour)
				}
				got := e.wait(t.Context())
				mu.Lock()
				defer mu.Unlock()
				if mine {
					mineToo++
				}
				if got.answer == node.Found {
					found++
				}
			}()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if mineToo != 1 || found != 10 {
			t.Errorf("%d lookups, %d found; want 1 and 10", mineToo, found)
		}
	})
}

// TestCacheIsBounded uses random nodes and checks the size, and that what was used
// last is there.
func TestCacheIsBounded(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	const room = 8
	c := newCache(room * cacheShards)
	now := time.Now()
	used := map[*cacheShard][]node.Key{} // the youngest last
	for range 20_000 {
		h, k := key(t, fmt.Sprint(r.IntN(2000)))
		e, _, mine := c.get(h, k, now)
		if mine {
			c.put(h, e, lookup{answer: node.Found}, now, time.Hour)
		}
		s := c.shard(h)
		if want := slices.Contains(used[s], k); want == mine {
			t.Fatalf("seed %d: %v: kept %v, want %v", seed, k, !mine, want)
		}
		used[s] = append(slices.DeleteFunc(used[s], func(o node.Key) bool { return o == k }), k)
		used[s] = used[s][max(0, len(used[s])-room):]
		if len(s.entries) > room {
			t.Fatalf("seed %d: %d answers in a room of %d", seed, len(s.entries), room)
		}
	}
}
