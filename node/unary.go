package node

import (
	"cmp"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// Unaries keeps the claims that came without a session, and their removals, by
// node and proxy. Each has a version and a deadline of its own, so that renewing
// one keeps no other; what has passed its deadline counts for nothing, whether or
// not Expire has dropped it yet. Unaries is safe for concurrent use: each shard
// has a lock of its own, held for one call's work in that shard. Its user bounds
// it by Len, and calls Expire. An ID that no node may have is never held.
//
// A shard has no pointers, so that a million claims are nothing to the collector of
// garbage: it would else be most of what a unary call costs.
type Unaries struct {
	seed    maphash.Seed
	shards  []unaryShard
	owners  interned[ProxyID] // whose claims they are
	proxies interned[Proxy]   // what the claims say of them
	held    atomic.Int64
	changes atomic.Uint64
}

// Invariant: the Stamp of each slot is the place in rows of the rest of its claim,
// and all other places are in free.
type unaryShard struct {
	mu   sync.Mutex
	set  slots // guarded by mu
	rows []unary
	free []uint32
	due  int64  // guarded by mu; no deadline is before it
	last uint64 // guarded by mu; the highest changed of its claims
}

// A unary is what a slot has no room for. Times are UnixNano of the tracker's clock.
type unary struct {
	version             uint64
	connected, deadline int64
	changed             uint64 // which change of the store brought it
	proxy               uint32 // in Unaries.proxies
	gone                bool
}

// NewUnaries returns an empty store of 1 to 65536 shards.
func NewUnaries(shards int) *Unaries {
	return &Unaries{seed: maphash.MakeSeed(), shards: make([]unaryShard, shards)}
}

// after returns the time some way after another, or the last that there is.
func after(now int64, d time.Duration) int64 {
	if d > 0 && now > math.MaxInt64-int64(d) {
		return math.MaxInt64
	}
	return now + int64(d)
}

// Store takes a claim or a removal, unless a better one of that node and proxy is
// held: the higher version wins, at equal versions the earlier deadline, then a
// removal. It reports whether what is held afterwards says the same as c, and the
// version of what is held.
func (u *Unaries) Store(now time.Time, c UnaryClaim) (stored bool, version uint64) {
	k, problem := keyOf(string(c.Node))
	if problem != "" {
		return false, 0
	}
	at := now.UnixNano()
	n := unary{version: c.Version, connected: at - int64(c.Age), deadline: after(at, c.Left), gone: c.Gone}
	p := newProbe(u.seed, &k)
	s := u.shardOf(c.Node)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := Owner(u.owners.take(c.Proxy.ID))
	i, had := s.set.find(&p, o)
	if !had {
		n.proxy = u.proxies.take(c.Proxy)
		s.take(u, &n)
		s.set.put(u.seed, &p, o, Value{Generation: c.Generation, Stamp: s.place(n)})
		u.held.Add(1)
		return true, n.version
	}
	u.owners.drop(uint32(o)) // the slot has it already
	e := &s.set.all[i]
	held, generation := &s.rows[e.stamp], s.set.value(e).Generation
	have := u.proxies.of(held.proxy)
	if held.passed(at) || cmp.Or(n.compare(*held), cmp.Compare(c.Generation, generation), compareProxies(c.Proxy, have)) > 0 {
		n.proxy = held.proxy
		if have != c.Proxy {
			n.proxy = u.proxies.take(c.Proxy)
			u.proxies.drop(held.proxy)
		}
		s.take(u, &n)
		*held = n
		s.set.setValue(e, Value{Generation: c.Generation, Stamp: e.stamp})
		return true, n.version
	}
	// Copies of one claim have deadlines and ages that differ by the time they
	// travelled.
	same := held.version == n.version && held.gone == n.gone && generation == c.Generation && have == c.Proxy
	return same, held.version
}

// take makes n the last change.
func (s *unaryShard) take(u *Unaries, n *unary) {
	s.last = u.changes.Add(1)
	n.changed = s.last
	s.expect(n.deadline)
}

// place keeps n in a free place.
func (s *unaryShard) place(n unary) uint32 {
	if last := len(s.free) - 1; last >= 0 {
		i := s.free[last]
		s.free = s.free[:last]
		s.rows[i] = n
		return i
	}
	if len(s.rows) == cap(s.rows) { // append would double it: there are thousands of shards
		s.rows = append(make([]unary, 0, len(s.rows)+len(s.rows)/4+1), s.rows...)
	}
	s.rows = append(s.rows, n)
	return uint32(len(s.rows) - 1)
}

// compare orders claims of one node and proxy by which wins, the winner last, as far
// as n has what decides. The later criteria, and those of Store, only make all
// trackers choose alike.
func (n unary) compare(o unary) int {
	return cmp.Or(cmp.Compare(n.version, o.version), cmp.Compare(o.deadline, n.deadline), boolCompare(n.gone, o.gone))
}

func compareProxies(p, o Proxy) int {
	return cmp.Or(cmp.Compare(p.Addr, o.Addr), cmp.Compare(p.Cluster, o.Cluster), cmp.Compare(p.Zone, o.Zone))
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

func (n *unary) passed(now int64) bool { return now >= n.deadline }

func (n *unary) live(now int64) bool { return !n.gone && !n.passed(now) }

// claim returns what slot e and its row say of a node.
func (u *Unaries) claim(now int64, s *unaryShard, id ID, generation uint64, n *unary) UnaryClaim {
	return UnaryClaim{
		Node:       id,
		Proxy:      u.proxies.of(n.proxy),
		Generation: generation,
		Age:        time.Duration(now - n.connected),
		Version:    n.version,
		Left:       time.Duration(n.deadline - now),
		Gone:       n.gone,
	}
}

// expect brings due forward to a deadline.
func (s *unaryShard) expect(deadline int64) {
	if s.set.used == 0 || deadline < s.due {
		s.due = deadline
	}
}

func (u *Unaries) shardOf(id ID) *unaryShard {
	return &u.shards[ring.ShardOf(ring.Hash(string(id)), len(u.shards))]
}

// probe returns what finds a node in a set of slots. ok is false for what is no
// node's ID.
func (u *Unaries) probe(id ID) (p probe, ok bool) {
	k, problem := keyOf(string(id))
	return newProbe(u.seed, &k), problem == ""
}

// Lookup appends the live claims of a node to buf: no removals.
func (u *Unaries) Lookup(now time.Time, id ID, buf []UnaryClaim) []UnaryClaim {
	p, ok := u.probe(id)
	if !ok {
		return buf
	}
	at := now.UnixNano()
	s := u.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.set.row(&p) {
		if n := &s.rows[e.stamp]; n.live(at) {
			buf = append(buf, u.claim(at, s, id, s.set.value(e).Generation, n))
		}
	}
	return buf
}

// Versions returns the version held of a node and proxy, of a claim or a removal,
// or 0. The next is to be higher.
func (u *Unaries) Versions(id ID, proxy ProxyID) uint64 {
	p, ok := u.probe(id)
	if !ok {
		return 0
	}
	s := u.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := u.owners.number(proxy)
	if !ok {
		return 0
	}
	i, ok := s.set.find(&p, Owner(o))
	if !ok {
		return 0
	}
	return s.rows[s.set.all[i].stamp].version
}

// LenOf returns how many claims and removals of a node are held.
func (u *Unaries) LenOf(id ID) int {
	p, ok := u.probe(id)
	if !ok {
		return 0
	}
	s := u.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for range s.set.row(&p) {
		n++
	}
	return n
}

// Shard returns the claims and removals of a shard, in no order.
func (u *Unaries) Shard(now time.Time, shard ring.Shard) []UnaryClaim {
	at := now.UnixNano()
	return u.append(at, &u.shards[shard], nil, func(_ *slot, n *unary) bool { return !n.passed(at) })
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
	at := now.UnixNano()
	return u.append(at, s, nil, func(_ *slot, n *unary) bool { return n.changed > after && !n.passed(at) })
}

// OfProxy returns the live claims of a proxy, in no order: no removals. It reads
// the whole store.
func (u *Unaries) OfProxy(now time.Time, proxy ProxyID) []UnaryClaim {
	var claims []UnaryClaim
	at := now.UnixNano()
	for i := range u.shards {
		claims = u.append(at, &u.shards[i], claims, func(_ *slot, n *unary) bool {
			return n.live(at) && u.proxies.of(n.proxy).ID == proxy
		})
	}
	return claims
}

// append appends what matches.
func (u *Unaries) append(now int64, s *unaryShard, claims []UnaryClaim, match func(*slot, *unary) bool) []UnaryClaim {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.set.all {
		e := &s.set.all[i]
		if e.empty() {
			continue
		}
		if n := &s.rows[e.stamp]; match(e, n) {
			k := s.set.key(e)
			k.long = strings.Clone(k.long)
			claims = append(claims, u.claim(now, s, k.ID(), s.set.value(e).Generation, n))
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
		if sum := u.sum(now.UnixNano(), &u.shards[shard]); sum.Count > 0 {
			sums = append(sums, ShardSum{Shard: shard, Sum: sum})
		}
	}
	return sums
}

func (u *Unaries) sum(now int64, s *unaryShard) (sum Sum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.set.all {
		e := &s.set.all[i]
		if e.empty() {
			continue
		}
		if n := &s.rows[e.stamp]; !n.passed(now) {
			k := s.set.key(e)
			sum.Add(Sum{1, n.element(k.Hash(), u.proxies.of(n.proxy).ID)})
		}
	}
	return sum
}

// element is what n adds to a sum: ElementOf, in turn, of the hash of the node,
// the hash of the proxy ID, the version, and 1 for a removal. It is part of the
// wire contract.
func (n *unary) element(node uint64, proxy ProxyID) uint64 {
	var gone uint64
	if n.gone {
		gone = 1
	}
	return ElementOf(ElementOf(ElementOf(node, ring.Hash(string(proxy))), n.version), gone)
}

// Expire drops the claims and removals that have passed their deadlines, and
// returns how many there were. It passes over shards where nothing can have.
func (u *Unaries) Expire(now time.Time) int {
	dropped := 0
	for i := range u.shards {
		dropped += u.expire(now.UnixNano(), &u.shards[i])
	}
	u.held.Add(-int64(dropped))
	return dropped
}

func (u *Unaries) expire(now int64, s *unaryShard) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.used == 0 || now < s.due {
		return 0
	}
	s.due = math.MaxInt64
	for i := range s.set.all {
		e := &s.set.all[i]
		if e.empty() {
			continue
		}
		n := &s.rows[e.stamp]
		if !n.passed(now) {
			s.due = min(s.due, n.deadline)
			continue
		}
		u.owners.drop(uint32(e.owner()))
		u.proxies.drop(n.proxy)
		s.free = append(s.free, e.stamp)
		s.set.vacate(i)
		dropped++
	}
	s.set.tidy(u.seed)
	s.tidy()
	return dropped
}

// tidy gives the memory of rows back where more than half are free.
func (s *unaryShard) tidy() {
	if s.set.used > 0 && len(s.free) <= len(s.rows)/2 {
		return
	}
	rows := make([]unary, 0, s.set.used)
	for i := range s.set.all {
		if e := &s.set.all[i]; !e.empty() {
			rows = append(rows, s.rows[e.stamp])
			e.stamp = uint32(len(rows) - 1)
		}
	}
	s.rows, s.free = rows, nil
}

// Len returns how many claims and removals are held, with those that Expire has
// yet to drop.
func (u *Unaries) Len() int { return int(u.held.Load()) }
