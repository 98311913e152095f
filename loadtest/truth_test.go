package loadtest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/node"
)

func TestRouteSurvivesPacking(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 10_000 {
		want := route{
			home: rng.IntN(1 << 16), former: rng.IntN(1 << 16), moving: rng.IntN(2) == 0,
			moves: rng.IntN(maxMoves), grace: time.Duration(rng.IntN(1<<24)) * graceUnit,
		}
		got := unpack(want.pack())
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(route{})); diff != "" {
			t.Fatalf("seed %d, route %d (-want +got):\n%s", seed, i, diff)
		}
	}
}

func TestJudge(t *testing.T) {
	const a, b, c, stranger = 1, 2, 3, -1
	at := route{home: a, former: a}
	moving := route{home: b, former: a, moving: true, moves: 1}
	moved := route{home: b, former: a, moves: 1}
	graced := route{home: b, former: a, moves: 1, grace: 10 * time.Second}
	further := route{home: c, former: b, moves: 2}
	for _, tt := range []struct {
		name          string
		before, after route
		began         time.Duration
		answer        node.Answer
		proxies       []int
		want          verdict
	}{
		{"at home", at, at, 0, node.Found, []int{a}, right},
		{"elsewhere", at, at, 0, node.Found, []int{b}, wrong},
		{"stranger", at, at, 0, node.Found, []int{stranger}, wrong},
		{"home and elsewhere", at, at, 0, node.Found, []int{a, c}, wrong},
		{"absent", at, at, 0, node.Absent, nil, falseAbsent},
		{"absent on the move", moving, moving, 0, node.Absent, nil, falseAbsent},
		{"unknown", at, at, 0, node.Unknown, []int{a}, unknown},
		{"on the move, new", moving, moving, 0, node.Found, []int{b}, right},
		{"on the move, old", moving, moving, 0, node.Found, []int{a}, right},
		{"on the move, both", moving, moving, 0, node.Found, []int{b, a}, right},
		{"move begins meanwhile, new", at, moving, 0, node.Found, []int{b}, right},
		{"move begins meanwhile, old", at, moving, 0, node.Found, []int{a}, right},
		{"whole move meanwhile, old", at, moved, 0, node.Found, []int{a}, right},
		{"move ends meanwhile, old", moving, moved, 0, node.Found, []int{a}, right},
		{"moved, new", moved, moved, 0, node.Found, []int{b}, right},
		{"moved, old", moved, moved, 0, node.Found, []int{a}, stale},
		{"moved, both", moved, moved, 0, node.Found, []int{b, a}, stale},
		{"not surely removed, old", graced, graced, 9 * time.Second, node.Found, []int{a}, right},
		{"surely removed by now, old", graced, graced, 10 * time.Second, node.Found, []int{a}, stale},
		{"moves on meanwhile, new", moved, further, 0, node.Found, []int{c}, right},
		{"moves on meanwhile, older", moved, further, 0, node.Found, []int{a}, stale},
		{"two moves meanwhile", at, further, 0, node.Found, []int{b}, right},
		{"two moves meanwhile, stranger", at, further, 0, node.Found, []int{stranger}, wrong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := judge(tt.before, tt.after, tt.began, tt.answer, tt.proxies); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestJudgeMissing(t *testing.T) {
	for answer, want := range map[node.Answer]verdict{node.Absent: right, node.Unknown: unknown, node.Found: wrong} {
		if got := judgeMissing(answer); got != want {
			t.Errorf("%v: got %v, want %v", answer, got, want)
		}
	}
}

func TestTruthMoves(t *testing.T) {
	truth := newTruth(workload{nodes: 10, proxies: 3})
	const n, to = 4, 2 // node 4 is at proxy 1
	was := truth.at(n)
	if truth.move(n, was, was.home, 0) {
		t.Error("a node moved to where it is")
	}
	if !truth.move(n, was, to, 0) || truth.move(n, was, to, 0) {
		t.Error("want one of two equal moves")
	}
	if truth.move(n, truth.at(n), 0, 0) {
		t.Error("a node on the move moved")
	}
	truth.moved(n, 5*time.Second)
	if got, want := truth.at(n), (route{home: 2, former: 1, moves: 1, grace: 5 * time.Second}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if truth.move(n, truth.at(n), 0, 4*time.Second) {
		t.Error("a node moved while its former proxy may still be found")
	}
	if !truth.move(n, truth.at(n), 0, 5*time.Second) {
		t.Error("a node cannot move again")
	}
	if diff := cmp.Diff([]uint32{2, 5, 8}, truth.homed(2)); diff != "" {
		t.Errorf("homed(2) (-want +got):\n%s", diff)
	}
}
