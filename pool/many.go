package pool

import (
	"context"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// LookupMany looks many nodes up, and calls found once for each with its index in ids
// and with what Lookup returns for it. It is for those who want a great many answers
// and can wait for the last of them: lookups share messages, and take no goroutine
// each. Some thousands are under way at a time, whatever the number of ids.
//
// found is called in the caller's goroutine, in no order. It may call the client, but
// the other lookups wait for it meanwhile. When ctx ends, those that have no answer
// get its error.
func (c *Client) LookupMany(ctx context.Context, ids []node.ID, found func(i int, answer node.Answer, claims []node.Claim, err error)) {
	c.run(ctx, &c.hedge.manies, len(ids), func(q *query, i int) bool {
		kept, ok := c.prepare(q, ids[i])
		if !ok {
			found(i, kept.answer, kept.claims, kept.err)
		}
		return ok
	}, func(q *query, f lookup) {
		if q.flight != nil {
			c.keep(q.hash, q.flight, f)
		}
		answer, claims, err := c.finish(f)
		found(q.at, answer, claims, err)
	})
}

// prepare makes a query for a node, unless the answer is there. Unlike Lookup it does
// not wait for another caller's lookup of the node.
func (c *Client) prepare(q *query, id node.ID) (kept lookup, ok bool) {
	k, err := node.ParseID(id)
	if err != nil {
		return lookup{err: err}, false
	}
	if c.stopped() {
		return lookup{err: c.Err()}, false
	}
	q.id, q.key, q.hash, q.fresh = id, k, k.Hash(), c.fresh.take(k)
	if c.cache == nil {
		return lookup{}, true
	}
	e, hit, mine := c.cache.get(q.hash, k, time.Now())
	if hit {
		return lookup{answer: e.answer, claims: e.claims}, false
	}
	if mine {
		q.flight = e
	}
	return lookup{}, true
}
