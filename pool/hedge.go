package pool

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// A hedger watches the lookups that wait for their first holder, and asks a second
// one for those that wait for long. It also ends those whose callers' contexts end.
// A lookup that is answered in time costs two short locks: no goroutine, timer or
// context of its own.
type hedger struct {
	bell    bell // the watch is to begin
	watched atomic.Bool
	perOne  int64        // budget that a lookup earns
	budget  atomic.Int64 // of which a second ask costs hedgeCost
	turn    atomic.Uint32
	longest atomic.Int64 // for how long the oldest lookup has waited at the last tick, in nanoseconds
	singles sync.Pool    // of *batch, each with one query
	manies  sync.Pool    // of *batch, for LookupMany
	lists   [hedgeLists]batches
}

const (
	hedgeLists = 16
	hedgeCost  = 1000
	// maxBudget is what can be saved: a tracker that stops for a moment may have
	// so many lookups asked again at once.
	maxBudget = 256 * hedgeCost

	minHedgeDelay = time.Millisecond
	hedgeTick     = time.Millisecond
	// idleTicks is for how many ticks without a lookup the watch goes on.
	idleTicks = 50
)

// batches are lookups under way, those that began first in front but for a little.
type batches struct {
	mu   sync.Mutex // guards the rest, and the batches' links
	head batch      // of a ring
}

func (h *hedger) init(c *Client, share float64) {
	h.bell = newBell()
	h.perOne = int64(max(0, share) * hedgeCost)
	h.singles.New = func() any { return newBatch(c, 1) }
	h.manies.New = func() any { return newBatch(c, batchReady) }
	for i := range h.lists {
		head := &h.lists[i].head
		head.next, head.prev = head, head
	}
}

// list returns a list for a new batch, another one each time.
func (h *hedger) list() *batches { return &h.lists[h.turn.Add(1)%hedgeLists] }

// earn adds to the budget what so many lookups earn.
func (h *hedger) earn(lookups int) {
	if had := h.budget.Load(); h.perOne > 0 && had < maxBudget {
		h.budget.Add(min(h.perOne*int64(lookups), maxBudget-had))
	}
}

// watch begins to look after a batch.
func (h *hedger) watch(b *batch) {
	in := b.in
	b.now = time.Now()
	in.mu.Lock()
	b.began = b.now
	b.next, b.prev = &in.head, in.head.prev
	b.next.prev, b.prev.next = b, b
	in.mu.Unlock()
	if !h.watched.Load() && h.watched.CompareAndSwap(false, true) {
		h.bell.ring()
	}
}

// forget ends that.
func (h *hedger) forget(b *batch) {
	b.in.mu.Lock()
	b.next.prev, b.prev.next = b.prev, b.next
	b.in.mu.Unlock()
}

// hedgeSlow looks after lookups that wait for long, while there are any.
func (c *Client) hedgeSlow() {
	for {
		select {
		case <-c.ctx.Done():
			c.giveUpAll()
			return
		case <-c.hedge.bell:
		}
		tick := time.NewTicker(hedgeTick)
		for idle := 0; idle < idleTicks; {
			select {
			case <-c.ctx.Done():
				tick.Stop()
				c.giveUpAll()
				return
			case <-tick.C:
			}
			if c.hedgeOnce(time.Now()) {
				idle = 0
			} else {
				idle++
			}
		}
		tick.Stop()
		c.hedge.watched.Store(false)
		if c.hedge.any() && c.hedge.watched.CompareAndSwap(false, true) {
			c.hedge.bell.ring() // one came between the last look and the store
		}
	}
}

func (h *hedger) any() bool {
	for i := range h.lists {
		in := &h.lists[i]
		in.mu.Lock()
		some := in.head.next != &in.head
		in.mu.Unlock()
		if some {
			return true
		}
	}
	return false
}

// hedgeOnce looks after all lookups once, and reports whether there are any.
func (c *Client) hedgeOnce(now time.Time) (some bool) {
	var longest time.Duration
	for _, l := range c.view.Load().links {
		l.outlier.listen(now)
	}
	for i := range c.hedge.lists {
		in := &c.hedge.lists[i]
		in.mu.Lock()
		for b := in.head.next; b != &in.head; b = b.next {
			some = true
			waited := now.Sub(b.began)
			longest = max(longest, waited)
			if waited < minHedgeDelay { // so have all after it
				break
			}
			b.lookAfter(now)
		}
		in.mu.Unlock()
	}
	c.hedge.longest.Store(int64(longest))
	return some
}

// lookAfter asks second holders for the lookups that have waited too long for their
// first, within the budget, and gives all up whose caller does.
func (b *batch) lookAfter(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ctx.Err(); err != nil {
		b.giveUpLocked(err)
		return
	}
	for q := b.waiting.next; q != &b.waiting; q = q.next {
		waited := now.Sub(q.began)
		if waited < minHedgeDelay { // so have all after it
			break
		}
		if q.second != nil {
			b.c.hedgeLocked(q, now, waited)
		}
	}
	if n := len(b.ready); 0 < n && n < b.quorum {
		b.bell.ring()
	}
}

// hedgeLocked asks a query's second holder if it is time to.
func (c *Client) hedgeLocked(q *query, now time.Time, waited time.Duration) {
	first := q.asks[0].link
	if waited < first.finder.Latency() {
		return
	}
	switch { // a tracker that is silent is like one that fails: no budget is asked
	case waited >= silentAfter && first.outlier.silent(now):
	case c.hedge.budget.Load() < hedgeCost:
		return
	default:
		c.hedge.budget.Add(-hedgeCost)
	}
	second := q.second
	q.second = nil
	a := q.askLocked(second)
	if err := second.finder.Ask(&a.Ask); err != nil {
		a.Err, a.over = err, true
		q.pending--
		return
	}
	c.cfg.Metrics.Count(MetricHedges, 1)
}

func (b *batch) giveUpLocked(err error) {
	if b.err == nil {
		b.err = err
	}
	b.bell.ring()
}

// giveUpAll ends all lookups: the client is closing.
func (c *Client) giveUpAll() {
	for i := range c.hedge.lists {
		in := &c.hedge.lists[i]
		in.mu.Lock()
		for b := in.head.next; b != &in.head; b = b.next {
			b.mu.Lock()
			b.giveUpLocked(node.ErrClosed)
			b.mu.Unlock()
		}
		in.mu.Unlock()
	}
}
