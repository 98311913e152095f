package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

func TestMerge(t *testing.T) {
	q := Question{View: 1, List: []ring.MemberID{"a", "b"}, ListSum: 10}
	claim := func(proxy ProxyID, generation uint64, age time.Duration) Claim {
		return Claim{Node: "n", Proxy: Proxy{ID: proxy}, Generation: generation, Age: age}
	}
	says := func(from ring.MemberID, a Answer, claims ...Claim) Reply {
		return Reply{From: from, Result: FindResult{Answer: a, View: 1, Claims: claims}}
	}
	by := func(r Reply, view ring.Fingerprint, listSum uint64) Reply {
		r.Result.View, r.Result.ListSum = view, listSum
		return r
	}
	failed := func(from ring.MemberID) Reply { return Reply{From: from, Err: ErrUnavailable} }
	p1, p2 := claim("p1", 1, 0), claim("p2", 2, 0)

	tests := []struct {
		name    string
		replies []Reply
		want    Answer
		claims  []Claim
		moved   bool
	}{
		{"nobody", nil, Unknown, nil, false},
		{"one has it", []Reply{says("a", Found, p1)}, Found, []Claim{p1}, false},
		{"one has it, the other not", []Reply{says("a", Absent), says("b", Found, p1)}, Found, []Claim{p1}, false},
		{"one has it, the other failed", []Reply{failed("a"), says("b", Found, p1)}, Found, []Claim{p1}, false},
		{"a stranger has it", []Reply{says("a", Absent), says("b", Unknown), says("x", Found, p1)}, Found, []Claim{p1}, false},
		{"all deny", []Reply{says("a", Absent), says("b", Absent)}, Absent, nil, false},
		{"one denies", []Reply{says("a", Absent)}, Unknown, nil, false},
		{"one denies twice", []Reply{says("a", Absent), says("a", Absent)}, Unknown, nil, false},
		{"one denies and a stranger", []Reply{says("a", Absent), says("x", Absent)}, Unknown, nil, false},
		{"one denies, the other failed", []Reply{says("a", Absent), failed("b")}, Unknown, nil, false},
		{"one denies, the other has a hint", []Reply{says("a", Absent), says("b", Unknown, p1)}, Unknown, []Claim{p1}, false},
		{"all deny, one by another list", []Reply{says("a", Absent), by(says("b", Absent), 2, 11)}, Unknown, nil, true},
		{"all deny, one by another view of that list", []Reply{says("a", Absent), by(says("b", Absent), 2, 10)}, Absent, nil, false},
		{"found by another list", []Reply{by(says("a", Found, p1), 2, 11)}, Found, []Claim{p1}, true},
		{"a stranger's list is no matter", []Reply{by(says("x", Unknown), 2, 11)}, Unknown, nil, false},
		{"hints do not mix with what holds", []Reply{says("a", Found, p1), says("b", Unknown, p2)}, Found, []Claim{p1}, false},
		{"two proxies, the higher generation first", []Reply{says("a", Found, p1), says("b", Found, p1, p2)}, Found, []Claim{p2, p1}, false},
		{"the younger first", []Reply{says("a", Found, claim("p1", 1, 9)), says("b", Found, claim("p2", 1, 3))}, Found, []Claim{claim("p2", 1, 3), claim("p1", 1, 9)}, false},
		{"the best of each proxy", []Reply{says("a", Found, p1), says("b", Found, claim("p1", 5, 0))}, Found, []Claim{claim("p1", 5, 0)}, false},
		{"one answer out of order", []Reply{says("a", Found, p1, p2)}, Found, []Claim{p2, p1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, claims, moved := q.Merge(tt.replies)
			if got != tt.want || moved != tt.moved {
				t.Errorf("%v, moved %v; want %v, moved %v", got, moved, tt.want, tt.moved)
			}
			if diff := cmp.Diff(tt.claims, claims); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
	if got, _, _ := new(Question).Merge(nil); got != Unknown {
		t.Errorf("without a list: %v", got)
	}
}
