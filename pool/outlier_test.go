package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// A tracker is put behind after some errors in a row, for a time that doubles each time
// it fails again; an answer ends that.
func TestOutlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outlier
		for range 3 {
			for range outlierErrors - 1 {
				o.failed(time.Now())
			}
			o.answered()
		}
		if o.is(time.Now) {
			t.Error("an outlier, and it answers now and then")
		}
		for range outlierErrors {
			o.failed(time.Now())
		}
		most := minOutlierTime
		for range 8 {
			began := time.Now()
			for range 1000 { // those that were on their way
				o.failed(time.Now())
			}
			for o.is(time.Now) {
				time.Sleep(time.Millisecond)
			}
			if d := time.Since(began); d < most/2 || d > most+time.Millisecond {
				t.Errorf("put behind for %v, want %v to %v", d, most/2, most)
			}
			o.failed(time.Now()) // it is tried again, and once is enough
			most = min(2*most, maxOutlierTime)
		}
		if most != maxOutlierTime || !o.is(time.Now) {
			t.Errorf("at most %v, want %v", most, maxOutlierTime)
		}
		o.answered()
		if o.is(time.Now) {
			t.Error("an outlier that has answered")
		}
		o.failed(time.Now())
		if o.is(time.Now) {
			t.Error("an outlier for one error, long after the others")
		}
	})
}

// Lookups go to the second holder first while the first answers with errors, and come
// back to it later.
func TestLookupAsksAnOutlierLast(t *testing.T) {
	reading(t, func(t *testing.T, _ *world, c *Client, first, second, _ *fake) {
		c.cache = nil
		first.fails(ms)
		second.answers(ms, node.Found, "p1")
		for range outlierErrors {
			looksUp(t, c, node.Found, 2*ms, "p1")
		}
		if n := first.asked(); n != outlierErrors {
			t.Fatalf("the first holder was asked %d times, want %d", n, outlierErrors)
		}
		for range 100 {
			looksUp(t, c, node.Found, ms, "p1")
		}
		if n := first.asked(); n != outlierErrors {
			t.Errorf("an outlier was asked %d times, want %d", n, outlierErrors)
		}
		time.Sleep(minOutlierTime)
		looksUp(t, c, node.Found, 2*ms, "p1")
		looksUp(t, c, node.Found, ms, "p1")
		if n := first.asked(); n != outlierErrors+1 {
			t.Errorf("after a time it was asked %d times, want once more", n-outlierErrors)
		}
		first.answers(ms, node.Found, "p1")
		time.Sleep(2 * minOutlierTime)
		second.answers(ms, node.Found, "p1")
		for range 10 {
			looksUp(t, c, node.Found, ms, "p1")
		}
		if first.asked() != 10 || second.asked() != 0 {
			t.Errorf("after it mended they were asked %d and %d times, want 10 and 0", first.asked(), second.asked())
		}
	})
}

// What a caller does is no tracker's fault.
func TestCallersMakeNoOutlier(t *testing.T) {
	reading(t, func(t *testing.T, w *world, c *Client, first, second, _ *fake) {
		c.cache = nil
		second.answers(ms, node.Found, "p1")
		w.mu.Lock()
		first.answer = nil // never
		w.mu.Unlock()
		l := c.view.Load().links[first.id]
		for range 2 * outlierErrors {
			ctx, cancel := context.WithTimeout(t.Context(), ms)
			if _, _, err := c.Lookup(ctx, "n"); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			cancel()
		}
		w.mu.Lock()
		first.answer = func(node.Key) (node.FindResult, error) {
			return node.FindResult{}, &node.InvalidError{Field: "node_id"}
		}
		w.mu.Unlock()
		for range 2 * outlierErrors {
			looksUp(t, c, node.Found, 2*ms, "p1")
		}
		if l.outlier.is(time.Now) {
			t.Error("the tracker is an outlier")
		}
	})
}

// Who is told when to come back does not come before, nor together with the others.
func TestBackoffObeysOverload(t *testing.T) {
	const most = 5 * time.Second
	for _, tt := range []struct{ after, least, below time.Duration }{
		{time.Second, time.Second, 2 * time.Second},
		{2500 * ms, 2500 * ms, most},
		{time.Hour, most / 2, most},
		{0, 0, maxBackoff},
	} {
		b := backoff{most: most}
		seen := map[time.Duration]bool{}
		low, high := most, time.Duration(0)
		for range 1000 {
			d := b.next(&node.OverloadError{After: tt.after})
			if d < tt.least || d >= tt.below {
				t.Fatalf("after %v: waits %v, want %v to %v", tt.after, d, tt.least, tt.below)
			}
			seen[d] = true
			low, high = min(low, d), max(high, d)
		}
		if len(seen) < 990 || high-low < (tt.below-tt.least)*9/10 {
			t.Errorf("after %v: all wait %v to %v, %d different times", tt.after, low, high, len(seen))
		}
	}
}
