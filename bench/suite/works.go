package suite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/bench/load"
	"github.com/trackerpool/trackerpool/bench/peer"
	"github.com/trackerpool/trackerpool/bench/report"
)

// dialed calls do with ten connections.
func (t *turn) dialed(ctx context.Context, use peer.Use, do func([]peer.Conn) error) error {
	conns, err := peer.DialAll(ctx, workers, use, t.Dial)
	if err != nil {
		return err
	}
	defer peer.CloseAll(conns)
	return do(conns)
}

// adds fills the empty server in batches of each size, and in part at a rate.
func (t *turn) adds(ctx context.Context) error {
	for _, batch := range Batches {
		if err := t.add(ctx, report.Add, load.Plan{Workers: workers, Batch: batch}); err != nil {
			return err
		}
		if err := t.checkCount(ctx, t.nodes); err != nil {
			return err
		}
	}
	return t.add(ctx, report.AddRate, load.Plan{Workers: workers, Batch: rateBatch, Rate: t.rate(), Duration: t.Window})
}

// rate is what is offered at a moderate rate, a fiftieth of it to etcd.
func (t *turn) rate() float64 {
	if t.name == "etcd" {
		return t.Rate / 50
	}
	return t.Rate
}

func (t *turn) add(ctx context.Context, work report.Work, p load.Plan) error {
	if err := t.fresh(ctx); err != nil {
		return err
	}
	return t.dialed(ctx, peer.ToAdd, func(conns []peer.Conn) error {
		r := report.Result{Work: work, Mode: t.Modes().Add, Batch: p.Batch}
		return t.measured(ctx, r, p, load.Homed(t.nodes, workers), func(w int, nodes []uint32) error { return conns[w].Add(nodes) })
	})
}

