package node

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/trackerpool/trackerpool/ring"
)

// Unaries keeps the claims that came without a session, and their removals, by
// node and proxy. Each has a version and a deadline of its own, so that renewing
// one keeps no other; what has passed its deadline counts for nothing, whether or
// not Expire has dropped it yet. Unaries is safe for concurrent use: each shard
// has a lock of its own, held for one call's work in that shard. Its user bounds
// it by Len, and calls Expire.
type Unaries struct {
	shards  []unaryShard
	held    atomic.Int64
	changes atomic.Uint64
}

type unaryShard struct {
	mu    sync.Mutex
	nodes map[ID][]unary // guarded by mu; no list is empty
	due   time.Time      // guarded by mu; no deadline is before it
	last  uint64         // guarded by mu; the highest changed of its claims
}

// A unary is a UnaryClaim of some node on one clock.
type unary struct {
	proxy      unique.Handle[Proxy] // proxies are few
	generation uint64
	version    uint64
	connected  time.Time
	deadline   time.Time
	gone       bool
	changed    uint64 // which change of the store brought it
}

// NewUnaries returns an empty store of 1 to 65536 shards.
func NewUnaries(shards int) *Unaries { return &Unaries{shards: make([]unaryShard, shards)} }

// Store takes a claim or a removal, unless a better one of that node and proxy is
// held: the higher version wins, at equal versions the earlier deadline, then a
// removal. It reports whether what is held afterwards says the same as c, and the
// version of what is held.
func (u *Unaries) Store(now time.Time, c UnaryClaim) (stored bool, version uint64) {
	n := unary{
		proxy:      unique.Make(c.Proxy),
		generation: c.Generation,
		version:    c.Version,
		connected:  now.Add(-c.Age),
		deadline:   now.Add(c.Left),
		gone:       c.Gone,
	}
	s := u.shardOf(c.Node)
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.nodes[c.Node]
	i := slices.IndexFunc(list, func(h unary) bool { return h.proxy.Value().ID == c.Proxy.ID })
	if i < 0 {
		if s.nodes == nil {
			s.nodes = make(map[ID][]unary)
		}
		s.last = u.changes.Add(1)
		n.changed = s.last
		s.nodes[c.Node] = append(list, n)
		u.held.Add(1)
		s.expect(n.deadline)
		return true, n.version
	}
	held := &list[i]
	if held.passed(now) || n.compare(*held) > 0 {
		s.last = u.changes.Add(1)
		n.changed = s.last
		*held = n
		s.expect(n.deadline)
	}
	return held.says(n), held.version
}

// compare orders claims of one node and proxy by which wins, the winner last. The
// later criteria only make all trackers choose alike.
func (n unary) compare(o unary) int {
	np, op := n.proxy.Value(), o.proxy.Value()
	return cmp.Or(
		cmp.Compare(n.version, o.version),
		o.deadline.Compare(n.deadline),
		boolCompare(n.gone, o.gone),
		cmp.Compare(n.generation, o.generation),
		cmp.Compare(np.Addr, op.Addr),
		cmp.Compare(np.Cluster, op.Cluster),
		cmp.Compare(np.Zone, op.Zone),
	)
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// says reports whether n and o came from the same call. Copies of one claim have
// deadlines and ages that differ by the time they travelled.
func (n unary) says(o unary) bool {
	return n.version == o.version && n.gone == o.gone && n.generation == o.generation && n.proxy == o.proxy
}

func (n unary) passed(now time.Time) bool { return !now.Before(n.deadline) }

func (n unary) live(now time.Time) bool { return !n.gone && !n.passed(now) }

func (n unary) claim(now time.Time, id ID) UnaryClaim {
	return UnaryClaim{
		Node:       id,
		Proxy:      n.proxy.Value(),
		Generation: n.generation,
		Age:        now.Sub(n.connected),
		Version:    n.version,
		Left:       n.deadline.Sub(now),
		Gone:       n.gone,
	}
}

// expect brings due forward to a deadline.
func (s *unaryShard) expect(deadline time.Time) {
	if s.due.IsZero() || deadline.Before(s.due) {
		s.due = deadline
	}
}

func (u *Unaries) shardOf(id ID) *unaryShard {
	return &u.shards[ring.ShardOf(ring.Hash(string(id)), len(u.shards))]
}

// Lookup appends the live claims of a node to buf: no removals.
func (u *Unaries) Lookup(now time.Time, id ID, buf []UnaryClaim) []UnaryClaim {
	s := u.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes[id] {
		if n.live(now) {
			buf = append(buf, n.claim(now, id))
		}
	}
	return buf
}

// Versions returns the version held of a node and proxy, of a claim or a removal,
// or 0. The next is to be higher.
func (u *Unaries) Versions(id ID, proxy ProxyID) uint64 {
	s := u.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes[id] {
		if n.proxy.Value().ID == proxy {
			return n.version
		}
	}
	return 0
}

// LenOf returns how many claims and removals of a node are held.
func (u *Unaries) LenOf(id ID) int {
	s := u.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.nodes[id])
}

