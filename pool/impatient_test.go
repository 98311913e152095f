package pool_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
)

// Callers that give up at any moment, while trackers crash and come back, leave
// nothing behind that later lookups meet.
func TestImpatientCallers(t *testing.T) {
	p := startTrackers(t, "a", "b", "c")
	p.proxy("p1")
	reader := p.open(pool.Config{CacheSize: -1})
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	ids := nodeIDs(2000)
	addrs := []string{p.members["a"].self.Addr}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, cancel := context.WithTimeout(ctx, time.Duration(rand.Int64N(int64(3*time.Millisecond))))
				if rand.IntN(4) == 0 {
					at := rand.IntN(len(ids))
					reader.LookupMany(c, ids[:at], func(int, node.Answer, []node.Claim, error) {})
				} else {
					_, _, _ = reader.Lookup(c, ids[rand.IntN(len(ids))])
				}
				cancel()
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				brief, err := pool.Open(ctx, pool.Config{Trackers: addrs, CacheSize: -1})
				if err != nil {
					return
				}
				var in sync.WaitGroup
				for range 8 {
					in.Go(func() {
						for range 50 {
							_, _, _ = brief.Lookup(ctx, ids[rand.IntN(len(ids))])
						}
					})
				}
				time.Sleep(time.Duration(rand.Int64N(int64(20 * time.Millisecond))))
				_ = brief.Close()
				in.Wait()
			}
		})
	}
	for ctx.Err() == nil {
		time.Sleep(300 * time.Millisecond)
		p.crash("b")
		time.Sleep(300 * time.Millisecond)
		p.start("b")
		p.gossip()
	}
	wg.Wait()
}
