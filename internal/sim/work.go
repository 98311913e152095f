package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

func nodeID(i int) node.ID { return node.ID(fmt.Sprintf("n-%03d", i)) }

// writeTime bounds a call of Add or Remove, which wait for a second by themselves.
const writeTime = 5 * time.Second

// workNode has one node come, hop between proxies and go, while the pool works.
// Sometimes it is at two for a while, as a node is that lost a connection without
// a word.
func (p *Pool) workNode(i int) {
	id := nodeID(i)
	rng := rand.New(rand.NewPCG(p.cfg.Seed, uint64(1_000_000+i)))
	var generation uint64
	for p.sleep(time.Duration(200+rng.IntN(8000)) * time.Millisecond) {
		if !p.working.Load() {
			continue
		}
		to := p.proxies[rng.IntN(len(p.proxies))].life.Load()
		if to == nil || to.frozen.Load() {
			continue
		}
		// What stays at other proxies is taken back by a later turn.
		former := p.truth.at(id)
		generation++
		if rng.IntN(8) > 0 || len(former) == 0 {
			p.add(id, to, generation)
		}
		if rng.IntN(8) > 0 {
			for _, l := range former {
				if from := l.process(); from != nil && from != to && !from.frozen.Load() {
					p.remove(id, from)
				}
			}
		}
		if rng.IntN(16) == 0 {
			p.remove(id, to)
		}
	}
}

// process returns the process of a life, if it is its proxy's latest.
func (l *life) process() *proxyProcess {
	if x := l.proxy.life.Load(); x != nil && x.life == l {
		return x
	}
	return nil
}

func (p *Pool) add(id node.ID, to *proxyProcess, generation uint64) {
	ctx, cancel := context.WithTimeout(p.ctx, writeTime)
	defer cancel()
	p.truth.adding(id, to.life)
	err := to.client.Add(ctx, node.Claim{Node: id, Generation: generation})
	p.counts.adds.Add(1)
	if err == nil {
		p.counts.counted.Add(1)
	}
	p.truth.added(id, to.life, err == nil)
}

func (p *Pool) remove(id node.ID, from *proxyProcess) {
	ctx, cancel := context.WithTimeout(p.ctx, writeTime)
	defer cancel()
	p.truth.removing(id, from.life)
	p.counts.removes.Add(1)
	if from.client.Remove(ctx, "", id) == nil {
		p.truth.removed(id, from.life)
	}
}
