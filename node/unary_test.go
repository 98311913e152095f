package node

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

func unaryStart() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }

type unaryKey struct {
	node  ID
	proxy ProxyID
}

// A unaryModel does what Unaries does: it keeps the claim as it came, and when.
type unaryModel map[unaryKey]struct {
	claim UnaryClaim
	at    time.Time
}

// now returns what is held of a key as it stands now, and whether its deadline is
// yet to come.
func (m unaryModel) now(now time.Time, k unaryKey) (c UnaryClaim, lasts bool) {
	h, ok := m[k]
	if !ok {
		return UnaryClaim{}, false
	}
	c = h.claim
	c.Left -= now.Sub(h.at)
	c.Age += now.Sub(h.at)
	return c, c.Left > 0
}

func (m unaryModel) store(now time.Time, c UnaryClaim) (stored bool, version uint64) {
	k := unaryKey{c.Node, c.Proxy.ID}
	held, lasts := m.now(now, k)
	better := c.Version > held.Version
	if c.Version == held.Version {
		better = c.Left < held.Left
		if c.Left == held.Left {
			better = c.Gone && !held.Gone || c.Gone == held.Gone && c.Generation > held.Generation
		}
	}
	if !lasts || better {
		m[k] = struct {
			claim UnaryClaim
			at    time.Time
		}{c, now}
		return true, c.Version
	}
	same := held.Version == c.Version && held.Gone == c.Gone && held.Generation == c.Generation
	return same, held.Version
}

// all returns what lasts and matches.
func (m unaryModel) all(now time.Time, match func(UnaryClaim) bool) (claims []UnaryClaim) {
	for k := range m {
		if c, lasts := m.now(now, k); lasts && match(c) {
			claims = append(claims, c)
		}
	}
	return sortUnary(claims)
}

func (m unaryModel) expire(now time.Time) (dropped int) {
	for k := range m {
		if _, lasts := m.now(now, k); !lasts {
			delete(m, k)
			dropped++
		}
	}
	return dropped
}

func sortUnary(claims []UnaryClaim) []UnaryClaim {
	slices.SortFunc(claims, func(a, b UnaryClaim) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Proxy.ID, b.Proxy.ID))
	})
	return claims
}

// randomUnary comes from few nodes, proxies, versions and deadlines, so that they
// meet.
func randomUnary(rnd *rand.Rand) UnaryClaim {
	proxy := fmt.Sprintf("p-%d", rnd.IntN(4))
	node := fmt.Sprintf("node %d", rnd.IntN(8))
	if rnd.IntN(2) == 0 {
		node += " has a name that no slot has room for"
	}
	return UnaryClaim{
		Node:       ID(node),
		Proxy:      Proxy{ID: ProxyID(proxy), Addr: proxy + ":1"},
		Generation: rnd.Uint64N(2) << 40,
		Age:        time.Duration(rnd.IntN(100)) * time.Second,
		Version:    1 + rnd.Uint64N(6),
		Left:       time.Duration(1+rnd.IntN(5)) * 10 * time.Second,
		Gone:       rnd.IntN(3) == 0,
	}
}

func shardOfID(id ID) ring.Shard { return ring.ShardOf(ring.Hash(string(id)), testShards) }

func TestUnariesDoWhatAMapDoes(t *testing.T) {
	for range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			u, m, now := NewUnaries(testShards), make(unaryModel), unaryStart()
			check := func(what string, got, want any) {
				t.Helper()
				if diff := diff(want, got); diff != "" {
					t.Fatalf("%s (-want +got):\n%s", what, diff)
				}
			}
			for range 200 {
				if rnd.IntN(4) == 0 {
					now = now.Add(time.Duration(rnd.IntN(3)) * 5 * time.Second)
				}
				if rnd.IntN(20) == 0 {
					check("Expire", u.Expire(now), m.expire(now))
					for i := range u.shards {
						if s := &u.shards[i]; s.set.used > 0 && now.UnixNano() >= s.due {
							t.Fatalf("the next Expire would walk shard %d for nothing", i)
						}
					}
				}
				c := randomUnary(rnd)
				gotStored, gotVersion := u.Store(now, c)
				stored, version := m.store(now, c)
				check("Store", []any{gotStored, gotVersion}, []any{stored, version})

				id, p, shard := c.Node, c.Proxy.ID, shardOfID(c.Node)
				check("Versions", u.Versions(id, p), m[unaryKey{id, p}].claim.Version)
				check("Len", u.Len(), len(m))
				check("Lookup", sortUnary(u.Lookup(now, id, nil)),
					m.all(now, func(c UnaryClaim) bool { return c.Node == id && !c.Gone }))
				check("Shard", sortUnary(u.Shard(now, shard)),
					m.all(now, func(c UnaryClaim) bool { return shardOfID(c.Node) == shard }))
				check("OfProxy", sortUnary(u.OfProxy(now, p)),
					m.all(now, func(c UnaryClaim) bool { return c.Proxy.ID == p && !c.Gone }))
				var counts, want uint64
				for _, s := range u.Sums(now, ring.FullShardSet(testShards)) {
					counts += s.Sum.Count
				}
				want = uint64(len(m.all(now, func(UnaryClaim) bool { return true })))
				check("the count of Sums", counts, want)
				owners, proxies := map[ProxyID]bool{}, map[Proxy]bool{}
				for k, h := range m {
					owners[k.proxy], proxies[h.claim.Proxy] = true, true
				}
				check("proxies kept", []int{len(u.owners.numbers), len(u.proxies.numbers)}, []int{len(owners), len(proxies)})
			}
			now = now.Add(time.Hour)
			check("Expire at the end", u.Expire(now), m.expire(now))
			check("Len at the end", u.Len(), 0)
			check("proxies at the end", []int{len(u.owners.all), len(u.proxies.all)}, []int{0, 0})
		})
	}
}

