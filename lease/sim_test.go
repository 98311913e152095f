package lease

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// The simulation runs whole pools, seed by seed, over the real Grantor, Ledger,
// Contacts and placements, with the messages of the protocol, clocks that drift and
// random faults, and holds what readers see against what proxies were promised.
// Its files: sim_test (schedules), sim_process and sim_net (clocks, streams), sim_tracker,
// sim_session and sim_unary (a tracker's side), sim_proxy and sim_move (a proxy's), sim_fault and sim_truth.

var (
	simSeed      = flag.Int64("seed", -1, "simulation: the first schedule; with -schedules 1 it is told step by step")
	simSchedules = flag.Int("schedules", 0, "simulation: how many schedules (default 1000; fewer with -race or -short)")
)

const (
	simTerm      = DefaultTerm
	term         = time.Duration(simTerm)
	simRoundTrip = 4 * time.Millisecond
)

func TestSimulation(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // there is little to keep, and much to drop
	n, first := *simSchedules, max(*simSeed, 0)
	if n == 0 {
		n = 1000
		if raceEnabled || testing.Short() {
			n = 60
		}
	}
	var trace func(string, ...any)
	if n == 1 && *simSeed >= 0 {
		trace = func(f string, a ...any) { fmt.Printf(f+"\n", a...) }
	}
	var total tally
	places := newPlaces()
	bad := 0
	for seed, s := range runAll(first, n, func(seed int64) *sim { return newSim(simConfigOf(seed), places, trace) }) {
		total.add(s.tally)
		if s.bad != "" {
			if bad++; bad <= 5 {
				t.Errorf("seed %d: %s\n%+v\nrun it alone: go test ./lease -run TestSimulation -seed %d -schedules 1", seed, s.bad, s.cfg, seed)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d schedules are bad", bad, n)
	}
	t.Logf("%d schedules: %v", n, &total)
}

// A seed is a schedule: nothing but it decides what happens.
func TestSimulationIsSeedExact(t *testing.T) {
	places := newPlaces()
	for seed := range int64(4) {
		var first tally
		for i := range 2 {
			s := newSim(simConfigOf(seed), places, nil)
			s.run()
			if i == 0 {
				first = s.tally
			} else if s.tally != first {
				t.Errorf("seed %d: twice the same schedule gives\n%+v\n%+v", seed, first, s.tally)
			}
		}
	}
}

// runAll runs n schedules on two goroutines and yields them in the order of their seeds.
func runAll(first int64, n int, newSim func(int64) *sim) func(func(int64, *sim) bool) {
	return func(yield func(int64, *sim) bool) {
		const workers = 2
		var wg sync.WaitGroup
		out := make([]chan *sim, workers)
		stop := make(chan struct{})
		for w := range workers {
			out[w] = make(chan *sim)
			wg.Go(func() {
				for i := w; i < n; i += workers {
					s := newSim(first + int64(i))
					s.run()
					s.release()
					select {
					case out[w] <- s:
					case <-stop:
						return
					}
				}
			})
		}
		for i := range n {
			if !yield(first+int64(i), <-out[i%workers]) {
				break
			}
		}
		close(stop)
		wg.Wait()
	}
}

// simConfig is one schedule but for its chances.
type simConfig struct {
	Seed                            int64
	Trackers, Late, Seats, Replicas int // Late of the trackers join in the middle
	Shards, Proxies                 int
	Faulty                          int     // terms with faults
	Faults, Flap, Slow, Unary       float64 // chances
	Island, Breaks                  float64 // of faults: more of these
	DeadLink                        bool    // one proxy never reaches one tracker
	Without                         string  // the part of a rule that is left out
}

func simConfigOf(seed int64) simConfig {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	c := simConfig{Seed: seed, Trackers: 4 + r.IntN(5), Seats: 3, Replicas: 2, Shards: 16, Proxies: 2 + r.IntN(3), Faulty: 4 + r.IntN(8),
		Faults: .5 + 1.5*r.Float64(), Flap: .3 * r.Float64(), Slow: .3 * r.Float64() * float64(r.IntN(2)), Unary: .5, Island: .04}
	switch k := r.IntN(10); {
	case k == 0:
		c.Seats = 1
	case k == 1 && c.Trackers >= 5:
		c.Seats = 5
	}
	switch k := r.IntN(10); {
	case k < 2:
		c.Replicas = 1
	case k < 4:
		c.Replicas = 3
	}
	switch k := r.IntN(100); {
	case k == 0:
		c.Shards, c.Faulty = 4096, min(c.Faulty, 8)
	case k < 10:
		c.Shards = 64
	}
	c.Late = r.IntN(1 + c.Trackers - max(c.Seats, 2))
	c.DeadLink = r.IntN(12) == 0
	return c
}

// sim is one schedule.
type sim struct {
	cfg    simConfig
	r      *rand.Rand
	now    time.Duration // the true time, which no process knows
	events eventHeap
	count  int64
	places *places
	sets   [][]ring.MemberID

	trackers []*simTracker // the present or last life of each; nil: never ran
	proxies  []*simProxy
	streams  []*stream
	sessions map[*stream]*simSession
	cuts     map[[2]int]time.Duration // from, to: until
	sides    []bool
	split    time.Duration // until
	splitAt  time.Duration
	dead     [2]int // the link of DeadLink
	calm     bool
	boots    uint64

	nodes   []*simNode
	writes  int
	custody map[*simNode]*custody
	bad     string
	tally   tally
	trace   func(string, ...any)
}

// tally counts what readers saw.
type tally struct {
	events, reads                                    int
	promisedFound, promisedUnknown, goneAbsent, gone int
	unaryFound, unaryUnknown, added, counted, terms  int
}

func (t *tally) add(o tally) {
	t.events += o.events
	t.reads += o.reads
	t.promisedFound += o.promisedFound
	t.promisedUnknown += o.promisedUnknown
	t.gone += o.gone
	t.goneAbsent += o.goneAbsent
	t.unaryFound += o.unaryFound
	t.unaryUnknown += o.unaryUnknown
	t.added += o.added
	t.counted += o.counted
	t.terms += o.terms
}

func (t *tally) String() string {
	share := func(a, b int) float64 { return float64(a) / float64(max(1, a+b)) }
	return fmt.Sprintf("%d events, %d terms, %d reads; counted claims FOUND %.4f, custody FOUND %.4f, gone claims ABSENT %.3f, adds counted %.3f",
		t.events, t.terms, t.reads, share(t.promisedFound, t.promisedUnknown), share(t.unaryFound, t.unaryUnknown),
		share(t.goneAbsent, t.gone-t.goneAbsent), float64(t.counted)/float64(max(1, t.added)))
}

func newSim(c simConfig, places *places, trace func(string, ...any)) *sim {
	s := &sim{cfg: c, r: rand.New(rand.NewPCG(uint64(c.Seed), 2)), places: places, cuts: map[[2]int]time.Duration{}, sessions: map[*stream]*simSession{},
		trackers: make([]*simTracker, c.Trackers), sides: make([]bool, c.Trackers+c.Proxies), custody: map[*simNode]*custody{}, trace: trace}
	set := make([]ring.MemberID, c.Seats)
	for i := range set {
		set[i] = memberID(i)
	}
	s.sets = [][]ring.MemberID{set}
	if c.DeadLink {
		s.dead = [2]int{c.Trackers + s.r.IntN(c.Proxies), s.r.IntN(c.Trackers)}
	}
	first := make([]ring.State, c.Trackers)
	for i := range first {
		if i < c.Trackers-c.Late {
			first[i] = ring.Serving
		}
	}
	for i, st := range first {
		if st == ring.Serving {
			s.startTracker(i, first, true)
		}
	}
	for i := range c.Proxies {
		s.startProxy(i, Incarnation{})
	}
	return s
}

// release drops all but the result.
func (s *sim) release() {
	s.events, s.trackers, s.proxies, s.streams, s.nodes, s.custody = nil, nil, nil, nil, nil, nil
}

func memberID(i int) ring.MemberID { return ring.MemberID("t-" + strconv.Itoa(i)) }

func (s *sim) run() {
	s.every(term/8, 0, s.read)
	s.every(time.Duration(float64(term)/s.cfg.Faults), term, s.fault)
	s.every(term/4, 0, s.unaryCall)
	s.until(time.Duration(s.cfg.Faulty) * term)
	if s.tally.terms = s.cfg.Faulty; s.cfg.Without != "" || s.bad != "" {
		return // what a pool comes to without a rule is of no interest
	}
	s.endFaults()
	s.calm = true
	why := ""
	for range 60 { // 30 terms
		s.until(s.now + term/2)
		if why = s.unsettled(); why == "" || s.bad != "" {
			break
		}
	}
	if why != "" {
		s.flag("not settled 30 terms after the last fault: %s", why)
	}
	s.tally.terms = int(s.now / term)
}

func (s *sim) until(end time.Duration) {
	for len(s.events) > 0 && s.bad == "" && s.events[0].at <= end {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		if p := e.of; p != nil {
			if !p.up {
				continue
			}
			if p.frozen > s.now {
				s.at(p.frozen, p, e.f)
				continue
			}
		}
		s.tally.events++
		e.f()
	}
	s.now = max(s.now, end)
}

// flag notes the first violation.
func (s *sim) flag(format string, args ...any) {
	if s.bad == "" {
		s.bad = fmt.Sprintf("after %v: ", s.now) + fmt.Sprintf(format, args...)
		s.tell("VIOLATION %s", s.bad)
	}
}

func (s *sim) tell(format string, args ...any) {
	if s.trace != nil {
		s.trace("%12v  %s", s.now, fmt.Sprintf(format, args...))
	}
}

func (s *sim) without(rule string) bool { return s.cfg.Without == rule }

// between draws a duration.
func (s *sim) between(a, b time.Duration) time.Duration {
	return a + time.Duration(s.r.Int64N(int64(b-a)+1))
}

// every calls f at random times, on average every d while there are faults, from a start on.
func (s *sim) every(d, start time.Duration, f func()) {
	s.at(s.now+start+s.between(d/2, d*3/2), nil, func() {
		f()
		s.every(d, 0, f)
	})
}

// event is something that happens to a process, or with nil to the world.
type event struct {
	at time.Duration
	n  int64
	of *process
	f  func()
}

// at plans an event. A process that is frozen then has it when it thaws.
func (s *sim) at(at time.Duration, of *process, f func()) {
	s.count++
	heap.Push(&s.events, event{at, s.count, of, f})
}

type eventHeap []event

func (h eventHeap) Len() int      { return len(h) }
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h *eventHeap) Push(x any) { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	o := *h
	e := o[len(o)-1]
	o[len(o)-1] = event{}
	*h = o[:len(o)-1]
	return e
}
