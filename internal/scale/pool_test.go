package scale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// TestLoadsAreAPools holds the rates that loads are computed by to a whole quiet
// pool, of real trackers and clients over real gRPC in virtual time: messages by
// purpose, and all bytes.
func TestLoadsAreAPools(t *testing.T) {
	if race {
		t.Skip("a pool takes minutes under the race detector; internal/sim runs others there")
	}
	wire, err := MeasureWire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	for _, p := range []Pool{{Trackers: 3, Proxies: 2}, {Trackers: 6, Proxies: 4}} {
		grants, err := MeasureGrants(p.Trackers, p.Proxies, seed)
		if err != nil {
			t.Fatal(err)
		}
		c := Costs{Wire: wire, Grants: grants}
		seat, tracker, proxy := p.Seat(c), p.Tracker(c), p.Proxy(c)
		// A message is at two ends.
		sum := func(of func(Loads) Load) (l Load) {
			l.add(of(seat).times(seatCount))
			l.add(of(tracker).times(p.Trackers - seatCount))
			l.add(of(proxy).times(p.Proxies))
			return Load{Messages: l.Messages / 2, Bytes: l.Bytes / 2}
		}
		got := runPool(t, p, seed)
		for _, f := range []struct {
			name      string
			got, want float64
		}{
			{"messages of sessions", got.sessions, sum(func(l Loads) Load { return l.Sessions }).Messages},
			{"messages of finds", got.finds, sum(func(l Loads) Load { return l.Finds }).Messages},
			{"messages of grants", got.grants, sum(func(l Loads) Load { return l.Grants }).Messages},
			{"messages of copies", got.copies, sum(func(l Loads) Load { return l.Copies }).Messages},
			{"bytes", got.bytes, sum(Loads.Sum).Bytes},
		} {
			t.Logf("%d trackers, %d proxies: %s a second: %.1f, computed %.1f", p.Trackers, p.Proxies, f.name, f.got, f.want)
			// One exchange at a time, as they were measured, takes more frames of HTTP/2 than many.
			if math.Abs(f.got-f.want) > 0.2*f.want {
				t.Errorf("seed %d: %d trackers, %d proxies: %s a second: got %.1f, computed %.1f", seed, p.Trackers, p.Proxies, f.name, f.got, f.want)
			}
		}
	}
}

// poolTraffic is what a whole pool sent, a second.
type poolTraffic struct{ sessions, finds, grants, copies, bytes float64 }

