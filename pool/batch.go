package pool

import (
	"context"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

const (
	// viewWait is how long a lookup that met another list than its own waits for
	// another view before it asks once more.
	viewWait = 50 * time.Millisecond

	// batchAtOnce is how many lookups a batch has under way: a full message for
	// each of some trackers.
	batchAtOnce = 4096
	// batchReady is how many must be over for the batch to go on: fewer make small
	// messages.
	batchReady = batchAtOnce / 4
)

// A batch is the lookups of one call. Its caller's goroutine alone begins them and
// decides what to ask next; those who bring answers only say which are to be looked
// at. A single lookup is a batch of one.
type batch struct {
	c    *Client
	ctx  context.Context
	bell bell // enough are ready, or there is err

	in         *batches // the hedger's list that this is in while it runs
	next, prev *batch   // in that list, and guarded by its mutex
	began      time.Time

	// The caller's.
	all     []*query  // ever made
	spare   []*query  // that nobody will answer
	open    int       // begun and not told
	now     time.Time // when queries begin; of late
	parked  []*query  // that wait for another view
	out     []outgoing
	took    []*query
	replies []node.Reply

	mu      sync.Mutex // guards the rest, and what queries say
	quorum  int        // how many ready ones are enough
	live    int        // begun and not ready
	ready   []*query
	waiting query // head of a ring: those that wait for their first holder, the oldest first
	err     error // why all were given up
}

// An outgoing is what is to be asked of one tracker.
type outgoing struct {
	link *link
	asks []*rpc.Ask
}

func newBatch(c *Client, quorum int) *batch {
	b := &batch{c: c, bell: newBell(), in: c.hedge.list(), quorum: quorum}
	b.waiting.next, b.waiting.prev = &b.waiting, &b.waiting
	return b
}

// run looks up n nodes: prepare says which, or that there is nothing to look up, and
// tell is told the answer. The batch comes from spare, and goes back unless somebody
// may still answer.
func (c *Client) run(ctx context.Context, spare *sync.Pool, n int, prepare func(*query, int) bool, tell func(*query, lookup)) {
	b := spare.Get().(*batch)
	b.ctx = ctx
	c.hedge.watch(b)
	complete := b.run(n, prepare, tell)
	c.hedge.forget(b)
	if complete && len(b.spare) == len(b.all) {
		b.ctx, b.err = nil, nil
		spare.Put(b)
	}
}

// run reports whether no lookup was given up.
func (b *batch) run(n int, prepare func(*query, int) bool, tell func(*query, lookup)) (complete bool) {
	for i := 0; ; {
		o, before := b.c.view.Load(), i
		for ; i < n && b.open < batchAtOnce; i++ {
			q := b.query()
			q.at = i
			if prepare(q, i) {
				b.open++
				q.open = true
				b.begin(q, o)
			} else {
				b.done(q)
			}
		}
		if i > before {
			b.c.hedge.earn(i - before)
		}
		if b.open == 0 {
			return true
		}
		var err error
		if b.open == len(b.parked) {
			err = b.askAgain()
		} else {
			b.flush()
			err = b.wait()
		}
		if err != nil {
			b.giveUp(err, tell)
			for ; i < n; i++ {
				q := b.query()
				q.at = i
				if prepare(q, i) {
					tell(q, lookup{err: err})
				}
				b.done(q)
			}
			return false
		}
		for _, q := range b.took {
			if found, over := b.step(q); over {
				b.tell(q, found, tell)
			}
		}
		clear(b.took)
		if i < n {
			b.now = time.Now()
		}
	}
}

// query returns a query for another lookup.
func (b *batch) query() *query {
	if n := len(b.spare); n > 0 {
		q := b.spare[n-1]
		b.spare = b.spare[:n-1]
		return q
	}
	q := &query{b: b}
	b.all = append(b.all, q)
	return q
}

// wait waits until there is something to do. It returns why all is given up.
func (b *batch) wait() error {
	<-b.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took, b.ready = b.ready, b.took[:0]
	return b.err
}

// send puts an ask with those that flush sends.
func (b *batch) send(a *ask) {
	for i := range b.out {
		if o := &b.out[i]; o.link == a.link {
			o.asks = append(o.asks, &a.Ask)
			return
		}
	}
	n := len(b.out)
	if n < cap(b.out) {
		b.out = b.out[:n+1] // with the room of what was there
		b.out[n].link, b.out[n].asks = a.link, append(b.out[n].asks[:0], &a.Ask)
		return
	}
	b.out = append(b.out, outgoing{a.link, []*rpc.Ask{&a.Ask}})
}

// flush sends what is to be asked, to each tracker in one go.
func (b *batch) flush() {
	for i := range b.out {
		o := &b.out[i]
		if err := o.link.finder.Ask(o.asks...); err != nil {
			for _, a := range o.asks {
				a.Err = err
				a.Done()
			}
		}
		clear(o.asks)
		o.link = nil
	}
	b.out = b.out[:0]
}

// readyLocked has q looked at, and reports whether the bell is to be rung.
func (b *batch) readyLocked(q *query) bool {
	q.ready = true
	q.unlinkLocked()
	b.ready = append(b.ready, q)
	b.live--
	return len(b.ready) >= b.quorum || b.live == 0
}

// askAgain begins the parked queries once more: by another view, if one comes at
// once.
func (b *batch) askAgain() error {
	b.c.cfg.Metrics.Count(MetricReasks, len(b.parked))
	b.c.asked.ring()
	wait := time.NewTimer(viewWait)
	defer wait.Stop()
	select {
	case <-b.parked[0].o.replaced:
	case <-wait.C:
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-b.c.done:
		return b.c.Err()
	}
	o := b.c.view.Load()
	b.now = time.Now()
	for _, q := range b.parked {
		q.forget()
		b.begin(q, o)
	}
	clear(b.parked)
	b.parked, b.took = b.parked[:0], b.took[:0]
	return nil
}

// giveUp ends all lookups under way with an error.
func (b *batch) giveUp(err error, tell func(*query, lookup)) {
	for _, q := range b.all {
		if q.open {
			b.tell(q, lookup{err: err}, tell)
		}
	}
}

func (b *batch) tell(q *query, found lookup, tell func(*query, lookup)) {
	b.open--
	tell(q, found)
	b.done(q)
}

// done keeps a query for another lookup, unless it may still be answered.
func (b *batch) done(q *query) {
	q.open = false
	if b.withdraw(q) {
		q.forget()
		*q = query{b: q.b, asks: q.asks}
		b.spare = append(b.spare, q)
	}
}

// withdraw takes back what a query has asked, and reports whether nobody will answer
// it any more.
func (b *batch) withdraw(q *query) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	q.ready = true
	q.unlinkLocked()
	if q.pending == 0 {
		return true
	}
	for _, a := range q.asks {
		if !a.over && a.link.finder.Withdraw(&a.Ask) {
			a.over = true
			q.pending--
		}
	}
	return q.pending == 0
}
