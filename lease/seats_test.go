package lease

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

func TestSeatsMost(t *testing.T) {
	abc, cde := []ring.MemberID{"a", "b", "c"}, []ring.MemberID{"c", "d", "e"}
	tests := []struct {
		name string
		sets [][]ring.MemberID
		mask uint16
		want bool
	}{
		{"one of one", [][]ring.MemberID{{"a"}}, 1, true},
		{"none of one", [][]ring.MemberID{{"a"}}, 0, false},
		{"one of two", [][]ring.MemberID{{"a", "b"}}, 1, false},
		{"one of three", [][]ring.MemberID{abc}, 0b100, false},
		{"two of three", [][]ring.MemberID{abc}, 0b101, true},
		{"two of the first set, one of the second", [][]ring.MemberID{abc, cde}, 0b00101, false},
		{"two of each with one in both", [][]ring.MemberID{abc, cde}, 0b01101, true},
	}
	for _, tt := range tests {
		s := newSeats(tt.sets)
		if got := s.most[tt.mask]; got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestSeatsAreOneToTen(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no seats are taken")
		}
	}()
	newSeats(nil)
}

// The end of a majority is the last time at which, of each set, more than half stand.
func TestSeatsEnd(t *testing.T) {
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	names := []ring.MemberID{"a", "b", "c", "d", "e", "f", "g"}
	for round := range 2000 {
		var sets [][]ring.MemberID
		for range 1 + r.IntN(2) {
			var set []ring.MemberID
			for _, i := range r.Perm(len(names))[:1+r.IntN(5)] {
				set = append(set, names[i])
			}
			sets = append(sets, set)
		}
		s := newSeats(sets)
		mask := uint16(r.IntN(1 << len(s.ids)))
		until := make([]time.Time, len(s.ids))
		var want time.Time
		for i := range until {
			until[i] = at(time.Duration(r.IntN(6)))
		}
		for _, end := range until {
			var stand uint16
			for i := range until {
				if mask>>i&1 == 1 && !until[i].Before(end) {
					stand |= 1 << i
				}
			}
			if s.most[stand] && end.After(want) {
				want = end
			}
		}
		if got := s.end(mask, until); !got.Equal(want) {
			t.Fatalf("seed %d, round %d: sets %v, mask %b, until %v: end %v, want %v", seed, round, sets, mask, until, got, want)
		}
	}
}
