package ring

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// All that is promised of any placement, at every size.
func TestPlacement(t *testing.T) {
	const seed = 4
	r := seeded(seed)
	sizes := []int{1, 2, 3, 4, 5, 7, 15, 16, 30, 64, 65, 100, 300, 1000}
	if sampled() {
		sizes = []int{1, 3, 16, 65}
	}
	for _, n := range sizes {
		for _, by := range namings() {
			if n > 100 && by.name == "letter" {
				continue // there are not as many
			}
			zones := []string{"a", "b", "c"}[:1+r.IntN(3)]
			members := serving(by.ids(r, n), zones...)
			for _, shards := range []int{1, 1 + r.IntN(n), 4096} {
				if n > 10 && shards == 4096 && by.name != "ordinal" {
					continue // one name is enough of the slow ones
				}
				replicas := 1 + r.IntN(4)
				t.Run(fmt.Sprintf("seed=%d/%s/n=%d/zones=%d/S=%d/R=%d", seed, by.name, n, len(zones), shards, replicas), func(t *testing.T) {
					p := mustPlace(t, members, shards, replicas)
					checkLists(t, p, len(zones))
					slices.Reverse(members)
					q := mustPlace(t, members, shards, replicas)
					checkSame(t, p, q)
				})
			}
		}
	}
}

func checkLists(t *testing.T, p *Placement, zones int) {
	t.Helper()
	v, shards := p.View(), p.Params().Shards
	width := min(p.Params().Replicas, v.Placed())
	room := int(math.Ceil(float64(max(shards, v.Placed())/v.Placed()) * load))
	owned, held := make(map[MemberID]int), make(map[MemberID]ShardSet)
	for s := range Shard(shards) {
		list := p.List(s)
		if len(list) != width || cap(list) != width {
			t.Fatalf("shard %d: %q: want %d holders", s, list, width)
		}
		inZones := make(map[string]bool)
		for i, id := range list {
			m, ok := v.Member(id)
			if !ok || m.State != Serving || slices.Contains(list[:i], id) {
				t.Fatalf("shard %d: %q: holder %d is no placed member, or given twice", s, list, i)
			}
			inZones[m.Zone] = true
			if held[id] == nil {
				held[id] = NewShardSet(shards)
			}
			held[id].Add(s)
		}
		if want := min(width, zones, v.Placed()); len(inZones) != want {
			t.Fatalf("shard %d: %q are in %d zones, want %d", s, list, len(inZones), want)
		}
		if owned[list[0]]++; owned[list[0]] > room {
			t.Fatalf("%q owns more than %d of %d shards", list[0], room, shards)
		}
	}
	for _, m := range v.Members() {
		want := held[m.ID]
		if want == nil {
			want = NewShardSet(shards)
		}
		if !p.Held(m.ID).Equal(want) {
			t.Errorf("Held(%q): got %d shards, want %d", m.ID, p.Held(m.ID).Len(), want.Len())
		}
	}
}

func checkSame(t *testing.T, p, q *Placement) {
	t.Helper()
	if p.Fingerprint() != q.Fingerprint() {
		t.Errorf("fingerprints %v and %v", p.Fingerprint(), q.Fingerprint())
	}
	for s := range Shard(p.Params().Shards) {
		if diff := cmp.Diff(p.List(s), q.List(s)); diff != "" || !p.SameList(q, s) {
			t.Fatalf("shard %d: SameList %v (-p +q):\n%s", s, p.SameList(q, s), diff)
		}
	}
}

// What members went through, in which order, does not matter: the lists are of
// those that are Serving now.
func TestPlacementIgnoresHistory(t *testing.T) {
	const seed = 5
	r := seeded(seed)
	for _, by := range namings() {
		members := serving(by.ids(r, 14), "a", "b")
		want := mustPlace(t, members[:11], 500, 3)
		for i := range 6 {
			r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
			now := slices.Clone(members)
			for j, m := range now {
				now[j].Boot, now[j].Addr = r.Uint64(), fmt.Sprint(r.Uint64())
				if _, ok := want.View().Member(m.ID); !ok {
					now[j].State = []State{Joining, Leaving, 77}[r.IntN(3)]
				}
			}
			t.Run(fmt.Sprintf("seed=%d/%s/%d", seed, by.name, i), func(t *testing.T) {
				checkSame(t, want, mustPlace(t, now, 500, 3))
			})
		}
	}
}

