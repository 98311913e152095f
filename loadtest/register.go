package loadtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/trackerpool/trackerpool/node"
)

const (
	addBatch = 250 // claims in a call of Add
	adders   = 4   // calls of Add under way at each proxy
)

// A registration is how claims were made: by how many calls, and how long those
// took. It is safe for concurrent use.
type registration struct {
	tally *tally
	mu    sync.Mutex // guards calls
	calls *hdr.Histogram
}

// register adds all nodes at their proxies, and returns when their claims are
// counted.
func (l *load) register(ctx context.Context) (Register, error) {
	r := &registration{tally: newTally(), calls: newHistogram()}
	g, gctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range l.fleet.proxies {
		g.Go(func() error { return l.addAll(gctx, r, i, l.work.homed(i)) })
	}
	if err := g.Wait(); err != nil {
		return Register{}, err
	}
	took := time.Since(began).Seconds()
	if err := l.fleet.settled(ctx); err != nil {
		return Register{}, err
	}
	c, _ := r.tally.sum()
	return Register{
		Count:          l.work.nodes,
		Seconds:        took,
		PerSecond:      float64(l.work.nodes) / took,
		Batch:          addBatch,
		P50:            milliseconds(r.calls, 50),
		P99:            milliseconds(r.calls, 99),
		SettledSeconds: time.Since(began).Seconds(),
		NotCounted:     c.NotCounted,
		late:           c.Late,
	}, nil
}

// addAll adds the nodes with the given numbers at proxy p.
func (l *load) addAll(ctx context.Context, r *registration, p int, numbers []uint32) error {
	g, ctx := errgroup.WithContext(ctx)
	client := l.fleet.proxies[p].alive.Load().client
	var next atomic.Int64
	for range adders {
		g.Go(func() error {
			claims := make([]node.Claim, 0, addBatch)
			for ctx.Err() == nil {
				from := int(next.Add(addBatch)) - addBatch
				if from >= len(numbers) {
					return nil
				}
				claims = claims[:0]
				for _, n := range numbers[from:min(from+addBatch, len(numbers))] {
					claims = append(claims, node.Claim{Node: l.work.id(uint64(n))})
				}
				if err := l.addOnce(r, p, client, claims); err != nil {
					return err
				}
				l.cfg.Progress.Add(len(claims))
			}
			return context.Cause(ctx)
		})
	}
	return g.Wait()
}

func (l *load) addOnce(r *registration, p int, client node.Directory, claims []node.Claim) error {
	began := time.Now()
	err := client.Add(l.deadline.context(), claims...)
	took := time.Since(began)
	r.mu.Lock()
	record(r.calls, took)
	r.mu.Unlock()
	if _, err := l.written(r.tally, uint64(p), fmt.Sprintf("add %d nodes at proxy %d", len(claims), p), err); err != nil {
		return fmt.Errorf("add %d nodes at proxy %d: %w", len(claims), p, err)
	}
	return nil
}

// verifiers is how many lookups each client has under way: enough to be gathered
// into batches.
const verifiers = 256

// verify looks up every node from another proxy than its own, and as many that do
// not exist.
func (l *load) verify(ctx context.Context) (Pass, error) {
	t := newTally()
	var wg sync.WaitGroup
	var next atomic.Uint64
	readers := max(1, len(l.fleet.readers))
	if len(l.fleet.readers) == 0 {
		readers = len(l.fleet.proxies)
	}
	total := 2 * uint64(l.work.nodes)
	began := time.Now()
	const stride = 32 // lookups between two looks at the clock of the progress
	for range min(verifiers*readers, 8192) {
		wg.Go(func() {
			for ctx.Err() == nil {
				from := next.Add(stride) - stride
				if from >= total {
					return
				}
				to := min(from+stride, total)
				for k := from; k < to; k++ {
					number, choice := k/2, scramble(l.work.seed+1, k)
					if k%2 == 0 {
						l.lookup(t, number, choice, time.Now())
					} else {
						l.miss(t, l.work.id(firstVerifiedMissing+number), choice)
					}
				}
				l.cfg.Progress.Add(int(to - from))
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	c, h := t.sum()
	return Pass{
		Checked:       int64(l.work.nodes),
		Missing:       c.FalseAbsent + c.Unknown + c.Failed + c.Excused,
		Wrong:         c.Stale + c.WrongProxy,
		AbsentChecked: c.Misses,
		NotAbsent:     c.MissesUnknown + c.MissesFailed,
		Seconds:       took,
		PerSecond:     float64(total) / took,
		P50:           milliseconds(h, 50),
		P99:           milliseconds(h, 99),
		counts:        c,
	}, errors.Join(ctx.Err())
}
