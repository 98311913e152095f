package ring

import (
	"errors"
	"fmt"
	"slices"
)

// Moves is what a change from one placement to another costs, in copies: one
// shard at one holder.
//
// Old are the copies that went to members that both placements place on. After
// a join those are what the load bound shifted: a few percent, but more where a
// member owns some 40 shards or fewer. After a leave they are all copies, and
// what others than the leaver lost is the shift.
type Moves struct {
	Copies int // at a holder that did not hold the shard before
	Total  int // in the new placement
	Old    int // of Copies

	Gained, Lost map[MemberID]int // by member; a member with none is left out
}

// Compare returns what the change from old to new costs. It is an error if one
// is nil or their numbers of shards differ.
func Compare(old, new *Placement) (Moves, error) {
	if old == nil || new == nil {
		return Moves{}, errors.New("compare placements: one is nil: place both views first")
	}
	if old.params.Shards != new.params.Shards {
		return Moves{}, fmt.Errorf("compare placements: %d and %d shards: only placements of one pool compare", old.params.Shards, new.params.Shards)
	}
	m := Moves{Total: len(new.lists), Gained: make(map[MemberID]int), Lost: make(map[MemberID]int)}
	for s := range new.params.Shards {
		was, is := old.List(Shard(s)), new.List(Shard(s))
		for _, id := range is {
			if slices.Contains(was, id) {
				continue
			}
			m.Copies++
			m.Gained[id]++
			if _, ok := old.held[id]; ok {
				m.Old++
			}
		}
		for _, id := range was {
			if !slices.Contains(is, id) {
				m.Lost[id]++
			}
		}
	}
	return m, nil
}

// Fraction returns the share of copies that move, 0 to 1.
func (m Moves) Fraction() float64 {
	if m.Total == 0 {
		return 0
	}
	return float64(m.Copies) / float64(m.Total)
}
