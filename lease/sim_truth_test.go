package lease

import (
	"fmt"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// simNode is a node that one writer claimed once: a proxy, or with nil AddNode.
type simNode struct {
	id       int
	shard    ring.Shard
	proxy    *simProxy
	at       []claimAt     // by tracker
	from     time.Duration // since when without a break the claim is promised
	counted  bool
	removing bool
	goneAt   time.Duration // when nobody may find it any more; 0: not yet
	write    *simWrite     // of a unary claim: the last call
}

// claimAt is what a proxy knows of its claim at one tracker.
type claimAt struct {
	ever     bool      // sent, and not known to be gone
	seq      uint64    // of the message that brought it in this session
	promised time.Time // it counts there until then
	removal  uint64    // seq of the removal
	leaseEnd time.Time // when the tracker relies no more on what was sent before the removal
}

func (s *sim) newNode(p *simProxy) *simNode {
	n := &simNode{id: len(s.nodes), shard: ring.Shard(s.r.IntN(s.cfg.Shards)), proxy: p, at: make([]claimAt, s.cfg.Trackers)}
	s.nodes = append(s.nodes, n)
	return n
}

// someNode prefers young ones: of those is most to be said.
func (s *sim) someNode() *simNode {
	if len(s.nodes) == 0 {
		return nil
	}
	return s.nodes[len(s.nodes)-1-s.r.IntN(min(len(s.nodes), 30))]
}

// promised reports whether some tracker's count of the claim still holds.
func (n *simNode) promised(now time.Time) bool {
	return slices.ContainsFunc(n.at, func(r claimAt) bool { return now.Before(r.promised) })
}

// promise is called before a count is noted.
func (n *simNode) promise(s *sim, now time.Time) {
	if !n.promised(now) {
		n.from = s.now
	}
	if !n.counted {
		n.counted = true
		s.tally.counted++
	}
}

// checkRemoved notes that a removal is acknowledged: no tracker has the claim, or no
// lease that it may rely on for it.
func (n *simNode) checkRemoved(p *simProxy) {
	now := p.now()
	for i := range n.at {
		if r := &n.at[i]; r.ever && now.Before(r.leaseEnd) {
			return
		}
	}
	n.removing, n.goneAt = false, p.s.now
}

// lookup is one reader's question to all holders of the list as it has it.
type lookup struct {
	n        *simNode
	start    time.Duration
	promised bool
	gone     bool
	custody  *custody
	answers  []byte
	who      []ring.MemberID
}

// read asks for some nodes, every holder at a slightly different time.
func (s *sim) read() {
	for range 3 {
		n, t := s.someNode(), s.someTracker()
		if n == nil || t == nil {
			return
		}
		l := &lookup{n: n, start: s.now, who: t.placed.List(n.shard)}
		sum := t.placed.ListSum(n.shard)
		if n.proxy == nil {
			l.custody = s.custody[n]
		} else {
			l.promised = n.proxy.up && n.promised(n.proxy.now())
			l.gone = n.goneAt != 0 && n.goneAt < s.now
		}
		for _, id := range l.who {
			h := s.tracker(id)
			s.at(s.now+s.between(0, term/10), nil, func() {
				a := byte('?')
				if h != nil && h.up && h.frozen <= s.now {
					a = h.answer(n, sum)
				}
				if l.answers = append(l.answers, a); len(l.answers) == len(l.who) {
					s.judge(l)
				}
			})
		}
	}
}

// answer is what a holder says: F, N or ? (rules 1, 7 and 8). It finds under any
// list, and denies under the reader's alone.
func (t *simTracker) answer(n *simNode, sum uint64) byte {
	now := t.now()
	if p := n.proxy; p != nil {
		if c := t.claims[p.index]; c.m[n] != nil {
			if c.covers(now, n) || t.s.without("covered") {
				return 'F'
			}
			return '?'
		}
	} else if u, ok := t.unary[n]; ok && !u.gone && now.Before(u.deadline) {
		return 'F'
	}
	if t.placed.ListSum(n.shard) == sum && t.l.Snapshot().Open(now, n.shard) {
		return 'N'
	}
	return '?'
}

// judge holds what a reader saw against what was promised.
func (s *sim) judge(l *lookup) {
	n, result := l.n, byte('?')
	s.tally.reads++
	switch {
	case slices.Contains(l.answers, 'F'):
		result = 'F'
	case !slices.Contains(l.answers, '?') || s.without("every") && slices.Contains(l.answers, 'N'):
		result = 'N'
	}
	switch p := n.proxy; {
	case p == nil:
		if k := l.custody; k != nil && s.custody[n] == k && len(k.safe) > 0 && s.now < k.end {
			switch result {
			case 'F':
				s.tally.unaryFound++
			case '?':
				s.tally.unaryUnknown++
			default:
				s.flag("unary claim %d of shard %d in custody at %d trackers is ABSENT at %v, asked from %v", n.id, n.shard, len(k.safe), l.who, l.start)
			}
		}
	case l.promised && p.up && !n.removing && n.goneAt == 0 && n.promised(p.now()) && n.from <= l.start:
		switch result {
		case 'F':
			s.tally.promisedFound++
		case '?':
			s.tally.promisedUnknown++
		default:
			s.flag("claim %d of p-%d, shard %d, counted since %v is ABSENT at %v, asked from %v", n.id, p.index, n.shard, n.from, l.who, l.start)
		}
	case l.gone:
		s.tally.gone++
		switch result {
		case 'N':
			s.tally.goneAbsent++
		case 'F':
			s.flag("claim %d of p-%d, shard %d, gone since %v is FOUND at %v, asked from %v", n.id, p.index, n.shard, n.goneAt, l.who, l.start)
		}
	}
}

// oneList holds the lists in force at t against those of all others, each by its own clock.
func (s *sim) oneList(t *simTracker) {
	a := t.l.Snapshot()
	now := t.now()
	for _, o := range s.trackers {
		if o == nil || o == t || !o.up {
			continue
		}
		b, then := o.l.Snapshot(), o.now()
		for sh := range a.Held.All() {
			if a.InForce(now, sh) && b.InForce(then, sh) && !a.Placement.SameList(b.Placement, sh) {
				s.flag("two lists of shard %d are in force: %v at t-%d, %v at t-%d", sh, a.Placement.List(sh), t.index, b.Placement.List(sh), o.index)
				return
			}
		}
	}
}

// unsettled says what is not as it should be at the end, or nothing: every shard at
// every holder in force and open, and every claim where it belongs and nowhere else.
func (s *sim) unsettled() string {
	for _, t := range s.trackers {
		if t == nil || !t.up {
			continue
		}
		now := t.now()
		held, force, open := t.l.Snapshot().Tally(now)
		if open != held {
			why := fmt.Sprintf("t-%d holds %d shards, %d in force, %d open", t.index, held, force, open)
			for sh := range t.l.Snapshot().Held.All() {
				if p, m := t.l.Blocking(now, sh); len(p)+len(m) > 0 {
					return fmt.Sprintf("%s; shard %d waits for %v %v", why, sh, p, m)
				}
			}
			return why
		}
		for _, n := range s.nodes {
			p := n.proxy
			if p == nil || !t.placed.Held(t.self.ID).Has(n.shard) || !s.connected(&p.process, &t.process) {
				continue
			}
			has := t.claims[p.index].covers(now, n)
			if p.up && !n.removing && n.goneAt == 0 && !has {
				return fmt.Sprintf("t-%d lacks claim %d of p-%d, shard %d", t.index, n.id, p.index, n.shard)
			}
			if n.goneAt != 0 && n.goneAt < s.now && has {
				return fmt.Sprintf("t-%d still has claim %d of p-%d, shard %d", t.index, n.id, p.index, n.shard)
			}
		}
	}
	return ""
}
