package lease

import (
	"fmt"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// simProxy is one life of a proxy.
type simProxy struct {
	process
	s           *sim
	index       int
	id          ProxyID
	incarnation Incarnation
	settledAs   bool // a State said that the seats know this incarnation
	claims      []*simNode
	links       []*simLink // by tracker
	view        *ring.Placement
	counted     ring.ShardSet // shards of which a holder of the view's list counted what was sent since
	died        time.Duration
}

// simLink is a proxy's side of its sessions with one tracker.
type simLink struct {
	index    int
	st       *stream
	welcomed bool
	seq      uint64
	sent     []time.Time // by seq
	took     uint64      // what is later was sent after the proxy took its view
	kept     ring.ShardSet
	queue    []chunk
	acked    uint64
	unsent   map[ring.Shard]bool   // Replace not begun, or not ended
	replaced map[ring.Shard]uint64 // by its last chunk
	complete *ring.Placement       // all that it places here has gone
	nonce    Nonce
	nonceAt  time.Time
	lease    time.Time // of all sessions so far: the tracker may rely on it until then
	view     *ring.Placement
	pumping  bool
}

// chunk is a part of a shard that is to be replaced.
type chunk struct {
	shard       ring.Shard
	k, n        int
	begin, last bool
}

// startProxy starts a proxy, or starts it again with nothing. former is its last
// incarnation; a clock that was set back makes a lower one.
func (s *sim) startProxy(i int, former Incarnation) {
	p := &simProxy{process: s.newProcess(s.cfg.Trackers + i), s: s, index: i, id: ProxyID(fmt.Sprintf("p-%d", i))}
	p.incarnation = Incarnation{former.Number + 1, s.r.Uint64()}
	if s.r.IntN(2) == 0 {
		p.incarnation.Number = 1
	}
	for t := range s.cfg.Trackers {
		p.links = append(p.links, &simLink{index: t, kept: ring.NewShardSet(s.cfg.Shards), unsent: map[ring.Shard]bool{}, replaced: map[ring.Shard]uint64{}})
	}
	if i == len(s.proxies) {
		s.proxies = append(s.proxies, p)
	} else {
		s.proxies[i] = p
	}
	s.tell("p-%d starts, incarnation %d", i, p.incarnation.Number)
	s.at(s.now+s.between(0, time.Second), &p.process, p.connect)
	s.at(s.now+s.between(0, term/4), &p.process, func() { // its nodes come again
		for i := s.r.IntN(5); i > 0 && !s.calm; i-- {
			p.add()
		}
		p.work()
	})
}

func (p *simProxy) now() time.Time { return p.time(p.s.now) }

// connect opens sessions to the trackers that have none.
func (p *simProxy) connect() {
	p.s.at(p.s.now+p.s.between(term/20, term/10), &p.process, p.connect)
	for i, t := range p.s.trackers {
		l := p.links[i]
		if t == nil || l.st != nil {
			continue
		}
		var st *stream
		st = p.s.dial(&p.process, &t.process, func() { p.disconnected(l, st) }, func() {})
		if st == nil {
			continue
		}
		l.st = st
		ss := &simSession{st: st, p: p, link: l, incarnation: p.incarnation, fresh: map[ring.Shard]map[*simNode]bool{}}
		has := len(p.claims) > 0
		p.s.send(st, &p.process, func() { t.hello(ss, has) })
		p.s.sessions[st] = ss
	}
}

// disconnected ends what the proxy has with a tracker but for the lease, which lasts.
func (p *simProxy) disconnected(l *simLink, st *stream) {
	delete(p.s.sessions, st)
	if l.st != st {
		return
	}
	l.st, l.welcomed, l.seq, l.sent, l.took, l.acked, l.queue, l.complete = nil, false, 0, nil, 0, 0, nil, nil
	l.nonce = 0
	clear(l.unsent)
	clear(l.replaced)
	for _, n := range p.s.nodes {
		if n.proxy == p {
			n.at[l.index].seq, n.at[l.index].removal = 0, 0
		}
	}
}

// refused is told of a later life: this one takes the number after it, unless the
// seats knew it before; then it has been superseded.
func (p *simProxy) refused(l *simLink, st *stream, known Incarnation) {
	if l.st != st || known.Less(p.incarnation) {
		return
	}
	if p.settledAs {
		p.s.tell("p-%d is superseded", p.index)
		p.stop()
		return
	}
	p.incarnation = Incarnation{known.Number + 1, p.s.r.Uint64()}
	p.s.tell("p-%d takes incarnation %d", p.index, p.incarnation.Number)
	for _, l := range p.links {
		if l.st != nil {
			st := l.st
			p.s.sever(st)
			p.disconnected(l, st)
		}
	}
}

// stop ends this life: its claims are gone a term later.
func (p *simProxy) stop() {
	p.up, p.died = false, p.s.now
	for _, n := range p.s.nodes {
		if n.proxy == p && n.goneAt == 0 {
			n.goneAt = p.s.now + time.Duration(1.05*float64(term))
		}
	}
	sever := func() { p.s.severAll(func(st *stream) bool { return st.a == &p.process }) }
	p.s.at(p.s.now+term/100, nil, sever) // what it said last may come
}

// welcomed compares sums: shards that differ are replaced, others released.
func (p *simProxy) welcomed(l *simLink, st *stream, sums map[ring.Shard]uint64) {
	if l.st != st {
		return
	}
	l.welcomed = true
	if p.view != nil {
		l.kept.Or(p.view.Held(memberID(l.index)))
	}
	mine := map[ring.Shard]uint64{}
	for _, n := range p.claims {
		if l.kept.Has(n.shard) {
			mine[n.shard] += nodeSum(n)
		}
	}
	released := ring.NewShardSet(p.s.cfg.Shards)
	some := false
	for i := range p.s.cfg.Shards {
		switch sh := ring.Shard(i); {
		case !l.kept.Has(sh) && sums[sh] != 0:
			released.Add(sh)
			some = true
		case l.kept.Has(sh) && sums[sh] != mine[sh] && !l.unsent[sh]:
			p.replace(l, sh)
		case l.kept.Has(sh) && sums[sh] == mine[sh]:
			for _, n := range p.claims {
				if n.shard == sh && n.at[l.index].seq == 0 {
					n.at[l.index].seq, n.at[l.index].ever = 1, true // proven by the next sum
				}
			}
		}
	}
	if some {
		p.sendRelease(l, released)
	}
	p.completed(l)
}

// send sends with the next seq.
func (p *simProxy) send(l *simLink, f func(t *simTracker, ss *simSession, seq uint64)) uint64 {
	if l.seq == 0 {
		l.seq, l.sent = 1, []time.Time{p.now(), p.now()} // seq 1 is the Hello's: nothing is sent with it
	}
	l.seq++
	l.sent = append(l.sent, p.now())
	seq, ss := l.seq, p.s.sessions[l.st]
	p.s.send(l.st, &p.process, func() {
		for _, t := range p.s.trackers {
			if t != nil && &t.process == ss.st.b {
				f(t, ss, seq)
			}
		}
	})
	return seq
}

// replace begins to send a shard anew: the beginning at once, so that sums leave it
// out, the rest in chunks.
func (p *simProxy) replace(l *simLink, sh ring.Shard) {
	l.unsent[sh] = true
	n := 1 + p.s.r.IntN(3)
	if !p.s.without("confirm") {
		p.send(l, func(t *simTracker, ss *simSession, seq uint64) { t.replace(ss, seq, sh, nil, true, false) })
	}
	for k := range n {
		l.queue = append(l.queue, chunk{sh, k, n, p.s.without("confirm") && k == 0, k == n-1})
	}
	p.pump(l)
}

// pump sends the chunks that wait, one at a time, as the credits allow.
func (p *simProxy) pump(l *simLink) {
	if l.pumping {
		return
	}
	l.pumping = true
	d := p.s.between(time.Millisecond, 20*time.Millisecond)
	if !p.s.calm && p.s.r.Float64() < p.s.cfg.Slow {
		d = p.s.between(0, term)
	}
	p.s.at(p.s.now+d, &p.process, func() {
		l.pumping = false
		if len(l.queue) == 0 || !l.welcomed {
			return
		}
		c := l.queue[0]
		l.queue = l.queue[1:]
		var nodes []*simNode
		for _, n := range p.claims {
			if n.shard == c.shard && n.id%c.n == c.k {
				nodes = append(nodes, n)
				n.at[l.index].ever = true
			}
		}
		seq := p.send(l, func(t *simTracker, ss *simSession, seq uint64) { t.replace(ss, seq, c.shard, nodes, c.begin, c.last) })
		if c.last {
			delete(l.unsent, c.shard)
			l.replaced[c.shard] = seq
			for _, n := range p.claims {
				if r := &n.at[l.index]; n.shard == c.shard && r.seq == 0 {
					r.seq = seq
				}
			}
		}
		if len(l.queue) > 0 {
			p.pump(l)
		} else {
			p.completed(l)
		}
	})
}

// completed notes that all that the view places at a tracker has gone, and says so.
func (p *simProxy) completed(l *simLink) {
	if p.view == nil || !l.welcomed || len(l.queue) > 0 && !p.s.without("confirm") {
		return
	}
	if l.complete != p.view {
		l.complete = p.view
		p.renew(l)
	}
}

// nonce takes a tracker's nonce, and renews with it.
func (p *simProxy) nonce(l *simLink, st *stream, n Nonce, view *ring.Placement) {
	if l.st != st {
		return
	}
	l.nonce, l.nonceAt, l.view = n, p.now(), view
	p.chooseView()
	p.renew(l)
}

func (p *simProxy) renew(l *simLink) {
	if !l.welcomed || l.nonce == 0 {
		return
	}
	var sum uint64
	for _, n := range p.claims {
		if l.kept.Has(n.shard) && !l.unsent[n.shard] {
			sum += nodeSum(n)
		}
	}
	var fp ring.Fingerprint
	if l.complete != nil {
		fp = l.complete.Fingerprint()
	}
	if end := l.nonceAt.Add(simTerm.Given()); end.After(l.lease) {
		l.lease = end
	}
	nonce, has := l.nonce, len(p.claims) > 0
	view := l.complete
	p.send(l, func(t *simTracker, ss *simSession, seq uint64) {
		if view != nil {
			t.l.Know(t.now(), view) // it fetches what it does not know
		}
		t.renew(ss, seq, nonce, has, sum, fp)
	})
}

// acked takes an Ack, or with seq 0 a State alone.
func (p *simProxy) acked(l *simLink, st *stream, seq uint64, counted ring.ShardSet, known bool, view *ring.Placement) {
	if l.st != st {
		return
	}
	p.settledAs = p.settledAs || known
	l.view, l.acked = view, max(l.acked, seq)
	now := p.now()
	for _, n := range p.claims {
		r := &n.at[l.index]
		switch {
		case !counted.Has(n.shard):
			r.promised = time.Time{}
		case r.seq != 0 && r.seq <= l.acked:
			n.promise(p.s, now)
			r.promised = l.sent[l.acked].Add(simTerm.Held())
		}
	}
	for _, n := range p.s.nodes {
		if n.proxy == p && n.removing {
			if r := &n.at[l.index]; r.removal != 0 && r.removal <= l.acked {
				r.ever, r.removal = false, 0
			}
			n.checkRemoved(p)
		}
	}
	if l.acked > l.took && p.view != nil && !p.s.without("early release") {
		for sh := range counted.All() {
			if l.acked >= l.replaced[sh] && !l.unsent[sh] && p.view.SameList(view, sh) && p.view.Held(memberID(l.index)).Has(sh) {
				p.counted.Add(sh)
			}
		}
	}
	p.releaseFormer()
}

// work adds and removes claims.
func (p *simProxy) work() {
	p.s.at(p.s.now+p.s.between(term/10, term), &p.process, p.work)
	if p.s.calm {
		p.checkRemovals()
		return
	}
	if k := p.s.r.IntN(10); k < 6 && len(p.claims) < 12 {
		p.add()
	} else if k < 9 && len(p.claims) > 0 {
		p.remove(p.claims[max(p.s.r.IntN(len(p.claims)), p.s.r.IntN(len(p.claims)))]) // rather a young one
	}
	p.checkRemovals()
}

func (p *simProxy) add() {
	n := p.s.newNode(p)
	p.claims = append(p.claims, n)
	p.s.tally.added++
	for _, l := range p.links {
		if l.welcomed && l.kept.Has(n.shard) {
			n.at[l.index].ever = true
			n.at[l.index].seq = p.send(l, func(t *simTracker, ss *simSession, seq uint64) { t.batch(ss, seq, []*simNode{n}, nil) })
		}
	}
}

func (p *simProxy) remove(n *simNode) {
	p.claims = slices.DeleteFunc(p.claims, func(o *simNode) bool { return o == n })
	n.removing = true
	for _, l := range p.links {
		r := &n.at[l.index]
		r.promised = time.Time{}
		if !r.ever {
			continue
		}
		r.leaseEnd = l.lease
		if l.welcomed && l.kept.Has(n.shard) {
			r.removal = p.send(l, func(t *simTracker, ss *simSession, seq uint64) { t.batch(ss, seq, nil, []*simNode{n}) })
		}
	}
	n.checkRemoved(p)
}

func (p *simProxy) checkRemovals() {
	for _, n := range p.s.nodes {
		if n.proxy == p && n.removing {
			n.checkRemoved(p)
		}
	}
}
