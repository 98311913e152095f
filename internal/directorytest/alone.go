package directorytest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// Proxies returns so many proxies with different IDs.
func Proxies(n int) []node.Proxy {
	var l []node.Proxy
	for i := range n {
		l = append(l, node.Proxy{ID: node.ProxyID(fmt.Sprintf("proxy-%d", i)), Addr: fmt.Sprintf("proxy-%d:3080", i), Zone: "z1"})
	}
	return l
}

// Alone runs a tracker that is a pool of its own, until the test ends.
func Alone(t *testing.T) *node.Tracker {
	t.Helper()
	self := ring.Member{ID: "t-0", Boot: 1, Addr: "t-0:7000", State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(2)}
	tracker, err := node.New(self, node.Config{
		Pool:    node.Pool{Name: "test", Seats: [][]ring.MemberID{{self.ID}}},
		NewPool: true,
		Now:     time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	view, err := ring.NewView(self)
	if err != nil {
		t.Fatal(err)
	}
	views := make(chan ring.View, 1)
	views <- view
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tracker.Run(ctx, views) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for tracker.Status().Shards.Open == 0 {
		<-tick.C
	}
	return tracker
}