func TestPlaceRefuses(t *testing.T) {
	leaving := serving([]MemberID{"a", "b"})
	leaving[0].State, leaving[1].State = Leaving, Joining
	for _, tt := range []struct {
		name    string
		members []Member
		p       Params
		want    string
	}{
		{"no member", nil, Params{1, 64, 2}, "none of the view's 0 members is serving"},
		{"none serving", leaving, Params{1, 64, 2}, "none of the view's 2 members is serving"},
		{"parameters", serving([]MemberID{"a"}), Params{1, 0, 2}, "shards 0"},
		{"algorithm", serving([]MemberID{"a"}), Params{2, 64, 2}, "algorithm 2"},
	} {
		p, err := Place(mustView(t, tt.members...), tt.p)
		if p != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// The fingerprint covers what the lists depend on, and nothing else.
func TestFingerprint(t *testing.T) {
	base := serving([]MemberID{"a", "b", "c"}, "x", "y")
	was := mustPlace(t, base, 64, 2).Fingerprint()
	for _, tt := range []struct {
		name             string
		change           func(m *Member)
		shards, replicas int
		same             bool
	}{
		{"nothing", func(*Member) {}, 64, 2, true},
		{"Boot", func(m *Member) { m.Boot++ }, 64, 2, true},
		{"Addr", func(m *Member) { m.Addr = "elsewhere" }, 64, 2, true},
		{"Algorithm", func(m *Member) { m.Algorithm++ }, 64, 2, true},
		{"Replicas of a member", func(m *Member) { m.Replicas.Add(3) }, 64, 2, true},
		{"ID", func(m *Member) { m.ID = "d" }, 64, 2, false},
		{"Zone", func(m *Member) { m.Zone = "z" }, 64, 2, false},
		{"shift", func(m *Member) { m.ID, m.Zone = "ax", "" }, 64, 2, false},
		{"State", func(m *Member) { m.State = Leaving }, 64, 2, false},
		{"Shards", func(*Member) {}, 65, 2, false},
		{"Replicas", func(*Member) {}, 64, 3, false},
	} {
		members := slices.Clone(base)
		tt.change(&members[0])
		if got := mustPlace(t, members, tt.shards, tt.replicas).Fingerprint(); (got == was) != tt.same {
			t.Errorf("%s: got %v, base %v, want same %v", tt.name, got, was, tt.same)
		}
	}
	states := serving([]MemberID{"a", "b", "c", "d"}, "x", "y")
	for _, state := range []State{Joining, Leaving} {
		states[3].State = state
		if got := mustPlace(t, states, 64, 2).Fingerprint(); got != was {
			t.Errorf("a %v member changes the fingerprint", state)
		}
	}
}

func TestListSum(t *testing.T) {
	p := mustPlace(t, serving([]MemberID{"a", "b", "c"}), 500, 2)
	q := mustPlace(t, serving([]MemberID{"a", "b", "c", "d"}), 500, 2)
	sums := make(map[uint64]string)
	same := 0
	for s := range Shard(500) {
		for _, pl := range []*Placement{p, q} {
			list := fmt.Sprint(pl.List(s))
			if other, ok := sums[pl.ListSum(s)]; ok && other != list {
				t.Errorf("%s and %s have the same sum", other, list)
			}
			sums[pl.ListSum(s)] = list
		}
		want := slices.Equal(p.List(s), q.List(s))
		if p.SameList(q, s) != want || q.SameList(p, s) != want {
			t.Errorf("shard %d: SameList is %v", s, !want)
		}
		if want {
			same++
		}
	}
	if same == 0 || same == 500 || len(sums) > 12 {
		t.Errorf("%d of 500 lists are the same, %d sums: want some, and at most 12", same, len(sums))
	}
	// By length and bytes: these lists are the same bytes.
	if one, two := mustPlace(t, serving([]MemberID{"ab"}), 1, 2), mustPlace(t, serving([]MemberID{"a", "b"}), 1, 2); one.SameList(two, 0) {
		t.Error("[ab] is the same list as [a b]")
	}
}

func TestPlacementOfStrangers(t *testing.T) {
	p := mustPlace(t, serving([]MemberID{"a", "b"}), 64, 2)
	if p.List(64) != nil || p.ListSum(65535) != 0 || p.SameList(p, 64) {
		t.Error("a shard beyond the pool's has a list")
	}
	if p.SameList(nil, 0) || p.SameList(mustPlace(t, serving([]MemberID{"a", "b"}), 65, 2), 0) {
		t.Error("a list is the same as one of no placement, or of another pool")
	}
	if got := p.Held("z"); !got.Equal(NewShardSet(64)) {
		t.Errorf("Held of a stranger: got %v", got)
	}
}

// Owners are bounded by the library; copies are not, and spread by chance.
func TestBalance(t *testing.T) {
	const seed = 6
	r := seeded(seed)
	for _, tt := range []struct {
		n    int
		most float64
	}{{1, 1}, {2, 1}, {3, 1.15}, {5, 1.2}, {10, 1.3}, {30, 1.5}, {100, 1.9}} {
		if sampled() && tt.n > 10 {
			continue
		}
		worst := 0.0
		for _, by := range namings() {
			worst = max(worst, mustPlace(t, serving(by.ids(r, tt.n)), 4096, 2).Balance())
		}
		t.Logf("%d members: fullest over mean %.3f", tt.n, worst)
		if worst < 1 || worst > tt.most {
			t.Errorf("seed %d, %d members: fullest over mean %.3f, want 1 to %.2f", seed, tt.n, worst, tt.most)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	p := mustPlace(t, serving(ordinals(10)), 4096, 3)
	holders := 0
	if got := testing.AllocsPerRun(1000, func() {
		holders += len(p.List(p.ShardOf("4a1e0b54-4d6c-4f0e-9d3f-2f6ad0a6a3c1")))
	}); got != 0 || holders == 0 {
		t.Errorf("got %v allocations, %d holders", got, holders)
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{3, 10, 64, 100, 1000} {
		for _, zones := range [][]string{{""}, {"a", "b", "c"}} {
			v := mustView(b, serving(ordinals(n), zones...)...)
			b.Run(fmt.Sprintf("%d/zones=%d", n, len(zones)), func(b *testing.B) {
				for b.Loop() {
					if _, err := Place(v, Params{Algorithm: Algorithm, Shards: 4096, Replicas: 2}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkList(b *testing.B) {
	p := mustPlace(b, serving(ordinals(10)), 4096, 2)
	b.ReportAllocs()
	for b.Loop() {
		_ = p.List(p.ShardOf("4a1e0b54-4d6c-4f0e-9d3f-2f6ad0a6a3c1"))
	}
}
