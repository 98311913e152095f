package node

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

const (
	// MaxHoldups is how many of those that keep shards from opening, and of stalled
	// proxies, a report names.
	MaxHoldups = 64

	// MaxProxies is the longest page of proxies.
	MaxProxies = 500
)

// An Operator is what a tracker offers to those who run the pool. Each call speaks
// of the one tracker that is called. The process that runs a Tracker is one; package
// rpc serves it.
type Operator interface {
	// Report says what the tracker is, holds and waits for.
	Report(ctx context.Context) (Report, error)
	// Proxies returns the proxies known here whose ID is greater than after, in
	// order, at most that many (0 or more than MaxProxies is MaxProxies), and
	// whether there are more.
	Proxies(ctx context.Context, after ProxyID, most int) (page []ProxyReport, more bool, err error)
	// Explain says all that this tracker alone has and says of a node.
	Explain(ctx context.Context, id ID) (Explanation, error)
	// Drain has the tracker leave the pool and exit, and calls tell until it does, at
	// last with Done. The leaving goes on where ctx ends or tell fails. Without force
	// it is ErrLastMajority or ErrLastTracker, and the tracker stays, where too little
	// would be left; see Tracker.Depart.
	Drain(ctx context.Context, force bool, tell func(DrainStep) error) error
	// Debug calls part with pieces of texts, each with its text's file name. There are
	// no secrets in them.
	Debug(ctx context.Context, part func(name string, piece []byte) error) error
}

// A Report is a Status with what is behind it.
type Report struct {
	Status
	Self    lease.Process
	Pool    string
	Version string        // what the program was built from; its process knows
	Up      time.Duration // since the start
	Sums    ViewSums
	Params  ring.Params // zero before the first view
	Leaving bool        // on its way out; its process knows
	Keys    []string    // fingerprints of gossip's keys, the one that encrypts first; its process knows
	Seats   []lease.SeatWord
	Held    ring.ShardSet
	InForce ring.ShardSet
	Open    ring.ShardSet
	Holdups []lease.Holdup // at most MaxHoldups
	More    int            // holdups that are left out
	Marked  []ProxyID      // of a seat: proxies that it marks as stalled, at most MaxHoldups
	Changes uint64         // claims added and removed in sessions, since the start
	Began   uint64         // sessions begun
	Differs uint64         // renewals whose sum was wrong
	Refused uint64         // sessions and streams of lookups refused
	Lookups map[Answer]uint64
}

// A ProxyReport is a proxy as one tracker knows it.
type ProxyReport struct {
	Proxy       Proxy // only the ID where it never spoke to this tracker
	Incarnation Incarnation
	Session     bool
	Claims      uint64        // held here; 0 while it has no session
	Lease       time.Duration // until its lease here runs out; 0: it has none
	Heard       time.Duration // since anybody last heard of it
	Stalled     bool          // a seat marks it
	WaitedFor   bool          // shards open only when it has confirmed
	Ended       bool          // it said goodbye or was removed
	Restored    bool          // its claims came from a snapshot, and it has not come for them
	Counted     int           // shards held here in which its claims count; 0 without a session
}

// An Explanation is what one tracker has and says of a node.
type Explanation struct {
	Self    lease.Process
	View    ViewSums
	Hash    uint64
	Shard   ring.Shard
	List    []ring.MemberID // in that view
	InForce bool
	Open    bool
	Holdups []lease.Holdup // of this shard, without the shards; at most MaxHoldups
	Answer  Answer         // to Find
	Claims  []ExplainedClaim
}

// An ExplainedClaim is a claim that is stored, answered or not.
type ExplainedClaim struct {
	Claim
	Incarnation Incarnation // zero for a unary one
	Unary       bool
	Covered     bool
	Left        time.Duration // until it is no longer covered, if nothing is renewed
	Session     bool          // its proxy has one here
	Counted     bool
	Why         string // it is not covered or does not count
}

