package loadtest

import (
	"context"
	"sync/atomic"
	"time"
)

// callTime is after how long a call is cut off: at least that, at most twice.
const callTime = 10 * time.Second

// A deadline hands out contexts for calls that many calls share, so that a call
// does not cost one. It is safe for concurrent use.
type deadline struct {
	now    atomic.Pointer[context.Context]
	ctx    context.Context // of all that are handed out
	cancel context.CancelFunc
	done   chan struct{}
}

// newDeadline returns a deadline that lasts until ctx ends or stop is called.
func newDeadline(ctx context.Context) *deadline {
	ctx, cancel := context.WithCancel(ctx)
	d := &deadline{ctx: ctx, cancel: cancel, done: make(chan struct{})}
	next := func() context.CancelFunc {
		c, cancel := context.WithTimeout(ctx, 2*callTime)
		d.now.Store(&c)
		return cancel
	}
	older, newer := context.CancelFunc(func() {}), next()
	go func() {
		defer close(d.done)
		defer func() { older(); newer() }()
		tick := time.NewTicker(callTime)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				older() // its time is up by itself
				older, newer = newer, next()
			case <-ctx.Done():
				return
			}
		}
	}()
	return d
}

func (d *deadline) context() context.Context { return *d.now.Load() }

// over reports whether calls fail because the run has ended.
func (d *deadline) over() bool { return d.ctx.Err() != nil }

// stop ends all contexts that were handed out.
func (d *deadline) stop() {
	d.cancel()
	<-d.done
}
