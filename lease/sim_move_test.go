package lease

import (
	"slices"

	"github.com/trackerpool/trackerpool/ring"
)

// chooseView takes the view that most seats have.
func (p *simProxy) chooseView() {
	votes := map[ring.Fingerprint]int{}
	var best *ring.Placement
	n := 0
	for pass := range 2 {
		for i, l := range p.links {
			if l.st == nil || l.view == nil || (pass == 0) != (i < p.s.cfg.Seats) || pass == 1 && best != nil {
				continue
			}
			fp := l.view.Fingerprint()
			votes[fp]++
			if votes[fp] > n || votes[fp] == n && p.view != nil && p.view.Fingerprint() == fp {
				best, n = l.view, votes[fp]
			}
		}
	}
	if best == nil || p.view != nil && best.Fingerprint() == p.view.Fingerprint() {
		return
	}
	p.s.tell("p-%d takes view %x", p.index, best.Fingerprint()>>48)
	p.view = best
	p.counted = ring.NewShardSet(p.s.cfg.Shards)
	for i, l := range p.links {
		l.took = l.seq
		if l.welcomed {
			for sh := range best.Held(memberID(i)).All() {
				if !l.kept.Has(sh) {
					l.kept.Add(sh)
					if slices.ContainsFunc(p.claims, func(n *simNode) bool { return n.shard == sh }) && !l.unsent[sh] {
						p.replace(l, sh)
					}
				}
			}
			p.completed(l)
		}
	}
	if p.s.without("early release") {
		for i := range p.s.cfg.Shards {
			p.counted.Add(ring.Shard(i))
		}
		p.releaseFormer()
	}
}

// releaseFormer releases former holders of the shards that a new one counted.
func (p *simProxy) releaseFormer() {
	if p.view == nil {
		return
	}
	for i, l := range p.links {
		if !l.welcomed {
			continue
		}
		r := l.kept.Clone()
		r.AndNot(p.view.Held(memberID(i)))
		r.And(p.counted)
		if !r.Empty() {
			p.sendRelease(l, r)
		}
	}
}

func (p *simProxy) sendRelease(l *simLink, shards ring.ShardSet) {
	l.kept.AndNot(shards)
	l.queue = slices.DeleteFunc(l.queue, func(c chunk) bool { return shards.Has(c.shard) })
	for sh := range shards.All() {
		delete(l.unsent, sh)
	}
	seq := p.send(l, func(t *simTracker, ss *simSession, seq uint64) { t.releaseShards(ss, seq, shards) })
	for _, n := range p.s.nodes {
		if r := &n.at[l.index]; n.proxy == p && shards.Has(n.shard) {
			r.seq = 0
			if n.removing && r.ever {
				r.removal = seq
			}
		}
	}
	p.completed(l)
}
