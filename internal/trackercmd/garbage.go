package trackercmd

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// leastHeap is how far the heap may grow before garbage is collected, however little
	// of it is in use. A tracker's claims are in few bytes and without pointers, so that
	// Go's measure, as much garbage as there is in use, would have it collect dozens of
	// times a second under unary calls.
	leastHeap = 64 << 20

	defaultPercent = 100 // Go's

	// leastPercent is half of that. What most of the heap is used for needs no marking,
	// so that to collect twice as often costs little, and keeps a quarter of the memory.
	leastPercent = 50

	mostPercent = 1500 // keeps what is in use for a moment only from counting for much
)

// gcPercent is how much garbage there may be, in percent of what is in use, for a heap of
// least bytes.
func gcPercent(live, least uint64) int {
	if live >= least {
		return leastPercent
	}
	return int(min(max(100*least/max(live, 1)-100, leastPercent), mostPercent))
}

// A collecting adjusts how often this process collects garbage, after each time.
type collecting struct {
	least uint64

	mu      sync.Mutex // guards the rest
	percent int
	stopped bool
}

// collectBy has the process collect garbage when there is half as much as is in use, but
// no sooner than at a heap of leastHeap, or of a quarter of GOMEMLIMIT, until stop is
// called. Where GOGC says anything it does nothing.
func collectBy() (stop func()) {
	if had := debug.SetGCPercent(defaultPercent); had != defaultPercent {
		debug.SetGCPercent(had)
		return func() {}
	}
	c := &collecting{least: leastHeap, percent: defaultPercent}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		c.least = min(c.least, uint64(limit)/4)
	}
	c.collected(0)
	return c.stop
}

// collected is called after each collection: what it is armed with is garbage at the next.
func (c *collecting) collected(int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	want := gcPercent(live[0].Value.Uint64(), c.least)
	// To set it stops the process for some microseconds: not for an eighth.
	if d := want - c.percent; 8*max(d, -d) > c.percent || want == leastPercent && d != 0 {
		debug.SetGCPercent(want)
		c.percent = want
	}
	runtime.AddCleanup(new([64]byte), c.collected, 0)
}

func (c *collecting) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	debug.SetGCPercent(defaultPercent)
}
