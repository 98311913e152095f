package loadtest

import (
	"context"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	leadIn  = 3 * time.Second // of the mix alone, before the first event
	between = 2 * time.Second // after an event has settled
	look    = 10 * time.Millisecond
)

// A player plays events during a mix, one after another. It belongs to one
// goroutine.
type player struct {
	*load
	cluster *cluster // nil for a pool that the run did not start
	probed  *tally
	joined  []ring.MemberID // that have not left
	killed  bool            // a seat
	played  int
}

// A change is what an event does to the pool, and how to see that it is over.
type change struct {
	target  string               // a tracker or a proxy
	tracker ring.MemberID        // empty for a proxy
	ideal   float64              // the share of copies that has to move
	shows   func(ring.View) bool // whether a client's view has it
	over    func(context.Context) error
}

// play plays one event, and returns when it has settled.
func (p *player) play(ctx context.Context, kind Kind) (Event, error) {
	// Grants of before run out within a term, those of a seat that starts again
	// within two, and a leave has its own deadline.
	ctx, cancel := context.WithTimeout(ctx, 4*p.cfg.Term+leaveTime+15*time.Second)
	defer cancel()
	before := p.placement()
	probe := newProbe(p.load, p.probed, before.Params().Shards)
	probing, stopProbing := context.WithCancel(ctx)
	defer stopProbing()
	probed := make(chan error, 1) // so that the probe can end when nobody waits
	go func() { probed <- probe.run(probing) }()

	began := time.Now()
	p.lastEvent.Store(int64(p.since()))
	seen := newTally()
	p.window.Store(&window{tally: seen, from: began})
	defer p.window.Store(nil)
	change, err := p.begin(ctx, kind, before)
	if err != nil {
		stopProbing()
		<-probed
		return Event{}, err
	}
	base, err := p.settle(ctx, kind, change, probe, began)
	settled := time.Since(began)
	stopProbing()
	if probeErr := <-probed; err == nil {
		err = probeErr
	}
	if err != nil {
		return Event{}, fmt.Errorf("event %s %s, begun at %.1f s: %w", kind, change.target, began.Sub(p.start).Seconds(), err)
	}
	p.window.Store(nil)

	moves, err := ring.Compare(before, p.placement())
	if err != nil {
		return Event{}, err
	}
	p.played++
	c, h := seen.sum()
	return Event{
		Kind:         kind,
		Target:       change.target,
		At:           began.Sub(p.start).Seconds(),
		CopiesMoved:  moves.Fraction(),
		Ideal:        change.ideal,
		Settle:       settled.Seconds(),
		Lookups:      c.Lookups,
		Failed:       c.failed(),
		Unknown:      c.Unknown,
		Wrong:        c.wrong(),
		NotCounted:   c.NotCounted,
		NotRemoved:   c.NotRemoved,
		P99:          milliseconds(h, 99),
		AbsentAgain:  probe.absent.after(base).Seconds(),
		CountedAgain: probe.counted.after(base).Seconds(),
		Excused:      c.Excused,
	}, nil
}

// settle returns when nothing is left of an event, and from when its effects count.
func (p *player) settle(ctx context.Context, kind Kind, c change, probe *probe, began time.Time) (base time.Time, _ error) {
	base = began
	if kind == Join {
		// A joiner that has only just been started cannot disturb anybody: what counts
		// is when it first gossips, of which its appearance in a view is the sign.
		seen, err := p.firstSeen(ctx, c.tracker)
		if err != nil {
			return base, err
		}
		base = seen
		if bad := probe.absent.first(); !bad.IsZero() && bad.Before(base) {
			base = bad
		}
	}
	for {
		if err := await(ctx, "every client's view shows it", func() bool { return p.fleet.seen(c.shows) }); err != nil {
			return base, err
		}
		if c.over != nil {
			if err := c.over(ctx); err != nil {
				return base, err
			}
			c.over = nil
		}
		if err := p.fleet.settled(ctx); err != nil {
			return base, err
		}
		settled := time.Now()
		if err := await(ctx, "nodes are ABSENT again in all shards", func() bool { return probe.absent.goodSince(settled) }); err != nil {
			return base, err
		}
		if err := await(ctx, "new claims count again in all shards", func() bool { return probe.counted.goodSince(settled) }); err != nil {
			return base, err
		}
		if p.fleet.seen(c.shows) && probe.absent.goodSince(settled) {
			return base, nil
		}
	}
}

