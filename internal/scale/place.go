package scale

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	replicas = 2 // copies of a claim in the pools that are shown here

	lowShards  = 4096 // the default
	highShards = 16384
)

// members returns n serving trackers. Their names, and so their places, depend on
// the seed.
func members(n int, seed uint64) []ring.Member {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	list := make([]ring.Member, n)
	for i := range list {
		list[i] = ring.Member{
			ID: ring.MemberID(fmt.Sprintf("tracker-%06x-%03d", rng.Uint32N(1<<24), i)), Boot: 1,
			Addr: fmt.Sprintf("10.0.%d.%d:7000", i/250, 1+i%250), State: ring.Serving,
			Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(replicas),
		}
	}
	return list
}

func place(list []ring.Member, shards int) (*ring.Placement, error) {
	v, err := ring.NewView(list...)
	if err != nil {
		return nil, err
	}
	return ring.Place(v, ring.Params{Algorithm: ring.Algorithm, Shards: shards, Replicas: replicas})
}

// Placing is what one placement costs whoever computes it, which is every tracker
// and every client after each change of view.
type Placing struct {
	Time  time.Duration // CPU, the least of some
	Bytes float64       // allocated, most of it for a moment
}

// MeasurePlacing measures placements of n trackers.
func MeasurePlacing(n, shards int, seed uint64) (Placing, error) {
	const runs = 3
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	list := members(n, seed)
	var least time.Duration
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		began := threadTime()
		if _, err := place(list, shards); err != nil {
			return Placing{}, err
		}
		if took := threadTime() - began; least == 0 || took < least {
			least = took
		}
	}
	runtime.ReadMemStats(&after)
	return Placing{least, float64(after.TotalAlloc-before.TotalAlloc) / runs}, nil
}

// Joins says what joins to a pool moved.
type Joins struct {
	Fraction float64 // of all copies, mean
	Worst    float64 // the largest of them, over the joiner's even share
	Old      float64 // share of the moved copies that went between old members, mean
	Fullest  float64 // copies of the fullest tracker over the mean, mean
}

// MeasureJoins lets one tracker join a pool of n, as many times as runs says, each
// with other names. A leave is the same backwards.
func MeasureJoins(n, shards, runs int, seed uint64) (Joins, error) {
	var j Joins
	for run := range runs {
		list := members(n+1, seed+uint64(run)<<32)
		before, err := place(list[:n], shards)
		if err != nil {
			return j, err
		}
		after, err := place(list, shards)
		if err != nil {
			return j, err
		}
		moves, err := ring.Compare(before, after)
		if err != nil {
			return j, err
		}
		j.Fraction += moves.Fraction() / float64(runs)
		j.Worst = max(j.Worst, moves.Fraction()*float64(n+1))
		j.Old += float64(moves.Old) / float64(max(1, moves.Copies)) / float64(runs)
		j.Fullest += after.Balance() / float64(runs)
	}
	return j, nil
}

// ids returns the IDs of members, sorted as a view has them.
func ids(list []ring.Member) []ring.MemberID {
	all := make([]ring.MemberID, len(list))
	for i, m := range list {
		all[i] = m.ID
	}
	slices.Sort(all)
	return all
}
