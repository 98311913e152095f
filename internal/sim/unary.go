package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// held is by how much a unary claim may outlive its deadline: as long as its copy
// may be under way to another tracker, which counts what was left when it was
// sent.
const held = time.Minute

// A unaryNode is one that is claimed for proxies without sessions: by one that
// renews its claim, and by one that does so once in a while, whose claim must end
// all the same.
type unaryNode struct {
	pool *Pool
	id   node.ID
	rng  *rand.Rand
	of   [2]unaryFact
}

type unaryFact struct {
	proxy   node.Proxy
	until   time.Time // after that it is not found
	removed time.Time // it was, everywhere, and nothing has gone wrong since it was added
	safe    time.Time // until then it is not denied, if nothing goes wrong
	added   time.Time
}

func (p *Pool) newUnaryNode(i int) *unaryNode {
	u := &unaryNode{pool: p, id: node.ID(fmt.Sprintf("u-%03d", i)), rng: rand.New(rand.NewPCG(p.cfg.Seed, uint64(2_000_000+i)))}
	for k := range u.of {
		u.of[k].proxy = node.Proxy{ID: node.ProxyID(fmt.Sprintf("q-%d-%d", i, k)), Addr: fmt.Sprintf("10.9.%d.%d:443", k, i+1)}
	}
	return u
}

// work adds, renews, removes and reads, one after the other.
func (u *unaryNode) work() {
	p := u.pool
	var next [2]time.Time
	for p.sleep(time.Duration(500+u.rng.IntN(3000)) * time.Millisecond) {
		if len(p.readers) == 0 {
			return
		}
		for k := range u.of {
			if now := time.Now(); p.working.Load() && !now.Before(next[k]) {
				u.write(&u.of[k])
				next[k] = now.Add(time.Duration(8+u.rng.IntN(8)) * time.Second)
				if k == 1 {
					next[k] = now.Add(4 * p.cfg.KeepAlive)
				}
			}
		}
		u.read()
	}
}

func (u *unaryNode) write(f *unaryFact) {
	live := u.pool.live()
	if len(live) == 0 {
		return
	}
	c := u.pool.readers[0].direct(live[u.rng.IntN(len(live))])
	if c == nil {
		return
	}
	keep := u.pool.cfg.KeepAlive
	ctx, cancel := context.WithTimeout(u.pool.ctx, lookupTime)
	defer cancel()
	u.pool.counts.unaries.Add(1)
	began := time.Now()
	if u.rng.IntN(6) == 0 && !f.until.IsZero() {
		f.safe = time.Time{}
		r, err := c.RemoveNode(ctx, u.id, f.proxy.ID)
		// Whoever held it before lists changed keeps it to its deadline, untold.
		if err == nil && r.Copies == r.Replicas && u.pool.undisturbed(time.Now().Add(-keep-held)) {
			f.removed = time.Now()
		}
		return
	}
	f.removed, f.safe = time.Time{}, time.Time{}
	w, err := c.AddNode(ctx, node.Claim{Node: u.id, Proxy: f.proxy})
	f.until = time.Now().Add(time.Duration(float64(keep)*(1+1.1*maxDrift)) + held)
	if f.added = began; err == nil && w.Counted && w.Copies == w.Replicas {
		f.safe = began.Add(time.Duration(float64(keep) * (1 - 1.1*maxDrift)))
	}
}

// undisturbed reports whether nothing went wrong since a time.
func (p *Pool) undisturbed(since time.Time) bool {
	return p.acting.Load() == 0 && p.disturbed.Load() < since.Sub(p.began).Nanoseconds()
}

func (u *unaryNode) read() {
	r := u.pool.readers[u.rng.IntN(len(u.pool.readers))]
	var by looker = r.client
	if live := u.pool.live(); u.rng.IntN(2) == 0 && len(live) > 0 {
		by = r.direct(live[u.rng.IntN(len(live))])
	}
	ctx, cancel := context.WithTimeout(u.pool.ctx, lookupTime)
	defer cancel()
	began := time.Now()
	answer, claims, err := by.Lookup(ctx, u.id)
	u.pool.counts.lookups.Add(1)
	if err != nil {
		return
	}
	for _, c := range claims {
		for k := range u.of {
			f := &u.of[k]
			switch {
			case answer != node.Found || c.Proxy != f.proxy:
			case f.until.IsZero() || f.until.Add(cacheFound).Before(began):
				u.pool.violate("FOUND for unary %s names %s, whose claim was to end by %v", u.id, c.Proxy.ID, u.pool.at(f.until))
			case !f.removed.IsZero() && f.removed.Add(cacheFound).Before(began):
				u.pool.violate("FOUND for unary %s names %s, whose claim was removed at %v", u.id, c.Proxy.ID, u.pool.at(f.removed))
			}
		}
	}
	for k := range u.of {
		f := &u.of[k]
		if answer == node.Absent && time.Now().Before(f.safe) && f.added.Before(began.Add(-cacheAbsent)) && u.pool.undisturbed(f.added) {
			u.pool.violate("ABSENT for unary %s, but the claim of %s is held until %v", u.id, f.proxy.ID, u.pool.at(f.safe))
		}
	}
}
