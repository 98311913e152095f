package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A lookup is what a lookup found.
type lookup struct {
	answer node.Answer
	claims []node.Claim
	err    error
}

// Lookup returns the proxies that reach a node, the best first; the claims are not
// to be modified. FOUND and ABSENT may be as old as Config.CacheFound and
// CacheAbsent. With UNKNOWN the claims are hints: nobody can say now; ask again.
//
// The error is ctx's, an *InvalidError, or node.ErrUnavailable where no tracker
// answered at all.
func (c *Client) Lookup(ctx context.Context, id node.ID) (node.Answer, []node.Claim, error) {
	k, err := node.ParseID(id)
	if err != nil {
		return node.Unknown, nil, err
	}
	if err := ctx.Err(); err != nil {
		return node.Unknown, nil, err
	}
	hash := k.Hash()
	fresh := c.fresh.take(k)
	if c.cache == nil {
		return c.finish(c.lookUp(ctx, hash, k, id, fresh))
	}
	asked := time.Now()
	for {
		e, kept, mine := c.cache.get(hash, k, time.Now())
		if kept {
			return e.answer, e.claims, nil
		}
		if !mine {
			found := e.wait(ctx)
			if found.err != nil && ctx.Err() == nil && isContext(found.err) {
				continue // the other caller gave up, this one has not
			}
			if found.err == nil && found.answer != node.Unknown && asked.Sub(e.began) >= c.keeps(found) {
				continue // it asked so much earlier that the answer may be too old
			}
			return c.finish(found)
		}
		found := c.lookUp(ctx, hash, k, id, fresh)
		c.keep(hash, e, found)
		return c.finish(found)
	}
}

// keep puts an answer into the cache, for as long as it may be used again.
func (c *Client) keep(hash uint64, e *cached, found lookup) {
	c.cache.put(hash, e, found, time.Now(), c.keeps(found))
}

// keeps is for how long after its question an answer may be used.
func (c *Client) keeps(found lookup) time.Duration {
	switch {
	case found.err != nil:
	case found.answer == node.Found:
		return c.cfg.CacheFound
	case found.answer == node.Absent:
		return c.cfg.CacheAbsent
	}
	return 0
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (c *Client) finish(found lookup) (node.Answer, []node.Claim, error) {
	if found.err == nil && found.answer == node.Unknown {
		c.cfg.Metrics.Count(MetricUnknown, 1)
	}
	return found.answer, found.claims, found.err
}

// stopped reports whether the client has.
func (c *Client) stopped() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Invalidate says that the answer for a node was of no use: its proxy could not be
// dialed. The next lookup of it asks all holders, past the cache, and merges what
// they say.
func (c *Client) Invalidate(id node.ID) {
	k, err := node.ParseID(id)
	if err != nil {
		return
	}
	if c.cache != nil {
		c.cache.forget(k.Hash(), k)
	}
	c.fresh.add(k)
}

// lookUp asks trackers. With fresh it asks all holders at once.
func (c *Client) lookUp(ctx context.Context, hash uint64, k node.Key, id node.ID, fresh bool) (found lookup) {
	if c.stopped() {
		return lookup{err: c.Err()}
	}
	var began time.Time
	timed := rand.Uint32()%lookupSample == 0
	if timed {
		began = time.Now()
	}
	c.run(ctx, &c.hedge.singles, 1, func(q *query, _ int) bool {
		q.hash, q.key, q.id, q.fresh = hash, k, id, fresh
		return true
	}, func(_ *query, f lookup) { found = f })
	if timed {
		c.cfg.Metrics.Took(MetricLookup, time.Since(began))
	}
	return found
}

// nearest returns the holder to be asked first, and the one to be asked if that is
// slow: those that answered lately, and not with errors alone, before the others, and
// of them those of this zone. There may be none.
func (c *Client) nearest(o *outlook, list []ring.MemberID) (first, second *link) {
	var firstRank, secondRank int
	for _, id := range list {
		l := o.links[id]
		if l == nil {
			continue
		}
		rank := 1
		if l.finder.Healthy() && !l.outlier.is(time.Now) {
			rank += 2
			if l.zone == c.cfg.Proxy.Zone {
				rank++
			}
		}
		switch {
		case rank > firstRank:
			first, firstRank, second, secondRank = l, rank, first, firstRank
		case rank > secondRank:
			second, secondRank = l, rank
		}
	}
	return first, second
}

// formerHolders returns who held a shard in the views of the last two terms, some of
// them more than once.
func (o *outlook) formerHolders(shard ring.Shard) []ring.MemberID {
	var former []ring.MemberID
	for _, p := range o.former {
		former = append(former, p.List(shard)...)
	}
	return former
}

// maxFresh is how many nodes may wait for a lookup past the cache.
const maxFresh = 4096

// A freshSet is the nodes whose next lookup asks all holders.
type freshSet struct {
	mu   sync.Mutex // guards keys
	keys map[node.Key]struct{}
	some atomic.Bool // keys has some: what most lookups look at alone
}

// add puts k into the set, in the place of another one where it is full.
func (f *freshSet) add(k node.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys == nil {
		f.keys = make(map[node.Key]struct{})
	}
	if len(f.keys) >= maxFresh {
		for other := range f.keys {
			delete(f.keys, other)
			break
		}
	}
	f.keys[k] = struct{}{}
	f.some.Store(true)
}

// take takes k out of the set and reports whether it was there.
func (f *freshSet) take(k node.Key) bool {
	if !f.some.Load() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.keys[k]
	delete(f.keys, k)
	f.some.Store(len(f.keys) > 0)
	return ok
}
