package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
	"github.com/trackerpool/trackerpool/lease"
)

// A Config says what a simulated pool has. A zero field means its default.
type Config struct {
	Seed     uint64
	Trackers int           // machines, not all of which need run; default 3
	Seats    int           // the first so many trackers; default 3
	Replicas int           // default 2
	Shards   int           // default 64
	Zones    int           // default 1
	Proxies  int           // default 3
	Readers  int           // clients that only read; default 2
	Nodes    int           // default 40
	Term     time.Duration // default 10 s
	Delay    time.Duration // of the network, one way; default 1 ms
	Disks    bool          // trackers save their claims, and restore them

	KeepAlive time.Duration // of unary claims; default 60 s
	Logger    *slog.Logger  // of all processes; default none
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		v  *int
		to int
	}{{&c.Trackers, 3}, {&c.Seats, 3}, {&c.Replicas, 2}, {&c.Shards, 64}, {&c.Zones, 1}, {&c.Proxies, 3}, {&c.Readers, 2}, {&c.Nodes, 40}} {
		if *d.v == 0 {
			*d.v = d.to
		}
	}
	if c.Term == 0 {
		c.Term = time.Duration(lease.DefaultTerm)
	}
	if c.Delay == 0 {
		c.Delay = time.Millisecond
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

const (
	// fresh is how long seats may not have heard of a proxy that is owed something,
	// as a share of a term. A seat's word may be a term old at its holder, who waits
	// for whom the seat had heard of two terms before; the rest allows for what is
	// not told at once.
	fresh = 0.8

	// sure is for how long what Add has just returned nil for may not be denied, as a
	// share of a term.
	sure = 0.9

	// unheard is how long one tracker may not have heard of it. After a minute it
	// may call it stalled.
	unheard = 45 * time.Second

	maxViolations = 20
)

// A Pool is all trackers, proxies and readers of a simulation. New makes one, in a
// bubble.
type Pool struct {
	cfg    Config
	net    *memnet.Network
	began  time.Time
	ctx    context.Context // ends with the pool
	cancel context.CancelFunc
	wg     sync.WaitGroup
	truth  *truth
	counts counts
	twice  atomic.Uint64 // packets sent twice, of a million

	trackers []*tracker
	proxies  []*proxy
	readers  []*reader
	unaries  []*unaryNode
	working  atomic.Bool // nodes come, hop and go

	// deciding are the sets of seats, each of the first so many trackers, of more than
	// half of which some tracker may need the word.
	deciding atomic.Pointer[[]int]

	acting    atomic.Int64 // steps under way
	disturbed atomic.Int64 // when a step last ended, in nanoseconds since the start

	// Settled is the longest that an expectation of it took.
	Settled time.Duration

	mu         sync.Mutex // guards the rest
	rng        *rand.Rand
	machines   map[string][]netip.Addr // by name: all addresses it ever had
	cuts       map[link]bool
	slow       map[string]time.Duration
	changed    map[link]time.Time // when a link was cut or healed last; to "": when a machine froze or thawed
	processes  map[lease.Process]*trackerLife
	rivals     []*proxyProcess
	given      setting
	violations []string
	notes      []string
}

// counts are what a run did.
type counts struct {
	faults, lookups, adds, removes, counted, doubled, superseded, tooOld, unaries, restored atomic.Int64
	answers                                                                                 [3]atomic.Int64
}

// New makes a pool of which nothing runs. Close ends it.
func New(cfg Config) *Pool {
	cfg = cfg.withDefaults()
	p := &Pool{
		cfg: cfg, net: memnet.New(cfg.Seed), began: time.Now(),
		rng:      rand.New(rand.NewPCG(cfg.Seed, 1)),
		machines: make(map[string][]netip.Addr), cuts: make(map[link]bool), changed: make(map[link]time.Time), slow: make(map[string]time.Duration),
		processes: make(map[lease.Process]*trackerLife),
		given:     setting{[]int{cfg.Seats}, []int{cfg.Replicas}},
	}
	p.deciding.Store(&[]int{cfg.Seats})
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.truth = newTruth(p)
	p.setQuality(p.calm())
	for i := range cfg.Trackers {
		p.trackers = append(p.trackers, &tracker{pool: p, index: i, name: "t-" + strconv.Itoa(i), clock: newClock(p.began, p.rng), turn: make(chan struct{}, 1)})
	}
	for i := range cfg.Proxies {
		p.proxies = append(p.proxies, &proxy{pool: p, index: i, id: "p-" + strconv.Itoa(i), clock: newClock(p.began, p.rng), turn: make(chan struct{}, 1)})
	}
	return p
}

// Start starts a new pool: all its seats, proxies and readers, and the work on
// nodes. Further trackers are left to the script.
func (p *Pool) Start() {
	var wg sync.WaitGroup
	for _, t := range p.trackers[:p.cfg.Seats] {
		wg.Go(func() {
			if err := t.start(true); err != nil {
				p.violate("start: %v", err)
			}
		})
	}
	wg.Wait()
	for _, x := range p.proxies {
		wg.Go(func() { x.open(false) })
	}
	for i := range p.cfg.Readers {
		wg.Go(func() { p.openReader(i) })
	}
	wg.Wait()
	p.wg.Go(p.monitor)
	p.working.Store(true)
	for i := range p.cfg.Nodes {
		p.wg.Go(func() { p.workNode(i) })
	}
	for i := range p.cfg.Nodes / 8 {
		u := p.newUnaryNode(i)
		p.unaries = append(p.unaries, u)
		p.wg.Go(u.work)
	}
	for i := range p.readers {
		p.wg.Go(func() { p.read(i) })
	}
}

// Close ends all of it, and leaves memberlist's probes the time to end. It
// returns what was found wrong.
func (p *Pool) Close() []string {
	p.working.Store(false)
	p.healAll()
	p.cancel()
	p.wg.Wait()
	for _, r := range p.readers {
		r.close()
	}
	for _, x := range p.proxies {
		x.close()
	}
	p.mu.Lock()
	rivals := p.rivals
	p.mu.Unlock()
	for _, r := range rivals {
		r.end()
	}
	for _, t := range p.trackers {
		t.crash(false)
	}
	time.Sleep(30 * time.Second)
	return p.Violations()
}

// Violations returns what was found wrong so far.
func (p *Pool) Violations() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.violations)
}

