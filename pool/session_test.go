package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// TestSessionsStayExact checks, at every Renew, that its sum is that of what the
// tracker has, and that it lacks nothing which was claimed before its nonce; under
// random changes of claims and views, cuts, restarts and losses. After the last
// fault every tracker has what it should, and nothing else.
func TestSessionsStayExact(t *testing.T) {
	first, runs := uint64(time.Now().UnixNano()), uint64(8)
	if s := os.Getenv("POOL_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		runs = 1
	}
	if testing.Short() {
		runs = 3
	}
	for seed := first; seed < first+runs; seed++ {
		ok := t.Run("", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { exactRun(t, seed) }) })
		if !ok {
			t.Fatalf("again with POOL_SEED=%d", seed)
		}
	}
}

func exactRun(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	shards := []int{2, 64}[r.IntN(2)]
	nodes := []int{100, 5000}[r.IntN(2)]
	w := newWorld(t, seed, shards)
	w.window = []uint32{60, 1000, 5000}[r.IntN(3)]
	w.setView("a", "b", "c")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := w.open(ctx, "p")
	defer c.Close()

	change := func(n int) {
		edits := make([]edit, n)
		adds := r.IntN(3) > 0
		w.mu.Lock()
		for i := range edits {
			k, err := node.ParseID(node.ID(fmt.Sprintf("node-%d", r.IntN(nodes))))
			if err != nil {
				t.Fatal(err)
			}
			edits[i] = edit{key: k, hash: k.Hash(), value: node.Value{Generation: uint64(r.IntN(3))}}
		}
		w.mu.Unlock()
		if err := w.write(ctx, c, adds, edits); err != nil {
			t.Errorf("write: %v", err)
		}
	}
	all := []ring.MemberID{"a", "b", "c", "d", "e"}
	for range 150 {
		switch k := r.IntN(100); {
		case k < 60:
			change(1 + r.IntN(200))
		case k < 75:
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			w.setView(all[:1+r.IntN(len(all))]...)
		default:
			w.mu.Lock()
			if f := w.trackers[all[r.IntN(len(all))]]; f != nil {
				switch {
				case k < 85:
					f.cutLocked()
				case k < 90:
					f.restartLocked()
				case k < 95:
					f.up = !f.up
					f.cutLocked()
				case len(f.table.Sums(own)) > 0:
					f.spoilt = true
					f.table.Release(f.table.Sums(own)[0].Shard, own)
				}
			}
			w.mu.Unlock()
		}
		if r.IntN(3) == 0 {
			time.Sleep(rand.N(200 * time.Millisecond))
		}
		if r.IntN(40) == 0 {
			time.Sleep(rand.N(15 * time.Second))
		}
	}
	w.mu.Lock()
	for _, f := range w.trackers {
		f.up = true
	}
	w.mu.Unlock()
	w.setView("a", "b", "c", "d")
	time.Sleep(15 * time.Second) // backoffs, and the wait for lost seats
	limit, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if err := c.Settled(limit); err != nil {
		t.Fatalf("not settled: %v", err)
	}
	synctest.Wait()
	w.check(c)

	w.mu.Lock()
	for _, f := range w.trackers {
		for _, sum := range f.table.Sums(own)[:min(1, len(f.table.Sums(own)))] {
			f.spoilt = true
			f.table.Release(sum.Shard, own)
		}
	}
	w.mu.Unlock()
	time.Sleep(2 * time.Duration(w.term)) // for a Renew, a Differ and a Replace
	synctest.Wait()
	w.check(c)
}

// write makes the changes of a portion known to the client and the model in one
// step, without waiting until they are stored.
func (w *world) write(ctx context.Context, c *Client, adds bool, edits []edit) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := c.write(ctx, adds, edits)
	for _, e := range edits {
		w.version++
		w.model[e.key] = claimed{e.value.Generation, !adds, w.version}
	}
	return err
}

// check compares all trackers with the model.
func (w *world) check(c *Client) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	want := make([]node.Sum, w.shards)
	for k, m := range w.model {
		if !m.gone {
			h := k.Hash()
			want[ring.ShardOf(h, w.shards)].AddClaim(h, m.generation)
		}
	}
	for id, f := range w.trackers {
		held := w.present.Held(id)
		for i := range w.shards {
			shard := ring.Shard(i)
			sum := node.Sum{}
			if held.Has(shard) {
				sum = want[i]
			}
			if _, member := w.present.View().Member(id); !member {
				continue // it may be out of reach
			}
			if got := f.table.SumOf(shard, own); got != sum {
				w.t.Errorf("tracker %s, shard %d, held %v: has %v, want %v", id, i, held.Has(shard), got, sum)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range want {
		if c.claims.sums[i] != want[i] || c.claims.table.SumOf(ring.Shard(i), own) != want[i] {
			w.t.Errorf("shard %d: the client has %v, its table %v, want %v", i, c.claims.sums[i], c.claims.table.SumOf(ring.Shard(i), own), want[i])
		}
	}
}
