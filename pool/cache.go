package pool

import (
	"context"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// cacheShards is in how many parts, each with a lock, a cache is.
const cacheShards = 64

// A cache keeps answers for a short time, those used last, and lets lookups of one
// node that come together share one. It is safe for concurrent use.
type cache struct{ shards [cacheShards]cacheShard }

type cacheShard struct {
	mu      sync.Mutex // guards the rest
	room    int
	entries map[node.Key]*cached
	recent  cached // a ring: next is the entry used last, prev the one unused for longest
}

// A cached is an answer, or a lookup under way.
type cached struct {
	key        node.Key
	answer     node.Answer
	claims     []node.Claim
	began      time.Time // when it was asked for: an answer is as old as its question
	until      time.Time
	flight     chan struct{} // closed when the answer is there; nil once it is kept
	err        error         // of a flight
	next, prev *cached
}

func newCache(size int) *cache {
	c := &cache{}
	for i := range c.shards {
		s := &c.shards[i]
		s.room = max(1, size/cacheShards)
		s.entries = make(map[node.Key]*cached)
		s.recent.next, s.recent.prev = &s.recent, &s.recent
	}
	return c
}

func (c *cache) shard(hash uint64) *cacheShard { return &c.shards[hash>>(64-6)] }

func (e *cached) unlink() { e.next.prev, e.prev.next = e.prev, e.next }

func (s *cacheShard) touchLocked(e *cached) {
	e.next, e.prev = s.recent.next, &s.recent
	e.next.prev, e.prev.next = e, e
}

// get returns the answer that is kept for k. Where there is none the caller is
// either to look k up, and to put e with what it found, or to wait for e, which
// another one looks up.
func (c *cache) get(hash uint64, k node.Key, now time.Time) (e *cached, kept, mine bool) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e = s.entries[k]
	if e != nil && e.flight != nil {
		return e, false, false
	}
	if e != nil {
		e.unlink()
		if now.Before(e.until) {
			s.touchLocked(e)
			return e, true, false
		}
	}
	e = &cached{key: k, began: now, flight: make(chan struct{})}
	s.entries[k] = e
	return e, false, true
}

// put ends a lookup under way and keeps its answer for a time after it was asked for;
// not at all for 0.
func (c *cache) put(hash uint64, e *cached, found lookup, now time.Time, keep time.Duration) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.answer, e.claims, e.err = found.answer, found.claims, found.err
	close(e.flight)
	if s.entries[e.key] != e { // forgotten since
		return
	}
	until := e.began.Add(keep)
	if keep == 0 || !now.Before(until) {
		delete(s.entries, e.key)
		return
	}
	// A waiter reads flight without the lock: the kept answer is another entry.
	k := &cached{key: e.key, answer: e.answer, claims: e.claims, began: e.began, until: until}
	s.entries[e.key] = k
	s.touchLocked(k)
	s.evictLocked()
}

// evictLocked drops answers beyond the room, those unused for longest. Lookups under
// way are not in the ring, and as many as their callers.
func (s *cacheShard) evictLocked() {
	for len(s.entries) > s.room && s.recent.prev != &s.recent {
		oldest := s.recent.prev
		oldest.unlink()
		delete(s.entries, oldest.key)
	}
}

// forget drops the answer for k. A lookup of it that is under way answers those
// alone who wait for it already.
func (c *cache) forget(hash uint64, k node.Key) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil {
		if e.flight == nil {
			e.unlink()
		}
		delete(s.entries, k)
	}
}

// wait returns what a lookup found that another caller has under way.
func (e *cached) wait(ctx context.Context) lookup {
	select {
	case <-e.flight:
		return lookup{e.answer, e.claims, e.err}
	case <-ctx.Done():
		return lookup{err: ctx.Err()}
	}
}
