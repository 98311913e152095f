package rpc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// A finder that is told when to come back does not come before, nor later than twice
// that; meanwhile its calls fail at once, and it is not healthy.
func TestFindRefused(t *testing.T) {
	const after = 3 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time
		f := NewFinder(func(context.Context) (node.Stream[*node.FindReply, *node.FindRequest], error) {
			attempts = append(attempts, time.Now())
			return nil, &node.OverloadError{What: "streams", After: after}
		}, FinderConfig{})
		defer f.Close()
		for end := time.Now().Add(10 * after); time.Now().Before(end); time.Sleep(after / 10) {
			began := time.Now()
			_, err := f.Find(t.Context(), key(t, "n"), 1)
			if _, ok := errors.AsType[*node.OverloadError](err); !ok || time.Since(began) != 0 {
				t.Fatalf("%v after %v", err, time.Since(began))
			}
			synctest.Wait()
			if f.Healthy() {
				t.Fatal("healthy")
			}
		}
		f.Close() // and its goroutine with it
		if n := len(attempts); n < 5 {
			t.Errorf("%d attempts", n)
		}
		for i := range attempts[1:] {
			if d := attempts[i+1].Sub(attempts[i]); d < after || d >= 2*after {
				t.Errorf("attempt %d came after %v", i+2, d)
			}
		}
	})
}
