package pool

import (
	"context"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// An Event says where a watched node is now.
type Event struct {
	Answer node.Answer  // Found, or Absent once it has gone; never Unknown
	Claims []node.Claim // the best first; not to be modified
}

// same reports whether two events send readers to the same places.
func (e *Event) same(o *Event) bool {
	if e.Answer != o.Answer || len(e.Claims) != len(o.Claims) {
		return false
	}
	for i := range e.Claims {
		if a, b := &e.Claims[i], &o.Claims[i]; a.Proxy != b.Proxy || a.Generation != b.Generation {
			return false
		}
	}
	return true
}

// Watch tells when a node appears, moves and goes, beginning with where it is now.
// It never goes on UNKNOWN. The channel has the latest event alone: a slow receiver
// misses what changed in between. It is closed when ctx ends or the client is
// closed.
func (c *Client) Watch(ctx context.Context, id node.ID) (<-chan Event, error) {
	k, err := node.ParseID(id)
	if err != nil {
		return nil, err
	}
	sub := make(chan Event, 1) // the latest event alone
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	if c.watch.closed {
		return nil, node.ErrClosed
	}
	w := c.watch.byKey[k]
	if w == nil {
		w = c.newWatch(k)
	}
	w.subs[sub] = struct{}{}
	if w.known {
		sub <- w.last
	}
	context.AfterFunc(ctx, func() { c.unwatch(w, sub) })
	return sub, nil
}

// watches are the nodes that a client watches.
type watches struct {
	mu     sync.Mutex // guards the rest, and each watch
	byKey  map[node.Key]*watch
	closed bool
}

// A watch watches one node at one holder, for all who want to know.
type watch struct {
	c      *Client
	key    node.Key
	hash   uint64
	cancel context.CancelFunc
	look   bell // the holder has another answer

	// Guarded by watches.mu.
	subs  map[chan Event]struct{}
	last  Event
	known bool // last was told
}

// newWatch begins to watch a node; watches.mu is held.
func (c *Client) newWatch(k node.Key) *watch {
	ctx, cancel := context.WithCancel(c.ctx)
	w := &watch{c: c, key: k, hash: k.Hash(), cancel: cancel, look: newBell(), subs: make(map[chan Event]struct{})}
	if c.watch.byKey == nil {
		c.watch.byKey = make(map[node.Key]*watch)
	}
	c.watch.byKey[k] = w
	c.goRun(func() { w.run(ctx) })
	return w
}

// unwatch ends one reader's interest, and with the last one's the watch.
func (c *Client) unwatch(w *watch, sub chan Event) {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	if _, ok := w.subs[sub]; !ok {
		return
	}
	delete(w.subs, sub)
	close(sub)
	if len(w.subs) == 0 {
		delete(c.watch.byKey, w.key)
		w.cancel()
	}
}

// closeWatches ends all watches.
func (c *Client) closeWatches() {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	c.watch.closed = true
	for _, w := range c.watch.byKey {
		for sub := range w.subs {
			close(sub)
		}
		clear(w.subs)
		w.cancel()
	}
	clear(c.watch.byKey)
}

// watchTick is how often a watch looks whether its holder is still a good one, and
// asks again while the answer is UNKNOWN.
const watchTick = time.Second

// run has a holder tell of changes and, since one holder's word is not enough for
// ABSENT, looks the node up at each. It goes to another holder when the view
// changes or the holder cannot be reached.
func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		o := w.c.view.Load()
		list := o.placement.List(ring.ShardOf(w.hash, o.placement.Params().Shards))
		l, _ := w.c.nearest(o, list)
		if l == nil {
			sleep(ctx, watchTick)
			continue
		}
		at, leave := context.WithCancel(ctx)
		// Where the holder has no room for it, the ticks do.
		polls := l.finder.Watch(at, w.key, func(node.FindResult) { w.look.ring() }) != nil
		unknown := !w.lookUp(ctx)
		for stay := true; stay; {
			select {
			case <-ctx.Done():
				stay = false
			case <-o.replaced:
				stay = false
			case <-w.look:
				unknown = !w.lookUp(ctx)
			case <-tick.C:
				if stay = l.finder.Healthy(); stay && (polls || unknown) {
					unknown = !w.lookUp(ctx)
				}
			}
		}
		leave()
	}
}

// lookUp looks the node up at all holders and tells what changed. It reports
// whether the answer is known.
func (w *watch) lookUp(ctx context.Context) bool {
	found := w.c.lookUp(ctx, w.hash, w.key, w.key.ID(), true)
	if found.err != nil || found.answer == node.Unknown {
		return false
	}
	if w.c.cache != nil {
		w.c.cache.forget(w.hash, w.key)
	}
	e := Event{found.answer, found.claims}
	w.c.watch.mu.Lock()
	defer w.c.watch.mu.Unlock()
	if w.known && e.same(&w.last) {
		return true
	}
	w.last, w.known = e, true
	for sub := range w.subs {
		select {
		case <-sub: // what nobody took in time
		default:
		}
		sub <- e // there is room: only this sends, under the mutex
	}
	return true
}
