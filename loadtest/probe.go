package loadtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trackerpool/trackerpool/node"
)

const (
	absentEvery  = 100 * time.Millisecond // a round of misses, over all shards
	countedEvery = 250 * time.Millisecond // a round of new claims, over all shards

	// slowCount is after how long a call of Add that says that its claims count has
	// waited for that: counting was interrupted meanwhile.
	slowCount = 300 * time.Millisecond

	// slowRound is how long a round takes at most that is not held up by a tracker
	// that does not answer.
	slowRound = time.Second

	longestPause = 500 * time.Millisecond // between rounds

	probers = 512 // lookups under way in a round: all at one client, which makes large batches of them
)

// A probe asks all shards over and over what they can say: whether a node is absent,
// and whether a new claim counts.
type probe struct {
	*load
	tally           *tally
	missing, fresh  []node.ID // one for each shard
	absent, counted recovery

	// slowAbsent and slowCounted are how long a round takes at most that is not held
	// up by anything.
	slowAbsent, slowCounted time.Duration
}

func newProbe(l *load, tally *tally, shards int) *probe {
	return &probe{
		load:    l,
		tally:   tally,
		missing: l.work.perShard(firstProbedMissing, shards),
		fresh:   l.work.perShard(firstProbedCounted, shards),

		slowAbsent: slowRound, slowCounted: slowCount,
	}
}

// run probes until ctx ends, and then takes its claims back.
func (p *probe) run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { p.rounds(ctx, absentEvery, p.slowAbsent, &p.absent, p.askAbsent) })
	wg.Go(func() { p.rounds(ctx, countedEvery, p.slowCounted, &p.counted, p.askCounted) })
	wg.Wait()
	return p.takeBack()
}

// rounds calls ask over and over, at most once in a while, and at most half of the
// time unless it is held up.
func (p *probe) rounds(ctx context.Context, every, slow time.Duration, r *recovery, ask func(round uint64) bool) {
	for round := uint64(1); ctx.Err() == nil; round++ {
		began := time.Now()
		good := ask(round)
		ended := time.Now()
		took := ended.Sub(began)
		r.observe(began, ended, good && took < slow)
		pause(ctx, max(every-took, min(took, longestPause)))
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// askAbsent looks up a node of each shard that does not exist, and reports whether
// all are ABSENT. The first that is not ends the round, so that the next one begins soon.
func (p *probe) askAbsent(round uint64) bool {
	var next atomic.Int64
	var bad atomic.Bool
	var wg sync.WaitGroup
	for range probers {
		wg.Go(func() {
			for s := next.Add(1) - 1; s < int64(len(p.missing)) && !bad.Load(); s = next.Add(1) - 1 {
				v, heard := p.miss(p.tally, p.missing[s], scramble(p.work.seed, round))
				if heard && v != right {
					bad.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return !bad.Load()
}

// askCounted claims a node of each shard, and reports whether all claims count
// without a wait.
func (p *probe) askCounted(round uint64) bool {
	var bad atomic.Bool
	var wg sync.WaitGroup
	for i, proxy := range p.fleet.proxies {
		if !proxy.up() {
			continue
		}
		wg.Go(func() {
			alive := proxy.alive.Load()
			var claims []node.Claim
			for s := i; s < len(p.fresh); s += len(p.fleet.proxies) {
				claims = append(claims, node.Claim{Node: p.fresh[s], Generation: round})
			}
			began := time.Now()
			err := alive.client.Add(p.deadline.context(), claims...)
			if alive.killed.Load() {
				return
			}
			c, err := p.classify(fmt.Sprintf("add %d nodes of a probe at proxy %d", len(claims), i), err)
			p.tally.note(uint64(i), c)
			if err != nil || c.NotCounted > 0 || time.Since(began) > p.slowCounted {
				bad.Store(true)
			}
		})
	}
	wg.Wait()
	return !bad.Load()
}

// takeBack removes the claims of the probe.
func (p *probe) takeBack() error {
	var g errgroup.Group
	for i, proxy := range p.fleet.proxies {
		g.Go(func() error {
			var ids []node.ID
			for s := i; s < len(p.fresh); s += len(p.fleet.proxies) {
				ids = append(ids, p.fresh[s])
			}
			err := proxy.alive.Load().client.Remove(p.deadline.context(), proxy.self.ID, ids...)
			c, err := p.classify(fmt.Sprintf("remove %d nodes of a probe at proxy %d", len(ids), i), err)
			p.tally.note(uint64(i), c)
			return err
		})
	}
	return g.Wait()
}
