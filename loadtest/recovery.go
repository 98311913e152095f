package loadtest

import (
	"sync"
	"time"
)

// A recovery tells from rounds of probing when a pool was itself again. It is safe
// for concurrent use.
type recovery struct {
	mu       sync.Mutex // guards the fields below
	firstBad time.Time  // end of the first bad round
	lastBad  time.Time  // end of the last bad round
	good     time.Time  // begin of the last good round; zero if the last one was bad
	again    time.Time  // end of the first good round after the last bad one
	rounds   int
	longest  time.Duration // of a round
}

// observe notes a round of probing; rounds come in order and do not overlap.
func (r *recovery) observe(began, ended time.Time, good bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rounds++
	r.longest = max(r.longest, ended.Sub(began))
	switch {
	case !good:
		r.lastBad, r.good, r.again = ended, time.Time{}, time.Time{}
		if r.firstBad.IsZero() {
			r.firstBad = ended
		}
	default:
		r.good = began
		if r.again.IsZero() {
			r.again = ended
		}
	}
}

// goodSince reports whether the last round was good and began after t.
func (r *recovery) goodSince(t time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.good.After(t)
}

// after returns how long after base the pool was itself again: 0 where no round
// was bad.
func (r *recovery) after(base time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastBad.IsZero() || r.again.IsZero() {
		return 0
	}
	return max(0, r.again.Sub(base))
}

// slowest returns how long the longest round took.
func (r *recovery) slowest() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.longest
}

// first returns the end of the first bad round, or the zero time.
func (r *recovery) first() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.firstBad
}
