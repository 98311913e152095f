package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	// quiet is how long a pool runs before anything goes wrong.
	quiet = 10 * time.Second

	// healing is how long a pool may take to be settled after the last fault: the
	// longest freeze or cut, two terms of a seat's silence, and a lost proxy's two
	// terms after that.
	healing = 90 * time.Second
)

// Generate draws the shape of a pool from a seed, and what goes wrong with it for
// a time. At the end everything is mended, and the pool has to settle.
func Generate(seed uint64, d time.Duration) (Config, string) {
	g := &generator{rng: rand.New(rand.NewPCG(seed, 7)), up: make(map[int]time.Duration)}
	g.cfg = Config{
		Seed: seed, Seats: pick(g.rng, 1, 3, 3, 3, 5), Replicas: pick(g.rng, 1, 2, 2, 3), Zones: pick(g.rng, 1, 1, 3),
		Proxies: 2 + g.rng.IntN(4), KeepAlive: 30 * time.Second,
		Delay: pick(g.rng, time.Millisecond, 5*time.Millisecond, 40*time.Millisecond),
	}
	g.cfg.Trackers = max(3, g.cfg.Seats) + g.rng.IntN(4)
	g.seats = g.cfg.Seats
	for at := quiet; at < quiet+d; at += time.Duration(g.rng.ExpFloat64() * float64(4*time.Second)) {
		g.at = at
		g.fault()
	}
	g.planned(d)
	g.at = quiet + d + 5*time.Second
	g.line("heal")
	g.line("start %s", g.all("t", g.seats))
	g.line("open %s", g.all("p", g.cfg.Proxies))
	g.line("rest")
	g.line("expect settled %v", healing)
	slices.SortStableFunc(g.steps, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var script strings.Builder
	for _, s := range g.steps {
		fmt.Fprintf(&script, "%v %s\n", s.at, s.text)
	}
	return g.cfg, script.String()
}

// longest is how long a fault lasts at most. What is cut off for longer than a
// minute may be given up, which is another story.
const longest = 30 * time.Second

// planned adds what operators do on purpose, with random numbers of its own: one
// rolling restart or change at most, which may go on for longer than the faults. And
// some pools' trackers have disks, and clocks that are set back.
func (g *generator) planned(d time.Duration) {
	g.rng = rand.New(rand.NewPCG(g.cfg.Seed, 8))
	g.cfg.Disks = g.rng.IntN(2) == 0
	g.at = quiet + time.Duration(g.rng.Int64N(int64(d/2)))
	switch g.rng.IntN(8) {
	case 0:
		g.line("upgrade")
	case 1:
		g.line("start %s", g.all("t", g.cfg.Trackers)) // a seat that is to be must be there
		if g.seats = pick(g.rng, 1, 3, 5); g.seats > g.cfg.Trackers {
			g.seats = 3
		}
		g.at += time.Second
		g.line("seats %d", g.seats)
	case 2:
		g.line("replicas %d", 1+g.rng.IntN(3))
	}
	for g.rng.IntN(2) == 0 {
		g.at = quiet + time.Duration(g.rng.Int64N(int64(d)))
		name := fmt.Sprintf("t-%d", g.tracker())
		if g.cfg.Disks && g.rng.IntN(2) == 0 {
			g.line("spoil %s", name)
		} else {
			g.line("back %s %dm", name, 1+g.rng.IntN(100))
		}
		if g.rng.IntN(3) == 0 {
			g.line("restart %s", name)
		}
	}
}

// A line is one of a script.
type line struct {
	at   time.Duration
	text string
}

type generator struct {
	rng   *rand.Rand
	cfg   Config
	seats int // in the end
	at    time.Duration
	up    map[int]time.Duration // by seat: when it went down, until it has long been up again
	steps []line
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func (g *generator) line(format string, args ...any) {
	g.steps = append(g.steps, line{g.at.Round(time.Millisecond), fmt.Sprintf(format, args...)})
}

func (g *generator) all(kind string, n int) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", kind, i))
	}
	return strings.Join(names, " ")
}

func (g *generator) tracker() int { return g.rng.IntN(g.cfg.Trackers) }

