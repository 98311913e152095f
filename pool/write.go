package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// An edit is a claim to be made or taken back.
type edit struct {
	key   node.Key
	hash  uint64
	value node.Value
}

// Add makes claims of this proxy, or renews them; their Proxy may be left empty.
// They are kept, and told to trackers as those come and go, until Remove.
//
// It returns nil when one holder of each claim counted it and each other one
// stored it or has no session, or after Config.CountWait when one counted it.
// Otherwise it returns node.ErrNotCounted as soon after that as each claim is stored
// and found, or, when ctx ends or nothing could be stored for ten times as long,
// an error that is node.ErrUnavailable. In both cases the client goes on by itself;
// do not drop the nodes. An *InvalidError means that nothing was done.
//
// It waits while the queue to some tracker is full.
func (c *Client) Add(ctx context.Context, claims ...node.Claim) error {
	if len(claims) == 1 { // most calls, without an allocation
		var one [1]edit
		if err := c.editOf(&one[0], &claims[0], c.cfg.Now()); err != nil {
			return err
		}
		return c.writeOne(ctx, true, one[:])
	}
	edits, now := make([]edit, len(claims)), c.cfg.Now()
	for i := range claims {
		if err := c.editOf(&edits[i], &claims[i], now); err != nil {
			return fmt.Errorf("claim %d: %w", i, err)
		}
	}
	return c.writeAll(ctx, true, edits)
}

// Remove takes back claims of this proxy, which may be left empty. Claims that it
// does not have are no error.
//
// It returns nil when no tracker can answer with them any more: each that was told
// has acknowledged the removal, or this proxy's lease there has run out. After
// Config.CountWait, or when ctx ends, it returns an error that is
// node.ErrNotRemoved; the client goes on by itself. An *InvalidError means that
// nothing was done.
//
// It waits while the queue to some tracker is full.
func (c *Client) Remove(ctx context.Context, proxy node.ProxyID, ids ...node.ID) error {
	if err := c.checkOwn(proxy); err != nil {
		return err
	}
	edits := make([]edit, len(ids))
	for i, id := range ids {
		key, err := node.ParseID(id)
		if err != nil {
			return err
		}
		edits[i] = edit{key: key, hash: key.Hash()}
	}
	return c.writeAll(ctx, false, edits)
}

// editOf puts into e what a claim says, made now. (The clock is a system call, so
// it is read once per call of Add.)
func (c *Client) editOf(e *edit, claim *node.Claim, now time.Time) error {
	if err := c.checkOwn(claim.Proxy.ID); err != nil {
		return err
	}
	key, err := node.ParseID(claim.Node)
	if err != nil {
		return err
	}
	stamp := c.claims.stamp(now, max(0, claim.Age))
	*e = edit{key, key.Hash(), node.Value{Generation: claim.Generation, Stamp: stamp}}
	return nil
}

func (c *Client) checkOwn(proxy node.ProxyID) error {
	switch {
	case c.cfg.Proxy.ID == "":
		return errReader()
	case proxy != "" && proxy != c.cfg.Proxy.ID:
		return &node.InvalidError{Field: "proxy_id", Value: string(proxy),
			Problem: fmt.Sprintf("is not this client's, %q; a proxy speaks for itself alone", c.cfg.Proxy.ID)}
	}
	return nil
}

// writeAll writes edits in portions, so that no call holds the mutex for long or
// passes the limit of queues by much, and waits for all.
func (c *Client) writeAll(ctx context.Context, adds bool, edits []edit) error {
	var waiters []*waiter
	for len(edits) > node.MaxChunk {
		w, err := c.write(ctx, adds, edits[:node.MaxChunk])
		if err != nil {
			return err
		}
		waiters, edits = append(waiters, w), edits[node.MaxChunk:]
	}
	var worst error
	if len(edits) > 0 {
		worst = c.writeOne(ctx, adds, edits)
	}
	for _, w := range waiters {
		if err := c.wait(ctx, w); err != nil {
			worst = worse(worst, err)
		}
	}
	return worst
}

func (c *Client) writeOne(ctx context.Context, adds bool, edits []edit) error {
	began, took := time.Now(), MetricRemove
	if adds {
		took = MetricAdd
	}
	w, err := c.write(ctx, adds, edits)
	if err != nil {
		return err
	}
	err = c.wait(ctx, w)
	c.cfg.Metrics.Took(took, time.Since(began))
	return err
}

// write puts edits into the table and the queues.
func (c *Client) write(ctx context.Context, adds bool, edits []edit) (*waiter, error) {
	w := c.newWaiter(adds, len(edits))
	if err := c.lockWithRoom(ctx); err != nil {
		return nil, err
	}
	none, now := c.claims.table.Len() == 0, time.Time{}
	if !adds {
		now = c.cfg.Now()
	}
	for i := range edits {
		it := &w.items[i]
		it.of = w
		e := &edits[i]
		it.shard = ring.ShardOf(e.hash, c.shards)
		if adds {
			c.addLocked(it, e)
		} else {
			c.removeLocked(it, e, now)
		}
	}
	if none && adds {
		for _, s := range c.welcomedLocked() {
			s.ring() // each is to hear that there are claims
		}
	}
	c.mu.Unlock()
	if c.cache != nil {
		for i := range edits {
			c.cache.forget(edits[i].hash, edits[i].key)
		}
	}
	return w, nil
}

