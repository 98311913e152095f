package lease

import (
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// proxyClaims is what a tracker has of one proxy: the claims of one incarnation.
type proxyClaims struct {
	incarnation Incarnation
	m           map[*simNode]*simClaim
	cur         *simSession
	covered     time.Time // no claim was covered for longer than this, but by cur
}

type simClaim struct {
	// former is until when the sessions before the present one cover the claim: it
	// counts until the shard is proven in the present one.
	former time.Time
}

// simSession is a tracker's side of a session.
type simSession struct {
	st          *stream
	p           *simProxy
	link        *simLink
	incarnation Incarnation
	welcomed    bool
	proven      ring.ShardSet
	fresh       map[ring.Shard]map[*simNode]bool // by shard that is being replaced
	lease       time.Time
	told        ring.ShardSet // the last State
}

// nodeSum is what a node adds to the sums that sessions compare.
func nodeSum(n *simNode) uint64 { return uint64(n.id)*0x9e3779b97f4a7c15 | 1 }

func (c *proxyClaims) covers(now time.Time, n *simNode) bool {
	k := c.m[n]
	if k == nil {
		return false
	}
	if s := c.cur; s != nil && s.proven.Has(n.shard) {
		return now.Before(s.lease)
	}
	return now.Before(k.former)
}

// hello takes a new session. A session of an earlier life is told of the later one.
func (t *simTracker) hello(ss *simSession, hasClaims bool) {
	p, c := ss.p, t.claims[ss.p.index]
	known, floor := t.l.KnownLife(p.id)
	if ss.incarnation.Less(known) || ss.incarnation.Less(floor) || ss.incarnation.Less(c.incarnation) {
		t.refuse(ss)
		return
	}
	t.fence(c)
	if c.incarnation.Less(ss.incarnation) {
		clear(c.m)
	}
	c.incarnation, c.cur = ss.incarnation, ss
	ss.proven = ring.NewShardSet(t.s.cfg.Shards)
	t.spoke(p.id, ss.incarnation, hasClaims)
	if t.l.Informed(t.now()) {
		t.welcome(ss)
	} else {
		t.s.at(t.truly(t.now().Add(time.Second)), &t.process, func() { t.welcome(ss) })
	}
}

// fence ends the present session; what it covered stays so to the end of its lease.
func (t *simTracker) fence(c *proxyClaims) {
	s := c.cur
	if s == nil {
		return
	}
	for n, k := range c.m {
		if s.proven.Has(n.shard) {
			k.former = s.lease
		}
	}
	if s.lease.After(c.covered) {
		c.covered = s.lease
	}
	c.cur = nil
	t.s.sever(s.st)
}

func (t *simTracker) refuse(ss *simSession) {
	known, floor := t.l.KnownLife(ss.p.id)
	for _, i := range []Incarnation{floor, t.claims[ss.p.index].incarnation} {
		if known.Less(i) {
			known = i
		}
	}
	p := ss.p
	t.s.send(ss.st, &t.process, func() { p.refused(ss.link, ss.st, known) })
}

func (t *simTracker) welcome(ss *simSession) {
	c := t.claims[ss.p.index]
	if c.cur != ss || ss.welcomed {
		return
	}
	if known, floor := t.l.KnownLife(ss.p.id); ss.incarnation.Less(known) || ss.incarnation.Less(floor) {
		t.refuse(ss)
		return
	}
	ss.welcomed = true
	sums := map[ring.Shard]uint64{}
	for n := range c.m {
		sums[n.shard] += nodeSum(n)
	}
	t.s.send(ss.st, &t.process, func() { ss.p.welcomed(ss.link, ss.st, sums) })
	t.sendNonce(ss)
}

func (t *simTracker) sendNonce(ss *simSession) {
	n, placed := t.l.Nonce(t.now()), t.placed
	t.s.send(ss.st, &t.process, func() { ss.p.nonce(ss.link, ss.st, n, placed) })
}

// offerNonces sends nonces to all sessions: every third of a term, and when lists
// came into force.
func (t *simTracker) offerNonces() {
	for _, c := range t.claims {
		if ss := c.cur; ss != nil && ss.welcomed {
			t.sendNonce(ss)
		}
	}
}

// speaks reports whether a session may still say something (rule 9).
func (t *simTracker) speaks(ss *simSession) (*proxyClaims, bool) {
	c := t.claims[ss.p.index]
	if c.cur != ss && !t.s.without("fence") {
		return c, false
	}
	return c, c.incarnation == ss.incarnation || c.cur == ss
}

func (t *simTracker) batch(ss *simSession, seq uint64, adds, removes []*simNode) {
	c, ok := t.speaks(ss)
	if !ok {
		return
	}
	for _, n := range adds {
		if c.m[n] == nil {
			c.m[n] = &simClaim{}
		}
		if f := ss.fresh[n.shard]; f != nil {
			f[n] = true
		}
	}
	for _, n := range removes {
		delete(c.m, n)
		delete(ss.fresh[n.shard], n)
	}
	t.spoke(ss.p.id, ss.incarnation, true)
	t.ack(ss, seq)
}

// replace takes a chunk of a shard: with the last one the new content takes the
// place of the old.
func (t *simTracker) replace(ss *simSession, seq uint64, sh ring.Shard, nodes []*simNode, begin, last bool) {
	c, ok := t.speaks(ss)
	if !ok {
		return
	}
	if begin || ss.fresh[sh] == nil && t.s.without("fence") {
		ss.fresh[sh] = map[*simNode]bool{}
	}
	f := ss.fresh[sh]
	for _, n := range nodes {
		f[n] = true
	}
	if last {
		for n := range c.m {
			if n.shard == sh && !f[n] {
				delete(c.m, n)
			}
		}
		for n := range f {
			if c.m[n] == nil {
				c.m[n] = &simClaim{}
			}
		}
		delete(ss.fresh, sh)
		ss.proven.Add(sh)
	}
	t.ack(ss, seq)
}

// renew is the proxy's lease and confirm; one with a wrong sum is answered with what
// is here, and prolongs nothing.
func (t *simTracker) renew(ss *simSession, seq uint64, nonce Nonce, hasClaims bool, sum uint64, view ring.Fingerprint) {
	c, ok := t.speaks(ss)
	if !ok {
		return
	}
	t.spoke(ss.p.id, ss.incarnation, hasClaims)
	complete := ring.FullShardSet(t.s.cfg.Shards)
	for sh := range ss.fresh {
		complete.Remove(sh)
	}
	sums := map[ring.Shard]uint64{}
	for n := range c.m {
		if complete.Has(n.shard) {
			sum -= nodeSum(n)
		}
		sums[n.shard] += nodeSum(n)
	}
	if sum != 0 && !t.s.without("confirm") {
		t.s.tell("t-%d finds the sum of p-%d wrong", t.index, ss.p.index)
		t.s.send(ss.st, &t.process, func() { ss.p.welcomed(ss.link, ss.st, sums) })
		return
	}
	now := t.now()
	if t.s.without("nonce") {
		nonce = t.l.Nonce(now)
	}
	ss.proven.Or(complete)
	ss.lease = nonce.Time().Add(simTerm.Held())
	if t.s.without("confirm") {
		complete = ring.FullShardSet(t.s.cfg.Shards)
	}
	t.l.Confirmed(now, ss.p.id, Confirm{ss.incarnation, nonce, view, complete})
	t.ack(ss, seq)
	t.settle()
}

// releaseShards drops what the proxy no longer keeps here.
func (t *simTracker) releaseShards(ss *simSession, seq uint64, shards ring.ShardSet) {
	c, ok := t.speaks(ss)
	if !ok {
		return
	}
	for n := range c.m {
		if shards.Has(n.shard) {
			delete(c.m, n)
		}
	}
	for sh := range ss.fresh {
		if shards.Has(sh) {
			delete(ss.fresh, sh)
		}
	}
	t.ack(ss, seq)
}

func (t *simTracker) goodbye(ss *simSession) {
	c, ok := t.speaks(ss)
	if !ok {
		return
	}
	clear(c.m)
	c.cur = nil
	t.ended(ss.p.id, ss.incarnation)
}

// counts is the shards in which a session's claims count now.
func (t *simTracker) counts(ss *simSession) (shards ring.ShardSet, known bool) {
	now := t.now()
	if t.s.without("count any") {
		return ring.FullShardSet(t.s.cfg.Shards), true
	}
	k := t.l.Counting(now, ss.p.id, ss.incarnation)
	shards, known = k.Shards(now), k.Known
	if t.s.without("known") {
		shards = t.l.Snapshot().Forced(now)
	}
	if !now.Before(ss.lease) {
		clear(shards)
	}
	shards.And(ss.proven)
	return shards, known
}

func (t *simTracker) ack(ss *simSession, seq uint64) {
	counted, known := t.counts(ss)
	ss.told = counted
	placed := t.placed
	t.s.send(ss.st, &t.process, func() { ss.p.acked(ss.link, ss.st, seq, counted, known, placed) })
}

// tellStates sends a State to each session whose claims count otherwise than told.
func (t *simTracker) tellStates() {
	for _, c := range t.claims {
		if ss := c.cur; ss != nil && ss.welcomed {
			if counted, _ := t.counts(ss); !counted.Equal(ss.told) {
				t.ack(ss, 0)
			}
		}
	}
}

// dropForgotten drops claims that nothing covers of proxies that nobody has heard
// of for two terms, and their sessions (rule 8).
func (t *simTracker) dropForgotten(now time.Time) {
	for i, c := range t.claims {
		if c.cur != nil && now.Before(c.cur.lease) || now.Before(c.covered) || len(c.m) == 0 && c.cur == nil {
			continue
		}
		if now.Sub(t.l.LastHeard(t.s.proxies[i].id)) > simTerm.Forgotten() {
			if c.cur != nil {
				t.s.sever(c.cur.st)
			}
			clear(c.m)
			c.cur, c.incarnation = nil, Incarnation{}
		}
	}
}
