package load

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestNodesAreDistinctAndRepeatable(t *testing.T) {
	a := Nodes(1000, 7)
	if b := Nodes(1000, 7); !slices.Equal(a, b) {
		t.Error("the same seed gave other nodes")
	}
	if b := Nodes(1000, 8); slices.Equal(a, b) {
		t.Error("another seed gave the same nodes")
	}
	seen := make(map[string]bool)
	for _, id := range a {
		if len(id) != 36 || seen[id] {
			t.Fatalf("%q is no UUID, or there twice", id)
		}
		seen[id] = true
	}
}

func TestHomedGivesEachNodeOnceToItsProxy(t *testing.T) {
	const n, workers = 1003, 2 * Proxies
	times := make([]int, n)
	var mu sync.Mutex // guards times
	o, err := Drive(context.Background(), Plan{Workers: workers, Batch: 16}, Homed(n, workers), func(w int, nodes []uint32) error {
		mu.Lock()
		defer mu.Unlock()
		for _, i := range nodes {
			times[i]++
			if int(i)%Proxies != w%Proxies {
				t.Errorf("worker %d got node %d", w, i)
			}
		}
		return nil
	})
	if err != nil || o.Nodes != n {
		t.Fatalf("%d nodes, %v; want %d", o.Nodes, err, n)
	}
	if i := slices.IndexFunc(times, func(k int) bool { return k != 1 }); i >= 0 {
		t.Errorf("node %d was given %d times", i, times[i])
	}
}

func TestRoundComesRound(t *testing.T) {
	next := Round(25, Proxies)
	if got, want := next(3, make([]uint32, 0, 4)), []uint32{3, 13, 23, 3}; !slices.Equal(got, want) {
		t.Errorf("worker 3 got %v, want %v", got, want)
	}
}

func TestZipfPrefersTheFirst(t *testing.T) {
	const n = 1000
	next, first := Zipf(n, 1), 0
	for range 100 {
		for _, i := range next(0, make([]uint32, 0, 100)) {
			if i >= n {
				t.Fatalf("node %d of %d", i, n)
			}
			if i < 10 {
				first++
			}
		}
	}
	if first < 3000 { // of 10,000; a uniform choice would give 100
		t.Errorf("the first ten of %d nodes were looked up %d times of 10,000", n, first)
	}
}

// Calls are due at a rate though all take long: those that find no worker count from
// when they were due, and none is left out.
func TestRateCountsFromWhenCallsWereDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, err := Drive(t.Context(), Plan{Workers: 1, Batch: 1, Rate: 1000, Duration: 20 * time.Millisecond}, Uniform(10, 1),
			func(int, []uint32) error { time.Sleep(10 * time.Millisecond); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if o.Calls != 20 {
			t.Errorf("%d calls, want the 20 that were due", o.Calls)
		}
		// The first was due at once; the last after 19 ms, and ended after 200.
		for q, want := range map[float64]time.Duration{0: 10 * time.Millisecond, 1: 181 * time.Millisecond} {
			if got := o.Quantile(q); (got - want).Abs() > want/1000 {
				t.Errorf("quantile %v is %v, want %v", q, got, want)
			}
		}
	})
}

// A machine that is so busy that the time is over before the workers run still measures.
func TestEachWorkerHasOneCallAtLeast(t *testing.T) {
	o, err := Drive(context.Background(), Plan{Workers: 3, Batch: 2, Duration: time.Nanosecond}, Uniform(10, 1), func(int, []uint32) error { return nil })
	if err != nil || o.Calls < 3 {
		t.Errorf("%d calls, %v; want one of each worker", o.Calls, err)
	}
}

func TestAnErrorEndsTheDrive(t *testing.T) {
	fault := errors.New("fault")
	_, err := Drive(context.Background(), Plan{Workers: 4, Batch: 8}, Uniform(100, 1), func(w int, _ []uint32) error {
		if w == 2 {
			return fault
		}
		return nil
	})
	if !errors.Is(err, fault) {
		t.Errorf("Drive says %v, want %v", err, fault)
	}
}
