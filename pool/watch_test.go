package pool_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
)

// A watch outlives the tracker that it was at: what the node does afterwards is told,
// and that its answer is UNKNOWN for a while is not.
func TestWatchOutlivesATracker(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the words of a crashed tracker to run out")
	}
	t.Parallel()
	p := startTrackers(t, "a", "b", "c", "d")
	one, two, reader := p.proxy("p1"), p.proxy("p2"), p.open(pool.Config{})
	ctx := within(t, time.Minute)
	const nodes = 40 // so that most trackers are at some of them the one that tells
	watched := make([]<-chan pool.Event, nodes)
	name := func(i int) node.ID { return node.ID(fmt.Sprintf("n-%d", i)) }
	for i := range nodes {
		if err := one.Add(ctx, node.Claim{Node: name(i)}); err != nil {
			t.Fatal(err)
		}
		var err error
		if watched[i], err = reader.Watch(ctx, name(i)); err != nil {
			t.Fatal(err)
		}
	}
	// next waits until all that are watched are where they should be, and passes over
	// where they may have been before.
	next := func(when string, want, before node.ProxyID) {
		t.Helper()
		is := func(e pool.Event, p node.ProxyID) bool {
			return p == "" && e.Answer == node.Absent || e.Answer == node.Found && e.Claims[0].Proxy.ID == p
		}
		for i, events := range watched {
			for came := false; !came; {
				select {
				case e := <-events:
					if came = is(e, want); !came && !is(e, before) {
						t.Fatalf("%s: node %d: %+v", when, i, e)
					}
				case <-ctx.Done():
					t.Fatalf("%s: node %d is not told", when, i)
				}
			}
		}
	}
	next("at first", "p1", "p1")
	p.crash("d")
	p.gossip()
	for i := range nodes {
		if err := two.Add(ctx, node.Claim{Node: name(i), Generation: 1}); err != nil {
			t.Logf("not counted at once: %v", err)
		}
	}
	next("after the crash", "p2", "p1")
	for i := range nodes {
		if err := one.Remove(ctx, "", name(i)); err != nil {
			t.Logf("not sure at once: %v", err)
		}
	}
	for i := range nodes {
		if err := two.Remove(ctx, "", name(i)); err != nil {
			t.Logf("not sure at once: %v", err)
		}
	}
	next("after the removal", "", "p2")
}
