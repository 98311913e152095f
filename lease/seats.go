package lease

import (
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// MaxSeats is how many seats the sets that are in use at a time may name
// together: two sets of five, while they are changed.
const MaxSeats = 10

// seats is the fixed sets whose word decides: more than half of each.
type seats struct {
	ids  []ring.MemberID
	sets [][]int // indexes into ids
	most []bool  // by bit mask of ids: more than half of each set
}

func newSeats(sets [][]ring.MemberID) seats {
	var s seats
	for _, set := range sets {
		var l []int
		for _, id := range set {
			i := slices.Index(s.ids, id)
			if i < 0 {
				i = len(s.ids)
				s.ids = append(s.ids, id)
			}
			l = append(l, i)
		}
		s.sets = append(s.sets, l)
	}
	if len(s.ids) == 0 || len(s.ids) > MaxSeats {
		panic("lease: invariant: 1 to 10 seats")
	}
	s.most = make([]bool, 1<<len(s.ids))
	for m := range s.most {
		s.most[m] = !slices.ContainsFunc(s.sets, func(set []int) bool {
			n := 0
			for _, i := range set {
				n += m >> i & 1
			}
			return 2*n <= len(set)
		})
	}
	return s
}

// end is until when more than half of each set stand, of those in mask, each
// until its own end. It is the zero time where mask is no majority.
func (s *seats) end(mask uint16, until []time.Time) time.Time {
	if !s.most[mask] {
		return time.Time{}
	}
	var first time.Time
	for _, set := range s.sets {
		var l []time.Time
		for _, i := range set {
			if mask>>i&1 == 1 {
				l = append(l, until[i])
			}
		}
		slices.SortFunc(l, func(a, b time.Time) int { return b.Compare(a) })
		if e := l[len(set)/2]; first.IsZero() || e.Before(first) {
			first = e
		}
	}
	return first
}
