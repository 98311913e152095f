package timing_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/timing"
)

// bucket is the only one with something in it.
func bucket(t *testing.T, s timing.Snapshot) int {
	t.Helper()
	found := math.MinInt
	for i := timing.First; i <= timing.Last; i++ {
		if s.In(i) > 0 {
			if found != math.MinInt {
				t.Fatalf("buckets %d and %d both have something", found, i)
			}
			found = i
		}
	}
	return found
}

func TestBuckets(t *testing.T) {
	for _, c := range []struct {
		took time.Duration
		want int
	}{
		{-time.Second, timing.First},
		{0, timing.First},
		{900, timing.First},
		{time.Microsecond, timing.First + 1},
		{time.Second, 0}, // an upper bound belongs to its bucket
		{time.Second + 1, 1},
		{2 * time.Second, 1 << timing.Schema},
		{64 * time.Second, timing.Last},
		{time.Hour, timing.Last},
		{math.MaxInt64, timing.Last},
	} {
		var h timing.Histogram
		h.Observe(c.took)
		if got := bucket(t, h.Snapshot()); got != c.want {
			t.Errorf("%v is in bucket %d, want %d", c.took, got, c.want)
		}
	}
}

// TestBounds holds each bucket to its bounds, which the index is not computed from.
func TestBounds(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		d := time.Duration(math.Exp(r.Float64() * math.Log(float64(time.Minute))))
		var h timing.Histogram
		h.Observe(d)
		i := bucket(t, h.Snapshot())
		if s := d.Seconds(); s > timing.Bound(i) || i > timing.First && s <= timing.Bound(i-1)-1e-9 {
			t.Fatalf("seed %d: %v is in bucket %d, above %v and at most %v", seed, d, i, timing.Bound(i-1), timing.Bound(i))
		}
	}
}

func TestQuantile(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	var h timing.Histogram
	var all []time.Duration
	var sum time.Duration
	for range 10_000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		h.Observe(d)
		all = append(all, d)
		sum += d
	}
	slices.Sort(all)
	s := h.Snapshot()
	if s.Count() != uint64(len(all)) || s.Sum() != sum {
		t.Errorf("seed %d: %d in %v, want %d in %v", seed, s.Count(), s.Sum(), len(all), sum)
	}
	for _, q := range []float64{0, .5, .9, .99, .999, 1} {
		exact := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
		got := s.Quantile(q)
		if got < exact-1 || float64(got) > 1.1*float64(max(exact, time.Microsecond)) {
			t.Errorf("seed %d: quantile %v is %v, exactly it is %v", seed, q, got, exact)
		}
	}
	if got := new(timing.Snapshot).Quantile(.5); got != 0 {
		t.Errorf("the median of nothing is %v, want 0", got)
	}
}

func TestSince(t *testing.T) {
	var h timing.Histogram
	h.Observe(time.Second)
	before := h.Snapshot()
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 1000 {
				h.Observe(time.Millisecond)
			}
		})
	}
	writers.Wait()
	after := h.Snapshot()
	since := after.Since(&before)
	if since.Count() != 4000 || since.Sum() != 4*time.Second || since.Quantile(1) > 2*time.Millisecond {
		t.Errorf("since: %d in %v, the longest %v", since.Count(), since.Sum(), since.Quantile(1))
	}
	since.Add(&before)
	if since != after {
		t.Error("what came before and since is not all")
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	var h timing.Histogram
	d := time.Duration(1)
	if n := testing.AllocsPerRun(1000, func() { h.Observe(d); d = 3*d%time.Minute + 1 }); n != 0 {
		t.Errorf("Observe allocates %v times", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h timing.Histogram
	b.ReportAllocs()
	for i := range b.N {
		h.Observe(time.Duration(i))
	}
}
