package sim

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// maxDrift is by how much a machine's clock may be fast or slow. Two machines'
// clocks then differ by 6%; the design allows for 10%.
const maxDrift = 0.03

// A clock is one machine's. Like a boot clock it has a zero of its own.
type clock struct {
	began  time.Time // on the bubble's clock
	zero   time.Time // what this clock showed then
	drift  float64   // 0.01: it gains 10 ms in a second
	frozen atomic.Int64
}

func newClock(began time.Time, rng *rand.Rand) *clock {
	return &clock{began: began, zero: time.Unix(rng.Int64N(1e7), 0), drift: maxDrift * (2*rng.Float64() - 1)}
}

// Now is what the clock shows.
func (c *clock) Now() time.Time {
	passed := time.Since(c.began)
	if at := c.frozen.Load(); at != 0 {
		passed = time.Duration(at)
	}
	return c.zero.Add(passed + time.Duration(float64(passed)*c.drift))
}

// freeze stops the clock as its processes see it: they do not run. thaw lets it
// show what it would show without that.
func (c *clock) freeze() { c.frozen.Store(max(1, int64(time.Since(c.began)))) }
func (c *clock) thaw()   { c.frozen.Store(0) }
