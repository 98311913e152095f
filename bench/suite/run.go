package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/trackerpool/trackerpool/bench/load"
	"github.com/trackerpool/trackerpool/bench/peer"
	"github.com/trackerpool/trackerpool/bench/report"
)

// A contest is one run.
type contest struct {
	Config
	ids    []string
	report *report.Report
}

// A turn is one peer's in one round. Its ids are the peer's.
type turn struct {
	*contest
	peer.Peer
	name  string
	round int
	nodes int
	base  int64 // bytes of the empty server's heap
}

// Run compares. Peers that are not installed are left out, and named in the report. An
// error of a peer ends the run; what was measured before is returned too.
func Run(ctx context.Context, cfg Config) (*report.Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	began := time.Now()
	c := &contest{Config: cfg, ids: load.Nodes(cfg.Nodes, cfg.Seed), report: &report.Report{
		Began:    began.UTC().Format("2006-01-02 15:04 MST"),
		Machine:  machine(),
		Nodes:    cfg.Nodes,
		Rounds:   cfg.Rounds,
		Versions: make(map[string]string),
	}}
	err := c.rounds(ctx)
	c.report.Took = time.Since(began).Seconds()
	return c.report, err
}

func (c *contest) rounds(ctx context.Context) error {
	peers, err := c.present(ctx)
	if err != nil {
		return err
	}
	for round := range c.Rounds {
		for i := range peers {
			name := peers[(i+round)%len(peers)]
			if err := c.turn(ctx, name, round+1); err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, name, err)
			}
		}
	}
	return nil
}

// present returns the peers that can be started, and notes their versions.
func (c *contest) present(ctx context.Context) ([]string, error) {
	var names []string
	for _, name := range c.Peers {
		p, _, err := c.open(name, false)
		if err != nil {
			return nil, err
		}
		err = p.Start(ctx)
		p.Stop()
		if errors.Is(err, peer.ErrMissing) {
			c.report.Missing = append(c.report.Missing, fmt.Sprintf("%s was left out: %v", name, err))
			c.Log("%s: left out: %v", name, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		c.report.Versions[name] = p.Version(ctx)
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, errors.New("no peer is there; build tracker and prototype, and put them into PATH")
	}
	return names, nil
}

// open returns a peer, and how many nodes it has. Where it has two ways to be spoken
// to, or to be secured, other asks for the second.
func (c *contest) open(name string, other bool) (p peer.Peer, nodes int, err error) {
	dir := filepath.Join(c.Dir, name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, 0, err
	}
	nodes = c.Nodes
	switch {
	case name == "trackerpool" && other:
		nodes = c.Unary
		p, err = peer.NewUnaryTracker(dir, c.ids[:nodes])
	case name == "trackerpool":
		p, err = peer.NewTracker(dir, c.ids)
	case name == "prototype":
		p, err = peer.NewPrototype(dir, c.ids, other)
	case name == "etcd":
		nodes = c.Etcd
		p = peer.NewEtcd(dir, c.ids[:nodes])
	case name == "redis":
		p = peer.NewRedis(dir, c.ids)
	case name == "valkey":
		p = peer.NewValkey(dir, c.ids)
	case name == "memcached":
		p = peer.NewMemcached(dir, c.ids)
	case name == "olric":
		p = peer.NewOlric(dir, c.ids)
	}
	return p, nodes, err
}

// turn has a peer do everything once.
func (c *contest) turn(ctx context.Context, name string, round int) error {
	load, idle, err := busy(c.Watch)
	if err != nil {
		return err
	}
	c.report.Busy = append(c.report.Busy, report.Busy{Round: round, Peer: name, Load: load, Idle: idle})
	c.Log("round %d: %s; the machine was %.0f %% idle, its load %.2f", round, name, 100*idle, load)
	t := &turn{contest: c, name: name, round: round}
	if t.Peer, t.nodes, err = c.open(name, false); err != nil {
		return err
	}
	defer func() { t.Stop() }()
	works := []func(context.Context) error{t.adds, t.loaded}
	switch {
	case name == "trackerpool":
		works = append(works, t.again)
	case name == "prototype" && t.last(): // it takes long to load
		works = []func(context.Context) error{t.unary, t.loaded, t.again}
	case name == "prototype":
		works = []func(context.Context) error{t.unary, t.again}
	}
	for _, do := range works {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// again opens the peer the other way, for the works by unary calls.
func (t *turn) again(ctx context.Context) error {
	t.Stop()
	var err error
	if t.Peer, t.nodes, err = t.open(t.name, true); err != nil {
		return err
	}
	return t.unary(ctx)
}

// fresh has the server empty.
func (t *turn) fresh(ctx context.Context) error {
	t.Stop()
	return t.Start(ctx)
}

// last reports whether this is the last round, in which the long works are done.
func (t *turn) last() bool { return t.round == t.Rounds }

// note keeps a result of this turn.
func (t *turn) note(r report.Result) {
	r.Peer, r.Round = t.Name(), t.round
	t.report.Results = append(t.report.Results, r)
}

// measured does a plan, and notes what it took the server.
func (t *turn) measured(ctx context.Context, r report.Result, p load.Plan, next load.Source, do func(int, []uint32) error) error {
	before, err := t.Process().CPU()
	if err != nil {
		return err
	}
	o, err := load.Drive(ctx, p, next, do)
	if err != nil {
		return fmt.Errorf("%s by %d, batches of %d: %w", r.Work, p.Workers, p.Batch, err)
	}
	after, err := t.Process().CPU()
	if err != nil {
		return err
	}
	r.Nodes, r.Seconds, r.Offered, r.CPU = o.Nodes, o.Elapsed.Seconds(), p.Rate, (after - before).Seconds()
	r.P50, r.P99, r.P999 = micros(o.Quantile(.5)), micros(o.Quantile(.99)), micros(o.Quantile(.999))
	t.note(r)
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// checkCount wants the server to have n nodes.
func (t *turn) checkCount(ctx context.Context, n int) error {
	have, err := t.Count(ctx)
	if err == nil && have != n {
		err = fmt.Errorf("%d nodes were added, and the server has %d", n, have)
	}
	return err
}
