package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// begin opens a session and returns what comes of its Hello.
func (c *cluster) begin(ctx context.Context, at ring.MemberID, proxy string, number uint64) (*TrackerFrame, error) {
	stream, err := openPipe(ctx, c.wire(proxy, string(at)), c.host(at), func(ctx context.Context, t *Tracker, s SessionStream) error { return t.Session(ctx, s) })
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&ProxyFrame{Hello: &Hello{Proxy: testProxy(proxy), Incarnation: incarnationOf(number, 1), HasClaims: true}}); err != nil {
		return nil, err
	}
	return stream.Recv()
}

// A life that has a session or a lease is taken over or superseded only by a process
// that proves to be the same as it; one that has neither by any that may be it.
func TestOnlyItselfSupersedesALife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		hello := func(by string, number uint64) (*Welcome, *End, error) {
			s, w, end, err := c.at("t-0").admit(&Hello{Proxy: testProxy("p"), Incarnation: incarnationOf(number, 1), HasClaims: true, By: by})
			if s != nil {
				c.at("t-0").dismiss(s) // without a lease
			}
			return w, end, err
		}
		s := c.hello("t-0", "p", 1, 1) // by ""
		s.add("a")
		s.renew()
		s.stored()
		for _, number := range []uint64{1, 2} {
			if _, _, err := hello("b", number); err == nil {
				t.Fatalf("incarnation %d of another process took over from a session", number)
			} else if _, ok := errors.AsType[*DeniedError](err); !ok {
				t.Fatalf("incarnation %d: %v, want a DeniedError", number, err)
			}
		}
		s.close()
		synctest.Wait()
		if _, _, err := hello("b", 2); err == nil {
			t.Error("another process took over from a lease")
		}
		if r := c.look("t-0", "a"); r.Answer != Found {
			t.Errorf("meanwhile the claim is %v", r.Answer)
		}
		time.Sleep(poolTerm)
		if _, end, err := hello("b", 2); err != nil || end != nil {
			t.Errorf("after the lease: %v, %v", end, err)
		}
		if _, end, err := hello("c", 3); err != nil || end != nil {
			t.Errorf("without a lease or a session: %v, %v", end, err)
		}
	})
}

// comes begins a session, and comes back when it is told to, until it is welcomed.
func (c *cluster) comes(ctx context.Context, proxy string) (refusals int, err error) {
	for {
		f, err := c.begin(ctx, "t-0", proxy, 1)
		var overload *OverloadError
		switch {
		case err == nil && f.Welcome != nil && f.End == nil:
			return refusals, nil
		case !errors.As(err, &overload):
			return refusals, fmt.Errorf("%+v, %w", f, err)
		case overload.After <= 0 || overload.After > poolTerm/3:
			return refusals, fmt.Errorf("come back after %v", overload.After)
		}
		refusals++
		time.Sleep(overload.After + rand.N(overload.After))
	}
}

// asks looks a node up over a Find stream until ctx ends, and returns how often it was
// found and the longest that an answer took.
func (c *cluster) asks(ctx context.Context, id ID) (found int, longest time.Duration, err error) {
	stream, err := openPipe(ctx, c.wire("reader", "t-0"), c.host("t-0"), func(ctx context.Context, t *Tracker, s FindStream) error { return t.Find(ctx, s) })
	if err != nil {
		return 0, 0, err
	}
	for frame := uint64(1); ; frame++ {
		began := time.Now()
		if err := stream.Send(&FindRequest{Frame: frame, IDs: AppendID(nil, mustKey(c.t, string(id)))}); err != nil {
			return found, longest, nil
		}
		for answered := false; !answered; {
			r, err := stream.Recv()
			switch {
			case ctx.Err() != nil:
				return found, longest, nil
			case err != nil:
				return found, longest, err
			case r.Frame == frame:
				if r.Answers[0]&3 != byte(Found) {
					return found, longest, fmt.Errorf("lookup %d: % x", frame, r.Answers)
				}
				answered = true
			}
		}
		found++
		longest = max(longest, time.Since(began))
		time.Sleep(time.Millisecond)
	}
}