// A DrainStep says how far a tracker is on its way out.
type DrainStep struct {
	Left     string // what it waits for; empty when all is handed over
	Shards   int    // still placed on it
	Claims   int    // that it has
	Elapsed  time.Duration
	Deadline time.Duration // when it exits, whatever is left
	Done     bool          // it stops serving now
}

// Report is Operator's, as far as the tracker itself knows.
func (t *Tracker) Report(context.Context) (Report, error) {
	stats := t.Stats()
	r := Report{Status: t.Status(), Self: t.self, Pool: t.cfg.Pool.Name,
		Began: stats.Sessions, Changes: stats.Ops, Differs: stats.Differs, Refused: stats.Refused, Lookups: stats.Answers}
	now := t.cfg.Now()
	r.Up = now.Sub(t.started)
	t.mu.Lock()
	defer t.mu.Unlock()
	snap := t.ledger.Snapshot()
	r.Sums = t.sums
	if snap.Placement != nil {
		r.Params = snap.Placement.Params()
	}
	r.Seats = t.ledger.Words(now)
	r.Held, r.InForce, r.Open = snap.Held, snap.Forced(now), ring.NewShardSet(t.cfg.Shards)
	for sh := range r.InForce.All() {
		if snap.Open(now, sh) {
			r.Open.Add(sh)
		}
	}
	r.Holdups = t.ledger.Holdups(now)
	if n := len(r.Holdups); n > MaxHoldups {
		r.Holdups, r.More = r.Holdups[:MaxHoldups], n-MaxHoldups
	}
	if t.heard != nil {
		r.Marked = t.heard.Stalled()
		r.Marked = r.Marked[:min(len(r.Marked), MaxHoldups)]
	}
	return r, nil
}

// Placement returns the placement of the tracker's view, or nil before the first.
func (t *Tracker) Placement() *ring.Placement { return t.snap.Load().Placement }

// Proxies is Operator's.
func (t *Tracker) Proxies(_ context.Context, after ProxyID, most int) (page []ProxyReport, more bool, err error) {
	if most <= 0 || most > MaxProxies {
		most = MaxProxies
	}
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	heard := map[ProxyID]lease.HeardProxy{}
	for _, h := range t.ledger.Heard(now) {
		heard[h.Proxy] = h
	}
	ids := map[ProxyID]bool{}
	for _, known := range []map[ProxyID]*life{t.proxies, t.restored} {
		for id := range known {
			ids[id] = true
		}
	}
	for id := range heard {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if id <= after {
			continue
		}
		if len(page) == most {
			return page, true, nil
		}
		page = append(page, t.proxyLocked(now, id, heard[id]))
	}
	return page, false, nil
}

func (t *Tracker) proxyLocked(now time.Time, id ProxyID, h lease.HeardProxy) ProxyReport {
	r := ProxyReport{Proxy: Proxy{ID: id}, Incarnation: h.Incarnation, Heard: h.Age, Stalled: h.Stalled, WaitedFor: h.WaitedFor, Ended: h.Ended}
	l := cmp.Or(t.proxies[id], t.restored[id])
	if l == nil {
		return r
	}
	r.Restored = l.restored.Load()
	if p := l.proxy.Load(); p != nil {
		r.Proxy = *p
	}
	if r.Incarnation.Less(l.incarnation) {
		r.Incarnation = l.incarnation
	}
	r.Lease = l.left(now, func(*coverage) bool { return true })
	if s := l.session; s != nil {
		r.Session, r.Claims = true, s.held.Load()
		st, _ := t.groundsLocked(now, l).state(now)
		r.Counted = st.Counted.Len()
	}
	return r
}

// groundsLocked is what says whether the claims of a life count now.
func (t *Tracker) groundsLocked(now time.Time, l *life) stateGrounds {
	return stateGrounds{t.ledger.Counting(now, l.id, l.incarnation), l.lease.Load()}
}

