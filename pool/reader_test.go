package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// reading runs a test in virtual time with a reader whose node "n" is held by
// first and second; other has not to do with it.
func reading(t *testing.T, test func(t *testing.T, w *world, c *Client, first, second, other *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 64)
		w.setView("a", "b", "c")
		c := w.open(t.Context(), "")
		defer c.Close()
		list := c.Placement().List(c.Placement().ShardOf("n"))
		w.mu.Lock()
		var other *fake
		for id, f := range w.trackers {
			if id != list[0] && id != list[1] {
				other = f
			}
		}
		first, second := w.trackers[list[0]], w.trackers[list[1]]
		w.mu.Unlock()
		test(t, w, c, first, second, other)
	})
}

// answers makes the tracker answer after a time.
func (f *fake) answers(after time.Duration, a node.Answer, proxies ...node.ProxyID) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.finds = 0
	f.answer = func(node.Key) (node.FindResult, error) {
		time.Sleep(after)
		f.w.mu.Lock()
		defer f.w.mu.Unlock()
		r := node.FindResult{Answer: a, View: f.w.present.Fingerprint()}
		for _, p := range proxies {
			r.Claims = append(r.Claims, node.Claim{Node: "n", Proxy: node.Proxy{ID: p}})
		}
		return r, nil
	}
}

func (f *fake) fails(after time.Duration) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.finds = 0
	f.answer = func(node.Key) (node.FindResult, error) {
		time.Sleep(after)
		return node.FindResult{}, node.ErrUnavailable
	}
}

func (f *fake) asked() int {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return f.finds
}

// looksUp looks "n" up and checks the answer and how long it took.
func looksUp(t *testing.T, c *Client, want node.Answer, most time.Duration, proxies ...node.ProxyID) {
	t.Helper()
	began := time.Now()
	got, claims, err := c.Lookup(t.Context(), "n")
	if got != want || err != nil {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if len(claims) != len(proxies) {
		t.Errorf("claims %+v, want of %v", claims, proxies)
	}
	for i := range min(len(claims), len(proxies)) {
		if claims[i].Proxy.ID != proxies[i] {
			t.Errorf("claims %+v, want of %v", claims, proxies)
		}
	}
	if d := time.Since(began); d > most {
		t.Errorf("took %v, want at most %v", d, most)
	}
}

const ms = time.Millisecond

func TestLookupAsksOneForAHit(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, other *fake) {
		first.answers(ms, node.Found, "p1")
		second.answers(ms, node.Found, "p1")
		looksUp(t, c, node.Found, ms, "p1")
		if first.asked() != 1 || second.asked() != 0 || other.asked() != 0 {
			t.Errorf("asked %d, %d, %d times", first.asked(), second.asked(), other.asked())
		}
	})
}

func TestLookupAsksAllForAMiss(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, other *fake) {
		first.answers(ms, node.Absent)
		second.answers(ms, node.Absent)
		looksUp(t, c, node.Absent, 2*ms)
		second.answers(ms, node.Found, "p1")
		looksUp(t, c, node.Found, 2*ms, "p1")
		second.answers(ms, node.Unknown, "p2")
		looksUp(t, c, node.Unknown, 3*ms, "p2")
		if other.asked() != 0 {
			t.Error("a stranger was asked")
		}
	})
}

func TestLookupGoesOnAtOnceOnAnError(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, _ *fake) {
		first.fails(ms)
		second.answers(ms, node.Found, "p1")
		looksUp(t, c, node.Found, 2*ms, "p1")
		second.answers(ms, node.Absent)
		looksUp(t, c, node.Unknown, 3*ms)
		second.fails(ms)
		if _, _, err := c.Lookup(t.Context(), "n"); !errors.Is(err, node.ErrUnavailable) {
			t.Errorf("nobody answers: %v", err)
		}
	})
}

func TestLookupHedges(t *testing.T) {
	reading(t, func(t *testing.T, w *world, c *Client, first, second, _ *fake) {
		c.hedge.budget.Store(2 * hedgeCost)
		w.mu.Lock()
		first.answer = nil // never, but for the end of the context
		w.mu.Unlock()
		second.answers(ms, node.Found, "p1")
		// It is asked after the 5 ms in which first usually answers, to the tick.
		for range 2 {
			looksUp(t, c, node.Found, 9*ms, "p1")
		}
		c.hedge.budget.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), 90*ms)
		defer cancel()
		began := time.Now()
		if _, _, err := c.Lookup(ctx, "n"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beyond the budget: %v", err)
		}
		if d := time.Since(began); d > 95*ms {
			t.Errorf("given up after %v, want 90 ms", d)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(50*ms, cancel)
		if _, _, err := c.Lookup(ctx, "n"); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}

		// A tracker that answers nothing at all needs no budget, and then is asked last.
		looksUp(t, c, node.Found, 104*ms, "p1")
		looksUp(t, c, node.Found, 2*ms, "p1")
	})
}

// Each lookup earns its share of a second ask, however it is made, up to a bound.
func TestLookupsEarnHedges(t *testing.T) {
	reading(t, func(t *testing.T, w *world, c *Client, first, second, other *fake) {
		for _, f := range []*fake{first, second, other} {
			f.answersByName(ms)
		}
		for range 10 {
			_, _, _ = c.Lookup(t.Context(), "f1")
		}
		check(t, namesOf("f", 10), many(t.Context(), t, c, namesOf("f", 10)))
		if got, want := c.hedge.budget.Load(), int64(20*c.cfg.HedgeBudget*hedgeCost); got != want {
			t.Errorf("20 lookups earned %d, want %d", got, want)
		}
		w.mu.Lock()
		first.answer = nil // never
		w.mu.Unlock()
		second.answers(ms, node.Found, "p1")
		looksUp(t, c, node.Found, 9*ms, "p1")
		ids := namesOf("f", 2*maxBudget/hedgeCost*20)
		first.answersByName(ms)
		second.answersByName(ms)
		check(t, ids, many(t.Context(), t, c, ids))
		if got := c.hedge.budget.Load(); got != maxBudget {
			t.Errorf("the budget is %d, want at most %d", got, maxBudget)
		}
	})
}

