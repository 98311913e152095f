package ring

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A join moves shards to the joiner, a leave from the leaver, and between other
// members only what the load bound shifts.
func TestJoinAndLeave(t *testing.T) {
	const seed = 7
	r := seeded(seed)
	for _, zones := range [][]string{{""}, {"a", "b", "c"}} {
		for n := 2; n <= 10; n++ {
			if sampled() && n%4 != 2 {
				continue
			}
			for _, by := range namings() {
				t.Run(fmt.Sprintf("seed=%d/zones=%d/n=%d/%s", seed, len(zones), n, by.name), func(t *testing.T) {
					members := serving(by.ids(r, n), zones...)
					before, after := mustPlace(t, members[:n-1], 4096, 2), mustPlace(t, members, 4096, 2)
					checkMoves(t, before, after, members[n-1].ID, n, len(zones) == 1)
				})
			}
		}
	}
}

// checkMoves checks the change from before to after, which has n members and
// differs by the joiner, and the way back.
func checkMoves(t *testing.T, before, after *Placement, joiner MemberID, n int, near bool) {
	t.Helper()
	join, leave := mustMoves(t, before, after), mustMoves(t, after, before)
	if join.Lost[joiner] != 0 || leave.Gained[joiner] != 0 {
		t.Errorf("the joiner loses %d copies, and gains %d as it leaves", join.Lost[joiner], leave.Gained[joiner])
	}
	shifted := -leave.Lost[joiner]
	for _, lost := range leave.Lost {
		shifted += lost
	}
	if join.Old != shifted || join.Old != join.Copies-join.Gained[joiner] {
		t.Errorf("between other members a join moves %d of %d copies (%d to the joiner), its undoing %d", join.Old, join.Copies, join.Gained[joiner], shifted)
	}
	if share := float64(join.Old) / float64(join.Copies); share > 0.05 {
		t.Errorf("%.1f%% of %d moved copies are between other members, want at most 5%%", 100*share, join.Copies)
	}
	if off := join.Fraction()*float64(n) - 1; near && math.Abs(off) > 0.20 {
		t.Errorf("%.4f of the copies move, %+.0f%% off 1/%d", join.Fraction(), 100*off, n)
	}
}

// Few shards for many members: a joiner's share spreads by chance, and the load
// bound, a whole number, shifts more. The spread is shown; asserted are bounds
// that a fault would break. A larger pool wants more shards.
func TestJoinSpread(t *testing.T) {
	const seed = 8
	r := seeded(seed)
	for _, tt := range []struct {
		n, shards, joins int
		off, shifted     float64
	}{
		{4, 4096, 10, 0.2, 0.01},
		{10, 4096, 10, 0.2, 0.02},
		{30, 4096, 10, 0.4, 0.06},
		{100, 4096, 6, 0.8, 0.6},
		{100, 16384, 6, 0.4, 0.08},
	} {
		if sampled() && tt.n > 10 {
			continue
		}
		var off, shifted, sum float64
		for range tt.joins {
			members := serving(randoms(r, tt.n))
			m := mustMoves(t, mustPlace(t, members[:tt.n-1], tt.shards, 2), mustPlace(t, members, tt.shards, 2))
			share := float64(m.Old) / float64(m.Copies)
			off, shifted, sum = max(off, math.Abs(m.Fraction()*float64(tt.n)-1)), max(shifted, share), sum+share
		}
		got := fmt.Sprintf("to %d members, %d shards, %d joins: at most %.0f%% off the mean; between other members %.1f%% of moves, at most %.1f%%",
			tt.n, tt.shards, tt.joins, 100*off, 100*sum/float64(tt.joins), 100*shifted)
		t.Log(got)
		if off > tt.off || shifted > tt.shifted {
			t.Errorf("seed %d: %s; want at most %.0f%% and %.0f%%", seed, got, 100*tt.off, 100*tt.shifted)
		}
	}
}

// A dead owner's shard goes to a member that holds it already.
func TestNextOwnerIsWarm(t *testing.T) {
	members := serving(ordinals(10))
	before, after := mustPlace(t, members, 4096, 2), mustPlace(t, members[:9], 4096, 2)
	dead, warm, of := members[9].ID, 0, 0
	for s := range before.Held(dead).All() {
		if was := before.List(s); was[0] == dead {
			of++
			if after.List(s)[0] == was[1] {
				warm++
			}
		}
	}
	t.Logf("warm %d of %d", warm, of)
	if of == 0 || float64(warm) < 0.95*float64(of) {
		t.Errorf("%d of %d shards of a dead owner go to their second holder, want 95%%", warm, of)
	}
}

// Compare counts what the lists say.
func TestCompare(t *testing.T) {
	members := serving([]MemberID{"a", "b", "c", "d"})
	old, new := mustPlace(t, members[:3], 100, 2), mustPlace(t, members[1:], 100, 2)
	want := Moves{Total: 200, Gained: map[MemberID]int{}, Lost: map[MemberID]int{}}
	for _, m := range members {
		was, is := old.Held(m.ID), new.Held(m.ID)
		gained, lost := is.Clone(), was.Clone()
		gained.AndNot(was)
		lost.AndNot(is)
		if n := gained.Len(); n > 0 {
			want.Gained[m.ID] = n
			want.Copies += n
			if m.ID == "b" || m.ID == "c" {
				want.Old += n
			}
		}
		if n := lost.Len(); n > 0 {
			want.Lost[m.ID] = n
		}
	}
	got := mustMoves(t, old, new)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("moves (-want +got):\n%s", diff)
	}
	if got.Copies == 0 || got.Lost["a"] != old.Held("a").Len() || got.Gained["d"] != new.Held("d").Len() {
		t.Errorf("got %+v: a loses and d gains all", got)
	}
	if f := got.Fraction(); f != float64(got.Copies)/200 {
		t.Errorf("fraction %v of %d", f, got.Copies)
	}
	none := mustMoves(t, old, old)
	if diff := cmp.Diff(Moves{Total: 200, Gained: map[MemberID]int{}, Lost: map[MemberID]int{}}, none); diff != "" {
		t.Errorf("no change (-want +got):\n%s", diff)
	}
	if (Moves{}).Fraction() != 0 {
		t.Error("the fraction of nothing is not 0")
	}
}

func TestCompareRefuses(t *testing.T) {
	a, b := mustPlace(t, serving([]MemberID{"a"}), 64, 1), mustPlace(t, serving([]MemberID{"a"}), 65, 1)
	for name, pair := range map[string][2]*Placement{"old nil": {nil, a}, "new nil": {a, nil}, "shards": {a, b}} {
		if _, err := Compare(pair[0], pair[1]); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
