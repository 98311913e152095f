package loadtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	healTime   = 3 * time.Minute // within which a pool is itself again after a fault's cause is over
	claimsIn   = `tracker_claims{kind="session"}`
	sample     = 100_000 // nodes that are looked up after a fault of one tracker; after others all are
	storedLook = 100 * time.Millisecond
	restQueued = 100 // changes that all proxies have to send
)

// A chaos does faults to trackers during a mix, one after another. It belongs to one
// goroutine.
type chaos struct {
	*load
	cluster  *cluster
	probed   *tally
	swept    *tally
	replicas int

	// slowAbsent and slowCounted are the probes' own, once quiet has measured how busy
	// the machine is; 0 before.
	slowAbsent, slowCounted time.Duration
}

// suffer does all faults to the pool. One that does not heal is a failure, and the
// last.
func (s *script) suffer(ctx context.Context) {
	c := &chaos{load: s.load, cluster: s.cluster, probed: s.probes, swept: s.sweeps, replicas: s.report.Replicas}
	s.cfg.Progress.Phase("quiet", 0)
	pause(ctx, min(leadIn, s.cfg.QuietTime))
	quiet, err := c.quiet(ctx)
	if err != nil {
		s.report.Failures = append(s.report.Failures, err.Error())
		return
	}
	s.report.Quiet = &quiet
	for _, f := range s.cfg.Faults {
		if ctx.Err() != nil {
			return
		}
		s.cfg.Progress.Phase(f.String(), 0)
		r, err := c.suffer(ctx, f)
		if err != nil {
			s.report.Failures = append(s.report.Failures, err.Error())
			return
		}
		s.report.Faults = append(s.report.Faults, r)
		s.cfg.Progress.Note(fmt.Sprintf("%v: %d lookups, %d failed, %d UNKNOWN, %d wrong; all found again after %.2f s, ABSENT after %.2f s, counted after %.2f s",
			f, r.Lookups, r.Failed, r.Unknown, r.Wrong, r.FoundAgain, r.AbsentAgain, r.CountedAgain))
		pause(ctx, min(between, s.cfg.QuietTime))
	}
	s.cfg.Progress.Phase("mix", 0)
}

// quiet measures what faults are compared with: the same mix and the same probes.
func (c *chaos) quiet(ctx context.Context) (Quiet, error) {
	p, stop := c.probe(ctx)
	began := time.Now()
	t := newTally()
	c.window.Store(&window{tally: t, from: began})
	pause(ctx, c.cfg.QuietTime)
	c.window.Store(nil)
	took := time.Since(began).Seconds()
	err := stop()
	c.slowAbsent, c.slowCounted = 3*p.absent.slowest(), 3*p.counted.slowest()
	n, h := t.sum()
	return Quiet{Seconds: took, Lookups: n.Lookups, PerSecond: float64(n.Lookups) / took, P50: milliseconds(h, 50), P99: milliseconds(h, 99)}, err
}

// probe begins to probe all shards, until stop is called.
func (c *chaos) probe(ctx context.Context) (_ *probe, stop func() error) {
	p := newProbe(c.load, c.probed, c.placement().Params().Shards)
	p.slowAbsent, p.slowCounted = max(p.slowAbsent, c.slowAbsent), max(p.slowCounted, c.slowCounted)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- p.run(ctx) }()
	return p, func() error {
		cancel()
		return <-ended
	}
}

// A course is how a fault went, as times.
type course struct {
	began  time.Time
	over   time.Time // the cause; or after CrashAll all trackers are up
	stored time.Time // as many claims as there are to be
	found  time.Time // every node
	missed int       // nodes that were not found at once when all were looked up
	healed time.Time
}