// Trackers that were told the same, in whatever order and however often, hold
// the same.
func TestUnariesAgreeInAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		var claims []UnaryClaim
		for range 40 {
			claims = append(claims, randomUnary(rnd))
		}
		shards := ring.FullShardSet(testShards)
		var first *Unaries
		for range 4 {
			u := NewUnaries(testShards)
			for _, c := range claims {
				u.Store(unaryStart(), c)
			}
			rnd.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
			for _, c := range claims[:10] {
				u.Store(unaryStart(), c)
			}
			if first == nil {
				first = u
			}
			if diff := diff(first.Sums(unaryStart(), shards), u.Sums(unaryStart(), shards)); diff != "" {
				t.Fatalf("seed %d: sums: %s", seed, diff)
			}
			for s := range ring.Shard(testShards) {
				got, want := sortUnary(u.Shard(unaryStart(), s)), sortUnary(first.Shard(unaryStart(), s))
				for _, claims := range [][]UnaryClaim{got, want} {
					for i := range claims {
						claims[i].Age = 0 // of claims that are equal but for it either may be held
					}
				}
				if diff := diff(want, got); diff != "" {
					t.Fatalf("seed %d: shard %d: %s", seed, s, diff)
				}
			}
		}
	}
}

func TestRenewingOneUnaryClaimKeepsNoOther(t *testing.T) {
	u, now := NewUnaries(testShards), unaryStart()
	claim := func(id ID, version uint64) UnaryClaim {
		return UnaryClaim{Node: id, Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: version, Left: time.Minute}
	}
	u.Store(now, claim("renewed", 1))
	u.Store(now, claim("forgotten", 1))
	now = now.Add(50 * time.Second)
	u.Store(now, claim("renewed", 2))
	now = now.Add(10 * time.Second)
	if got := u.Lookup(now, "forgotten", nil); len(got) != 0 {
		t.Errorf("at its deadline a claim is still %v", got)
	}
	if got := u.Lookup(now, "renewed", nil); len(got) != 1 || got[0].Left != 50*time.Second {
		t.Errorf("the renewed claim is %v", got)
	}
	if got := u.Expire(now); got != 1 || u.Len() != 1 {
		t.Errorf("Expire dropped %d and left %d", got, u.Len())
	}
}

// A copy travels, so it comes with a deadline that is a little late; sent to and
// fro it must not live for ever.
func TestCopiesOfAUnaryClaimDoNotProlongIt(t *testing.T) {
	a, b, now := NewUnaries(1), NewUnaries(1), unaryStart()
	first := UnaryClaim{Node: "n", Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: 1, Left: time.Minute}
	a.Store(now, first)
	for range 100 {
		for _, way := range [][2]*Unaries{{a, b}, {b, a}} {
			for _, c := range way[0].Shard(now, 0) {
				if stored, version := way[1].Store(now.Add(100*time.Millisecond), c); !stored || version != 1 {
					t.Fatalf("a copy was refused for version %d", version)
				}
			}
			now = now.Add(500 * time.Millisecond)
		}
	}
	for name, u := range map[string]*Unaries{"a": a, "b": b} {
		if got := u.Shard(unaryStart().Add(61*time.Second), 0); len(got) != 0 {
			t.Errorf("%s still holds %v", name, got)
		}
	}
}

func TestUnaryRemovalIsAVersion(t *testing.T) {
	u, now := NewUnaries(1), unaryStart()
	c := UnaryClaim{Node: "n", Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: 5, Left: time.Minute}
	gone := c
	gone.Version, gone.Gone, gone.Left = 6, true, 2*time.Minute
	u.Store(now, c)
	u.Store(now, gone)
	if stored, version := u.Store(now, c); stored || version != 6 {
		t.Errorf("the removed claim came back: %v, %d", stored, version)
	}
	if got := u.Lookup(now, "n", nil); len(got) != 0 {
		t.Errorf("found %v", got)
	}
	if got := u.Versions("n", "p"); got != 6 {
		t.Errorf("Versions = %d, want 6", got)
	}
	if got := u.Shard(now, 0); len(got) != 1 || !got[0].Gone {
		t.Errorf("a copy has %v, want the removal", got)
	}
}

