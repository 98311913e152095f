package timing

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// Schema says into how many buckets a power of two is divided: 2^Schema.
	Schema = 3

	// First and Last are the indexes of the outermost buckets. Bucket i has what took
	// more than [Bound] of i-1, and at most Bound(i); First has all that took less
	// too, and Last all that took more.
	First = -20 << Schema
	Last  = 6 << Schema

	buckets = Last - First + 1
)

// Bound returns the upper bound of a bucket in seconds. It belongs to the bucket.
func Bound(i int) float64 { return math.Exp2(float64(i) / (1 << Schema)) }

var (
	// bounds are the upper bounds in nanoseconds, rounded down.
	bounds = func() (b [buckets]uint64) {
		for i := range b {
			b[i] = uint64(Bound(First+i) * 1e9)
		}
		return b
	}()

	// from is by length in bits the first bucket that may have so many nanoseconds.
	from = func() (f [65]int) {
		for n := 1; n <= 64; n++ {
			f[n] = f[n-1]
			for f[n] < buckets-1 && bounds[f[n]] < 1<<(n-1) {
				f[n]++
			}
		}
		return f
	}()
)

// A Histogram counts durations. The zero Histogram is empty. It is safe for
// concurrent use, and must not be copied.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64
}

// Observe counts one duration; one below 0 as 0.
func (h *Histogram) Observe(d time.Duration) {
	ns := uint64(max(d, 0))
	i := from[bits.Len64(ns)]
	for i < buckets-1 && ns > bounds[i] { // at most 2^Schema times
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(ns))
}

// Snapshot returns what was counted so far. What is observed meanwhile may be in it
// in part.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		s.counts[i] = h.counts[i].Load()
	}
	return s
}

// A Snapshot is what a Histogram had counted at one time.
type Snapshot struct {
	counts [buckets]uint64
	sum    time.Duration
}

// Sum returns all durations together.
func (s *Snapshot) Sum() time.Duration { return s.sum }

// In returns how many are in bucket i, First to Last.
func (s *Snapshot) In(i int) uint64 { return s.counts[i-First] }

// Count returns how many durations were counted.
func (s *Snapshot) Count() uint64 {
	n := uint64(0)
	for _, c := range s.counts {
		n += c
	}
	return n
}

// Add adds what o has.
func (s *Snapshot) Add(o *Snapshot) {
	s.sum += o.sum
	for i := range s.counts {
		s.counts[i] += o.counts[i]
	}
}

// Since returns what came after an earlier snapshot of the same histogram.
func (s *Snapshot) Since(earlier *Snapshot) Snapshot {
	d := Snapshot{sum: s.sum - earlier.sum}
	for i := range s.counts {
		d.counts[i] = s.counts[i] - earlier.counts[i]
	}
	return d
}

// Quantile returns the upper bound of the bucket in which the share q, 0 to 1, of all
// durations ends: at most 9% more than the exact one. It is 0 where there are none.
func (s *Snapshot) Quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(s.Count())))
	for i, c := range s.counts {
		if c > 0 && rank <= c {
			return time.Duration(bounds[i])
		}
		rank -= min(rank, c)
	}
	return 0
}
