package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// A Plan says how work is offered.
type Plan struct {
	Workers  int           // 1 to 1024
	Batch    int           // nodes of one call; 1 to 1024
	Rate     float64       // nodes a second of all workers together; 0 for as fast as it goes
	Duration time.Duration // 0 for until the Source ends
}

// An Outcome is what was done. Latencies are of calls, so of a batch each.
type Outcome struct {
	Nodes, Calls int64
	Elapsed      time.Duration
	latency      *hdr.Histogram // in units of resolution
}

// The range of latencies that are told apart, to three digits.
const (
	resolution = 100 * time.Nanosecond
	longest    = 2 * time.Minute
)

func newHistogram() *hdr.Histogram { return hdr.New(1, int64(longest/resolution), 3) }

// Quantile returns the latency that a share of the calls, 0 to 1, did not exceed.
func (o *Outcome) Quantile(q float64) time.Duration {
	if o.latency.TotalCount() == 0 {
		return 0
	}
	return time.Duration(o.latency.ValueAtQuantile(100*q)) * resolution
}

// Drive has workers call do with the batches that next gives. It returns when all
// calls have ended; the first error ends the others' work and is returned.
//
// With a rate, a call that finds a worker waiting for it is timed from when that one
// woke up, so that the timer of this process is not charged to the server; one that
// finds none counts from when it was due.
func Drive(ctx context.Context, p Plan, next Source, do func(worker int, nodes []uint32) error) (Outcome, error) {
	if p.Workers < 1 || p.Workers > mostWorkers || p.Batch < 1 || p.Batch > mostWorkers {
		return Outcome{}, fmt.Errorf("%d workers with batches of %d: choose 1 to %d of either", p.Workers, p.Batch, mostWorkers)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &drive{plan: p, next: next, do: do, began: time.Now()}
	if p.Rate > 0 {
		d.gap = time.Duration(float64(time.Second) * float64(p.Batch) / p.Rate)
	}
	total := Outcome{latency: newHistogram()}
	var mu sync.Mutex // guards total
	var wg sync.WaitGroup
	for w := range p.Workers {
		wg.Go(func() {
			o, err := d.work(ctx, w)
			if err != nil {
				cancel(fmt.Errorf("worker %d: %w", w, err))
			}
			mu.Lock()
			defer mu.Unlock()
			total.Nodes += o.Nodes
			total.Calls += o.Calls
			total.latency.Merge(o.latency)
		})
	}
	wg.Wait()
	total.Elapsed = time.Since(d.began)
	if err := context.Cause(ctx); err != nil {
		return total, err
	}
	if total.Calls == 0 {
		return total, errors.New("nothing was done: the source was empty, or the time over")
	}
	return total, nil
}

// A drive is one call of Drive.
type drive struct {
	plan  Plan
	next  Source
	do    func(worker int, nodes []uint32) error
	began time.Time
	gap   time.Duration // between two calls of all workers; 0 for none
	due   atomic.Int64  // how many calls of the rate have been taken
}

func (d *drive) work(ctx context.Context, worker int) (Outcome, error) {
	o := Outcome{latency: newHistogram()}
	buf := make([]uint32, 0, d.plan.Batch)
	for ctx.Err() == nil {
		began, ok := d.turn(ctx, o.Calls == 0)
		if !ok {
			break
		}
		batch := d.next(worker, buf)
		if len(batch) == 0 {
			break
		}
		if err := d.do(worker, batch); err != nil {
			return o, err
		}
		latency := time.Since(began)
		// The value is within the range, so there is no error.
		_ = o.latency.RecordValue(int64(min(max(latency, resolution), longest) / resolution))
		o.Nodes += int64(len(batch))
		o.Calls++
	}
	return o, nil
}

// turn waits until a call is due, and returns the time from which it counts. Without a
// rate a worker's first call is always due, however late it comes.
func (d *drive) turn(ctx context.Context, first bool) (time.Time, bool) {
	now := time.Now()
	if d.gap == 0 {
		return now, first || d.plan.Duration == 0 || now.Sub(d.began) < d.plan.Duration
	}
	due := d.began.Add(time.Duration(d.due.Add(1)-1) * d.gap)
	if d.plan.Duration > 0 && due.Sub(d.began) >= d.plan.Duration {
		return now, false
	}
	if now.After(due) {
		return due, true
	}
	timer := time.NewTimer(due.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return time.Now(), true
	case <-ctx.Done():
		return now, false
	}
}
