package loadtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// openTime is how long the clients have to find the whole pool.
const openTime = 30 * time.Second

// Run carries out a load test. What was measured is returned also with an error,
// which says that the test could not be carried through; a test that was, and that
// the pool did not pass, is a report with Failures.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	if err := cfg.Validate(); err != nil {
		return &Report{}, err
	}
	cfg = cfg.withDefaults()
	report = &Report{Nodes: cfg.Nodes, Proxies: cfg.Proxies, Seed: cfg.Seed, Relayed: cfg.relayed(), InProcess: cfg.InProcess, Memory: Memory{RSS: map[string]float64{}}, Events: []Event{}, Failures: []string{}}
	began := time.Now()
	defer func() { report.Seconds = time.Since(began).Seconds() }()
	defer cfg.Progress.End()

	addrs := cfg.Trackers
	var own *cluster
	if len(addrs) == 0 {
		cfg.Progress.Phase("start trackers", 0)
		own, err = startCluster(ctx, cfg)
		defer func() {
			failed := err != nil && ctx.Err() == nil || len(report.Failures) > 0
			if failed {
				report.Logs = own.dir
			}
			err = errors.Join(err, own.stop(failed))
		}()
		if err != nil {
			return report, err
		}
		addrs = own.addrs()
	}
	info, err := poolInfo(ctx, addrs)
	if err != nil {
		return report, err
	}
	cfg.Term = info.Pool.Term.Held()
	report.Replicas = info.Params.Replicas

	cfg.Progress.Phase("open clients", 0)
	openCtx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	route := func(addr string) string { return addr }
	if own != nil && cfg.relayed() {
		route = own.route
	}
	fleet, err := openFleet(openCtx, cfg, addrs, route)
	if err != nil {
		return report, err
	}
	work := workload{seed: cfg.Seed, nodes: cfg.Nodes, proxies: cfg.Proxies}
	l := &load{cfg: cfg, work: work, truth: newTruth(work), fleet: fleet, deadline: newDeadline(ctx), start: began}
	if own == nil {
		l.lastEvent.Store(int64(-l.patience())) // who knows when its trackers joined
	}
	defer func() {
		err = errors.Join(err, fleet.close())
		l.deadline.stop()
		report.Mistakes = l.mistakes.list()
	}()
	s := &script{load: l, cluster: own, report: report, probes: newTally(), sweeps: newTally()}
	return report, s.run(ctx, openCtx)
}

// poolInfo asks the first tracker that answers about the pool.
func poolInfo(ctx context.Context, addrs []string) (node.ViewInfo, error) {
	var errs []error
	for _, addr := range addrs {
		info, err := askInfo(ctx, addr)
		if err == nil {
			return info, nil
		}
		errs = append(errs, fmt.Errorf("ask tracker %s about the pool: %w", addr, err))
	}
	return node.ViewInfo{}, errors.Join(errs...)
}

func askInfo(ctx context.Context, addr string) (_ node.ViewInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	client, err := rpc.Dial(addr, rpc.Insecure())
	if err != nil {
		return node.ViewInfo{}, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	return client.View(ctx, 0)
}

// A script is the phases of a run, one after another.
type script struct {
	*load
	cluster *cluster // nil for a pool that the run did not start
	report  *Report
	probes  *tally
	sweeps  *tally
}

func (s *script) run(ctx, openCtx context.Context) error {
	least := 1
	if s.cluster != nil {
		least = len(s.cluster.trackers)
	}
	whole := func() bool { return s.fleet.seen(func(v ring.View) bool { return v.Placed() >= least }) }
	if err := await(openCtx, "every client's view has the trackers", whole); err != nil {
		return err
	}
	// Nobody has claims yet: this waits until every proxy has its sessions.
	if err := s.fleet.settled(openCtx); err != nil {
		return err
	}
	placement := s.placement()
	s.report.Trackers = placement.View().Placed()
	s.report.Replicas = len(placement.List(0))

	if err := s.register(ctx); err != nil {
		return err
	}
	if err := s.verify(ctx, "verify"); err != nil {
		return err
	}
	if s.cfg.Duration > 0 || len(s.cfg.Events) > 0 || len(s.cfg.Faults) > 0 {
		if err := s.mix(ctx); err != nil {
			return err
		}
		s.cfg.Progress.Phase("settle", 0)
		if err := s.fleet.settled(ctx); err != nil {
			return err
		}
		if err := s.verify(ctx, "verify again"); err != nil {
			return err
		}
	}
	s.report.Balance.MaxOverMean = s.placement().Balance()
	if _, err := s.measure(ctx); err != nil {
		return err
	}
	if s.cluster != nil {
		if err := s.cluster.ended(); err != nil {
			s.report.Failures = append(s.report.Failures, err.Error())
		}
	}
	probes, _ := s.probes.sum()
	s.report.Failures = append(s.report.Failures, s.report.failures(probes)...)
	return nil
}

func (s *script) register(ctx context.Context) error {
	before, err := s.measure(ctx)
	if err != nil {
		return err
	}
	s.cfg.Progress.Phase("register", s.work.nodes)
	if s.report.Register, err = s.load.register(ctx); err != nil {
		return err
	}
	after, err := s.measure(ctx)
	s.report.Memory.BytesPerClaim = (after - before) / float64(s.work.nodes*s.report.Replicas)
	return err
}

func (s *script) verify(ctx context.Context, name string) error {
	s.cfg.Progress.Phase(name, 2*s.work.nodes)
	pass, err := s.load.verify(ctx)
	s.report.Verify.add(pass)
	return err
}

// measure returns how much memory the trackers have resident, in bytes together: 0
// where they cannot be told apart from others, or are not known.
func (s *script) measure(ctx context.Context) (float64, error) {
	if s.cluster == nil || s.cfg.InProcess {
		return 0, nil
	}
	sum, err := s.cluster.measure(ctx)
	for id, mb := range s.cluster.resident {
		s.report.Memory.RSS[string(id)] = mb
	}
	return sum, err
}

// mix plays the events while it offers operations.
func (s *script) mix(ctx context.Context) error {
	s.cfg.Progress.Phase("mix", 0)
	mixing, stop := context.WithCancel(ctx)
	defer stop()
	m := &mix{load: s.load, tally: newTally()}
	done := make(chan Lookup, 1) // so that the mix can end when nobody waits
	began := time.Now()
	go func() { done <- m.run(mixing) }()

	if len(s.cfg.Faults) > 0 {
		s.suffer(ctx)
	}
	s.play(ctx)
	pause(ctx, max(s.cfg.Duration-time.Since(began), 0))
	stop()
	s.report.Lookup = <-done
	return ctx.Err()
}

// play plays all events. One that does not settle is a failure, and the last.
func (s *script) play(ctx context.Context) {
	p := &player{load: s.load, cluster: s.cluster, probed: s.probes}
	if len(s.cfg.Events) == 0 {
		return
	}
	pause(ctx, leadIn)
	for _, kind := range s.cfg.Events {
		if ctx.Err() != nil {
			return
		}
		s.cfg.Progress.Phase("mix: "+string(kind), 0)
		e, err := p.play(ctx, kind)
		if err != nil {
			s.report.Failures = append(s.report.Failures, err.Error())
			return
		}
		s.report.Events = append(s.report.Events, e)
		s.cfg.Progress.Note(fmt.Sprintf("%s %s: settled after %.2f s", kind, e.Target, e.Settle))
		pause(ctx, between)
	}
	s.cfg.Progress.Phase("mix", 0)
}