// A thousand proxies come at once while a tracker is busy with others: each is told to
// come back, and all are in within seconds after that; a proxy whose lease is here is
// not sent away, and lookups are answered all the time.
func TestFlood(t *testing.T) {
	const proxies, busy = 1000, 2 * time.Second
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, "t-0")
		c.awaitOpen(time.Second, "t-0")
		known := c.hello("t-0", "known", 1, 1)
		known.add("a")
		known.renew()
		known.stored()

		x := c.at("t-0")
		for range DefaultHandshakes {
			x.handshakes <- struct{}{}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		var refused, in atomic.Int64
		var coming, asking sync.WaitGroup
		for i := range proxies {
			coming.Go(func() {
				n, err := c.comes(ctx, fmt.Sprintf("p-%d", i))
				if err != nil {
					t.Errorf("p-%d: %v", i, err)
				}
				refused.Add(int64(n))
				in.Add(1)
			})
		}
		asking.Go(func() {
			found, longest, err := c.asks(ctx, "a")
			if err != nil || found < 1000 || longest > 10*time.Millisecond {
				t.Errorf("%d lookups, the longest took %v: %v", found, longest, err)
			}
		})
		var waited time.Duration
		coming.Go(func() {
			f, err := c.begin(ctx, "t-0", "known", 1)
			if err != nil || f.Welcome == nil || f.End != nil {
				t.Errorf("a proxy with a lease: %+v, %v", f, err)
			}
			waited = time.Since(began)
		})
		time.Sleep(busy)
		if n := in.Load(); n > 0 {
			t.Errorf("%d proxies are in, and there is no room", n)
		}
		for range DefaultHandshakes {
			<-x.handshakes
		}
		coming.Wait()
		took := time.Since(began) - busy
		if n := refused.Load(); n < proxies || uint64(n) != x.Stats().Refused {
			t.Errorf("%d refusals, the tracker counted %d", n, x.Stats().Refused)
		}
		if took > 2*poolTerm/3 {
			t.Errorf("the last one was in after %v", took)
		}
		if waited != busy {
			t.Errorf("the known proxy was in after %v, want %v", waited, busy)
		}
		cancel()
		asking.Wait()
	})
}

// Sessions and Find streams are bounded; whose session or lease is here finds room.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := seatedCluster(t, 1, "t-0")
		c.config.NewPool, c.config.MaxSessions, c.config.MaxFinds = true, 2, 2
		c.start("t-0")
		c.show("t-0")
		c.awaitOpen(time.Second, "t-0")
		overloaded := func(what string, err error) {
			t.Helper()
			var overload *OverloadError
			if !errors.As(err, &overload) || overload.After != poolTerm/3 {
				t.Errorf("%s: %v", what, err)
			}
		}
		first := c.hello("t-0", "p-1", 1, 1)
		c.hello("t-0", "p-2", 1, 1)
		f, err := c.begin(t.Context(), "t-0", "p-3", 1)
		overloaded(fmt.Sprintf("a third session: %+v", f), err)
		c.hello("t-0", "p-1", 1, 1)
		first.over(EndReplaced)

		for i := range 3 {
			stream, err := openPipe(t.Context(), c.wire("reader", "t-0"), c.host("t-0"), func(ctx context.Context, t *Tracker, s FindStream) error { return t.Find(ctx, s) })
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if i == 2 {
				_, err = stream.Recv()
				overloaded("a third Find stream", err)
			}
		}
		if n := c.at("t-0").Stats().Refused; n != 2 {
			t.Errorf("%d were refused, want 2", n)
		}
	})
}

// So many streams that say nothing are no way round the bound.
func TestSilentStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := seatedCluster(t, 1, "t-0")
		c.config.NewPool, c.config.MaxSessions = true, 2
		c.start("t-0")
		c.show("t-0")
		for i := range 3 {
			s := c.openSession("t-0", fmt.Sprintf("p-%d", i))
			synctest.Wait()
			select {
			case <-s.ended:
				if i < 2 {
					t.Errorf("stream %d: %v", i, s.err)
				}
			default:
				if i == 2 {
					t.Error("the third stream is open")
				}
			}
		}
	})
}

func TestBoundsBelowZero(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"handshakes":   func(c *Config) { c.Handshakes = -1 },
		"max_sessions": func(c *Config) { c.MaxSessions = -1 },
		"max_finds":    func(c *Config) { c.MaxFinds = -1 },
	} {
		c := Config{Pool: Pool{Name: "test", Seats: [][]ring.MemberID{{"t-0"}}}, Now: time.Now}
		change(&c)
		var invalid *InvalidError
		if err := c.Validate(); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