// The sums are compared between processes of different releases.
func TestUnarySumIsPinned(t *testing.T) {
	u := NewUnaries(1)
	c := UnaryClaim{Node: "n", Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: 7, Left: time.Minute}
	want := ElementOf(ElementOf(ElementOf(ring.Hash("n"), ring.Hash("p")), 7), 0)
	u.Store(unaryStart(), c)
	got := u.Sums(unaryStart(), ring.FullShardSet(1))
	if len(got) != 1 || got[0].Sum != (Sum{1, want}) {
		t.Errorf("got %v, want one claim of %#x", got, want)
	}
	c.Version, c.Gone, c.Age, c.Left = 8, true, time.Second, time.Hour
	u.Store(unaryStart(), c)
	want = ElementOf(ElementOf(ElementOf(ring.Hash("n"), ring.Hash("p")), 8), 1)
	if got := u.Sums(unaryStart(), ring.FullShardSet(1)); got[0].Sum != (Sum{1, want}) {
		t.Errorf("of a removal: got %v, want %#x", got, want)
	}
}

// A claim says the same only with the same address, and the later one's is kept.
func TestUnaryClaimsFollowTheirProxysAddress(t *testing.T) {
	u, now := NewUnaries(1), unaryStart()
	c := UnaryClaim{Node: "n", Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: 1, Left: time.Minute}
	u.Store(now, c)
	moved := c
	moved.Proxy.Addr = "p:2"
	for _, c := range []UnaryClaim{moved, c} { // at equal versions the higher address, in any order
		stored, _ := u.Store(now, c)
		if got := u.Lookup(now, "n", nil); len(got) != 1 || got[0].Proxy != moved.Proxy || stored != (c == moved) {
			t.Errorf("after %v: stored %v, found %v", c.Proxy, stored, got)
		}
	}
	if len(u.proxies.numbers) != 1 || len(u.owners.numbers) != 1 {
		t.Errorf("%d addresses of %d proxies are kept, want 1 of 1", len(u.proxies.numbers), len(u.owners.numbers))
	}
}

func TestExpireGivesMemoryBack(t *testing.T) {
	u, now := NewUnaries(1), unaryStart()
	for i := range 1000 {
		left := time.Minute
		if i%10 == 0 {
			left = time.Hour
		}
		u.Store(now, UnaryClaim{Node: ID(fmt.Sprint(i)), Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: uint64(i + 1), Left: left})
	}
	now = now.Add(time.Minute)
	if got := u.Expire(now); got != 900 || u.Len() != 100 {
		t.Fatalf("Expire dropped %d of 900 and left %d", got, u.Len())
	}
	if s := &u.shards[0]; len(s.set.all) > 300 || cap(s.rows) > 300 {
		t.Errorf("100 claims have %d slots and %d rows", len(s.set.all), cap(s.rows))
	}
	for i := 0; i < 1000; i += 10 {
		if got := u.Lookup(now, ID(fmt.Sprint(i)), nil); len(got) != 1 || got[0].Version != uint64(i+1) {
			t.Errorf("node %d is %v", i, got)
		}
	}
}

// BenchmarkUnaryMemory gives the live bytes of a unary claim, of a million.
func BenchmarkUnaryMemory(b *testing.B) {
	keys := benchKeys(1_000_000, true)
	for b.Loop() {
		before := liveBytes()
		u := NewUnaries(benchShards)
		for i, k := range keys {
			u.Store(unaryStart(), UnaryClaim{Node: k.ID(), Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: uint64(i + 1), Left: time.Minute})
		}
		b.ReportMetric(float64(liveBytes()-before)/float64(len(keys)), "B/claim")
		runtime.KeepAlive(u)
	}
}

func BenchmarkUnaryStore(b *testing.B) {
	keys := benchKeys(100_000, true)
	u := NewUnaries(benchShards)
	ids := make([]ID, len(keys))
	for i, k := range keys {
		ids[i] = k.ID()
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c := UnaryClaim{Node: ids[i%len(ids)], Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: uint64(i + 1), Left: time.Minute}
		u.Store(unaryStart(), c)
		i++
	}
}

// TestUnariesConcurrently: nothing is lost or kept where many store, look up and expire
// at the same time. It is for the race detector.
func TestUnariesConcurrently(t *testing.T) {
	u, now := NewUnaries(testShards), unaryStart()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 500 {
				c := randomUnary(rnd)
				u.Store(now, c)
				u.Lookup(now, c.Node, nil)
				u.Versions(c.Node, c.Proxy.ID)
				if i%50 == 0 {
					u.Expire(now.Add(20 * time.Second))
				}
			}
		})
	}
	wg.Wait()
	if got := len(u.Sums(now, ring.FullShardSet(testShards))); got == 0 {
		t.Error("nothing is held")
	}
	u.Expire(now.Add(time.Hour))
	if u.Len() != 0 || len(u.owners.all) != 0 || len(u.proxies.all) != 0 {
		t.Errorf("%d claims, %d proxies and %d addresses are left", u.Len(), len(u.owners.all), len(u.proxies.all))
	}
}
