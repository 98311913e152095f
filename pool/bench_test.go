package pool_test

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
)

// filled returns three trackers, and a proxy that has made n claims there.
func filled(b *testing.B, n int) (*trackers, *pool.Client) {
	b.Helper()
	p := startTrackers(b, "a", "b", "c")
	writer := p.proxy("p1")
	claims := make([]node.Claim, n)
	for i := range claims {
		claims[i].Node = nodeID(i)
	}
	ctx := within(b, 60*time.Second)
	if err := writer.Add(ctx, claims...); err != nil {
		b.Fatal(err)
	}
	return p, writer
}

// callers calls do b.N times, from n goroutines.
func callers(b *testing.B, n int, do func(i int)) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpuTime is what this process, trackers and all, has used: on a busy machine it
// says more than the rate does.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func nodeIDs(n int) []node.ID {
	ids := make([]node.ID, n)
	for i := range ids {
		ids[i] = nodeID(i)
	}
	return ids
}

func BenchmarkLookup64Callers(b *testing.B) {
	p, _ := filled(b, 10_000)
	reader := p.open(pool.Config{CacheSize: -1})
	ctx, ids := context.Background(), nodeIDs(10_000)
	callers(b, 64, func(i int) {
		if answer, _, err := reader.Lookup(ctx, ids[i%10_000]); answer != node.Found {
			b.Errorf("%v, %v", answer, err)
		}
	})
}

func BenchmarkLookupCached(b *testing.B) {
	p, _ := filled(b, 1000)
	reader := p.open(pool.Config{CacheFound: time.Hour})
	ctx := context.Background()
	ids := nodeIDs(1000)
	for i := range ids {
		_, _, _ = reader.Lookup(ctx, ids[i])
	}
	callers(b, 1, func(i int) { _, _, _ = reader.Lookup(ctx, ids[i%1000]) })
}

// BenchmarkMillion is one proxy that registers a million nodes in one call, until
// all holders have counted all.
func BenchmarkMillion(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		p := startTrackers(b, "a", "b", "c")
		claims := make([]node.Claim, 1_000_000)
		for i := range claims {
			claims[i].Node = nodeID(i)
		}
		writer := p.proxy("p1")
		ctx := within(b, 60*time.Second)
		if err := writer.Add(ctx, claims[0]); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		before := cpuTime()
		if err := writer.Add(ctx, claims...); err != nil {
			b.Fatal(err)
		}
		if err := writer.Settled(ctx); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(float64(writer.Stats().TableBytes)/1e6, "B/claim")
		b.ReportMetric((cpuTime() - before).Seconds(), "cpu-s")
		_ = writer.Close()
		for id := range p.members {
			p.crash(id)
		}
		b.StartTimer()
	}
}