// loaded does what needs a server with all nodes.
func (t *turn) loaded(ctx context.Context) error {
	if err := t.fill(ctx); err != nil {
		return err
	}
	works := []func(context.Context) error{t.memory, t.lookups, t.lone, t.callers}
	if t.name == "prototype" { // the others are done by unary
		works = works[:1]
	}
	if t.last() && t.Steady > 0 {
		works = append(works, t.steady)
	}
	if _, ok := t.Peer.(peer.Returner); ok {
		works = append(works, t.comeBack)
	}
	if _, ok := t.Peer.(peer.Crowded); ok && t.last() && t.Steady > 0 && t.Crowd > 0 {
		works = append(works, t.crowd)
	}
	for _, do := range works {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fill has the empty server get all nodes. To most peers that is the same as to come
// back: they have no client that remembers.
func (t *turn) fill(ctx context.Context) error {
	if err := t.fresh(ctx); err != nil {
		return err
	}
	var err error
	if t.base, err = t.Live(ctx); err != nil {
		return err
	}
	before, err := t.Process().CPU()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := t.Load(ctx); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	took := time.Since(began)
	after, err := t.Process().CPU()
	if err != nil {
		return err
	}
	r := report.Result{Work: report.Return, Mode: "loaded again", Nodes: int64(t.nodes), Seconds: took.Seconds(), CPU: (after - before).Seconds()}
	if _, ok := t.Peer.(peer.Returner); ok {
		r.Work, r.Mode = report.Add, "pool.Client.Add of all, counted"
	}
	t.note(r)
	return t.checkCount(ctx, t.nodes)
}

func (t *turn) comeBack(ctx context.Context) error {
	took, cpu, err := t.Peer.(peer.Returner).Return(ctx)
	if err != nil {
		return fmt.Errorf("return: %w", err)
	}
	t.note(report.Result{Work: report.Return, Mode: "killed under its clients", Nodes: int64(t.nodes), Seconds: took.Seconds(), CPU: cpu.Seconds()})
	if err := t.checkCount(ctx, t.nodes); err != nil {
		return err
	}
	return t.remember(ctx, "after all came back")
}

func (t *turn) memory(ctx context.Context) error { return t.remember(ctx, "loaded") }

// remember notes what the server has in memory.
func (t *turn) remember(ctx context.Context, when string) error {
	const mib = 1 << 20
	now, peak, err := t.Process().Resident()
	if err != nil {
		return err
	}
	live, err := t.Live(ctx)
	if err != nil {
		return err
	}
	t.note(report.Result{
		Work: report.Memory, Mode: when, Nodes: int64(t.nodes),
		Resident: float64(now) / mib, Peak: float64(peak) / mib, Live: float64(live) / mib, Base: float64(t.base) / mib,
	})
	return nil
}

func (t *turn) lookups(ctx context.Context) error {
	return t.dialed(ctx, peer.ToLookup, func(conns []peer.Conn) error {
		look := func(w int, nodes []uint32) error { return conns[w].Lookup(nodes) }
		together := func(w int, nodes []uint32) error { return conns[w].(peer.Together).LookupTogether(nodes) }
		uniform, zipf := load.Uniform(t.nodes, t.Seed), load.Zipf(t.nodes, t.Seed)
		for _, batch := range Batches {
			p := load.Plan{Workers: workers, Batch: batch, Duration: t.Window}
			r := report.Result{Work: report.LookUniform, Mode: t.Modes().Lookup, Batch: batch}
			if err := t.measured(ctx, r, p, uniform, look); err != nil {
				return err
			}
			if r.Mode = t.Modes().Together; r.Mode != "" {
				if err := t.measured(ctx, r, p, uniform, together); err != nil {
					return err
				}
			}
			r.Work, r.Mode = report.LookZipf, t.Modes().Lookup
			if err := t.measured(ctx, r, p, zipf, look); err != nil {
				return err
			}
		}
		p := load.Plan{Workers: workers, Batch: rateBatch, Rate: t.rate(), Duration: t.Window}
		return t.measured(ctx, report.Result{Work: report.LookRate, Mode: t.Modes().Lookup, Batch: rateBatch}, p, uniform, look)
	})
}

// lone is one caller with one lookup at a time: on a connection that does nothing
// else and, where there is a client that many share, through that.
func (t *turn) lone(ctx context.Context) error {
	if err := t.loneDialed(ctx, t.nodes); err != nil {
		return err
	}
	return t.sharing(ctx, func(s *peer.Shared) error {
		r := report.Result{Work: report.Lone, Mode: s.Mode, Batch: 1}
		p := load.Plan{Workers: 1, Batch: 1, Duration: t.Window}
		return t.measured(ctx, r, p, load.Uniform(t.nodes, t.Seed), func(_ int, nodes []uint32) error { return s.Lookup(nodes[0]) })
	})
}

func (t *turn) loneDialed(ctx context.Context, nodes int) error {
	return t.dialed(ctx, peer.ToLookup, func(conns []peer.Conn) error {
		r := report.Result{Work: report.Lone, Mode: t.Modes().Lookup, Batch: 1}
		p := load.Plan{Workers: 1, Batch: 1, Duration: t.Window}
		return t.measured(ctx, r, p, load.Uniform(nodes, t.Seed), func(_ int, nodes []uint32) error { return conns[0].Lookup(nodes) })
	})
}

// sharing calls do with each client that many share, where there are any.
func (t *turn) sharing(ctx context.Context, do func(*peer.Shared) error) error {
	c, ok := t.Peer.(peer.Callers)
	if !ok {
		return nil
	}
	all, err := c.Callers(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, s := range all {
		if err == nil {
			err = do(s)
		}
		s.Close()
	}
	return err
}

// callers are many goroutines, each with one lookup at a time, in one client.
func (t *turn) callers(ctx context.Context) error {
	return t.sharing(ctx, func(s *peer.Shared) error {
		for _, callers := range []int{64, 256} {
			if err := t.called(ctx, s, report.Callers, callers, t.Window); err != nil {
				return err
			}
		}
		if t.last() && t.Hold > 0 && t.name == "trackerpool" {
			return t.called(ctx, s, report.Hold, 256, t.Hold)
		}
		return nil
	})
}

func (t *turn) called(ctx context.Context, s *peer.Shared, work report.Work, callers int, d time.Duration) error {
	before := s.Writes()
	r := report.Result{Work: work, Mode: s.Mode, Batch: callers}
	p := load.Plan{Workers: callers, Batch: 1, Duration: d}
	if err := t.measured(ctx, r, p, load.Uniform(t.nodes, t.Seed), func(_ int, nodes []uint32) error { return s.Lookup(nodes[0]) }); err != nil {
		return err
	}
	if writes := s.Writes() - before; writes > 0 {
		last := &t.report.Results[len(t.report.Results)-1]
		last.Achieved = float64(last.Nodes) / float64(writes)
	}
	return nil
}

// steady keeps all nodes alive: each by itself where the peer wants that, else by a few
// words.
func (t *turn) steady(ctx context.Context) error {
	r := report.Result{Work: report.Steady, Mode: t.Modes().Keep}
	renewer, ok := t.Peer.(peer.Renewer)
	if !ok {
		return t.dialed(ctx, peer.ToKeep, func(conns []peer.Conn) error {
			p := load.Plan{Workers: workers, Batch: 256, Rate: float64(t.nodes) / renewal.Seconds(), Duration: t.Steady}
			err := t.measured(ctx, r, p, load.Round(t.nodes, workers), func(w int, nodes []uint32) error { return conns[w].(peer.Keeper).Keep(nodes) })
			if err != nil {
				return err
			}
			t.report.Results[len(t.report.Results)-1].Nodes = int64(t.nodes) // each was kept several times
			return t.checkCount(ctx, t.nodes)
		})
	}
	return t.rest(ctx, r.Mode, renewer.Renew)
}

// crowdTime is within which many proxies must have connected and added their nodes.
const crowdTime = 90 * time.Second

// crowd has many proxies keep the nodes alive.
func (t *turn) crowd(ctx context.Context) error {
	if err := t.fresh(ctx); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, crowdTime)
	defer cancel()
	if err := t.Peer.(peer.Crowded).LoadBy(short, t.Crowd); err != nil {
		if short.Err() != nil && ctx.Err() == nil { // the rest is worth having all the same
			t.report.Missing = append(t.report.Missing, fmt.Sprintf("%d proxies of %s were not there within %v", t.Crowd, t.Name(), crowdTime))
			return nil
		}
		return fmt.Errorf("load by %d: %w", t.Crowd, err)
	}
	return t.rest(ctx, fmt.Sprintf("%d sessions of pool.Client", t.Crowd), func(context.Context) error { return nil })
}

// rest measures a server that has only to keep its nodes; renew is called every third
// of a term.
func (t *turn) rest(ctx context.Context, mode string, renew func(context.Context) error) error {
	before, err := t.Process().CPU()
	if err != nil {
		return err
	}
	began := time.Now()
	tick := time.NewTicker(renewal)
	defer tick.Stop()
	for time.Since(began) < t.Steady {
		if err := renew(ctx); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-time.After(t.Steady - time.Since(began)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	took := time.Since(began)
	after, err := t.Process().CPU()
	if err != nil {
		return err
	}
	t.note(report.Result{Work: report.Steady, Mode: mode, Nodes: int64(t.nodes), Seconds: took.Seconds(), CPU: (after - before).Seconds()})
	return t.checkCount(ctx, t.nodes)
}

// unary adds and looks up by unary calls of many callers, on ten connections.
func (t *turn) unary(ctx context.Context) error {
	all := load.Plan{Workers: workers * unaries, Batch: 1}
	atRate, timed := all, all
	atRate.Rate, atRate.Duration, timed.Duration = t.UnaryRate, t.Window, t.Window
	if err := t.unaryAdd(ctx, report.UnaryRate, atRate); err != nil {
		return err
	}
	if err := t.unaryAdd(ctx, report.Unary, all); err != nil {
		return err
	}
	if err := t.checkCount(ctx, t.Unary); err != nil {
		return err
	}
	err := t.dialed(ctx, peer.ToLookup, func(conns []peer.Conn) error {
		r := report.Result{Work: report.LookUniform, Mode: t.Modes().Lookup, Batch: 1}
		return t.measured(ctx, r, timed, load.Uniform(t.Unary, t.Seed), func(w int, nodes []uint32) error { return conns[w%workers].Lookup(nodes) })
	})
	if err != nil {
		return err
	}
	return t.loneDialed(ctx, t.Unary)
}

func (t *turn) unaryAdd(ctx context.Context, work report.Work, p load.Plan) error {
	if err := t.fresh(ctx); err != nil {
		return err
	}
	return t.dialed(ctx, peer.ToAdd, func(conns []peer.Conn) error {
		r := report.Result{Work: work, Mode: t.Modes().Add, Batch: 1}
		return t.measured(ctx, r, p, load.Homed(t.Unary, p.Workers), func(w int, nodes []uint32) error { return conns[w%workers].Add(nodes) })
	})
}
