package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

const (
	minReopen = 50 * time.Millisecond
	maxReopen = time.Second
)

var (
	// errSilent is why a stream is given up that says nothing.
	errSilent = fmt.Errorf("silent for %v", node.PingTimeout)
	// errStuck is why one is given up that says something else.
	errStuck = fmt.Errorf("a batch of lookups was not answered within %v", node.PingTimeout)
	// errEnded is why one is given up that the tracker ended without an error.
	errEnded = errors.New("the tracker ended it")
)

// A FinderConfig bounds a Finder. The zero value is fit for use.
type FinderConfig struct {
	// Frames is how many batches are under way at a time. Default 4: while the
	// tracker is busy with them, more asks gather for the next. More frames make
	// smaller batches.
	Frames int
}

// A Finder looks nodes up at one tracker, over one stream, for many callers at a
// time: those that wait together share a message. It is safe for concurrent use.
//
// It opens its stream when it is first used. When the stream breaks, or the
// tracker is silent for node.PingTimeout, all asks that wait fail at once, and so
// do others until there is a new stream, which the finder goes on to try for by
// itself.
type Finder struct {
	open   func(context.Context) (node.Stream[*node.FindReply, *node.FindRequest], error)
	frames int
	bell   chan struct{} // of size 1: the queue is worth a look
	spare  sync.Pool     // of *caller

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  chan struct{} // closed when run has returned

	healthy atomic.Bool
	latency latency
	sent    [2]atomic.Uint64 // frames and asks

	watches watches

	mu       sync.Mutex // guards the rest
	queue    queue      // asks that are not sent
	rung     bool       // the bell, and nobody has found the queue idle since
	closed   bool
	busy     int // frames under way
	underWay int // asks in them
}

// NewFinder returns a finder on the streams that open opens; open's context ends
// the stream. The caller closes the finder.
func NewFinder(open func(context.Context) (node.Stream[*node.FindReply, *node.FindRequest], error), cfg FinderConfig) *Finder {
	f := &Finder{
		open:   open,
		frames: cmp.Or(max(cfg.Frames, 0), 4),
		bell:   make(chan struct{}, 1),
		ended:  make(chan struct{}),
	}
	f.queue.init()
	f.spare.New = newCaller
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.healthy.Store(true)
	f.watches.init()
	go f.run()
	return f
}

// Close ends the finder's stream and all calls, which fail with ErrClosed, and
// waits for its goroutines.
func (f *Finder) Close() {
	f.cancel()
	<-f.ended
}

// Healthy reports whether the finder's calls have a chance: the tracker has said
// something since the stream last failed, or it never did.
func (f *Finder) Healthy() bool { return f.healthy.Load() }

// Latency returns how long the tracker takes to answer, which it rarely exceeds:
// the mean of late and twice the mean deviation from it. It is 0 before the first
// answer.
func (f *Finder) Latency() time.Duration { return f.latency.estimate() }

// Sent returns how many messages with lookups were sent, and how many lookups were
// in them.
func (f *Finder) Sent() (frames, lookups uint64) { return f.sent[0].Load(), f.sent[1].Load() }

// run opens one stream after another. It owns all other goroutines.
func (f *Finder) run() {
	defer close(f.ended)
	defer f.end()
	delay := minReopen
	var down error // why asks are refused
	var stuck bool // the tracker opens streams and answers nothing
	for {
		if down == nil { // open when it is wanted
			select {
			case <-f.bell:
			case <-f.watches.changed:
			case <-f.ctx.Done():
			}
		}
		if f.ctx.Err() != nil {
			return
		}
		heard, err := f.serve(down, stuck)
		if f.ctx.Err() != nil {
			return
		}
		f.healthy.Store(false)
		if heard {
			delay = minReopen
		}
		down, stuck = unavailable(err), errors.Is(err, errSilent) || errors.Is(err, errStuck)
		wait := delay/2 + rand.N(delay/2)
		if overload, ok := errors.AsType[*node.OverloadError](err); ok && !heard && overload.After > 0 { // it was refused
			wait = overload.After + rand.N(overload.After) // so that those refused together do not come together
		}
		f.refuse(wait, down)
		delay = min(2*delay, maxReopen)
	}
}

// refuse fails the asks that are there with err, and those that come until the time
// is up.
func (f *Finder) refuse(wait time.Duration, err error) {
	up := time.NewTimer(wait)
	defer up.Stop()
	for {
		f.failQueue(err)
		select {
		case <-f.bell:
		case <-up.C:
			return
		case <-f.ctx.Done():
			return
		}
	}
}

// unavailable makes what ended a stream the error of its calls. The cause is not
// wrapped, unless its caller can use it: it may be some other context's end.
func unavailable(cause error) error {
	if overload, ok := errors.AsType[*node.OverloadError](cause); ok {
		return fmt.Errorf("%w: stream of lookups: %w", node.ErrUnavailable, overload)
	}
	if errors.Is(cause, node.ErrClosed) {
		return fmt.Errorf("%w: stream of lookups: %w", node.ErrUnavailable, node.ErrClosed)
	}
	return fmt.Errorf("%w: stream of lookups: %v", node.ErrUnavailable, cause)
}

// latency is an estimate from the answers of late. One goroutine at a time
// observes; any may ask.
type latency struct {
	mean, deviation time.Duration
	published       atomic.Int64
}

// observe weighs as TCP does for its timeout: the mean by an eighth, the deviation
// by a quarter.
func (l *latency) observe(d time.Duration) {
	if l.mean == 0 {
		l.mean, l.deviation = d, d/2
	}
	off := d - l.mean
	l.mean += off / 8
	l.deviation += (off.Abs() - l.deviation) / 4
	l.published.Store(int64(max(1, l.mean+2*l.deviation)))
}

func (l *latency) estimate() time.Duration { return time.Duration(l.published.Load()) }
