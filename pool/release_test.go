package pool

import (
	"slices"
	"testing"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

func TestChoose(t *testing.T) {
	seat := func(fp ring.Fingerprint, sum uint64) advert {
		return advert{true, node.ViewSums{Fingerprint: fp, Sum: sum}}
	}
	other := func(fp ring.Fingerprint, sum uint64) advert {
		return advert{false, node.ViewSums{Fingerprint: fp, Sum: sum}}
	}
	present := node.ViewSums{Fingerprint: 5, Sum: 50}
	tests := []struct {
		name    string
		adverts []advert
		lost    bool
		want    node.ViewSums
	}{
		{"nobody", nil, false, present},
		{"nobody, seats lost", nil, true, present},
		{"all have it", []advert{seat(5, 50), seat(5, 50)}, false, present},
		{"most seats", []advert{seat(5, 50), seat(6, 60), seat(6, 60)}, false, node.ViewSums{Fingerprint: 6, Sum: 60}},
		{"a tie keeps", []advert{seat(5, 50), seat(6, 60)}, false, present},
		{"a tie of others", []advert{seat(7, 70), seat(6, 60)}, false, node.ViewSums{Fingerprint: 6, Sum: 60}},
		{"others have no say", []advert{seat(5, 50), other(6, 60), other(6, 60)}, false, present},
		{"others alone, seats not lost yet", []advert{other(6, 60)}, false, present},
		{"seats lost", []advert{other(6, 60), other(6, 60), other(7, 70)}, true, node.ViewSums{Fingerprint: 6, Sum: 60}},
		{"one placement, new addresses", []advert{seat(5, 51), seat(5, 51), seat(5, 50)}, false, node.ViewSums{Fingerprint: 5, Sum: 51}},
		{"one placement, a tie of addresses", []advert{seat(5, 51), seat(5, 50)}, false, present},
		{"placements are counted before addresses", []advert{seat(6, 60), seat(6, 61), seat(7, 70)}, false, node.ViewSums{Fingerprint: 6, Sum: 60}},
		{"unreachable", []advert{seat(0, 0), seat(6, 60)}, false, node.ViewSums{Fingerprint: 6, Sum: 60}},
	}
	for _, tt := range tests {
		if got := choose(present, tt.adverts, tt.lost); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestReleasable(t *testing.T) {
	const shards = 4
	set := func(in ...ring.Shard) ring.ShardSet {
		s := ring.NewShardSet(shards)
		for _, shard := range in {
			s.Add(shard)
		}
		return s
	}
	all := ring.FullShardSet(shards)
	tests := []struct {
		name    string
		holders []holder
		want    ring.ShardSet
	}{
		{"nobody", nil, set()},
		{"it counts", []holder{{set(0, 1), all, set(0, 1), all, true}}, set(0, 1)},
		{"two of them", []holder{{set(0, 1), all, set(0), all, true}, {set(1, 2), all, set(2), all, true}}, set(0, 2)},
		{"it stored nothing since", []holder{{set(0), all, set(0), all, false}}, set()},
		{"it counts nothing", []holder{{set(0), all, set(), all, true}}, set()},
		{"it counts by another list", []holder{{set(0, 1), all, set(0, 1), set(1), true}}, set(1)},
		{"a former holder counts", []holder{{set(0), all, set(0, 3), all, true}}, set(0)},
		{"it counts and has not stored all", []holder{{set(0, 1), set(1), set(0, 1), all, true}}, set(1)},
		{"another holder has not stored all", []holder{{set(0, 1), all, set(0, 1), all, true}, {set(1, 2), set(2), set(), all, true}}, set(0)},
	}
	for _, tt := range tests {
		if got := releasable(shards, tt.holders); !got.Equal(tt.want) {
			t.Errorf("%s: %b, want %b", tt.name, got, tt.want)
		}
	}
}

func TestSameLists(t *testing.T) {
	place := func(ids ...ring.MemberID) *ring.Placement {
		var members []ring.Member
		for _, id := range ids {
			members = append(members, ring.Member{ID: id, State: ring.Serving})
		}
		v, err := ring.NewView(members...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ring.Place(v, ring.Params{Algorithm: 1, Shards: 64, Replicas: 2})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	abc, abcd := place("a", "b", "c"), place("a", "b", "c", "d")
	if got := sameLists(abc, place("a", "b", "c")).Len(); got != 64 {
		t.Errorf("equal views have %d of 64 lists in common", got)
	}
	if got := sameLists(abc, nil).Len(); got != 0 {
		t.Errorf("%d lists in common with an unknown view", got)
	}
	same := sameLists(abc, abcd)
	if same.Len() == 0 || same.Len() == 64 {
		t.Errorf("%d of 64 lists in common after a join", same.Len())
	}
	for i := range 64 {
		s := ring.Shard(i)
		if got, want := same.Has(s), slices.Equal(abc.List(s), abcd.List(s)); got != want {
			t.Errorf("shard %d: same %v, want %v", i, got, want)
		}
	}
}
