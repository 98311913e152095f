package node

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

const (
	// watchInterval is how often watched nodes are looked up again. A watcher is
	// told of a change within it, whatever the cause: a claim, a lease, a list.
	watchInterval = 100 * time.Millisecond

	// maxTold bounds the proxies that a Find stream remembers having told.
	maxTold = 4096

	// maxTries is how often a batch is looked up again because what may be said
	// changed meanwhile. After that misses are UNKNOWN.
	maxTries = 3
)

// A looked is what this tracker has of one node.
type looked struct {
	answer Answer
	claims []lookedClaim
}

// A lookedClaim is a claim of a session, or a unary one.
type lookedClaim struct {
	life       *life // nil for a unary claim
	unary      Proxy
	generation uint64
	age        uint32
	since      uint32 // when the node connected
}

func (c *lookedClaim) proxy() Proxy {
	if c.life != nil {
		return *c.life.proxy.Load()
	}
	return c.unary
}

// A lookup looks up batches of nodes. It keeps its room from one to the next and is
// not safe for concurrent use.
type lookup struct {
	t     *Tracker
	keys  []Hashed
	nodes []looked // of the keys, after run
	held  []Held   // of all keys, up to their ends
	ends  []int
	unary []UnaryClaim
}

// add puts a node into the next batch.
func (l *lookup) add(k Key) { l.keys = append(l.keys, Hashed{k, k.Hash()}) }

// clear begins the next batch.
func (l *lookup) clear() { l.keys = l.keys[:0] }

func (l *lookup) shard(i int) ring.Shard { return ring.ShardOf(l.keys[i].Hash, l.t.cfg.Shards) }

// run answers the batch, and returns under which snapshot. ABSENT needs the shard
// to have been open all the while: before the table was read, and after.
func (l *lookup) run() *lease.Snapshot {
	t := l.t
	l.nodes = slices.Grow(l.nodes[:0], len(l.keys))[:len(l.keys)] // with the room of what was there
	for try := 1; ; try++ {
		snap, before := t.snap.Load(), t.cfg.Now()
		l.held, l.ends = t.table.LookupMany(l.keys, l.held[:0], l.ends[:0])
		first := 0
		for i, end := range l.ends {
			l.look(i, l.held[first:end], before)
			first = end
		}
		after := t.cfg.Now()
		same := t.snap.Load() == snap
		if !same && try < maxTries {
			continue
		}
		var n [3]uint64
		for i := range l.nodes {
			q := &l.nodes[i]
			if q.answer == Absent && !(same && snap.Open(after, l.shard(i))) {
				q.answer = Unknown
				t.counts.unknown[doubtOf(after, snap, l.shard(i))].Add(1)
			} else if q.answer == Unknown {
				t.counts.unknown[leaseRanOut].Add(1)
			}
			n[q.answer]++
		}
		for a := range n {
			if n[a] > 0 {
				t.counts.answers[a].Add(n[a])
			}
		}
		return snap
	}
}

// look takes of a node's claims those that are covered, or else, as hints, those that
// are not. Absent says only that there are none.
func (l *lookup) look(i int, held []Held, now time.Time) {
	t, q := l.t, &l.nodes[i]
	q.claims = q.claims[:0]
	n, shard := now.UnixNano(), l.shard(i)
	hints := 0
	for _, h := range held {
		v := t.lives.of(h.Owner)
		if v == nil {
			continue
		}
		covered := v.covered(n, shard)
		if !covered {
			hints++
		}
		q.claims = append(q.claims, lookedClaim{life: v, generation: h.Value.Generation, age: t.age(now, h.Value.Stamp), since: h.Value.Stamp})
		if covered && hints > 0 { // keep what is covered in front
			last := len(q.claims) - 1
			first := last - hints
			q.claims[first], q.claims[last] = q.claims[last], q.claims[first]
		}
	}
	covered := len(q.claims) - hints
	if t.unaries.Len() > 0 {
		l.unary = t.unaries.Lookup(now, l.keys[i].Key.ID(), l.unary[:0])
		for _, u := range l.unary {
			if slices.ContainsFunc(q.claims[:covered], func(c lookedClaim) bool { return c.life != nil && c.life.id == u.Proxy.ID }) {
				continue // what the proxy says in its session is later
			}
			age := uint32(min(u.Age/stampUnit, math.MaxUint32))
			q.claims = slices.Insert(q.claims, covered, lookedClaim{unary: u.Proxy, generation: u.Generation, age: age, since: t.stamp(now, age)})
			covered++
		}
	}
	switch {
	case covered > 0:
		q.answer, q.claims = Found, q.claims[:covered]
	case hints > 0:
		q.answer = Unknown
	default:
		q.answer = Absent
	}
	if len(q.claims) > 1 {
		slices.SortFunc(q.claims, func(a, b lookedClaim) int {
			return better(a.generation, b.generation, a.age, b.age)
		})
		q.claims = q.claims[:min(len(q.claims), t.cfg.MaxClaimsPerNode)]
	}
}

