package pool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/internal/clock"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// trackers is a pool of real trackers on loopback connections. The test is their
// gossip.
type trackers struct {
	t       testing.TB
	seats   []ring.MemberID
	members map[ring.MemberID]*tracker
}

type tracker struct {
	self  ring.Member
	views chan ring.View
	stop  func()
}

func startTrackers(t testing.TB, ids ...ring.MemberID) *trackers {
	t.Helper()
	p := &trackers{t: t, seats: []ring.MemberID{"a", "b", "c"}[:min(len(ids), 3)], members: map[ring.MemberID]*tracker{}}
	if len(ids) == 2 {
		p.seats = p.seats[:1]
	}
	for _, id := range ids {
		p.start(id)
	}
	p.gossip()
	return p
}

func (p *trackers) start(id ring.MemberID) {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	self := ring.Member{ID: id, Boot: uint64(time.Now().UnixNano()), Addr: l.Addr().String(), State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(2)}
	tr, err := node.New(self, node.Config{
		Pool: node.Pool{Name: "test", Seats: [][]ring.MemberID{p.seats}}, NewPool: true,
		Dial: func(m ring.Member) (node.Peer, error) {
			return rpc.Dial(m.Addr, rpc.Insecure(), rpc.WithShards(node.DefaultShards))
		},
		Now: clock.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	srv := rpc.NewServer(tr)
	views := make(chan ring.View, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(l) })
	running.Go(func() { _ = tr.Run(ctx, views) })
	m := &tracker{self: self, views: views}
	m.stop = sync.OnceFunc(func() { srv.Stop(); cancel(); running.Wait() })
	p.members[id] = m
	p.t.Cleanup(m.stop)
}

// gossip shows all trackers each other.
func (p *trackers) gossip() {
	p.t.Helper()
	var members []ring.Member
	for _, m := range p.members {
		members = append(members, m.self)
	}
	v, err := ring.NewView(members...)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, m := range p.members {
		select {
		case <-m.views:
		default:
		}
		m.views <- v
	}
}

func (p *trackers) crash(id ring.MemberID) {
	p.members[id].stop()
	delete(p.members, id)
}

func (p *trackers) open(cfg pool.Config) *pool.Client {
	p.t.Helper()
	for _, m := range p.members {
		cfg.Trackers = append(cfg.Trackers, m.self.Addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pool.Open(ctx, cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (p *trackers) proxy(id node.ProxyID) *pool.Client {
	return p.open(pool.Config{Proxy: node.Proxy{ID: id, Addr: "127.0.0.1:7000"}, CacheSize: -1, CountWait: 30 * time.Second})
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func nodeID(i int) node.ID {
	return node.ID(fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i))
}

func wantAnswer(t *testing.T, c *pool.Client, id node.ID, want node.Answer) []node.Claim {
	t.Helper()
	ctx := within(t, 20*time.Second)
	for {
		answer, claims, err := c.Lookup(ctx, id)
		if err == nil && answer == want {
			return claims
		}
		if ctx.Err() != nil {
			t.Fatalf("node %s: %v, %v; want %v", id, answer, err, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestAddLookupRemove(t *testing.T) {
	p := startTrackers(t, "a", "b", "c")
	writer, reader := p.proxy("p1"), p.open(pool.Config{CacheSize: -1})
	ctx := within(t, 30*time.Second)

	if err := writer.Add(ctx, node.Claim{Node: nodeID(1), Generation: 7, Age: 3 * time.Second}); err != nil {
		t.Fatalf("add: %v", err)
	}
	claims := wantAnswer(t, reader, nodeID(1), node.Found)
	if len(claims) != 1 || claims[0].Proxy.ID != "p1" || claims[0].Generation != 7 || claims[0].Age < 3*time.Second {
		t.Errorf("claims %+v", claims)
	}
	wantAnswer(t, reader, nodeID(2), node.Absent)
	if err := writer.Remove(ctx, "", nodeID(1)); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if answer, _, err := reader.Lookup(ctx, nodeID(1)); answer == node.Found || err != nil {
		t.Errorf("after the removal: %v, %v", answer, err)
	}
	wantAnswer(t, reader, nodeID(1), node.Absent)

	var invalid *node.InvalidError
	if err := reader.Add(ctx, node.Claim{Node: "n"}); !errors.As(err, &invalid) {
		t.Errorf("a reader adds: %v", err)
	}
	if err := writer.Add(ctx, node.Claim{Node: "n", Proxy: node.Proxy{ID: "p2"}}); !errors.As(err, &invalid) {
		t.Errorf("for another proxy: %v", err)
	}
	if err := writer.Add(ctx, node.Claim{Node: "n"}, node.Claim{}); !errors.As(err, &invalid) {
		t.Errorf("without a node: %v", err)
	}
	wantAnswer(t, reader, "n", node.Absent)
}

func TestClaimsFollowTheLists(t *testing.T) {
	p := startTrackers(t, "a", "b", "c")
	writer, reader := p.proxy("p1"), p.open(pool.Config{CacheSize: -1})
	ctx := within(t, 60*time.Second)
	const nodes = 20_000
	claims := make([]node.Claim, nodes)
	for i := range claims {
		claims[i].Node = nodeID(i)
	}
	if err := writer.Add(ctx, claims...); err != nil {
		t.Fatalf("add: %v", err)
	}
	lookAll := func(when string) {
		t.Helper()
		for i := range 2000 {
			if answer, _, err := reader.Lookup(ctx, nodeID(i)); answer != node.Found {
				t.Fatalf("%s: node %d: %v, %v", when, i, answer, err)
			}
		}
	}
	lookAll("at first")

	began := time.Now()
	p.start("d")
	p.gossip()
	for writer.View().Len() != 4 || reader.View().Len() != 4 {
		lookAll("while d joins")
	}
	if err := writer.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("settled %v after a join", time.Since(began))
	lookAll("with d")
	wantAnswer(t, reader, "nobody", node.Absent)

	began = time.Now()
	p.crash("d")
	p.gossip()
	for writer.View().Len() != 3 {
		lookAll("while d is gone")
	}
	lookAll("without d")
	if err := writer.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("settled %v after a crash", time.Since(began))
	lookAll("without d, settled")
}

func TestLaterProcessSupersedes(t *testing.T) {
	p := startTrackers(t, "a", "b", "c")
	first := p.proxy("p1")
	ctx := within(t, 30*time.Second)
	if err := first.Add(ctx, node.Claim{Node: "n"}); err != nil {
		t.Fatal(err)
	}
	second := p.proxy("p1")
	if err := second.Add(ctx, node.Claim{Node: "m"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.Done():
	case <-ctx.Done():
		t.Fatal("the first process goes on")
	}
	if err := first.Err(); !errors.Is(err, node.ErrSuperseded) {
		t.Errorf("err %v", err)
	}
	if err := first.Add(ctx, node.Claim{Node: "n"}); !errors.Is(err, node.ErrSuperseded) {
		t.Errorf("add: %v", err)
	}
	wantAnswer(t, second, "n", node.Absent)
	wantAnswer(t, second, "m", node.Found)
}

func TestWatch(t *testing.T) {
	p := startTrackers(t, "a", "b", "c")
	one, two, reader := p.proxy("p1"), p.proxy("p2"), p.open(pool.Config{})
	ctx := within(t, 30*time.Second)
	events, err := reader.Watch(ctx, "n")
	if err != nil {
		t.Fatal(err)
	}
	next := func(what string, want func(pool.Event) bool) {
		t.Helper()
		for {
			select {
			case e := <-events:
				if want(e) {
					return
				}
			case <-ctx.Done():
				t.Fatalf("never told that it %s", what)
			}
		}
	}
	next("is nowhere", func(e pool.Event) bool { return e.Answer == node.Absent })
	if err := one.Add(ctx, node.Claim{Node: "n", Generation: 1}); err != nil {
		t.Fatal(err)
	}
	next("appears", func(e pool.Event) bool { return e.Answer == node.Found && e.Claims[0].Proxy.ID == "p1" })
	if err := two.Add(ctx, node.Claim{Node: "n", Generation: 2}); err != nil {
		t.Fatal(err)
	}
	next("moves", func(e pool.Event) bool { return e.Answer == node.Found && e.Claims[0].Proxy.ID == "p2" })
	if err := errors.Join(one.Remove(ctx, "", "n"), two.Remove(ctx, "", "n")); err != nil {
		t.Fatal(err)
	}
	next("goes", func(e pool.Event) bool { return e.Answer == node.Absent })
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	for range events {
	}
}