func TestInvalidateAsksAll(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, _ *fake) {
		c.cache = newCache(100)
		first.answers(ms, node.Found, "p1")
		second.answers(ms, node.Found, "p2")
		looksUp(t, c, node.Found, ms, "p1")
		looksUp(t, c, node.Found, 0, "p1") // kept
		c.Invalidate("n")
		looksUp(t, c, node.Found, ms, "p1", "p2")
		looksUp(t, c, node.Found, 0, "p1", "p2")
		if first.asked() != 2 || second.asked() != 1 {
			t.Errorf("asked %d and %d times", first.asked(), second.asked())
		}
	})
}

func TestLookupCaches(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, _ *fake) {
		c.cache = newCache(100)
		for _, tt := range []struct {
			answer node.Answer
			keep   time.Duration
		}{{node.Found, time.Second}, {node.Absent, 200 * ms}, {node.Unknown, 0}} {
			h, k := key(t, "n")
			c.cache.forget(h, k)
			first.answers(ms, tt.answer)
			second.answers(ms, tt.answer)
			looksUp(t, c, tt.answer, 3*ms)
			time.Sleep(max(0, tt.keep-5*ms))
			before := first.asked()
			looksUp(t, c, tt.answer, 3*ms)
			if kept := first.asked() == before; kept != (tt.keep > 0) {
				t.Errorf("%v: kept %v", tt.answer, kept)
			}
			time.Sleep(10 * ms)
			before = first.asked()
			looksUp(t, c, tt.answer, 3*ms)
			if first.asked() == before {
				t.Errorf("%v: kept beyond its time", tt.answer)
			}
		}
	})
}

// An answer is as old as its question: what comes late is kept for as much less, and
// does for those alone who asked soon after.
func TestLateAnswersAreNotKeptForLonger(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, _ *fake) {
		c.cache = newCache(100)
		first.answers(800*ms, node.Found, "p1")
		second.fails(ms) // should the first be taken for lost
		looksUp(t, c, node.Found, 800*ms, "p1")
		time.Sleep(190 * ms)
		looksUp(t, c, node.Found, 0, "p1")
		before := first.asked()
		time.Sleep(20 * ms)
		looksUp(t, c, node.Found, 800*ms, "p1")
		if first.asked() == before {
			t.Error("an answer to a question of more than a second ago is kept")
		}

		time.Sleep(2 * time.Second)
		first.answers(500*ms, node.Absent)
		second.answers(ms, node.Absent)
		var shared sync.WaitGroup
		for _, after := range []time.Duration{0, 190 * ms, 210 * ms} {
			shared.Go(func() {
				time.Sleep(after)
				looksUp(t, c, node.Absent, time.Second)
			})
		}
		shared.Wait()
		if n := first.asked(); n != 2 {
			t.Errorf("asked %d times, want 2: who asks 210 ms after another must not be told ABSENT by its answer", n)
		}
	})
}

// TestStaleViewCostsOneRoundTrip has the trackers answer by a view that the reader
// has not taken yet.
func TestStaleViewCostsOneRoundTrip(t *testing.T) {
	reading(t, func(t *testing.T, w *world, c *Client, first, second, other *fake) {
		for _, f := range []*fake{first, second, other} {
			f.answers(ms, node.Absent)
		}
		var rest []ring.MemberID
		for _, id := range []ring.MemberID{"a", "b", "c", "d"} {
			if id != first.id {
				rest = append(rest, id)
			}
		}
		w.setView(rest...)
		w.mu.Lock()
		d := w.trackers["d"]
		w.mu.Unlock()
		d.answers(ms, node.Absent)
		looksUp(t, c, node.Absent, viewWait+10*ms)
		if c.View().Len() != 3 {
			t.Error("the view was not taken")
		}

		// While UNKNOWN, the former holder is asked for FOUND too, with the others.
		for _, f := range []*fake{second, other, d} {
			f.answers(ms, node.Unknown)
		}
		first.answers(ms, node.Found, "p1")
		looksUp(t, c, node.Found, 2*ms, "p1")
		time.Sleep(w.term.Forgotten() + 2*time.Second)
		looksUp(t, c, node.Unknown, 10*ms)
	})
}

func TestClosedClientFails(t *testing.T) {
	reading(t, func(t *testing.T, w *world, c *Client, first, second, _ *fake) {
		w.mu.Lock()
		first.answer, second.answer = nil, nil
		w.mu.Unlock()
		failed := make(chan error, 1)
		go func() {
			_, _, err := c.Lookup(t.Context(), "n")
			failed <- err
		}()
		time.Sleep(ms)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err == nil {
			t.Error("a lookup under way found something")
		}
		if _, _, err := c.Lookup(t.Context(), "n"); !errors.Is(err, node.ErrClosed) {
			t.Errorf("lookup: %v", err)
		}
		if err := c.Err(); !errors.Is(err, node.ErrClosed) {
			t.Errorf("err: %v", err)
		}
		if _, err := c.Watch(t.Context(), "n"); !errors.Is(err, node.ErrClosed) {
			t.Errorf("watch: %v", err)
		}
	})
}
