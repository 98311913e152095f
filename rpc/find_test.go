package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

func TestFind(t *testing.T) {
	s := newFindServer()
	for i := range 300 {
		k := key(t, fmt.Sprint("node ", i))
		for j := range i % 4 { // a quarter is absent
			s.claims[k] = append(s.claims[k], node.Claim{Node: k.ID(), Generation: uint64(i), Age: time.Duration(j) * time.Second,
				Proxy: node.Proxy{ID: node.ProxyID(fmt.Sprint("p", (i+j)%7)), Addr: "a:1"}})
		}
	}
	for name, set := range map[string]func(){
		"the same view":       func() {},
		"another view":        func() { s.view = 9 },
		"dictionary is reset": func() { s.view, s.resets = 0, true },
	} {
		set()
		virtual(t, FinderConfig{}, s.serve, func(t *testing.T, f *Finder) {
			var wg sync.WaitGroup
			for i := range 300 {
				wg.Go(func() {
					k, view := key(t, fmt.Sprint("node ", i)), ring.Fingerprint(1+i%2)
					want := node.FindResult{Answer: node.Found, Claims: s.claims[k], View: view}
					if want.Claims == nil {
						want.Answer = node.Absent
					}
					if s.view != 0 {
						want.View, want.ListSum = s.view, k.Hash()
					}
					got, err := f.Find(t.Context(), k, view)
					check(t, name, got, want, err)
				})
			}
			wg.Wait()
			if !f.Healthy() || f.Latency() <= 0 {
				t.Errorf("%s: healthy %v with a latency of %v", name, f.Healthy(), f.Latency())
			}
		})
	}
}

