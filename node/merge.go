package node

import (
	"cmp"
	"slices"

	"github.com/trackerpool/trackerpool/ring"
)

// A Reply is what one tracker said to a lookup.
type Reply struct {
	From   ring.MemberID
	Result FindResult
	Err    error
}

// A Question is what was looked up: by which view, and by which list of it.
type Question struct {
	View    ring.Fingerprint
	List    []ring.MemberID
	ListSum uint64
}

// QuestionOf is a lookup of a node of a shard.
func QuestionOf(p *ring.Placement, s ring.Shard) Question {
	return Question{p.Fingerprint(), p.List(s), p.ListSum(s)}
}

// same reports whether an answer speaks of the list that was asked for.
func (q *Question) same(r *FindResult) bool { return r.View == q.View || r.ListSum == q.ListSum }

// Merge makes one answer of what trackers said (rule 1 of the design). Any of them may say FOUND; it is
// ABSENT only if every tracker of the list says so, of that very list. With UNKNOWN
// the claims are hints. moved reports whether a tracker speaks of another list.
func (q *Question) Merge(replies []Reply) (answer Answer, claims []Claim, moved bool) {
	absent := 0
	for _, id := range q.List {
		if slices.ContainsFunc(replies, func(r Reply) bool {
			return r.From == id && r.Err == nil && r.Result.Answer == Absent && q.same(&r.Result)
		}) {
			absent++
		}
	}
	if len(q.List) > 0 && absent == len(q.List) {
		answer = Absent
	}
	for i := range replies {
		r := &replies[i]
		if r.Err != nil {
			continue
		}
		if r.Result.Answer == Found {
			answer = Found
		}
		if !q.same(&r.Result) && slices.Contains(q.List, r.From) {
			moved = true
		}
	}
	if answer == Absent {
		return answer, nil, moved
	}
	for i := range replies {
		// Where some claims hold, hints do not count.
		if r := &replies[i]; r.Err == nil && r.Result.Answer == answer {
			claims = MergeClaims(claims, r.Result.Claims)
		}
	}
	return answer, claims, moved
}

// MergeClaims puts claims of one node together, the best of each proxy, the best
// first. It may return more itself, but changes neither.
func MergeClaims(claims, more []Claim) []Claim {
	if len(claims) == 0 && (len(more) < 2 || slices.IsSortedFunc(more, compareClaims)) {
		return more
	}
	all := slices.Concat(claims, more)
	slices.SortStableFunc(all, compareClaims)
	var one []Claim
	for _, c := range all {
		if !slices.ContainsFunc(one, func(o Claim) bool { return o.Proxy.ID == c.Proxy.ID }) {
			one = append(one, c)
		}
	}
	return one
}

// compareClaims orders claims of one node: the better first, on a tie by proxy.
func compareClaims(a, b Claim) int {
	return cmp.Or(better(a.Generation, b.Generation, a.Age, b.Age), cmp.Compare(a.Proxy.ID, b.Proxy.ID))
}
