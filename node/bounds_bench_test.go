package node

import (
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// gcStops is how often the collector of garbage has stopped all goroutines, by how long.
func gcStops() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64Histogram()
}

// longest returns the upper bound, in seconds, of the longest that came since before.
func longest(before, after *metrics.Float64Histogram) float64 {
	for i := len(after.Counts) - 1; i >= 0; i-- {
		if after.Counts[i] > before.Counts[i] {
			return after.Buckets[i+1]
		}
	}
	return 0
}

// BenchmarkCollect collects garbage, with a million claims of sessions and a million
// without: how long a round takes, and the longest of its stops, in the median of all
// rounds and at the worst. On a busy machine the worst is the machine's.
func BenchmarkCollect(b *testing.B) {
	keys := benchKeys(1_000_000, true)
	table, unaries := fillTable(keys), NewUnaries(benchShards)
	for i, k := range keys {
		unaries.Store(unaryStart(), UnaryClaim{Node: k.ID(), Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: uint64(i + 1), Left: time.Minute})
	}
	keys = nil
	const rounds = 20
	var stops []float64
	for b.Loop() {
		for range rounds {
			before := gcStops()
			runtime.GC()
			stops = append(stops, longest(before, gcStops()))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rounds), "us/round")
	slices.Sort(stops)
	b.ReportMetric(1e6*stops[len(stops)/2], "median-stop-us")
	b.ReportMetric(1e6*stops[len(stops)-1], "longest-stop-us")
	runtime.KeepAlive(table)
	runtime.KeepAlive(unaries)
}

// BenchmarkReclaim drops the 100,000 claims of a dead proxy of ten, while one goroutine
// looks nodes up: how long all claims take, and the longest that a lookup waited, with
// it and as long again without. Of several times the best counts: a busy machine only
// adds to it.
func BenchmarkReclaim(b *testing.B) {
	keys := benchKeys(1_000_000, true)
	worst, calm := time.Hour, time.Hour
	for b.Loop() {
		b.StopTimer()
		f, t := benchFinder(b, 10)
		for i, k := range keys {
			t.table.Put(k.Hash(), k, Owner(1+i%10), Value{Stamp: uint32(i)})
		}
		dead := (*t.lives.all.Load())[1]
		var reclaimed atomic.Bool
		look := func(until func() bool) (most time.Duration) {
			rnd := rand.New(rand.NewPCG(1, 1))
			for q := (&FindRequest{Frame: 1}); !until(); {
				q.IDs = AppendID(q.IDs[:0], keys[rnd.IntN(len(keys))])
				began := time.Now()
				if _, err := f.reply(q); err != nil {
					b.Error(err)
				}
				most = max(most, time.Since(began))
			}
			return most
		}
		var wg sync.WaitGroup
		wg.Go(func() { worst = min(worst, look(reclaimed.Load)) })
		b.StartTimer()
		began := time.Now()
		dead.dead.Store(true)
		n := 0
		for s := range t.cfg.Shards {
			n += t.table.Sweep(ring.Shard(s), func(o Owner) bool { return o == dead.owner })
		}
		took := time.Since(began)
		b.StopTimer()
		reclaimed.Store(true)
		wg.Wait()
		if n != len(keys)/10 {
			b.Fatalf("%d claims were reclaimed, want %d", n, len(keys)/10)
		}
		began = time.Now()
		calm = min(calm, look(func() bool { return time.Since(began) > took }))
		b.StartTimer()
	}
	b.ReportMetric(float64(worst.Microseconds()), "longest-wait-us")
	b.ReportMetric(float64(calm.Microseconds()), "longest-wait-without-us")
}