// TestFindGathers holds the finder to few messages for many callers.
func TestFindGathers(t *testing.T) {
	s := newFindServer()
	virtual(t, FinderConfig{}, func(ctx context.Context, st node.FindStream) error {
		time.Sleep(time.Second) // until all callers wait
		return s.serve(ctx, st)
	}, func(t *testing.T, f *Finder) {
		var wg sync.WaitGroup
		for i := range 3000 {
			wg.Go(func() {
				if _, err := f.Find(t.Context(), key(t, fmt.Sprint(i)), 1); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(s.batches) > 8 {
			t.Errorf("3000 callers that waited took batches of %v, want full ones", s.batches)
		}
	})
}

func TestFindSilentTracker(t *testing.T) {
	s := newFindServer()
	var stuck atomic.Bool
	virtual(t, FinderConfig{}, func(ctx context.Context, st node.FindStream) error {
		if stuck.Load() {
			for { // it says nothing
				if _, err := st.Recv(); err != nil {
					return err
				}
			}
		}
		return s.serve(ctx, st)
	}, func(t *testing.T, f *Finder) {
		k := key(t, "n")
		find := func() (took time.Duration, err error) {
			begin := time.Now()
			_, err = f.Find(t.Context(), k, 1)
			return time.Since(begin), err
		}
		stuck.Store(true)
		if took, err := find(); !errors.Is(err, node.ErrUnavailable) || took != node.PingTimeout {
			t.Errorf("a call to a silent tracker: got %v after %v, want ErrUnavailable after %v", err, took, node.PingTimeout)
		}
		if f.Healthy() {
			t.Error("the finder is healthy while the tracker is silent")
		}
		for range 20 { // also while it tries again
			if took, err := find(); !errors.Is(err, node.ErrUnavailable) || took != 0 {
				t.Errorf("a call after that: got %v after %v, want ErrUnavailable at once", err, took)
			}
			time.Sleep(500 * time.Millisecond)
		}
		stuck.Store(false)
		time.Sleep(node.PingTimeout + maxReopen + node.PingInterval)
		if !f.Healthy() {
			t.Error("the finder does not notice by itself that the tracker is back")
		}
		if took, err := find(); err != nil || took != 0 {
			t.Errorf("a call to the tracker that is back: got %v after %v", err, took)
		}
	})
}

func TestFindUnansweredFrame(t *testing.T) {
	s := newFindServer()
	s.hold = true
	virtual(t, FinderConfig{}, s.serve, func(t *testing.T, f *Finder) {
		begin := time.Now()
		_, err := f.Find(t.Context(), key(t, "n"), 1)
		if took := time.Since(begin); !errors.Is(err, node.ErrUnavailable) || took > node.PingTimeout+2*node.PingInterval {
			t.Errorf("a tracker that pings and does not answer: got %v after %v, want ErrUnavailable", err, took)
		}
	})
}

func TestFindBrokenStream(t *testing.T) {
	s := newFindServer()
	synctest.Test(t, func(t *testing.T) {
		kill := make(chan error)
		f := NewFinder(piped(killed(s.serve, kill)), FinderConfig{})
		defer f.Close()
		k := key(t, "n")
		if _, err := f.Find(t.Context(), k, 1); err != nil {
			t.Fatal(err)
		}
		s.locked(func() { s.hold = true })
		const callers = 50
		errs := make(chan error, callers)
		for range callers {
			go func() { _, err := f.Find(t.Context(), k, 1); errs <- err }()
		}
		synctest.Wait()
		begin := time.Now()
		kill <- &node.OverloadError{What: "streams", After: time.Second}
		for range callers {
			err := <-errs
			if _, ok := errors.AsType[*node.OverloadError](err); !ok || !errors.Is(err, node.ErrUnavailable) {
				t.Fatalf("got %v, want ErrUnavailable for an OverloadError", err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("calls of a broken stream failed after %v, want at once", took)
		}
		s.locked(func() { s.hold = false })
		time.Sleep(minReopen) // the first attempt comes within that
		synctest.Wait()
		if _, err := f.Find(t.Context(), k, 1); err != nil {
			t.Errorf("after the stream was opened again: %v", err)
		}
	})
}

// TestFindReopensSlower holds the finder to at most one attempt a second at a
// tracker that is away, and to one that is not too late.
func TestFindReopensSlower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts int
		f := NewFinder(func(context.Context) (node.Stream[*node.FindReply, *node.FindRequest], error) {
			attempts++
			return nil, errors.New("connection refused")
		}, FinderConfig{})
		time.Sleep(time.Minute)
		if attempts != 0 {
			t.Errorf("an unused finder made %d attempts", attempts)
		}
		if _, err := f.Find(t.Context(), key(t, "n"), 1); !errors.Is(err, node.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		time.Sleep(time.Minute)
		f.Close()
		if attempts < 60 || attempts > 125 {
			t.Errorf("%d attempts in a minute, want 60 to 125", attempts)
		}
	})
}

func TestFindCallerLeaves(t *testing.T) {
	s := newFindServer()
	s.hold = true
	virtual(t, FinderConfig{Frames: 1}, s.serve, func(t *testing.T, f *Finder) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 20 { // one under way, the rest in the queue
			wg.Go(func() {
				if _, err := f.Find(ctx, key(t, fmt.Sprint(i)), ring.Fingerprint(i)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want DeadlineExceeded", err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		s.locked(func() { s.hold = false })
		time.Sleep(node.PingTimeout + maxReopen + node.PingInterval)
		if _, err := f.Find(t.Context(), key(t, "n"), 1); err != nil {
			t.Errorf("after callers left: %v", err)
		}
	})
}

func TestFindClose(t *testing.T) {
	s := newFindServer()
	s.hold = true
	virtual(t, FinderConfig{}, s.serve, func(t *testing.T, f *Finder) {
		errs := make(chan error)
		go func() { _, err := f.Find(t.Context(), key(t, "n"), 1); errs <- err }()
		synctest.Wait()
		go f.Close()
		if err := <-errs; !errors.Is(err, node.ErrClosed) {
			t.Errorf("a call under way: got %v, want ErrClosed", err)
		}
		if _, err := f.Find(t.Context(), key(t, "n"), 1); !errors.Is(err, node.ErrClosed) {
			t.Errorf("a call after Close: got %v, want ErrClosed", err)
		}
	})
}

// TestFindBadReplies has a tracker say what no tracker may.
func TestFindBadReplies(t *testing.T) {
	found := node.AppendAnswer(nil, node.Found, []node.Ref{{Proxy: 5}})
	absent := node.AppendAnswer(nil, node.Absent, nil)
	for name, reply := range map[string]node.FindReply{
		"a frame that was not sent": {Frame: 77, Answers: absent},
		"a proxy that was not told": {Frame: 1, View: 1, Answers: found},
		"no answer":                 {Frame: 1, View: 1},
		"an answer too many":        {Frame: 1, View: 1, Answers: append(absent, absent...)},
		"a cut answer":              {Frame: 1, View: 1, Answers: found[:1]},
		"no sum of another list":    {Frame: 1, View: 2, Answers: absent},
		"too many proxies":          {Proxies: make([]node.Proxy, maxProxies+1)},
		"a cut watched ID":          {Watched: node.IDs{9, 'x'}, Answers: absent},
	} {
		virtual(t, FinderConfig{}, func(ctx context.Context, st node.FindStream) error {
			for {
				r, err := st.Recv()
				if err != nil {
					return err
				}
				if r.Frame == 0 {
					continue
				}
				if err := st.Send(&reply); err != nil {
					return err
				}
			}
		}, func(t *testing.T, f *Finder) {
			_, err := f.Find(t.Context(), key(t, "n"), 1)
			if name != "an answer too many" && !errors.Is(err, node.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnavailable", name, err)
			}
			synctest.Wait()
			if f.Healthy() {
				t.Errorf("%s: the stream goes on", name)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	s := newFindServer()
	synctest.Test(t, func(t *testing.T) {
		kill := make(chan error)
		s.notify = make(chan node.Key)
		f := NewFinder(piped(killed(s.serve, kill)), FinderConfig{})
		defer f.Close()
		told := make(chan node.FindResult, 1)
		watch := func(ctx context.Context, k node.Key) {
			t.Helper()
			if err := f.Watch(ctx, k, func(r node.FindResult) { told <- r }); err != nil {
				t.Fatal(err)
			}
		}
		watched := func() (n int) {
			synctest.Wait()
			s.locked(func() { n = len(s.watched) })
			return n
		}
		a, b := key(t, "a"), key(t, "b")
		s.claims[a] = []node.Claim{{Node: "a", Proxy: someClaim.Proxy, Generation: 2}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		watch(ctx, a)
		watch(t.Context(), b)
		check(t, "watches", watched(), 2, nil)
		s.notify <- a
		check(t, "what is told", <-told, node.FindResult{Answer: node.Found, Claims: s.claims[a]}, nil)

		kill <- errors.New("killed")
		time.Sleep(maxReopen)
		check(t, "watches after the stream was opened again", watched(), 2, nil)
		check(t, "streams", s.opened.Load(), int32(2), nil)
		s.notify <- a
		check(t, "what is told then", (<-told).Answer, node.Found, nil)

		watch(t.Context(), a) // of another context
		cancel()
		check(t, "watches after the first one's context ended", watched(), 2, nil)
		f.Unwatch(a)
		check(t, "watches after Unwatch", watched(), 1, nil)
		f.Unwatch(a)

		for i := range node.MaxWatches - 1 {
			watch(t.Context(), key(t, fmt.Sprint(i)))
		}
		check(t, "all watches", watched(), node.MaxWatches, nil)
		err := f.Watch(t.Context(), key(t, "one more"), nil)
		if _, ok := errors.AsType[*node.OverloadError](err); !ok {
			t.Errorf("one watch too many: got %v, want an OverloadError", err)
		}
	})
}

// TestFindOverGRPC is the whole way, with callers that come and go.
func TestFindOverGRPC(t *testing.T) {
	s := newFindServer()
	k := key(t, "n")
	s.claims[k] = []node.Claim{{Node: "n", Proxy: someClaim.Proxy, Generation: 2, Age: time.Second}}
	server, addr := serve(t, &service{find: s.serve})
	c := dial(t, addr, Insecure())
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 200 {
				got, err := c.Find(t.Context(), k, 3)
				for errors.Is(err, node.ErrUnavailable) { // for so long a busy machine may keep the tracker from speaking
					time.Sleep(10 * time.Millisecond)
					got, err = c.Find(t.Context(), k, 3)
				}
				check(t, "Find", got, node.FindResult{Answer: node.Found, Claims: s.claims[k], View: 3}, err)
			}
		})
	}
	wg.Wait()
	server.Stop()
	eventually(t, "calls fail when the server is gone", func() bool {
		_, err := c.Find(t.Context(), k, 3)
		return errors.Is(err, node.ErrUnavailable)
	})
}