// lockWithRoom locks the mutex once every queue has room.
func (c *Client) lockWithRoom(ctx context.Context) error {
	c.mu.Lock()
	for waited := false; c.err == nil && c.full > 0; waited = true {
		room := c.room
		c.mu.Unlock()
		if !waited {
			c.cfg.Metrics.Count(MetricQueueLimit, 1)
		}
		select {
		case <-room:
		case <-c.done:
		case <-ctx.Done():
			return fmt.Errorf("waiting for room in the queue to a tracker: %w", ctx.Err())
		}
		c.mu.Lock()
	}
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	return nil
}

func (c *Client) addLocked(it *item, e *edit) {
	o := op{kind: opAdd, shard: it.shard, key: e.key, generation: e.value.Generation, stamp: e.value.Stamp}
	o.delta = c.claims.put(it.shard, e.hash, e.key, e.value)
	c.tellLocked(it, &o)
	if it.open == 0 && !it.counted {
		c.orphanLocked(it)
	}
	it.settle()
}

func (c *Client) removeLocked(it *item, e *edit, now time.Time) {
	o := op{kind: opRemove, shard: it.shard, key: e.key}
	o.delta = c.claims.remove(it.shard, e.hash, e.key)
	it.open++ // until all places are counted: of two leases the one that is over settles nothing
	c.tellLocked(it, &o)
	for _, p := range c.processes {
		switch {
		case !p.told.Has(it.shard):
		case p.session == nil:
			it.open++
			c.awaitLeaseLocked(it, p, now)
		case !p.session.keeps(it.shard): // a Release is under way
			p.session.awaitLocked(it)
		}
	}
	it.open--
	it.settle()
}

// tellLocked queues an op in all sessions that keep its shard. Where the shard
// waits for its snapshot, that will have it.
func (c *Client) tellLocked(it *item, o *op) {
	for _, s := range c.tellers[it.shard] {
		if s.told.Has(it.shard) {
			s.pushLocked(*o)
		}
		s.awaitLocked(it)
	}
}

// wait waits until all items of w are settled, or for as long as Add and Remove
// promise.
func (c *Client) wait(ctx context.Context, w *waiter) error {
	w.timer.Reset(c.cfg.CountWait)
	defer w.timer.Stop()
	var cause error
	for more := storeWaits; more > 0; more-- {
		select {
		case <-w.done:
			c.free(w)
			return nil
		case <-w.timer.C:
			if more > 1 && c.unstored(w) {
				w.timer.Reset(c.cfg.CountWait)
				continue
			}
		case <-ctx.Done():
			cause = ctx.Err()
		case <-c.done:
			cause = c.Err()
		}
		break
	}
	err := c.abandon(w)
	if err == nil {
		return nil
	}
	switch {
	case w.adds:
		c.cfg.Metrics.Count(MetricNotCounted, 1)
	default:
		c.cfg.Metrics.Count(MetricNotRemoved, 1)
	}
	if cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// storeWaits is for how many times Config.CountWait a call waits for its claims to
// be stored at all.
const storeWaits = 10

// unstored reports whether a claim to be added is not stored anywhere yet.
func (c *Client) unstored(w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return w.adds && slices.ContainsFunc(w.items, func(it item) bool {
		return !it.settled && !it.counted && it.stored == 0
	})
}

// abandon ends the waiting for w and says how far it got.
func (c *Client) abandon(w *waiter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.over = true
	var worst error
	for i := range w.items {
		switch it := &w.items[i]; {
		case it.settled:
		case !w.adds:
			return node.ErrNotRemoved
		case it.counted: // by one, and the others have not stored it in time
		case it.stored > 0:
			worst = worse(worst, node.ErrNotCounted)
		default:
			return fmt.Errorf("no tracker has stored the claim yet: %w", node.ErrUnavailable)
		}
	}
	return worst
}

// worse returns the error that says less of a call in several portions: a claim
// that is not stored over one that does not count.
func worse(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil || !isNotYet(a):
		return a
	}
	return b
}

func isNotYet(err error) bool {
	return errors.Is(err, node.ErrNotCounted) || errors.Is(err, node.ErrNotRemoved)
}

// maxDrops is how many requests to drop claims are put to Config.Drop at a time;
// more are refused.
const maxDrops = 4

// dropAskedLocked puts a request to drop claims to Config.Drop, in a goroutine of
// its own, and answers it when the removals are done.
func (c *Client) dropAskedLocked(s *session, d *node.Drop) {
	if c.drops >= maxDrops || c.err != nil {
		s.answerDropLocked(d, d.IDs)
		return
	}
	c.drops++
	c.goRun(func() {
		keep := c.cfg.Drop(d.IDs, d.Why)
		kept := make(map[node.ID]bool, len(keep))
		for _, id := range keep {
			kept[id] = true
		}
		var drop []node.ID
		for _, id := range d.IDs {
			if !kept[id] {
				drop = append(drop, id)
			}
		}
		ctx, cancel := context.WithTimeout(c.ctx, c.cfg.CountWait+time.Second)
		defer cancel()
		if err := c.Remove(ctx, "", drop...); err != nil {
			c.cfg.Logger.Warn("drop claims", "nodes", len(drop), "why", d.Why, "err", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drops--
		s.answerDropLocked(d, keep)
	})
}

// answerDropLocked answers a request to drop claims, unless the session is over.
func (s *session) answerDropLocked(d *node.Drop, kept []node.ID) {
	if s.link.session == s {
		s.dropped = append(s.dropped, &node.Dropped{Token: d.Token, Kept: kept})
		s.ring()
	}
}
