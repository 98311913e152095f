package rpc

import (
	"context"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// An Ask is a lookup of one node at one tracker that its asker does not wait for in
// a goroutine of its own. From Finder.Ask to Done it is the finder's.
type Ask struct {
	Key  node.Key
	ID   node.ID // the text of Key, if it is at hand; else the answer makes it
	View ring.Fingerprint

	// Done is called once, when Result or Err is there, by the goroutine that all
	// asks wait for: it must not wait.
	Done func()

	Result node.FindResult
	// Err wraps ErrUnavailable where the tracker cannot be reached: go to another
	// holder.
	Err error

	next, prev *Ask // in the queue; nil outside
}

// Ask has lookups sent with the next message; their keys are not zero. It does not
// wait, and calls no Done itself. After Close it returns ErrClosed, and has not taken them. Askers bound how
// many asks they have at a time.
func (f *Finder) Ask(asks ...*Ask) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return node.ErrClosed
	}
	for _, a := range asks {
		f.queue.push(a)
	}
	ring := f.ringLocked()
	f.mu.Unlock()
	if ring {
		f.ring()
	}
	return nil
}

// Withdraw takes back an ask that is not sent yet, and reports whether it was one:
// then its Done is not called.
func (f *Finder) Withdraw(a *Ask) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.next == nil {
		return false
	}
	f.queue.remove(a)
	return true
}

// ringLocked reports whether the bell is to be rung: there is something to send, and
// nobody knows.
func (f *Finder) ringLocked() bool {
	if f.rung || !f.sendableLocked() {
		return false
	}
	f.rung = true
	return true
}

func (f *Finder) ring() {
	select {
	case f.bell <- struct{}{}:
	default:
	}
}

const (
	// fewAsks are so few under way that others do not wait for them.
	fewAsks = 16
	// manyAsks are so many that to wait for more saves little, and costs more: while
	// the tracker answers them, the next gather.
	manyAsks = 96
)

// sendableLocked reports whether a frame is to be sent. While many asks are under
// way, fewer wait for them: their askers are about to ask again, and what is
// gathered goes for a fraction of the cost.
func (f *Finder) sendableLocked() bool {
	n := f.queue.n
	return n > 0 && f.busy < f.frames && (f.underWay < fewAsks || n > f.underWay || n >= manyAsks)
}

// sendable is sendableLocked. Where it is false, the bell is rung when that changes.
func (f *Finder) sendable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rung = f.sendableLocked()
	return f.rung
}

// failQueue fails the asks that are not sent.
func (f *Finder) failQueue(err error) {
	f.mu.Lock()
	all := f.queue.take(nil, f.queue.n)
	f.rung = false
	f.mu.Unlock()
	failAll(all, err)
}

// end refuses all asks from now on.
func (f *Finder) end() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.failQueue(node.ErrClosed)
}

func failAll(asks []*Ask, err error) {
	for _, a := range asks {
		a.Err = err
		a.Done()
	}
}

// A queue is asks in order, from which each can be taken.
type queue struct {
	head Ask // of a ring
	n    int
}

func (q *queue) init() { q.head.next, q.head.prev = &q.head, &q.head }

func (q *queue) push(a *Ask) {
	a.next, a.prev = &q.head, q.head.prev
	a.next.prev, a.prev.next = a, a
	q.n++
}

func (q *queue) remove(a *Ask) {
	a.next.prev, a.prev.next = a.prev, a.next
	a.next, a.prev = nil, nil
	q.n--
}

// take moves up to n asks from the front to the end of to.
func (q *queue) take(to []*Ask, n int) []*Ask {
	for range n {
		a := q.head.next
		q.remove(a)
		to = append(to, a)
	}
	return to
}

// takeView moves asks of the first one's view likewise, up to another one's.
func (q *queue) takeView(to []*Ask, n int) []*Ask {
	view := q.head.next.View
	for ; n > 0 && q.n > 0 && q.head.next.View == view; n-- {
		to = q.take(to, 1)
	}
	return to
}

// A caller waits for one ask.
type caller struct {
	Ask
	done chan struct{} // of size 1
}

func newCaller() any {
	c := &caller{done: make(chan struct{}, 1)}
	c.Done = func() { c.done <- struct{}{} }
	return c
}

// Find looks up k at the tracker, for a reader with the given view, and waits for the
// answer. The error wraps ErrUnavailable where the tracker cannot be reached: go to
// another holder.
func (f *Finder) Find(ctx context.Context, k node.Key, view ring.Fingerprint) (node.FindResult, error) {
	if err := ctx.Err(); err != nil {
		return node.FindResult{}, err
	}
	if k.IsZero() {
		return node.FindResult{}, &node.InvalidError{Field: "node_id", Problem: "is a zero Key; make one with node.ParseID"}
	}
	c := f.spare.Get().(*caller)
	c.Key, c.View = k, view
	if err := f.Ask(&c.Ask); err != nil {
		return node.FindResult{}, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if f.Withdraw(&c.Ask) {
			f.reuse(c)
		}
		return node.FindResult{}, ctx.Err()
	}
	result, err := c.Result, c.Err
	f.reuse(c)
	return result, err
}

func (f *Finder) reuse(c *caller) {
	c.Ask = Ask{Done: c.Done}
	f.spare.Put(c)
}
