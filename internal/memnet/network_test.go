package memnet

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	addrA = netip.MustParseAddr("10.0.0.1")
	addrB = netip.MustParseAddr("10.0.0.2")
)

const portB = 7000

// connect returns the ends at a and at b of a new connection.
func connect(t *testing.T, n *Network) (net.Conn, net.Conn) {
	t.Helper()
	l, err := n.Host(addrB).Listen(portB)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := n.Host(addrA).DialContext(t.Context(), "tcp", netip.AddrPortFrom(addrB, portB).String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("write %q: %v", s, err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

// All bytes arrive in order whatever the delays, cuts and sizes of reads and
// writes, and neither side waits for the other.
func TestStreamKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		n := New(seed)
		n.SetQuality(Quality{Delay: time.Millisecond, Jitter: 5 * time.Millisecond, Drop: 0.5})
		a, b := connect(t, n)
		var wg sync.WaitGroup
		flow := func(from, to net.Conn, seed uint64) {
			sent := make([]byte, 1<<20)
			rng := rand.New(rand.NewPCG(seed, 1))
			for i := range sent {
				sent[i] = byte(rng.Uint32())
			}
			wg.Go(func() {
				for rest := sent; len(rest) > 0; {
					k := min(len(rest), 1+rng.IntN(20_000))
					if _, err := from.Write(rest[:k]); err != nil {
						t.Errorf("seed %d: %v", seed, err)
						return
					}
					rest = rest[k:]
				}
			})
			wg.Go(func() {
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(to, got); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				if string(got) != string(sent) {
					t.Errorf("seed %d: what arrived differs from what was sent", seed)
				}
			})
		}
		flow(a, b, seed)
		flow(b, a, seed+1)
		for range 3 {
			n.Cut(addrA, addrB)
			time.Sleep(time.Second)
			n.Heal(addrA, addrB)
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		a.Close()
		b.Close()
		time.Sleep(10 * time.Millisecond) // the ends of the streams are delayed too
		if left := len(n.liveConns()); left != 0 {
			t.Errorf("%d connections left after both ends have closed", left)
		}
	})
}

func TestStreamTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetQuality(Quality{Delay: 10 * time.Millisecond})
		n.SetLink(addrB, addrA, Quality{Delay: 30 * time.Millisecond})
		start := time.Now()
		a, b := connect(t, n)
		defer a.Close()
		defer b.Close()
		if took, want := time.Since(start), 40*time.Millisecond; took != want {
			t.Errorf("the dial took %v, want a round trip, %v", took, want)
		}
		start = time.Now()
		write(t, b, "hello")
		read(t, a, "hello")
		if took, want := time.Since(start), 30*time.Millisecond; took != want {
			t.Errorf("the bytes took %v, want %v", took, want)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetQuality(Quality{Delay: time.Millisecond})
		a, b := connect(t, n)
		write(t, a, "last words")
		a.Close()
		_, err := b.Write([]byte("x"))
		wantErr(t, "write before the close was seen", err, nil)
		read(t, b, "last words")
		_, err = b.Read(make([]byte, 1))
		wantErr(t, "read after the end", err, io.EOF)
		_, err = b.Write([]byte("x"))
		wantErr(t, "write to a closed end", err, syscall.EPIPE)
		_, err = a.Read(make([]byte, 1))
		wantErr(t, "read at the closed end", err, net.ErrClosed)
		_, err = a.Write([]byte("x"))
		wantErr(t, "write at the closed end", err, net.ErrClosed)
		wantErr(t, "close twice", a.Close(), net.ErrClosed)
		wantErr(t, "deadline after close", a.SetDeadline(time.Time{}), net.ErrClosed)
		b.Close()
	})
}

// A Read that waits ends when its own side closes, and when its deadline is set
// or passes.
func TestReadWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := connect(t, New(1))
		defer b.Close()
		results := make(chan error)
		waiting := func() {
			go func() { _, err := a.Read(make([]byte, 1)); results <- err }()
			synctest.Wait()
		}
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Second))
		waiting()
		wantErr(t, "deadline", <-results, os.ErrDeadlineExceeded)
		if took := time.Since(start); took != time.Second {
			t.Errorf("the deadline took %v, want 1s", took)
		}
		a.SetReadDeadline(time.Time{})
		waiting()
		a.SetReadDeadline(time.Now())
		wantErr(t, "deadline set while reading", <-results, os.ErrDeadlineExceeded)
		a.SetDeadline(time.Now().Add(-time.Second))
		_, err := a.Write([]byte("x"))
		wantErr(t, "write after the deadline", err, os.ErrDeadlineExceeded)
		a.SetDeadline(time.Time{})
		waiting()
		a.Close()
		wantErr(t, "close", <-results, net.ErrClosed)
	})
}

func TestCutHoldsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := connect(t, n)
		n.CutOneWay(addrA, addrB)
		write(t, a, "held")
		write(t, b, "passes")
		read(t, a, "passes")
		b.SetReadDeadline(time.Now().Add(time.Hour))
		_, err := b.Read(make([]byte, 1))
		wantErr(t, "read from a black hole", err, os.ErrDeadlineExceeded)
		b.SetReadDeadline(time.Time{})
		n.Detach(addrB)
		n.Heal(addrA, addrB)
		a.Close()
		synctest.Wait()
		n.Attach(addrB)
		read(t, b, "held")
		_, err = b.Read(make([]byte, 1))
		wantErr(t, "end that was held", err, io.EOF)
		b.Close()
	})
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := connect(t, n)
		c, d := connect(t, n)
		write(t, a, "lost")
		n.Reset(addrB, addrA)
		for _, end := range []net.Conn{a, b, c, d} {
			_, err := end.Read(make([]byte, 1))
			wantErr(t, "read", err, syscall.ECONNRESET)
			_, err = end.Write([]byte("x"))
			wantErr(t, "write", err, syscall.ECONNRESET)
			end.Close()
		}
		e, f := connect(t, n)
		n.ResetHost(addrA)
		_, err := f.Read(make([]byte, 1))
		wantErr(t, "read after ResetHost", err, syscall.ECONNRESET)
		e.Close()
		f.Close()
		if left := len(n.liveConns()); left != 0 {
			t.Errorf("%d connections left after a reset", left)
		}
	})
}

func TestWriteIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := connect(t, n)
		defer a.Close()
		defer b.Close()
		n.Cut(addrA, addrB)
		chunk := make([]byte, 1<<20)
		for range maxBuffered / len(chunk) {
			write(t, a, string(chunk))
		}
		_, err := a.Write([]byte("x"))
		wantErr(t, "one byte too many", err, syscall.ENOBUFS)
		n.HealAll()
		read(t, b, string(chunk))
		write(t, a, "x")
	})
}

func TestDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, to := n.Host(addrA), netip.AddrPortFrom(addrB, portB).String()
		dial := func(limit time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			c, err := a.DialContext(ctx, "tcp", to)
			if err == nil {
				c.Close()
			}
			return err
		}
		wantErr(t, "no such host", dial(time.Second), context.DeadlineExceeded)
		l, err := n.Host(addrB).Listen(portB)
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.Host(addrB).Listen(portB)
		wantErr(t, "port in use", err, syscall.EADDRINUSE)
		wantErr(t, "listening", dial(time.Second), nil)
		n.CutOneWay(addrB, addrA)
		wantErr(t, "no way back", dial(time.Second), context.DeadlineExceeded)
		time.AfterFunc(time.Minute, n.HealAll)
		wantErr(t, "healed while dialing", dial(time.Hour), nil)
		n.Detach(addrB)
		wantErr(t, "detached", dial(time.Second), context.DeadlineExceeded)
		n.Attach(addrB)

		accepted := make(chan error)
		for range 2 { // the two dials above
			c, err := l.Accept()
			wantErr(t, "accept", err, nil)
			c.Close()
		}
		go func() { _, err := l.Accept(); accepted <- err }()
		synctest.Wait()
		l.Close()
		wantErr(t, "accept after close", <-accepted, net.ErrClosed)
		wantErr(t, "nobody listens", dial(time.Second), syscall.ECONNREFUSED)
		_, err = a.DialContext(t.Context(), "tcp", "tracker-1:7000")
		if err == nil {
			t.Error("a dial of a name succeeded, want an error: there is no resolver here")
		}
	})
}

func TestPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(7)
		a, errA := n.Host(addrA).ListenPacket(0)
		b, errB := n.Host(addrB).ListenPacket(portB)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		send := func() {
			buf := []byte("ping")
			if _, err := a.WriteTo(buf, b.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			copy(buf, "gone") // the network has its own copy
		}
		receive := func() int {
			for got := 0; ; got++ {
				b.SetReadDeadline(time.Now().Add(time.Second))
				buf := make([]byte, 10)
				k, from, err := b.ReadFrom(buf)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return got
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{"ping", a.LocalAddr().String()}, []string{string(buf[:k]), from.String()}); diff != "" {
					t.Fatalf("packet and sender (-want +got):\n%s", diff)
				}
			}
		}
		for range 2 * maxPackets {
			send()
		}
		if got := receive(); got != maxPackets {
			t.Errorf("%d packets waited, want the newest lost beyond %d", got, maxPackets)
		}
		n.SetQuality(Quality{Delay: time.Millisecond, Jitter: time.Millisecond, Drop: 0.25})
		for range 1000 {
			send()
		}
		if got := receive(); got < 700 || got > 800 {
			t.Errorf("%d of 1000 packets arrived, want about 750", got)
		}
		n.Cut(addrA, addrB)
		send()
		n.HealAll()
		if got := receive(); got != 0 {
			t.Errorf("a packet sent into a cut arrived after the heal")
		}
		b.Close()
		send()
		_, _, err := b.ReadFrom(nil)
		wantErr(t, "read from a closed socket", err, net.ErrClosed)
		a.Close()
	})
}
