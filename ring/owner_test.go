package ring

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func keysOf(t testing.TB, ids []MemberID) []string {
	t.Helper()
	keys, err := memberKeys(mustView(t, serving(ids)...).Members(), Hash)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// Our circle is the library's ring: a walk of our own along it finds the
// library's owners, also where fewer shards than members ask more of it.
func TestOwnersAreTheLibrarys(t *testing.T) {
	const seed = 2
	r := seeded(seed)
	sizes := []int{1, 2, 3, 4, 5, 7, 9, 10, 12, 20, 33, 64, 65, 100}
	if sampled() {
		sizes = []int{1, 2, 3, 10}
	}
	for _, n := range sizes {
		for _, by := range namings() {
			keys := keysOf(t, by.ids(r, n))
			c := newCircle(keys)
			shards := []int{1, n - 1, n, n + 1, 4096}
			if n > 20 {
				shards = []int{r.IntN(n) + 1, 4096}
			}
			if n > 64 && by.name != "ordinal" {
				continue
			}
			for _, s := range shards {
				if s < 1 {
					continue
				}
				want, err := libraryOwners(keys, s)
				if err != nil {
					t.Fatalf("seed %d, %s, %d members, %d shards: %v", seed, by.name, n, s, err)
				}
				if diff := cmp.Diff(want, c.bounded(n, s)); diff != "" {
					t.Fatalf("seed %d, %s, %d members, %d shards (-library +ours):\n%s", seed, by.name, n, s, diff)
				}
			}
		}
	}
}

// Every partition finds a member with room, whatever the hashes: the library's
// "not enough room" cannot arise. The room must be more than the partitions
// before the last, and the library gives up one vnode short of all of them.
func TestRoomForEveryShard(t *testing.T) {
	for n := 1; n <= 1000; n++ {
		for _, shards := range []int{1, 2, 3, 7, 100, n - 1, n, n + 1, 2*n - 1, 271, 1000, 4096, 4099, 16384, 65536} {
			if shards < 1 {
				continue
			}
			p := partitions(shards, n)
			each := int(math.Ceil(float64(p/n) * load))
			if each < 1 || n*each < p || p < shards {
				t.Errorf("%d members, %d shards: %d partitions, room for %d at each", n, shards, p, each)
			}
		}
	}
	if vnodes < 2 {
		t.Error("the library passes over the last vnode of the circle: a member needs two")
	}
}

func TestLibraryPanicIsAnError(t *testing.T) {
	if _, err := libraryOwners(nil, 1); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("got %v, want the panic named", err)
	}
}

// Vnodes of different members that collide go to the last, as in the library.
func TestCircleIsSorted(t *testing.T) {
	c := newCircle(keysOf(t, ordinals(50)))
	if len(c) != 50*vnodes || !slices.IsSortedFunc(c, func(a, b vnode) int {
		if a.hash < b.hash {
			return -1
		}
		return 1
	}) {
		t.Error("the circle is not sorted")
	}
	twin := newCircle([]string{"x#", "x#"})
	for _, v := range twin {
		if v.member != 1 {
			t.Fatalf("vnode %x of twins belongs to %d, want the last", v.hash, v.member)
		}
	}
}

func TestMemberKeys(t *testing.T) {
	placed := serving([]MemberID{"a", "b", "c"})
	weak := func(s string) uint64 { return uint64(s[0] &^ 1) }
	_, err := memberKeys(placed, weak)
	if err == nil || !strings.Contains(err.Error(), `"b" and "c"`) {
		t.Errorf("got %v, want both members named", err)
	}
	keys, err := memberKeys(placed, Hash)
	if want := "d24ec4f1a98c6e5b#"; err != nil || keys[0] != want {
		t.Errorf("got %v, %v; want %s first", keys, err, want)
	}
}

// The lists are those of the rule taken literally: all members in the order in
// which a whole round from the owner's vnode meets them, split by zone.
func TestHoldersByTheRule(t *testing.T) {
	const seed = 3
	r := seeded(seed)
	sizes := []int{1, 2, 3, 5, 8, 20, 80}
	if sampled() {
		sizes = []int{1, 3, 8}
	}
	for _, n := range sizes {
		for _, zones := range [][]string{{""}, {"a", "b", "c"}, {"a", "a", "a", "b"}, {"", "a", "b", "c", "d", "e", "f"}} {
			const shards = 257
			replicas := 1 + r.IntN(maxReplicas)
			members := mustView(t, serving(randoms(r, n), zones...)...).Members()
			p := mustPlace(t, members, shards, replicas)
			keys := keysOf(t, idsOf(members))
			c := newCircle(keys)
			for s, owner := range c.bounded(n, shards) {
				if diff := cmp.Diff(literal(c, members, s, owner, replicas), p.List(Shard(s))); diff != "" {
					t.Fatalf("seed %d, %d members, zones %q, R=%d, shard %d (-rule +got):\n%s", seed, n, zones, replicas, s, diff)
				}
			}
		}
	}
}

func idsOf(members []Member) []MemberID {
	ids := make([]MemberID, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	return ids
}

func literal(c circle, members []Member, shard int, owner int32, replicas int) []MemberID {
	from := c.start(shard)
	for c[from].member != owner {
		from = (from + 1) % len(c)
	}
	var order []Member
	met := make(map[int32]bool)
	for i := range c {
		if m := c[(from+i)%len(c)].member; !met[m] {
			met[m] = true
			order = append(order, members[m])
		}
	}
	zones := make(map[string]bool)
	var first, rest []MemberID
	for _, m := range order {
		if zones[m.Zone] {
			rest = append(rest, m.ID)
		} else {
			zones[m.Zone] = true
			first = append(first, m.ID)
		}
	}
	all := append(first, rest...)
	return all[:min(replicas, len(all))]
}

func BenchmarkOwners(b *testing.B) {
	for _, n := range []int{10, 16, 50, 100} {
		keys := keysOf(b, ordinals(n))
		b.Run(fmt.Sprintf("library/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := libraryOwners(keys, 4096); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("bounded/%d", n), func(b *testing.B) {
			for b.Loop() {
				newCircle(keys).bounded(n, 4096)
			}
		})
	}
}