// better orders claims of a node: the higher generation first, then the younger
// connection.
func better[A cmp.Ordered](g1, g2 uint64, a1, a2 A) int {
	return cmp.Or(cmp.Compare(g2, g1), cmp.Compare(a1, a2))
}

// result is the answer to the only node of a batch.
func (l *lookup) result(snap *lease.Snapshot) FindResult {
	q := &l.nodes[0]
	r := FindResult{Answer: q.answer}
	if snap.Placement != nil {
		r.View = snap.Placement.Fingerprint()
		r.ListSum = snap.Placement.ListSum(l.shard(0))
	}
	for _, c := range q.claims {
		r.Claims = append(r.Claims, Claim{Node: l.keys[0].Key.ID(), Proxy: c.proxy(), Generation: c.generation, Age: time.Duration(c.age) * stampUnit})
	}
	return r
}

// A finder serves one Find stream. Two goroutines do: one answers requests, the other
// tells that the tracker is alive, and what has become of watched nodes. Who sends has
// the turn, from when it makes what it sends.
type finder struct {
	turn  chan struct{} // of size 1: full while one has the turn
	watch chan struct{} // doorbell: something is watched

	// All below is of who has the turn.

	lookup  lookup
	told    map[*Proxy]uint32 // by what their Hello said, and their numbers on this stream
	unary   map[Proxy]uint32
	numbers uint32
	reset   bool
	refs    []Ref
	watched map[Key]uint64 // the sum of the last answer told
}

func newFinder(t *Tracker) *finder {
	return &finder{turn: make(chan struct{}, 1), watch: make(chan struct{}, 1),
		lookup: lookup{t: t}, told: map[*Proxy]uint32{}, unary: map[Proxy]uint32{}, watched: map[Key]uint64{}}
}

// say sends what is made when it has the turn, if that is something, or returns why ctx
// has ended.
func (f *finder) say(ctx context.Context, stream FindStream, made func() (*FindReply, error)) error {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-f.turn }()
	r, err := made()
	if r == nil || err != nil {
		return err
	}
	return stream.Send(r)
}

// Find is Service's.
func (t *Tracker) Find(ctx context.Context, stream FindStream) error {
	defer t.finds.Add(-1)
	if t.finds.Add(1) > int64(t.cfg.MaxFinds) {
		return t.overload(refusedFind, "streams of lookups are open", t.cfg.MaxFinds, t.term.Renewal())
	}
	if err := stream.Send(&FindReply{}); err != nil { // the reader trusts who has spoken
		return err
	}
	f := newFinder(t)
	defer f.end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !t.reads(func() { cancel(f.read(ctx, stream)) }) {
		return ErrClosed
	}
	ping := time.NewTicker(PingInterval)
	defer ping.Stop()
	var watch <-chan time.Time // nil while nothing is watched
	for {
		var made func() (*FindReply, error)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.closed:
			return ErrClosed
		case <-f.watch:
			if watch == nil {
				watch = time.After(watchInterval)
			}
			continue
		case <-ping.C:
			made = func() (*FindReply, error) { return &FindReply{}, nil }
		case <-watch:
			watch = nil
			made = func() (*FindReply, error) {
				if len(f.watched) > 0 {
					watch = time.After(watchInterval)
				}
				return f.watches(), nil
			}
		}
		if err := f.say(ctx, stream, made); err != nil {
			return err
		}
	}
}

// read answers what the reader asks until the stream ends. Who does not read is not
// read from.
func (f *finder) read(ctx context.Context, stream FindStream) error {
	for {
		q, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := f.say(ctx, stream, func() (*FindReply, error) { return f.reply(q) }); err != nil {
			return err
		}
	}
}

// end takes the turn for good, so that nothing is sent any more, and gives back what
// the stream watches.
func (f *finder) end() {
	f.turn <- struct{}{}
	f.lookup.t.watches.Add(-int64(len(f.watched)))
}

