package ring_test

import (
	"fmt"

	"github.com/trackerpool/trackerpool/ring"
)

func Example() {
	member := func(id ring.MemberID, zone string) ring.Member {
		return ring.Member{ID: id, Zone: zone, State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(2)}
	}
	place := func(members ...ring.Member) *ring.Placement {
		view, err := ring.NewView(members...)
		if err != nil {
			panic(err)
		}
		params, err := ring.Resolve(view, 4096)
		if err != nil {
			panic(err)
		}
		placement, err := ring.Place(view, params)
		if err != nil {
			panic(err)
		}
		return placement
	}
	a, b, c, d := member("t-0", "east"), member("t-1", "west"), member("t-2", "east"), member("t-3", "west")
	three, four := place(a, b, c), place(d, c, b, a)
	moves, err := ring.Compare(three, four)
	if err != nil {
		panic(err)
	}
	shard := four.ShardOf("4a1e0b54-4d6c-4f0e-9d3f-2f6ad0a6a3c1")
	fmt.Println("shard", shard, "on", four.List(shard))
	fmt.Println("all moves to t-3:", moves.Copies == moves.Gained["t-3"])
	// Output:
	// shard 2608 on [t-1 t-2]
	// all moves to t-3: true
}