// Shard returns the claims and removals of a shard, in no order.
func (u *Unaries) Shard(now time.Time, shard ring.Shard) []UnaryClaim {
	return u.shards[shard].append(now, nil, func(n unary) bool { return !n.passed(now) })
}

// Changes is the number of the last change. All up to it show in Changed.
func (u *Unaries) Changes() uint64 { return u.changes.Load() }

// Changed returns the claims and removals of a shard that came after a change, in
// no order. Where nothing did it looks at none.
func (u *Unaries) Changed(now time.Time, shard ring.Shard, after uint64) []UnaryClaim {
	s := &u.shards[shard]
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last <= after {
		return nil
	}
	return s.append(now, nil, func(n unary) bool { return n.changed > after && !n.passed(now) })
}

// OfProxy returns the live claims of a proxy, in no order: no removals. It reads
// the whole store.
func (u *Unaries) OfProxy(now time.Time, proxy ProxyID) []UnaryClaim {
	var claims []UnaryClaim
	for i := range u.shards {
		claims = u.shards[i].append(now, claims, func(n unary) bool {
			return n.live(now) && n.proxy.Value().ID == proxy
		})
	}
	return claims
}

// append appends what matches.
func (s *unaryShard) append(now time.Time, claims []UnaryClaim, match func(unary) bool) []UnaryClaim {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, list := range s.nodes {
		for _, n := range list {
			if match(n) {
				claims = append(claims, n.claim(now, id))
			}
		}
	}
	return claims
}

// Sums returns the sums of those of the given shards that hold anything, in
// ascending order. They are equal at trackers that hold the same, whatever their
// clocks: ages and deadlines do not count.
func (u *Unaries) Sums(now time.Time, shards ring.ShardSet) []ShardSum {
	var sums []ShardSum
	for shard := range shards.All() {
		if sum := u.shards[shard].sum(now); sum.Count > 0 {
			sums = append(sums, ShardSum{Shard: shard, Sum: sum})
		}
	}
	return sums
}

func (s *unaryShard) sum(now time.Time) (sum Sum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, list := range s.nodes {
		node := ring.Hash(string(id))
		for _, n := range list {
			if !n.passed(now) {
				sum.Add(Sum{1, n.element(node)})
			}
		}
	}
	return sum
}

// element is what n adds to a sum: ElementOf, in turn, of the hash of the node,
// the hash of the proxy ID, the version, and 1 for a removal. It is part of the
// wire contract.
func (n unary) element(node uint64) uint64 {
	var gone uint64
	if n.gone {
		gone = 1
	}
	return ElementOf(ElementOf(ElementOf(node, ring.Hash(string(n.proxy.Value().ID))), n.version), gone)
}

// Expire drops the claims and removals that have passed their deadlines, and
// returns how many there were. It passes over shards where nothing can have.
func (u *Unaries) Expire(now time.Time) int {
	dropped := 0
	for i := range u.shards {
		dropped += u.shards[i].expire(now)
	}
	u.held.Add(-int64(dropped))
	return dropped
}

func (s *unaryShard) expire(now time.Time) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.nodes) == 0 || now.Before(s.due) {
		return 0
	}
	s.due = time.Time{}
	for id, list := range s.nodes {
		kept := slices.DeleteFunc(list, func(n unary) bool { return n.passed(now) })
		dropped += len(list) - len(kept)
		if len(kept) == 0 {
			delete(s.nodes, id)
			continue
		}
		s.nodes[id] = kept
		for _, n := range kept {
			s.expect(n.deadline)
		}
	}
	if len(s.nodes) == 0 {
		s.nodes = nil // a map keeps the room it once had
	}
	return dropped
}

// Len returns how many claims and removals are held, with those that Expire has
// yet to drop.
func (u *Unaries) Len() int { return int(u.held.Load()) }