// firstSeen returns when the first client's view has a tracker, in any state.
func (p *player) firstSeen(ctx context.Context, id ring.MemberID) (time.Time, error) {
	err := await(ctx, "a client's view has it", func() bool {
		for _, l := range p.fleet.lives() {
			if _, ok := l.client.View().Member(id); ok {
				return true
			}
		}
		return false
	})
	return time.Now(), err
}

// await returns when a condition holds.
func await(ctx context.Context, what string, holds func() bool) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

// begin does what an event is.
func (p *player) begin(ctx context.Context, kind Kind, before *ring.Placement) (change, error) {
	placed := float64(before.View().Placed())
	switch kind {
	case Join:
		if err := p.cluster.reserve(); err != nil {
			return change{}, err
		}
		t := p.cluster.trackers[len(p.cluster.trackers)-1]
		p.joined = append(p.joined, t.id)
		return change{
			target: string(t.id), tracker: t.id,
			ideal: 1 / (placed + 1),
			shows: serves(t.id, 0),
			over:  func(ctx context.Context) error { return p.cluster.awaitReady(ctx, t) },
		}, p.cluster.start(t)
	case Kill:
		t := p.cluster.trackers[seats-1]
		p.killed = true
		return change{target: string(t.id), tracker: t.id, ideal: 1 / placed, shows: isGone(t.id)}, p.cluster.kill(t)
	case Restart:
		t := p.cluster.trackers[1]
		if p.killed {
			t = p.cluster.find(p.joined[len(p.joined)-1])
		}
		was, _ := before.View().Member(t.id)
		if err := p.cluster.kill(t); err != nil {
			return change{}, err
		}
		return change{
			target: string(t.id), tracker: t.id,
			shows: serves(t.id, was.Boot),
			over:  func(ctx context.Context) error { return p.cluster.awaitReady(ctx, t) },
		}, p.cluster.start(t)
	case Leave:
		t := p.cluster.find(p.joined[len(p.joined)-1])
		p.joined = p.joined[:len(p.joined)-1]
		return change{
			target: string(t.id), tracker: t.id,
			ideal: 1 / placed,
			shows: isGone(t.id),
			over:  func(ctx context.Context) error { return p.cluster.awaitEnd(ctx, t) },
		}, p.cluster.leave(t)
	}
	i := p.played % len(p.fleet.proxies)
	return change{target: string(p.fleet.proxies[i].self.ID), shows: func(ring.View) bool { return true }}, p.restartProxy(ctx, i)
}

// serves holds for views that place shards on a life of a tracker other than not.
func serves(id ring.MemberID, not uint64) func(ring.View) bool {
	return func(v ring.View) bool {
		m, ok := v.Member(id)
		return ok && m.State == ring.Serving && m.Boot != not
	}
}

// isGone holds for views that do not place shards on a tracker.
func isGone(id ring.MemberID) func(ring.View) bool {
	return func(v ring.View) bool {
		m, ok := v.Member(id)
		return !ok || m.State != ring.Serving
	}
}

// restartProxy lets a proxy die and start again, and its nodes come back to it.
func (p *player) restartProxy(ctx context.Context, i int) error {
	proxy := p.fleet.proxies[i]
	proxy.turns.Add(1)
	if err := await(ctx, "no node is on the move at the proxy", func() bool { return proxy.moves.Load() == 0 }); err != nil {
		return err
	}
	numbers := p.truth.homed(i)
	p.lastEvent.Store(int64(p.since()))
	if err := p.fleet.kill(ctx, proxy); err != nil {
		return err
	}
	// Without claims it is settled once it has its sessions.
	if err := proxy.alive.Load().client.Settled(ctx); err != nil {
		return err
	}
	r := &registration{tally: p.probed, calls: newHistogram()}
	if err := p.addAll(ctx, r, i, numbers); err != nil {
		return err
	}
	if err := proxy.alive.Load().client.Settled(ctx); err != nil {
		return err
	}
	proxy.turns.Add(1)
	return nil
}
