package node_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/internal/clock"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

var claimsFlag = flag.Int("claims", 100_000, "how many claims TestResentIsInProportion has, of which a thousandth gets lost")

// A meter counts the bytes that are sent to one address.
type meter struct {
	addr string
	sent atomic.Int64
}

func (m *meter) dial(addr string) (*rpc.Client, error) {
	return rpc.Dial(addr, rpc.Insecure(), rpc.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil || addr != m.addr {
			return c, err
		}
		return metered{c, m}, nil
	}))
}

type metered struct {
	net.Conn
	m *meter
}

func (c metered) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.m.sent.Add(int64(n))
	return n, err
}

var _ io.Writer = metered{}

// serving are real trackers on loopback connections, which the test shows each other.
func serving(t *testing.T, term time.Duration, ids ...ring.MemberID) (map[ring.MemberID]*node.Tracker, ring.View) {
	t.Helper()
	trackers := map[ring.MemberID]*node.Tracker{}
	var members []ring.Member
	var feeds []chan ring.View
	for i, id := range ids {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		self := ring.Member{ID: id, Boot: uint64(i + 1), Addr: l.Addr().String(), State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(2)}
		tracker, err := node.New(self, node.Config{
			Pool: node.Pool{Name: "test", Term: lease.Term(term), Seats: [][]ring.MemberID{ids}}, NewPool: true,
			Dial: func(m ring.Member) (node.Peer, error) {
				return rpc.Dial(m.Addr, rpc.Insecure(), rpc.WithShards(node.DefaultShards))
			},
			Now: clock.Now, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		server, feed := rpc.NewServer(tracker), make(chan ring.View, 1)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = server.Serve(l) })
		running.Go(func() { _ = tracker.Run(ctx, feed) })
		t.Cleanup(func() { server.Stop(); cancel(); running.Wait() })
		trackers[id], members, feeds = tracker, append(members, self), append(feeds, feed)
	}
	v, err := ring.NewView(members...)
	if err != nil {
		t.Fatal(err)
	}
	for _, feed := range feeds {
		feed <- v
	}
	return trackers, v
}

// When a tracker has lost a thousandth of a proxy's claims, what is sent again is in
// proportion to the shards that they were of, and the others do not notice.
func TestResentIsInProportion(t *testing.T) {
	for _, each := range []int{1, 10} { // claims lost in a shard
		t.Run(fmt.Sprintf("%d a shard", each), func(t *testing.T) { resent(t, each) })
	}
}

func resent(t *testing.T, each int) {
	trackers, view := serving(t, 3*time.Second, "a", "b", "c")
	b := trackers["b"]
	at, _ := view.Member("b")
	m := &meter{addr: at.Addr}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	proxy, err := pool.Open(ctx, pool.Config{Trackers: []string{at.Addr}, Proxy: node.Proxy{ID: "p", Addr: "192.0.2.1:3022"},
		Dial: m.dial, CacheSize: -1, CountWait: 30 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	claims := make([]node.Claim, *claimsFlag)
	for i := range claims {
		claims[i].Node = node.ID(fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i))
	}
	for part := range slices.Chunk(claims, 50_000) {
		if err := proxy.Add(ctx, part...); err != nil {
			t.Fatal(err)
		}
	}
	if err := proxy.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	for b.Status().Shards.Open < b.Status().Shards.Held {
		wait(ctx, t)
	}
	all := b.Status().Claims
	allBytes := m.sent.Load()
	before := b.Stats()
	fault := func(format string, args ...any) {
		t.Helper()
		if b.Stats().Sessions != before.Sessions {
			t.Skip("this machine is too busy: a session was given up, and all sums were compared anew")
		}
		t.Fatalf(format, args...)
	}
	placed := proxy.Placement().Held("b")

	harmed, due := b.Lose("p", len(claims)/1000, each)
	began, lookups := time.Now(), int64(0)
	for whole := false; !whole; {
		bare := placed.Clone()
		bare.AndNot(b.Covered("p"))
		whole = b.Status().Claims == all && bare.Empty()
		if bare.AndNot(harmed); !bare.Empty() {
			fault("%d shards that nothing is wrong with are not covered", bare.Len())
		}
		if s := b.Status().Shards; s.Open < s.Held {
			fault("%d of %d shards are open", s.Open, s.Held)
		}
		for i := range 20 {
			id := claims[i*len(claims)/20].Node
			if answer, _, err := proxy.Lookup(ctx, id); answer != node.Found {
				fault("%s is %v, %v", id, answer, err)
			}
			lookups++
		}
		wait(ctx, t)
	}
	if err := proxy.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	sent, bytes := b.Stats().Ops-before.Ops, m.sent.Load()-allBytes
	t.Logf("lost %d of %d claims, in %d of %d shards, which have %d: %d claims and %d bytes were sent again, of %d; whole after %v",
		len(claims)/1000, all, harmed.Len(), placed.Len(), due, sent, bytes, allBytes, time.Since(began).Round(time.Millisecond))
	if n := b.Stats().Differs - before.Differs; n != 1 {
		fault("%d renewals differed, want 1", n)
	}
	if sent != uint64(due) {
		fault("%d claims were sent again, want the %d of the shards that differed", sent, due)
	}
	// A lookup takes some hundred bytes, and renewals and pings some hundred each; the claims are the rest.
	share := float64(due) / float64(all)
	if most := int64(1.5*share*float64(allBytes)) + 64<<10 + 128*lookups; bytes > most {
		fault("%d bytes were sent again, want at most %d: %.2f%% of the claims are of the shards that differed", bytes, most, 100*share)
	}
}

func wait(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal("it is not whole again within a minute")
	case <-time.After(5 * time.Millisecond):
	}
}
