package node

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

var errCut = errors.New("the wire is cut")

// A wire is what lies between two processes. The zero wire passes everything at once.
type wire struct {
	mu    sync.Mutex // guards all below
	delay time.Duration
	held  chan struct{} // closed when a held wire passes again; nil: it is not held
	cut   chan struct{} // closed when the wire is cut; nil: it was not used since
	off   bool
}

// Cut breaks all that goes over the wire, until Heal.
func (w *wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = true
	if w.cut != nil {
		close(w.cut)
		w.cut = nil
	}
}

// Heal has the wire pass everything again.
func (w *wire) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = false
	if w.held != nil {
		close(w.held)
		w.held = nil
	}
}

// Hold keeps all messages back, until Heal. Nobody is told.
func (w *wire) Hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		w.held = make(chan struct{})
	}
}

// Slow delays each message from now on.
func (w *wire) Slow(by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = by
}

// open returns a context for what is to go over the wire.
func (w *wire) open(ctx context.Context) (context.Context, context.CancelCauseFunc, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off {
		return nil, nil, errCut
	}
	if w.cut == nil {
		w.cut = make(chan struct{})
	}
	cut := w.cut
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-cut:
			cancel(errCut)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel, nil
}

// pass waits until a message that was sent at a time arrives.
func (w *wire) pass(ctx context.Context, sent time.Time) error {
	for {
		w.mu.Lock()
		held, left := w.held, w.delay-time.Since(sent)
		w.mu.Unlock()
		switch {
		case held != nil:
			select {
			case <-held:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case left > 0:
			select {
			case <-time.After(left):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		default:
			return nil
		}
	}
}

// pipeRoom is how many messages a stream takes that nobody has received.
const pipeRoom = 64

type posted[T any] struct {
	message T
	sent    time.Time
}

// A pipe is one end of a stream over a wire.
type pipe[In, Out any] struct {
	ctx  context.Context
	wire *wire
	in   <-chan posted[In]
	out  chan<- posted[Out]
	over *returned // of the client's end
}

// returned is how the handler that serves a stream ended.
type returned struct {
	done chan struct{} // closed when it has
	err  error         // then
}

// Recv at the client returns what the handler sent before it returned.
func (p *pipe[In, Out]) Recv() (In, error) {
	var none In
	var done chan struct{}
	if p.over != nil {
		done = p.over.done
	}
	for {
		select {
		case <-p.ctx.Done():
			return none, context.Cause(p.ctx)
		default:
		}
		select {
		case m := <-p.in:
			return m.message, p.wire.pass(p.ctx, m.sent)
		default:
		}
		select {
		case m := <-p.in:
			return m.message, p.wire.pass(p.ctx, m.sent)
		case <-p.ctx.Done():
		case <-done:
			if len(p.in) == 0 {
				return none, p.over.err
			}
		}
	}
}

func (p *pipe[In, Out]) Send(m Out) error {
	var done chan struct{}
	if p.over != nil {
		done = p.over.done
	}
	select {
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	case <-done:
		return io.EOF
	default:
	}
	select {
	case p.out <- posted[Out]{m, time.Now()}:
		return nil
	case <-done:
		return io.EOF
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// openPipe has a host serve a stream that a client opens over a wire, until the
// client's context ends, the wire is cut or the host crashes.
func openPipe[In, Out any](ctx context.Context, w *wire, h *host, serve func(context.Context, *Tracker, Stream[Out, In]) error) (Stream[In, Out], error) {
	ctx, cancel, err := w.open(ctx)
	if err != nil {
		return nil, err
	}
	if h == nil || !h.enter() {
		cancel(nil)
		return nil, ErrUnavailable
	}
	up, down := make(chan posted[Out], pipeRoom), make(chan posted[In], pipeRoom)
	client := &pipe[In, Out]{ctx: ctx, wire: w, in: down, out: up, over: &returned{done: make(chan struct{})}}
	sctx, scancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(h.ctx, func() { cancel(ErrUnavailable) })
	go func() {
		defer h.leave()
		err := serve(sctx, h.tracker, &pipe[Out, In]{ctx: sctx, wire: w, in: up, out: down})
		if client.over.err = err; err == nil {
			client.over.err = io.EOF
		}
		scancel(io.EOF)
		stop()
		close(client.over.done)
		// The client may go on to receive what is there; its context ends the rest.
	}()
	return client, nil
}

// callOver makes one call over a wire.
func callOver[T any](ctx context.Context, w *wire, h *host, call func(context.Context, *Tracker) (T, error)) (T, error) {
	var none T
	ctx, cancel, err := w.open(ctx)
	if err != nil {
		return none, err
	}
	defer cancel(nil)
	if h == nil || !h.enter() {
		return none, ErrUnavailable
	}
	defer h.leave()
	stop := context.AfterFunc(h.ctx, func() { cancel(ErrUnavailable) })
	defer stop()
	if err := w.pass(ctx, time.Now()); err != nil {
		return none, err
	}
	answer, err := call(ctx, h.tracker)
	if cause := context.Cause(ctx); cause != nil {
		return none, cause
	}
	return answer, errors.Join(err, w.pass(ctx, time.Now()))
}

// eventually waits in a bubble until what is missing is nothing, for a time.
func eventually(t *testing.T, within time.Duration, missing func() string) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		what := missing()
		if what == "" {
			return
		}
		if !time.Now().Before(end) {
			t.Fatalf("after %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// throughout checks in a bubble that nothing is wrong, for a time.
func throughout(t *testing.T, last time.Duration, wrong func() string) {
	t.Helper()
	for end := time.Now().Add(last); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if what := wrong(); what != "" {
			t.Fatalf("%v before the end of %v: %s", time.Until(end), last, what)
		}
	}
}