func (g *generator) proxy() string { return fmt.Sprintf("p-%d", g.rng.IntN(g.cfg.Proxies)) }

func (g *generator) machine() string {
	switch g.rng.IntN(5) {
	case 0, 1:
		return g.proxy()
	case 2:
		return fmt.Sprintf("r-%d", g.rng.IntN(2))
	}
	return fmt.Sprintf("t-%d", g.tracker())
}

func (g *generator) lasts() time.Duration {
	return time.Duration(1+g.rng.Int64N(int64(longest/time.Second))) * time.Second
}

// fault adds one thing that goes wrong.
func (g *generator) fault() {
	switch n := g.rng.IntN(100); {
	case n < 30:
		g.trackerFault()
	case n < 55:
		g.proxyFault()
	case n < 70:
		a, b := g.machine(), g.machine()
		if a != b {
			g.line("cut %s %s%s %v", a, pick(g.rng, "", "> "), b, g.lasts())
		}
	case n < 76:
		g.line("split %s %v", g.side(), g.lasts())
	case n < 81:
		a, b := g.machine(), g.machine()
		if a != b {
			g.line("reset %s %s", a, b)
		}
	case n < 88:
		g.line("slow %s %dms %v", g.proxy(), 100+g.rng.IntN(700), g.lasts())
	case n < 93:
		g.line("slow %s %dms %v", g.machine(), 50+g.rng.IntN(350), g.lasts())
	default:
		g.line("weather %v delay=%dms jitter=%dms loss=%.2f twice=%.2f", g.lasts(), g.rng.IntN(20), g.rng.IntN(60), 0.15*g.rng.Float64(), 0.3*g.rng.Float64())
	}
}

func (g *generator) side() string {
	side := []string{fmt.Sprintf("t-%d", g.tracker())}
	for range g.rng.IntN(3) {
		if m := g.machine(); !strings.Contains(strings.Join(side, ","), m) {
			side = append(side, m)
		}
	}
	return strings.Join(side, ",")
}

// trackerFault lets most of the seats be, most of the time: a pool without them
// says little that could be wrong.
func (g *generator) trackerFault() {
	i := g.tracker()
	if g.rng.IntN(40) == 0 {
		g.line("restart %s", g.all("t", g.cfg.Trackers))
		return
	}
	if i < g.cfg.Seats {
		down := 0
		for s, at := range g.up {
			if s != i && g.at-at < longest {
				down++
			}
		}
		if 2*(down+1) >= g.cfg.Seats && g.rng.IntN(5) > 0 {
			if i = g.cfg.Seats; i >= g.cfg.Trackers {
				return
			}
		} else {
			g.up[i] = g.at
		}
	}
	name := fmt.Sprintf("t-%d", i)
	switch g.rng.IntN(10) {
	case 0, 1:
		g.line("restart %s", name)
	case 2, 3:
		g.line("%s %s", pick(g.rng, "crash", "poweroff"), name)
		g.again(name, "start")
	case 4, 5:
		g.line("leave %s", name)
		g.again(name, "start")
	case 6:
		g.line("freeze %s %v", name, g.lasts())
	default: // several at once
		g.line("start %s", g.all("t", g.cfg.Trackers))
	}
}

// again starts a machine some time later.
func (g *generator) again(name, verb string) {
	at := g.at
	g.at += time.Duration(g.rng.Int64N(int64(longest)))
	g.line("%s %s", verb, name)
	g.at = at
}

func (g *generator) proxyFault() {
	x := g.proxy()
	switch g.rng.IntN(12) {
	case 0, 1:
		g.line("restart %s", x)
	case 2, 3:
		g.line("%s %s", pick(g.rng, "crash", "poweroff", "close"), x)
		g.again(x, "open")
	case 4, 5, 6:
		g.line("freeze %s %v", x, g.lasts())
	case 7:
		g.line("twin %s", x)
	case 8:
		g.line("forget %s", x)
		g.line("crash %s", x)
		g.again(x, "open")
	case 9:
		g.line("crash %s", x)
		g.line("ahead %s %dm", x, 1+g.rng.IntN(100))
		g.again(x, "open")
	default:
		g.line("restart %s", g.all("p", g.cfg.Proxies))
	}
}
