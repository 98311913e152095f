package scale

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/ring"
)

var update = flag.Bool("update", false, "measure gossip anew, for all sizes, and write gossip.csv")

const (
	quietTime = 3 * time.Minute // over which quiet gossip is measured
	joinTime  = 10 * time.Second
)

// TestGossip measures small pools, and holds what was recorded to it. With -update
// it measures all sizes and records them.
func TestGossip(t *testing.T) {
	if *update {
		var b strings.Builder
		b.WriteString(strings.Join(gossipHeader, ",") + "\n")
		for _, n := range []int{3, 5, 10, 20, 30, 40, 50} {
			var sum Gossip
			const runs = 3
			for seed := range uint64(runs) {
				g := measureGossip(t, n, seed)
				sum.Packets += g.Packets / runs
				sum.PacketBytes += g.PacketBytes / runs
				sum.Streams += g.Streams / runs
				sum.StreamBytes += g.StreamBytes / runs
				sum.JoinBytes += g.JoinBytes / runs
				sum.JoinSeen = max(sum.JoinSeen, g.JoinSeen)
				sum.CrashSeen = max(sum.CrashSeen, g.CrashSeen)
			}
			fmt.Fprintf(&b, "%d,%.2f,%.1f,%.3f,%.1f,%.0f,%.2f,%.2f\n", n, sum.Packets, sum.PacketBytes, sum.Streams, sum.StreamBytes,
				sum.JoinBytes, sum.JoinSeen.Seconds(), sum.CrashSeen.Seconds())
		}
		if err := os.WriteFile("gossip.csv", []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	recorded, err := RecordedGossip()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	sizes := []int{5, 10}
	if race {
		sizes = sizes[:1]
	}
	for _, n := range sizes {
		got, want := measureGossip(t, n, seed), recorded[n]
		for _, f := range []struct {
			name      string
			got, want float64
		}{
			{"packets", got.Packets, want.Packets},
			{"packet bytes", got.PacketBytes, want.PacketBytes},
			{"streams", got.Streams, want.Streams},
			{"stream bytes", got.StreamBytes, want.StreamBytes},
		} {
			if math.Abs(f.got-f.want) > 0.2*f.want {
				t.Errorf("seed %d: %d members: %s a second: got %.2f, recorded %.2f: run with -update if that is right", seed, n, f.name, f.got, f.want)
			}
		}
	}
}

// measureGossip measures a pool of n in virtual time.
func measureGossip(t *testing.T, n int, seed uint64) (g Gossip) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(seed)
		net.SetQuality(memnet.Quality{Delay: time.Millisecond, Jitter: time.Millisecond})
		count := &traffic{}
		var all []*membership.Gossip
		start := func(i int) {
			t.Helper()
			host := net.Host(gossipHost(i))
			m, err := membership.Join(t.Context(), members(n+1, seed)[i], membership.Config{
				Pool: "scale", BindAddr: netip.AddrPortFrom(host.Addr(), membership.DefaultPort).String(), Join: []string{gossipHost(0).String()},
				Shards: lowShards, Term: term.Held(), Seats: [][]ring.MemberID{{"a", "b", "c"}},
				Logger: slog.New(slog.DiscardHandler), Sockets: counted{host, count},
			})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			all = append(all, m)
		}
		defer func() {
			for _, m := range all {
				if err := m.Close(); err != nil {
					t.Errorf("seed %d: close: %v", seed, err)
				}
			}
			time.Sleep(30 * time.Second) // for probes under way
		}()
		for i := range n {
			start(i)
		}
		awaitSize(t, all, n)
		time.Sleep(time.Minute)

		count.reset()
		time.Sleep(quietTime)
		rate := func(v *atomic.Int64) float64 { return float64(v.Load()) / quietTime.Seconds() / float64(n) }
		g.Packets, g.PacketBytes, g.Streams, g.StreamBytes = rate(&count.packets), rate(&count.packetBytes), rate(&count.streams), rate(&count.streamBytes)

		count.reset()
		began := time.Now()
		start(n)
		awaitSize(t, all, n+1)
		g.JoinSeen = time.Since(began)
		time.Sleep(joinTime - g.JoinSeen)
		quiet := (g.PacketBytes + g.StreamBytes) * joinTime.Seconds()
		g.JoinBytes = max(0, float64(count.packetBytes.Load()+count.streamBytes.Load())/float64(n)-quiet)

		net.Detach(gossipHost(n))
		began = time.Now()
		awaitSize(t, all[:n], n)
		g.CrashSeen = time.Since(began)
	})
	return g
}

func gossipHost(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}) }

// awaitSize waits until all views have n members.
func awaitSize(t *testing.T, all []*membership.Gossip, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, m := range all {
		for m.View().Len() != n {
			if time.Now().After(deadline) {
				t.Fatalf("%s has a view of %d members after a minute, want %d", m.Self().ID, m.View().Len(), n)
			}
			time.Sleep(10 * time.Millisecond) // virtual
		}
	}
}

// traffic is what all members have sent.
type traffic struct{ packets, packetBytes, streams, streamBytes atomic.Int64 }

func (t *traffic) reset() {
	for _, v := range []*atomic.Int64{&t.packets, &t.packetBytes, &t.streams, &t.streamBytes} {
		v.Store(0)
	}
}

// counted is a host that counts what it sends.
type counted struct {
	*memnet.Host
	traffic *traffic
}

func (c counted) ListenPacket(port uint16) (net.PacketConn, error) {
	p, err := c.Host.ListenPacket(port)
	return countedPackets{p, c.traffic}, err
}

func (c counted) Listen(port uint16) (net.Listener, error) {
	l, err := c.Host.Listen(port)
	return countedListener{l, c.traffic}, err
}

func (c counted) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.Host.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.traffic.streams.Add(1)
	return &countedConn{Conn: conn, sent: &c.traffic.streamBytes, received: new(atomic.Int64)}, nil
}

type countedPackets struct {
	net.PacketConn
	traffic *traffic
}

func (c countedPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	c.traffic.packets.Add(1)
	c.traffic.packetBytes.Add(int64(len(b)))
	return c.PacketConn.WriteTo(b, to)
}

type countedListener struct {
	net.Listener
	traffic *traffic
}

func (c countedListener) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, sent: &c.traffic.streamBytes, received: new(atomic.Int64)}, nil
}

var gossipHeader = []string{"trackers", "packets_s", "packet_bytes_s", "streams_s", "stream_bytes_s", "join_bytes", "join_seen_s", "crash_seen_s"}
