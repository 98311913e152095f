package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "have TestPool run the schedule of this seed alone")
	seedsFlag = flag.Int("seeds", 0, "how many schedules TestPool draws and runs; 0: the first few seeds")
	longFlag  = flag.Duration("long", time.Minute, "for how long things go wrong in a schedule")
	soakFlag  = flag.Duration("soak", 0, "have TestSoak run schedules for this long")
)

// result is what a run was worth.
type result struct {
	took, settled time.Duration
	counts        *counts
	violations    []string
	notes         []string
}

// simulate runs a script in a bubble.
func simulate(t *testing.T, cfg Config, script string) (r result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Logger = testLogger()
		p := New(cfg)
		p.Start()
		if err := p.Run(script); err != nil {
			t.Errorf("script: %v", err)
		}
		r.took = time.Since(p.began)
		r.violations, r.notes = p.Close(), p.Notes()
		r.counts, r.settled = &p.counts, p.Settled
	})
	return r
}

// schedule runs the schedule of a seed, and fails the test if something was wrong
// with all that is needed to repeat it.
func schedule(t *testing.T, seed uint64) result {
	t.Helper()
	cfg, script := Generate(seed, *longFlag)
	r := simulate(t, cfg, script)
	if len(r.violations) > 0 {
		t.Errorf("seed %d: %d violations; repeat with go test ./internal/sim -run TestPool -seed %d -long %v\n%s\n%+v\n%s\nwhat happened:\n%s",
			seed, len(r.violations), seed, *longFlag, strings.Join(r.violations, "\n"), cfg, script, strings.Join(r.notes, "\n"))
	}
	return r
}

// TestPool runs schedules of random faults: the first few seeds, so that every run of
// the tests is of the same scripts; with -seeds, of seeds drawn anew.
func TestPool(t *testing.T) {
	first, n := uint64(1), 4
	switch {
	case *seedFlag != 0:
		first, n = *seedFlag, 1
	case *seedsFlag != 0:
		first, n = rand.Uint64()>>32, *seedsFlag
	case testing.Short() || race:
		n = 2
	}
	for i := range n {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			began := time.Now()
			r := schedule(t, seed)
			c := r.counts
			t.Logf("%v in %v: %d faults, %d lookups (%d unknown), %d adds (%d counted), settled after %v", r.took.Round(time.Second), time.Since(began).Round(time.Millisecond),
				c.faults.Load(), c.lookups.Load(), c.answers[0].Load(), c.adds.Load(), c.counted.Load(), r.settled.Round(time.Millisecond))
		})
	}
}

// TestSoak runs as many schedules as there is time for, and says what they were
// worth: make soak.
func TestSoak(t *testing.T) {
	if *soakFlag == 0 {
		t.Skip("give -soak 30m")
	}
	first, began := rand.Uint64()>>32, time.Now()
	var schedules, violations int
	var virtual, settled time.Duration
	var faults, lookups, adds, counted, removes, unaries, doubled, superseded, tooOld, restored int64
	for ; time.Since(began) < *soakFlag; schedules++ {
		seed := first + uint64(schedules)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := schedule(t, seed)
			c := r.counts
			virtual += r.took
			settled = max(settled, r.settled)
			violations += len(r.violations)
			faults += c.faults.Load()
			lookups += c.lookups.Load()
			adds += c.adds.Load()
			counted += c.counted.Load()
			removes += c.removes.Load()
			unaries += c.unaries.Load()
			doubled += c.doubled.Load()
			superseded += c.superseded.Load()
			tooOld += c.tooOld.Load()
			restored += c.restored.Load()
		})
	}
	fmt.Printf("seeds from %d\nvirtual hours\t%.1f\nschedules\t%d\nfaults injected\t%d\nclaims made\t%d\nof them counted\t%d\nclaims removed\t%d\nunary writes\t%d\nlookups judged\t%d\nproxies stopped\t%d\ntrackers stopped for a younger boot\t%d\nclaims restored from disks\t%d\ngossip packets sent twice\t%d\nlongest to settle\t%v\nviolations\t%d\n",
		first, virtual.Hours(), schedules, faults, adds, counted, removes, unaries, lookups, superseded, tooOld, restored, doubled, settled.Round(10*time.Millisecond), violations)
}