func (p *Pool) violate(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.violations) < maxViolations {
		p.violations = append(p.violations, fmt.Sprintf("%v: ", p.at(time.Now()))+fmt.Sprintf(format, args...))
	}
	p.cfg.Logger.Error("VIOLATION", "what", fmt.Sprintf(format, args...))
}

// note keeps a line for who reads about a violation.
func (p *Pool) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notes = append(p.notes, fmt.Sprintf("%v: ", p.at(time.Now()))+fmt.Sprintf(format, args...))
	p.cfg.Logger.Info("note", "what", fmt.Sprintf(format, args...))
}

// Notes returns what happened so far.
func (p *Pool) Notes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.notes)
}

// at is a time since the start.
func (p *Pool) at(t time.Time) time.Duration { return t.Sub(p.began).Round(time.Millisecond) }

func (p *Pool) intN(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.IntN(n)
}

func (p *Pool) chance(of float64) bool {
	if of == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.Float64() < of
}

// wallError is how far a machine's wall clock is off at a start: up to a minute.
func (p *Pool) wallError() time.Duration {
	return time.Duration(p.intN(120_000)-60_000) * time.Millisecond
}

// sleep waits, or until the pool ends, and reports whether it has not.
func (p *Pool) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// until waits until missing returns nothing, and returns what was missing in the
// end.
func (p *Pool) until(limit time.Duration, missing func() string) string {
	end := time.Now().Add(limit)
	for {
		m := missing()
		if m == "" || !time.Now().Before(end) {
			return m
		}
		if !p.sleep(100 * time.Millisecond) {
			return m
		}
	}
}

func (p *Pool) zone(i int) string { return "z-" + strconv.Itoa(i%p.cfg.Zones) }

// cacheSize has every other client keep answers, and the others ask each time.
func (p *Pool) cacheSize(i int) int { return -(i % 2) }

// leaseLasts is how long after a proxy's end its claims may be found: a term by a
// slow clock, and as long as an answer travels.
func (p *Pool) leaseLasts() time.Duration {
	return time.Duration(float64(p.cfg.Term) * (1 + 1.1*maxDrift))
}

// live returns the processes of trackers that run.
func (p *Pool) live() []*trackerLife {
	var live []*trackerLife
	for _, t := range p.trackers {
		if l := t.life.Load(); l != nil {
			live = append(live, l)
		}
	}
	return live
}

func (l *trackerLife) rpcAddr() string { return netip.AddrPortFrom(l.addr, rpcPort).String() }

// names are what clients are told of where trackers serve.
func (p *Pool) names() []string {
	var names []string
	for _, t := range p.trackers {
		names = append(names, t.name+":"+strconv.Itoa(rpcPort))
	}
	return names
}

// lookUp turns a tracker's name into the address it had last, as its machine's
// record in the DNS would. Other hosts are addresses.
func (p *Pool) lookUp(target string) string {
	name, port, _ := strings.Cut(target, ":")
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.machines[name]; len(at) > 0 {
		return at[len(at)-1].String() + ":" + port
	}
	return target
}

// monitor notes of which proxies the seats have heard often enough that they are
// owed what their calls promised.
func (p *Pool) monitor() {
	last := make(map[string]seatStatus, p.cfg.Seats)
	for p.sleep(250 * time.Millisecond) {
		p.truth.mu.Lock()
		lives := slices.Clone(p.truth.order)
		p.truth.mu.Unlock()
		for _, x := range lives {
			p.truth.heard(x, p.heardOften(x, last))
		}
	}
}

// seatStatus is whether a seat had heard of a proxy when it last ran.
type seatStatus map[*life]bool

func (p *Pool) heardOften(x *life, last map[string]seatStatus) bool {
	enough := time.Duration(fresh * float64(p.cfg.Term))
	now := time.Now()
	sets := *p.deciding.Load()
	heard := make([]bool, slices.Max(sets))
	for i, t := range p.trackers[:len(heard)] {
		if last[t.name] == nil {
			last[t.name] = make(seatStatus)
		}
		l := t.life.Load()
		if l != nil {
			_, told := l.heardOf(x)
			young := now.Sub(l.started) < enough && l.number > 1 // it says nothing for long after
			last[t.name][x] = now.Sub(told) < enough || young && last[t.name][x]
		} // else its last words speak for it until it runs again
		heard[i] = last[t.name][x]
	}
	for _, of := range sets {
		n := 0
		for _, h := range heard[:of] {
			if h {
				n++
			}
		}
		if 2*n <= of {
			return false
		}
	}
	for _, l := range p.live() {
		own, _ := l.heardOf(x)
		if own.Before(l.started) {
			own = l.started
		}
		if now.Sub(own) > unheard {
			return false
		}
	}
	return true
}
