package loadtest

import (
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// The range of latencies that are told apart, in microseconds, to three digits.
// Longer ones count as the longest: calls are cut off before.
const (
	shortest = 1
	longest  = 120_000_000
)

func newHistogram() *hdr.Histogram { return hdr.New(shortest, longest, 3) }

// record puts a latency into a histogram.
func record(h *hdr.Histogram, d time.Duration) {
	// The value is within the range, so there is no error.
	_ = h.RecordValue(min(max(d.Microseconds(), shortest), longest))
}

// milliseconds returns a quantile, 0 to 100, in milliseconds.
func milliseconds(h *hdr.Histogram, quantile float64) float64 {
	if h.TotalCount() == 0 {
		return 0
	}
	return float64(h.ValueAtQuantile(quantile)) / 1000
}

// counts is what became of operations. Lookups are those of nodes that exist.
type counts struct {
	Lookups, Failed, Unknown int64
	FalseAbsent, Stale       int64
	WrongProxy               int64 // also a node that does not exist and was found

	Misses, MissesUnknown, MissesFailed int64

	Reconnects           int64 // that were completed
	Skipped              int64 // reconnects that were not begun, because too many were under way
	Writes, WritesFailed int64 // calls of Add and Remove
	NotCounted           int64
	NotRemoved           int64
	Late                 int64 // of NotCounted and NotRemoved: too long after an event
	Excused              int64 // lookups of nodes whose proxy was down, and that were not found
}

// wrong returns how many answers were wrong.
func (c counts) wrong() int64 { return c.FalseAbsent + c.Stale + c.WrongProxy }

// failed returns how many calls ended in an error that is not counted apart.
func (c counts) failed() int64 { return c.Failed + c.MissesFailed + c.WritesFailed }

func (c *counts) add(o counts) { c.plus(1, o) }
func (c *counts) sub(o counts) { c.plus(-1, o) }

func (c *counts) plus(times int64, o counts) {
	c.Lookups += times * o.Lookups
	c.Failed += times * o.Failed
	c.Unknown += times * o.Unknown
	c.FalseAbsent += times * o.FalseAbsent
	c.Stale += times * o.Stale
	c.WrongProxy += times * o.WrongProxy
	c.Misses += times * o.Misses
	c.MissesUnknown += times * o.MissesUnknown
	c.MissesFailed += times * o.MissesFailed
	c.Reconnects += times * o.Reconnects
	c.Skipped += times * o.Skipped
	c.Writes += times * o.Writes
	c.WritesFailed += times * o.WritesFailed
	c.NotCounted += times * o.NotCounted
	c.NotRemoved += times * o.NotRemoved
	c.Late += times * o.Late
	c.Excused += times * o.Excused
}

// A tally counts operations and their latencies for many goroutines. It is safe
// for concurrent use.
type tally struct {
	apart bool // what it counts is not of a window
	slots [tallySlots]tallySlot
}

// tallySlots keeps goroutines out of each other's way: on few cores few are enough.
const tallySlots = 8

type tallySlot struct {
	mu      sync.Mutex // guards the fields below
	counts  counts
	lookups *hdr.Histogram // of nodes that exist
	_       [64]byte       // keeps slots apart in the cache
}

func newTally() *tally {
	t := &tally{}
	for i := range t.slots {
		t.slots[i].lookups = newHistogram()
	}
	return t
}

// lookup counts a lookup of a node that exists.
func (t *tally) lookup(slot uint64, v verdict, latency time.Duration) {
	s := &t.slots[slot%tallySlots]
	s.mu.Lock()
	defer s.mu.Unlock()
	record(s.lookups, latency)
	s.counts.Lookups++
	switch v {
	case unknown:
		s.counts.Unknown++
	case falseAbsent:
		s.counts.FalseAbsent++
	case stale:
		s.counts.Stale++
	case wrong:
		s.counts.WrongProxy++
	}
}

// note counts anything else.
func (t *tally) note(slot uint64, c counts) {
	s := &t.slots[slot%tallySlots]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.add(c)
}

// sum returns what was counted so far.
func (t *tally) sum() (counts, *hdr.Histogram) {
	var total counts
	h := newHistogram()
	for i := range t.slots {
		s := &t.slots[i]
		s.mu.Lock()
		total.add(s.counts)
		h.Merge(s.lookups)
		s.mu.Unlock()
	}
	return total, h
}
