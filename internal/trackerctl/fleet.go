package trackerctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// parallel is how many trackers are asked at a time.
const parallel = 32

// maxFaults is of how many trackers an error tells; more say the same.
const maxFaults = 3

// A fleet is the trackers of a pool, by the view of one of them. close closes it.
type fleet struct {
	timeout time.Duration
	dial    dialer
	targets []string    // addresses that were given
	entry   *rpc.Client // to the tracker whose view it is
	info    node.ViewInfo
	placed  *ring.Placement // nil where the view places nothing

	mu      sync.Mutex             // guards clients
	clients map[string]*rpc.Client // by address
}

// connect finds the pool: the first tracker of the target that tells its view.
func (a *app) connect(ctx context.Context) (*fleet, error) {
	t, err := a.resolve()
	if err != nil {
		return nil, err
	}
	dial, err := t.dialer(slog.New(slog.NewTextHandler(a.stderr, nil)))
	if err != nil {
		return nil, err
	}
	f := &fleet{timeout: a.timeout, dial: dial, targets: t.Trackers, clients: map[string]*rpc.Client{}}
	if err := f.refresh(ctx); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// refresh takes the view as it is now: of the tracker that told it last, or of a
// member that serves, or of one of the targets.
func (f *fleet) refresh(ctx context.Context) error {
	var addrs []string
	if f.entry != nil {
		addrs = append(addrs, f.entry.Addr())
	}
	for _, m := range f.info.View.Members() {
		if m.State == ring.Serving {
			addrs = append(addrs, m.Addr)
		}
	}
	var faults []error
	tried := map[string]bool{}
	for _, addr := range append(addrs, f.targets...) {
		if tried[addr] {
			continue
		}
		tried[addr] = true
		err := f.enter(ctx, addr)
		if err == nil {
			return nil
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func (f *fleet) enter(ctx context.Context, addr string) error {
	c, err := f.client(addr, "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	info, err := c.View(ctx, 0)
	if err != nil {
		return fmt.Errorf("ask %s for the view: %w", addr, err)
	}
	var placed *ring.Placement
	if info.View.Placed() > 0 {
		if placed, err = ring.Place(info.View, info.Params); err != nil {
			return err
		}
	}
	f.entry, f.info, f.placed = c, info, placed
	return nil
}

// client returns the one client of an address. Of a member that the view names, its
// ID is looked at too; an empty one is any tracker's.
func (f *fleet) client(addr string, id ring.MemberID) (*rpc.Client, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.clients[addr]; c != nil {
		return c, nil
	}
	c, err := f.dial(addr, id)
	if err != nil {
		return nil, err
	}
	f.clients[addr] = c
	return c, nil
}

func (f *fleet) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.clients {
		_ = c.Close() // nothing is under way any more
	}
}

// placement is an error where the view places nothing.
func (f *fleet) placement() (*ring.Placement, error) {
	if f.placed == nil {
		return nil, fmt.Errorf("none of the %d trackers of the view is serving: nothing is placed", f.info.View.Len())
	}
	return f.placed, nil
}

// seat reports whether a tracker is of a set of seats in use.
func (f *fleet) seat(id ring.MemberID) bool {
	for _, set := range f.info.Pool.Seats {
		for _, s := range set {
			if s == id {
				return true
			}
		}
	}
	return false
}

// An answer is what one tracker said.
type answer[T any] struct {
	from  ring.Member
	value T
	err   error
}

// fault is what a document says of a call that failed.
func fault(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// askAll asks all members at the same time, each within the fleet's timeout. Answers
// are in the order of the view. It is an error if none of them has one.
func askAll[T any](ctx context.Context, f *fleet, do func(context.Context, *rpc.Client) (T, error)) ([]answer[T], error) {
	members := f.info.View.Members()
	answers := make([]answer[T], len(members))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, m := range members {
		g.Go(func() error {
			a := &answers[i]
			a.from = m
			c, err := f.client(m.Addr, m.ID)
			if err != nil {
				a.err = err
				return nil
			}
			ctx, cancel := context.WithTimeout(ctx, f.timeout)
			defer cancel()
			a.value, a.err = do(ctx, c)
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	if slices.ContainsFunc(answers, func(a answer[T]) bool { return a.err == nil }) {
		return answers, nil
	}
	errs := []error{errors.New("no tracker answers")}
	for _, a := range answers[:min(len(answers), maxFaults)] {
		errs = append(errs, fmt.Errorf("%s: %w", a.from.ID, a.err))
	}
	return answers, errors.Join(errs...)
}

func reports(ctx context.Context, f *fleet) ([]answer[node.Report], error) {
	return askAll(ctx, f, func(ctx context.Context, c *rpc.Client) (node.Report, error) { return c.Report(ctx) })
}

// seconds rounds to a millisecond: no more is meant.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