// runPool runs a quiet pool in virtual time.
func runPool(t *testing.T, p Pool, seed uint64) (got poolTraffic) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		network := memnet.New(seed)
		network.SetQuality(memnet.Quality{Delay: time.Millisecond, Jitter: time.Millisecond})
		log := slog.New(slog.DiscardHandler)
		list := members(p.Trackers, seed)
		seats := [][]ring.MemberID{ids(list)[:seatCount]}
		counts := &frames{}
		dial := func(from int) func(addr string) (*rpc.Client, error) {
			return func(addr string) (*rpc.Client, error) {
				return rpc.Dial(addr, rpc.Insecure(), rpc.WithShards(lowShards), rpc.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
					c, err := network.Host(gossipHost(from)).DialContext(ctx, "tcp", addr)
					if err != nil {
						return nil, err
					}
					return &countedConn{Conn: c, sent: &counts.bytes, received: &counts.bytes}, nil
				}))
			}
		}
		for i := range list {
			list[i].Addr = netip.AddrPortFrom(gossipHost(i), 7000).String()
		}
		view, err := ring.NewView(list...)
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		var servers []*rpc.Server
		var clients []*pool.Client
		var addrs []string
		defer func() {
			for _, c := range clients {
				if err := c.Close(); err != nil {
					t.Errorf("seed %d: close: %v", seed, err)
				}
			}
			cancel()
			for _, s := range servers {
				s.Stop()
			}
			running.Wait()
			time.Sleep(30 * time.Second) // what is left ends by itself
		}()
		for i, m := range list {
			dialFrom := dial(i)
			n, err := node.New(m, node.Config{
				Pool: node.Pool{Name: "scale", Term: term, Seats: seats}, Shards: lowShards, NewPool: true, Now: time.Now, Logger: log,
				Dial: func(m ring.Member) (node.Peer, error) { return dialFrom(m.Addr) },
			})
			if err != nil {
				t.Fatal(err)
			}
			listener, err := network.Host(gossipHost(i)).Listen(7000)
			if err != nil {
				t.Fatal(err)
			}
			s := rpc.NewServer(spy{n, counts}, rpc.WithLogger(log))
			servers, addrs = append(servers, s), append(addrs, m.Addr)
			views := make(chan ring.View, 1)
			views <- view
			running.Go(func() {
				if err := n.Run(ctx, views); err != nil {
					t.Errorf("run: %v", err)
				}
			})
			running.Go(func() { _ = s.Serve(listener) }) // ends with Stop
			time.Sleep(100 * time.Millisecond)           // virtual: their phases differ
		}
		for i := range p.Proxies {
			c, err := pool.Open(ctx, pool.Config{
				Trackers: addrs, Proxy: node.Proxy{ID: node.ProxyID(proxyIDs(p.Proxies)[i]), Addr: "10.9.9.9:443"}, Dial: dial(100 + i), Now: time.Now, Logger: log,
			})
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
			if err := c.Add(ctx, node.Claim{Node: node.ID(fmt.Sprint("node-", i))}); err != nil && !errors.Is(err, node.ErrNotCounted) {
				t.Fatal(err)
			}
			for j := range 20 * p.Trackers { // misses, which open a stream to each tracker
				if _, _, err := c.Lookup(ctx, node.ID(fmt.Sprint("nobody-", j))); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Minute)
		counts.reset()
		time.Sleep(quietTime)
		rate := func(v *atomic.Int64) float64 { return float64(v.Load()) / quietTime.Seconds() }
		got = poolTraffic{rate(&counts.sessions), rate(&counts.finds), rate(&counts.grants), rate(&counts.copies), rate(&counts.bytes)}
	})
	return got
}

// frames are those of all streams, at the trackers' ends, and all bytes.
type frames struct{ sessions, finds, grants, copies, bytes atomic.Int64 }

func (f *frames) reset() {
	for _, v := range []*atomic.Int64{&f.sessions, &f.finds, &f.grants, &f.copies, &f.bytes} {
		v.Store(0)
	}
}

// A spy counts the messages of a tracker's streams.
type spy struct {
	*node.Tracker
	counts *frames
}

func (s spy) Session(ctx context.Context, stream node.SessionStream) error {
	return s.Tracker.Session(ctx, newSpied(stream, &s.counts.sessions))
}

func (s spy) Find(ctx context.Context, stream node.FindStream) error {
	return s.Tracker.Find(ctx, newSpied(stream, &s.counts.finds))
}

func (s spy) Seat(ctx context.Context, stream node.SeatStream) error {
	return s.Tracker.Seat(ctx, newSpied(stream, &s.counts.grants))
}

func (s spy) Copies(ctx context.Context, stream node.CopyStream) error {
	return s.Tracker.Copies(ctx, newSpied(stream, &s.counts.copies))
}

type spied[In, Out any] struct {
	node.Stream[In, Out]
	count *atomic.Int64
}

func newSpied[In, Out any](s node.Stream[In, Out], count *atomic.Int64) spied[In, Out] {
	return spied[In, Out]{s, count}
}

func (s spied[In, Out]) Recv() (In, error) {
	in, err := s.Stream.Recv()
	s.count.Add(1)
	return in, err
}

func (s spied[In, Out]) Send(out Out) error {
	s.count.Add(1)
	return s.Stream.Send(out)
}