// suffer does one fault to the pool, and returns when it has healed.
func (c *chaos) suffer(ctx context.Context, f Fault) (r FaultReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(c.cluster.trackers))*(f.For+leaveTime+2*c.cfg.Term)+healTime)
	defer cancel()
	boots := c.boots()
	p, stop := c.probe(ctx)

	// Nothing is late while the fault lasts.
	c.lastEvent.Store(int64(c.since() + time.Hour))
	defer func() { c.lastEvent.Store(int64(c.since())) }()
	c.hardship.Store(f.Kind == CrashAll)
	defer c.hardship.Store(false)

	phases := [3]*window{} // until the cause is over, until all claims are stored, until it has healed
	at := course{began: time.Now()}
	enter := func(i int) {
		phases[i] = &window{tally: newTally(), from: time.Now(), before: c.window.Load()}
		c.window.Store(phases[i])
	}
	enter(0)
	defer c.window.Store(nil)
	err = func() error {
		reborn, err := c.do(ctx, f)
		if err != nil {
			return err
		}
		enter(1)
		at.over = phases[1].from
		if err := c.awaitStored(ctx); err != nil {
			return err
		}
		enter(2)
		at.stored = phases[2].from
		swept := newTally()
		stride := max(1, c.work.nodes/sample)
		if !f.Kind.targeted() { // every tracker lost its claims
			stride = 1
		}
		at.missed, err = c.sweep(ctx, swept, stride)
		n, _ := swept.sum()
		c.swept.note(0, n)
		r.Wrong = n.wrong()
		if err != nil {
			return fmt.Errorf("look up all nodes until each was found: %w", err)
		}
		at.found = time.Now()
		return c.heal(ctx, p, boots, reborn)
	}()
	at.healed = time.Now()
	if err = errors.Join(err, stop()); err != nil {
		return r, fmt.Errorf("fault %v, begun at %.1f s: %w", f, at.began.Sub(c.start).Seconds(), err)
	}
	c.window.Store(nil)
	return c.report(r, f, at, p, phases), nil
}

func (c *chaos) report(r FaultReport, f Fault, at course, p *probe, phases [3]*window) FaultReport {
	total, all := phases[0].sum()
	resync, latencies := phases[1].sum()
	last, rest := phases[2].sum()
	total.add(resync)
	total.add(last)
	all.Merge(latencies)
	all.Merge(rest)
	r.counts = total
	r.Fault = f.String()
	r.At = at.began.Sub(c.start).Seconds()
	r.Lasted = at.over.Sub(at.began).Seconds()
	r.Healed = at.healed.Sub(at.began).Seconds()
	r.Lookups, r.Failed, r.Unknown = total.Lookups, total.Failed, total.Unknown
	r.Wrong += total.wrong()
	r.OtherFailed = total.MissesFailed + total.WritesFailed
	r.NotCounted, r.NotRemoved = total.NotCounted, total.NotRemoved
	r.Missed = at.missed
	r.P99 = milliseconds(all, 99)
	r.AbsentAgain = p.absent.after(at.began).Seconds()
	r.CountedAgain = p.counted.after(at.began).Seconds()
	if r.Failed+r.Unknown > 0 || at.missed > 0 {
		r.FoundAgain = at.found.Sub(at.began).Seconds()
	}
	r.all = f.Kind == CrashAll
	if r.all {
		r.Resync = &Resync{
			Stored:  at.stored.Sub(at.over).Seconds(),
			Found:   at.found.Sub(at.over).Seconds(),
			Lookups: resync.Lookups, Unknown: resync.Unknown, Failed: resync.Failed,
			P50: milliseconds(latencies, 50), P99: milliseconds(latencies, 99),
		}
	}
	return r
}

// boots returns which life of each tracker the clients see.
func (c *chaos) boots() map[ring.MemberID]uint64 {
	boots := make(map[ring.MemberID]uint64)
	for _, m := range c.placement().View().Members() {
		boots[m.ID] = m.Boot
	}
	return boots
}

// awaitStored returns when the trackers hold as many claims as the nodes need, and
// the proxies have no more to send than the mix makes.
func (c *chaos) awaitStored(ctx context.Context) error {
	want := float64(c.work.nodes * c.replicas)
	for {
		queued := 0
		for _, l := range c.fleet.lives() {
			queued += l.client.Stats().Queued
		}
		have := 0.0
		for _, t := range c.cluster.trackers {
			m, err := metrics(ctx, t.admin, claimsIn)
			if err == nil { // else it has no figures yet
				have += m[claimsIn]
			}
		}
		if have >= want && queued < restQueued {
			return nil
		}
		pause(ctx, storedLook)
		if ctx.Err() != nil {
			return fmt.Errorf("wait until the trackers have %.0f claims again; they have %.0f, and proxies have %d changes to send: %w", want, have, queued, context.Cause(ctx))
		}
	}
}

