package node

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/trackerpool/trackerpool/ring"
)

// savedTracker holds 1,000,000 claims of ten proxies in 4096 shards.
func savedTracker(b *testing.B) *Tracker {
	b.Helper()
	x := stillTracker(b)
	x.cfg.Shards, x.table = DefaultShards, NewTable(DefaultShards)
	r := rand.New(rand.NewPCG(1, 1))
	fill(b, x, r, 10, 0)
	var lives []*life
	for _, l := range x.proxies {
		lives = append(lives, l)
	}
	for i := range 1_000_000 {
		var u uuid.UUID
		for j := range u {
			u[j] = byte(r.Uint32())
		}
		k := mustKey(b, u.String())
		x.table.Put(k.Hash(), k, lives[i%len(lives)].owner, Value{Generation: uint64(r.IntN(100)), Stamp: 1 << 30})
	}
	return x
}

func BenchmarkSave(b *testing.B) {
	x := savedTracker(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Save(io.Discard, savedAt); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(x.table.Len())*float64(b.N)/b.Elapsed().Seconds(), "claims/s")
}

func BenchmarkRestore(b *testing.B) {
	x := savedTracker(b)
	snapshot := saveOf(b, x)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Restore(bytes.NewReader(snapshot), savedAt); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(x.table.Len())*float64(b.N)/b.Elapsed().Seconds(), "claims/s")
	b.ReportMetric(float64(len(snapshot)), "bytes")
}

// BenchmarkWelcome is what admitting a proxy costs that has 100,000 of 1,000,000 claims.
func BenchmarkWelcome(b *testing.B) {
	x := savedTracker(b)
	for b.Loop() {
		if sums := x.table.Sums(1); len(sums) == 0 || sums[0].Shard != ring.Shard(0) {
			b.Fatal("no sums")
		}
	}
}