// left is until when the last of a life's leases that match runs.
func (l *life) left(now time.Time, match func(*coverage) bool) time.Duration {
	var end int64
	for _, c := range []*coverage{l.lease.Load(), l.former.Load()} {
		for ; c != nil; c = c.before {
			if match(c) {
				end = max(end, c.until)
			}
		}
	}
	if l.dead.Load() || l.restored.Load() {
		return 0
	}
	return max(0, time.Duration(end-now.UnixNano()))
}

// Explain is Operator's.
func (t *Tracker) Explain(_ context.Context, id ID) (Explanation, error) {
	k, err := ParseID(id)
	if err != nil {
		return Explanation{}, err
	}
	own, _ := t.lookHere(k)
	hash := k.Hash()
	e := Explanation{Self: t.self, Hash: hash, Shard: ring.ShardOf(hash, t.cfg.Shards), Answer: own.Answer}
	held := t.table.Lookup(hash, k, nil)
	all := *t.lives.all.Load()
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	snap := t.ledger.Snapshot()
	e.View = t.sums
	if snap.Placement != nil {
		e.List = snap.Placement.List(e.Shard)
	}
	e.InForce, e.Open = snap.InForce(now, e.Shard), snap.Open(now, e.Shard)
	for _, h := range t.ledger.Holdups(now) {
		if h.Shards.Has(e.Shard) && len(e.Holdups) < MaxHoldups {
			h.Shards = nil
			e.Holdups = append(e.Holdups, h)
		}
	}
	for _, h := range held {
		if int(h.Owner) < len(all) && all[h.Owner] != nil {
			e.Claims = append(e.Claims, t.explainLocked(now, id, e.Shard, all[h.Owner], h.Value))
		}
	}
	for _, u := range t.unaries.Lookup(now, id, nil) {
		c := ExplainedClaim{Claim: Claim{id, u.Proxy, u.Generation, u.Age}, Unary: true, Covered: true, Left: u.Left, Counted: e.InForce}
		if !e.InForce {
			c.Why = NotInForce.String()
		}
		e.Claims = append(e.Claims, c)
	}
	slices.SortStableFunc(e.Claims, func(a, b ExplainedClaim) int { return compareClaims(a.Claim, b.Claim) })
	return e, nil
}

func (t *Tracker) explainLocked(now time.Time, id ID, sh ring.Shard, l *life, v Value) ExplainedClaim {
	c := ExplainedClaim{Incarnation: l.incarnation, Session: l.session != nil, Covered: !l.restored.Load() && l.covered(now.UnixNano(), sh)}
	c.Claim = Claim{Node: id, Proxy: Proxy{ID: l.id}, Generation: v.Generation, Age: time.Duration(t.age(now, v.Stamp)) * stampUnit}
	if p := l.proxy.Load(); p != nil {
		c.Proxy = *p
	}
	c.Left = l.left(now, func(c *coverage) bool { return c.shards.Has(sh) })
	st, _ := t.groundsLocked(now, l).state(now)
	c.Counted = c.Covered && st.Counted.Has(sh)
	switch {
	case c.Counted:
	case l.dead.Load():
		c.Why = "this life of its proxy is over, and the claim about to be dropped"
	case l.restored.Load():
		c.Why = "it came from a snapshot, and its proxy has not come for it"
	case !c.Covered:
		c.Why = "the lease of its proxy ran out"
	case !st.holds(sh):
		c.Why = "the shard is not placed here"
	default:
		for _, u := range st.Why {
			if u.Shards.Has(sh) {
				c.Why = u.Why.String()
				break
			}
		}
	}
	return c
}

// holds reports whether the state speaks of a shard.
func (s *State) holds(sh ring.Shard) bool {
	return s.Counted.Has(sh) || slices.ContainsFunc(s.Why, func(u Uncounted) bool { return u.Shards.Has(sh) })
}

// Draining says what this tracker still has to hand over, if anything, and how much
// is here.
func (t *Tracker) Draining() DrainStep {
	return DrainStep{Left: t.undrained(), Shards: t.snap.Load().Held.Len(), Claims: t.table.Len()}
}