// heal returns when nothing is left of a fault. Trackers that were born again have
// other boots.
func (c *chaos) heal(ctx context.Context, p *probe, boots map[ring.MemberID]uint64, reborn []*tracker) error {
	for _, t := range c.cluster.trackers {
		if err := c.cluster.awaitReady(ctx, t); err != nil {
			return err
		}
	}
	whole := func(v ring.View) bool {
		for _, t := range reborn {
			if !serves(t.id, boots[t.id])(v) {
				return false
			}
		}
		return v.Placed() == len(c.cluster.trackers)
	}
	for {
		if err := await(ctx, "every client's view has all trackers", func() bool { return c.fleet.seen(whole) }); err != nil {
			return err
		}
		if err := c.fleet.settled(ctx); err != nil {
			return err
		}
		settled := time.Now()
		if err := await(ctx, "nodes are ABSENT again in all shards", func() bool { return p.absent.goodSince(settled) }); err != nil {
			return err
		}
		if err := await(ctx, "new claims count again in all shards", func() bool { return p.counted.goodSince(settled) }); err != nil {
			return err
		}
		if c.fleet.seen(whole) {
			return nil
		}
	}
}

// do does what a fault is until its cause is over, and returns the trackers that
// were started again.
func (c *chaos) do(ctx context.Context, f Fault) ([]*tracker, error) {
	if !f.Kind.targeted() {
		if f.Kind == Roll {
			return c.cluster.trackers, c.roll(ctx)
		}
		return c.cluster.trackers, c.crashAll(ctx)
	}
	t := c.cluster.find(ring.MemberID(f.Target))
	n := int(f.Target[len(f.Target)-1] - '0')
	lasting := func(begin, end func() error) error {
		if err := begin(); err != nil {
			return err
		}
		pause(ctx, f.For)
		return end()
	}
	relayed := func(r *relay, begin func()) error {
		return lasting(func() error { begin(); return nil }, func() error { r.heal(); return nil })
	}
	switch f.Kind {
	case Crash:
		return []*tracker{t}, lasting(func() error { return c.cluster.kill(t) }, func() error { return c.cluster.start(t) })
	case Freeze:
		return nil, lasting(t.proc.Freeze, t.proc.Thaw)
	case CutProxies:
		return nil, relayed(t.near, t.near.cut)
	case HangProxies:
		return nil, relayed(t.near, t.near.hang)
	case CutTrackers:
		return nil, relayed(t.far, t.far.cut)
	case HangTrackers:
		return nil, relayed(t.far, t.far.hang)
	}
	d := c.cluster.docker
	return nil, lasting(func() error { return d.isolate(ctx, n) }, func() error { return d.reconnect(context.WithoutCancel(ctx), n) })
}

// roll restarts one tracker after the other, as an upgrade does.
func (c *chaos) roll(ctx context.Context) error {
	for _, t := range c.cluster.trackers {
		if err := c.cluster.leave(t); err != nil {
			return err
		}
		if err := c.cluster.awaitEnd(ctx, t); err != nil {
			return err
		}
		if err := c.cluster.start(t); err != nil {
			return err
		}
		if err := c.cluster.awaitReady(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// crashAll kills all trackers at once, starts them again, and returns when all are
// up: they answer calls of gRPC, though they know nothing yet.
func (c *chaos) crashAll(ctx context.Context) error {
	var g errgroup.Group
	for _, t := range c.cluster.trackers {
		g.Go(func() error { return c.cluster.kill(t) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, t := range c.cluster.trackers {
		if err := c.cluster.start(t); err != nil {
			return err
		}
	}
	for _, t := range c.cluster.trackers {
		if err := await(ctx, fmt.Sprintf("tracker %s is up", t.id), func() bool { return answers(ctx, t.listen) }); err != nil {
			return err
		}
	}
	return nil
}

// answers reports whether a tracker answers a call.
func answers(ctx context.Context, addr string) bool {
	_, err := askInfo(ctx, addr)
	return err == nil
}
