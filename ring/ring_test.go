package ring

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A naming is a way to name members; it gives n different IDs.
type naming struct {
	name string
	ids  func(r *rand.Rand, n int) []MemberID
}

func namings() []naming {
	return []naming{
		{"ordinal", func(_ *rand.Rand, n int) []MemberID { return ordinals(n) }},
		{"address", func(r *rand.Rand, n int) []MemberID {
			return distinct(n, func() string { return fmt.Sprintf("10.%d.%d.%d:7946", r.IntN(4), r.IntN(256), r.IntN(256)) })
		}},
		{"letter", func(r *rand.Rand, n int) []MemberID { // two letters where one is too few
			return distinct(n, func() string {
				s := string(rune('a' + r.IntN(26)))
				if n > 26 {
					s += string(rune('a' + r.IntN(26)))
				}
				return s
			})
		}},
		{"random", randoms},
	}
}

func ordinals(n int) []MemberID {
	ids := make([]MemberID, n)
	for i := range ids {
		ids[i] = MemberID(fmt.Sprintf("tracker-%d", i))
	}
	return ids
}

func randoms(r *rand.Rand, n int) []MemberID {
	return distinct(n, func() string {
		b := make([]byte, 1+r.IntN(maxIDLen))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	})
}

func distinct(n int, name func() string) []MemberID {
	seen := make(map[string]bool)
	var ids []MemberID
	for len(ids) < n {
		if s := name(); !seen[s] {
			seen[s] = true
			ids = append(ids, MemberID(s))
		}
	}
	return ids
}

// serving returns Serving members in zones taken in turn: none means one zone.
func serving(ids []MemberID, zones ...string) []Member {
	members := make([]Member, len(ids))
	for i, id := range ids {
		members[i] = Member{ID: id, Boot: uint64(i), Addr: string(id) + ":7000", State: Serving, Algorithm: Algorithm, Replicas: ReplicasOf(2)}
		if len(zones) > 0 {
			members[i].Zone = zones[i%len(zones)]
		}
	}
	return members
}

func mustView(t testing.TB, members ...Member) View {
	t.Helper()
	v, err := NewView(members...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustPlace(t testing.TB, members []Member, shards, replicas int) *Placement {
	t.Helper()
	p, err := Place(mustView(t, members...), Params{Algorithm: Algorithm, Shards: shards, Replicas: replicas})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func mustMoves(t testing.TB, old, new *Placement) Moves {
	t.Helper()
	m, err := Compare(old, new)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sampled reports whether fewer sizes are enough.
func sampled() bool { return testing.Short() || raceEnabled }
