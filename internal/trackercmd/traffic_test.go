package trackercmd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
)

// lasting is how many nodes stay registered throughout.
const lasting = 2000

// A traffic is two proxies and a reader that use a pool while a test changes it, and
// check every answer.
type traffic struct {
	t                *testing.T
	steady, moving   *pool.Client // proxies: one keeps its nodes, the other's come and go
	reader           *pool.Client
	lookups, unknown atomic.Int64 // of nodes that are registered throughout
	moves, uncounted atomic.Int64
	outage           atomic.Bool // all trackers are away: UNKNOWN is no fault
	stop             context.CancelFunc
	working          sync.WaitGroup
	mu               sync.Mutex // guards the rest
	wrong            []string
}

// startTraffic registers nodes with the trackers at some addresses, and goes on until
// end is called.
func startTraffic(t *testing.T, addrs ...string) *traffic {
	t.Helper()
	l := &traffic{t: t}
	open := func(id node.ProxyID) *pool.Client {
		cfg := pool.Config{Trackers: addrs, Pool: "test", CacheSize: -1, CountWait: patience, Logger: slog.New(slog.DiscardHandler)}
		if id != "" {
			cfg.Proxy = node.Proxy{ID: id, Addr: "192.0.2.1:3022"}
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := pool.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	l.steady, l.moving, l.reader = open("steady"), open("moving"), open("")
	claims := make([]node.Claim, lasting)
	for i := range claims {
		claims[i].Node = lastingNode(i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := l.steady.Add(ctx, claims...)
	if errors.Is(err, node.ErrNotCounted) { // the pool has just begun; it goes on by itself
		err = nil
	}
	if err := errors.Join(err, l.steady.Settled(ctx)); err != nil {
		t.Fatal(err)
	}
	ctx, l.stop = context.WithCancel(t.Context())
	t.Cleanup(l.stop)
	l.working.Go(func() { l.read(ctx) })
	l.working.Go(func() { l.move(ctx) })
	return l
}

func lastingNode(i int) node.ID { return node.ID(fmt.Sprintf("lasting-%d", i)) }

func (l *traffic) violate(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) < 10 {
		l.wrong = append(l.wrong, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// read looks up nodes that are registered throughout, and nodes that never are.
func (l *traffic) read(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		id := lastingNode(i * 7 % lasting)
		switch answer, claims, err := l.reader.Lookup(ctx, id); {
		case ctx.Err() != nil:
		case answer == node.Absent:
			l.violate("%s is ABSENT", id)
		case answer != node.Found:
			if !l.outage.Load() {
				l.unknown.Add(1)
				l.t.Logf("%s is %v, %v", id, answer, err)
			}
		case len(claims) != 1 || claims[0].Proxy.ID != "steady":
			l.violate("%s is at %v", id, claims)
		}
		l.lookups.Add(1)
		if answer, claims, _ := l.reader.Lookup(ctx, node.ID(fmt.Sprintf("nobody-%d", i))); answer == node.Found {
			l.violate("found nobody at %v", claims)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// move adds nodes and removes them. What Add has returned nil for is not ABSENT,
// what Remove has returned nil for is not FOUND.
func (l *traffic) move(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		id := node.ID(fmt.Sprintf("moving-%d", i))
		err := l.moving.Add(ctx, node.Claim{Node: id})
		if answer, _, _ := l.reader.Lookup(ctx, id); err == nil && answer == node.Absent {
			l.violate("%s is ABSENT, but it was counted", id)
		}
		if err != nil {
			l.uncounted.Add(1)
		}
		err = l.moving.Remove(ctx, "", id)
		if answer, _, _ := l.reader.Lookup(ctx, id); err == nil && answer == node.Found {
			l.violate("%s is FOUND, but it was removed", id)
		}
		l.moves.Add(1)
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// end stops it and reports what was wrong.
func (l *traffic) end() {
	l.t.Helper()
	l.stop()
	l.working.Wait()
	l.t.Logf("%d lookups of registered nodes, %d not answered; %d nodes came and went, %d without being counted in time",
		l.lookups.Load(), l.unknown.Load(), l.moves.Load(), l.uncounted.Load())
	for _, w := range l.wrong {
		l.t.Error(w)
	}
	if 100*l.unknown.Load() > l.lookups.Load() { // where the machine is too busy for all of us, a few
		l.t.Errorf("%d lookups of registered nodes were not answered", l.unknown.Load())
	}
	if l.lookups.Load() == 0 || l.moves.Load() == 0 {
		l.t.Error("nothing was done")
	}
}
