package pool_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// BenchmarkOwnClaims gives the live bytes that a client takes for each claim of its own,
// of 200,000 that are counted. Its trackers are gone by then.
func BenchmarkOwnClaims(b *testing.B) {
	const n = 200_000
	for b.Loop() {
		before := live()
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
		if err := writer.Settled(ctx); err != nil {
			b.Fatal(err)
		}
		claims = nil
		for id := range p.members {
			p.crash(id)
		}
		b.ReportMetric(float64(live()-before)/n, "B/claim")
		b.ReportMetric(float64(writer.Stats().TableBytes)/n, "counted-B/claim")
		runtime.KeepAlive(writer)
	}
}

// live is how many bytes of the heap are in use after a collection.
func live() uint64 {
	runtime.GC()
	runtime.GC() // what pools kept through the first goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