// reply returns the answer to one request, or nil if it asks for none.
func (f *finder) reply(q *FindRequest) (*FindReply, error) {
	if err := f.noteWatches(q); err != nil {
		return nil, err
	}
	if q.Frame == 0 {
		return nil, nil
	}
	f.lookup.clear()
	c := q.IDs.Cursor()
	for k := (Key{}); c.Next(&k); {
		if len(f.lookup.keys) == MaxFind {
			return nil, &InvalidError{"ids", fmt.Sprint(q.IDs.Count()), fmt.Sprintf("a request carries at most %d", MaxFind)}
		}
		f.lookup.add(k)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	snap := f.lookup.run()
	r := &FindReply{Frame: q.Frame}
	for i := range f.lookup.nodes {
		f.tell(r, &f.lookup.nodes[i])
	}
	if snap.Placement != nil {
		r.View = snap.Placement.Fingerprint()
		if r.View != q.View {
			r.ListSums = make([]uint64, len(f.lookup.keys))
			for i := range r.ListSums {
				r.ListSums[i] = snap.Placement.ListSum(f.lookup.shard(i))
			}
		}
	}
	f.number(r)
	return r, nil
}

// tell appends an answer, and the proxies in it that the reader does not know yet.
func (f *finder) tell(r *FindReply, q *looked) {
	f.refs = f.refs[:0]
	for _, c := range q.claims {
		n, ok := uint32(0), false
		var p *Proxy
		if c.life != nil {
			p = c.life.proxy.Load()
			n, ok = f.told[p]
		} else {
			n, ok = f.unary[c.unary]
		}
		if !ok {
			n = f.numbers
			f.numbers++
			if p != nil {
				r.Proxies = append(r.Proxies, *p)
				f.told[p] = n
			} else {
				r.Proxies = append(r.Proxies, c.unary)
				f.unary[c.unary] = n
			}
		}
		f.refs = append(f.refs, Ref{Proxy: n, Generation: c.generation, Age: c.age})
	}
	if r.Answers == nil {
		r.Answers = make(Answers, 0, 8*len(f.lookup.nodes))
	}
	r.Answers = AppendAnswer(r.Answers, q.answer, f.refs)
}

// number ends the making of a reply. Where too many proxies were told the next reply
// numbers them anew.
func (f *finder) number(r *FindReply) {
	r.Reset, f.reset = f.reset, false
	if f.numbers > maxTold {
		clear(f.told)
		clear(f.unary)
		f.numbers, f.reset = 0, true
	}
}

// noteWatches takes what a request says of watches.
func (f *finder) noteWatches(q *FindRequest) error {
	un := q.Unwatch.Cursor()
	all := &f.lookup.t.watches
	for k := (Key{}); un.Next(&k); {
		if _, ok := f.watched[k]; ok {
			delete(f.watched, k)
			all.Add(-1)
		}
	}
	w := q.Watch.Cursor()
	for k := (Key{}); w.Next(&k); {
		if _, ok := f.watched[k]; !ok && len(f.watched) >= MaxWatches {
			return &InvalidError{"watch", string(k.ID()), fmt.Sprintf("a stream watches at most %d nodes; open another", MaxWatches)}
		}
		if _, ok := f.watched[k]; ok {
			f.watched[k] = 0
			continue
		}
		if most := f.lookup.t.cfg.MaxWatches; all.Add(1) > int64(most) {
			all.Add(-1)
			return f.lookup.t.overload(refusedWatch, "nodes are watched", most, f.lookup.t.term.Renewal())
		}
		f.watched[k] = 0
		ring1(f.watch)
	}
	return cmp.Or(un.Err(), w.Err())
}

// watches looks up what is watched, and returns what has changed, or nil.
func (f *finder) watches() *FindReply {
	if len(f.watched) == 0 {
		return nil
	}
	f.lookup.clear()
	for k := range f.watched {
		f.lookup.add(k)
	}
	snap := f.lookup.run()
	r := &FindReply{}
	if snap.Placement != nil {
		r.View = snap.Placement.Fingerprint()
	}
	for i := range f.lookup.nodes {
		q, k := &f.lookup.nodes[i], f.lookup.keys[i].Key
		if sum := q.sum(); sum != f.watched[k] {
			f.watched[k] = sum
			r.Watched = AppendID(r.Watched, k)
			f.tell(r, q)
		}
	}
	if r.Watched == nil {
		return nil
	}
	f.number(r)
	return r
}

// sum tells one answer from another; it is never 0. Ages grow by themselves and do
// not count, the time of the connection does.
func (q *looked) sum() uint64 {
	b := []byte{byte(q.answer)}
	for _, c := range q.claims {
		b = fmt.Appendf(b, "%q %d %d;", c.proxy(), c.generation, c.since)
	}
	return max(1, ring.Hash(string(b)))
}
