package pool

import (
	"fmt"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// A stage says who is being asked.
type stage uint8

const (
	askFirst  stage = iota // the first holder, and for slowness a second
	askAll                 // all holders
	askFormer              // who held the shard in former views
)

// A query is one lookup on its way.
type query struct {
	b      *batch
	at     int // its index in the call
	id     node.ID
	key    node.Key
	hash   uint64
	fresh  bool    // asks all holders at once
	again  bool    // asks once more
	open   bool    // begun and not told
	flight *cached // that the answer is put into

	o        *outlook
	shard    ring.Shard
	question node.Question

	// Guarded by batch.mu; won is final once it is ready.
	stage      stage
	asks       []*ask
	pending    int // asks that are not answered
	ready      bool
	won        *ask // that found it at the stage askFirst
	second     *link
	began      time.Time
	next, prev *query // in batch.waiting
}

// An ask is what a query asks of one tracker.
type ask struct {
	rpc.Ask
	q    *query
	link *link
	over bool // answered
}

// begin asks for q by an outlook.
func (b *batch) begin(q *query, o *outlook) {
	q.o, q.shard = o, ring.ShardOf(q.hash, o.placement.Params().Shards)
	q.question = node.QuestionOf(o.placement, q.shard)
	var first, second *link
	if !q.fresh {
		first, second = b.c.nearest(o, q.question.List)
	}
	if first == nil {
		b.mu.Lock()
		q.stage, q.ready = askAll, true
		b.ready = append(b.ready, q)
		b.mu.Unlock()
		b.bell.ring()
		return
	}
	b.mu.Lock()
	q.stage, q.ready, q.won, q.second, q.began = askFirst, false, nil, second, b.now
	q.next, q.prev = &b.waiting, b.waiting.prev
	q.next.prev, q.prev.next = q, q
	b.live++
	a := q.askLocked(first)
	b.mu.Unlock()
	b.send(a)
}

// askLocked has a question for a tracker made; it is still to be sent.
func (q *query) askLocked(l *link) *ask {
	n := len(q.asks)
	if n < cap(q.asks) {
		q.asks = q.asks[:n+1] // with what was there
	} else {
		q.asks = append(q.asks, nil)
		clear(q.asks[n:cap(q.asks)])
	}
	a := q.asks[n]
	if a == nil {
		a = &ask{q: q}
		a.Done = a.answered
		q.asks[n] = a
	}
	a.Key, a.ID, a.View, a.link, a.over = q.key, q.id, q.question.View, l, false
	q.pending++
	return a
}

func (q *query) asked(id ring.MemberID) bool {
	for _, a := range q.asks {
		if a.link.id == id {
			return true
		}
	}
	return false
}

// answered is called when the tracker has answered, or failed.
func (a *ask) answered() {
	a.link.note(a.Err)
	q, b := a.q, a.q.b
	ring := false
	b.mu.Lock()
	a.over = true
	q.pending--
	if !q.ready {
		first := q.stage == askFirst
		if first && a.Err == nil && a.Result.Answer == node.Found {
			q.won = a
		}
		if q.pending == 0 || first && (q.won != nil || a == q.asks[0]) {
			ring = b.readyLocked(q)
		}
	}
	b.mu.Unlock()
	if ring {
		b.bell.ring()
	}
}

func (q *query) unlinkLocked() {
	if q.next != nil {
		q.next.prev, q.prev.next = q.prev, q.next
		q.next, q.prev = nil, nil
	}
}

// step goes on with a query, all of whose answers are there that it waits for. It
// reports whether that was all.
func (b *batch) step(q *query) (found lookup, over bool) {
	if q.won != nil {
		return lookup{answer: node.Found, claims: node.MergeClaims(nil, q.won.Result.Claims)}, true
	}
	switch {
	case q.stage == askFormer:
	case q.stage == askFirst && b.unknown(q):
		// Where one holder cannot say yet, the others seldom can: shards are moving.
		if b.askRest(q, askFormer, append(q.o.formerHolders(q.shard), q.question.List...)) {
			return lookup{}, false
		}
	case b.askRest(q, askAll, q.question.List):
		return lookup{}, false
	}
	replies := b.repliesTo(q)
	answer, claims, moved := q.question.Merge(replies)
	if answer == node.Unknown && q.stage != askFormer && b.askRest(q, askFormer, q.o.formerHolders(q.shard)) {
		return lookup{}, false
	}
	if answer != node.Unknown {
		return lookup{answer: answer, claims: claims}, true
	}
	failed := 0
	var err error
	for i := range replies {
		if e := replies[i].Err; e != nil {
			failed++
			err = e
		}
	}
	found.claims = claims
	again := moved || failed > 0 && b.c.view.Load() != q.o
	if failed == len(replies) {
		if err == nil {
			err = fmt.Errorf("no connection to %v", q.question.List)
		}
		found = lookup{err: fmt.Errorf("look up in shard %d: %w: %v", q.shard, node.ErrUnavailable, err)}
		again = true
	}
	if !again || q.again {
		return found, true
	}
	q.again = true
	b.parked = append(b.parked, q)
	return lookup{}, false
}

// unknown reports whether a tracker has answered UNKNOWN.
func (b *batch) unknown(q *query) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(q.asks, func(a *ask) bool { return a.over && a.Err == nil && a.Result.Answer == node.Unknown })
}

// askRest asks all of a list who have not been asked. It reports whether there are
// answers to wait for.
func (b *batch) askRest(q *query, s stage, list []ring.MemberID) bool {
	b.mu.Lock()
	q.stage = s
	from := len(q.asks)
	for _, id := range list {
		if l := q.o.links[id]; l != nil && !q.asked(id) {
			q.askLocked(l)
		}
	}
	some := q.pending > 0
	if some {
		q.ready = false
		b.live++
	}
	b.mu.Unlock()
	for _, a := range q.asks[from:] {
		b.send(a)
	}
	return some
}

// repliesTo returns what was said to q, until the next call.
func (b *batch) repliesTo(q *query) []node.Reply {
	b.replies = b.replies[:0]
	for _, a := range q.asks {
		b.replies = append(b.replies, node.Reply{From: a.link.id, Result: a.Result, Err: a.Err})
	}
	return b.replies
}

// forget forgets what was asked and answered. Nobody will answer any more.
func (q *query) forget() {
	for _, a := range q.asks {
		a.Result, a.Err, a.link = node.FindResult{}, nil, nil
	}
	q.asks = q.asks[:0]
}
