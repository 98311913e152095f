package node

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/trackerpool/trackerpool/ring"
)

const benchShards = 4096

// benchKeys returns n UUIDs, or as many texts of 36 bytes that are none.
func benchKeys(n int, uuids bool) []Key {
	rnd := rand.New(rand.NewPCG(1, 2))
	keys := make([]Key, n)
	for i := range keys {
		var raw [16]byte
		for j := range raw {
			raw[j] = byte(rnd.Uint32())
		}
		keys[i] = uuidKey(raw)
		if !uuids {
			keys[i], _ = keyOf(strings.ToUpper(string(keys[i].ID()[:35])) + "x")
		}
	}
	return keys
}

func benchKinds(b *testing.B, run func(b *testing.B, keys []Key)) {
	for _, kind := range []string{"uuid", "text36"} {
		b.Run(kind, func(b *testing.B) { run(b, benchKeys(1_000_000, kind == "uuid")) })
	}
}

func fillTable(keys []Key) *Table {
	t := NewTable(benchShards)
	for i, k := range keys {
		t.Put(k.Hash(), k, Owner(1+i%100), Value{Stamp: uint32(i)})
	}
	return t
}

func liveBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkTableMemory gives the live bytes of a claim, of a million.
func BenchmarkTableMemory(b *testing.B) {
	benchKinds(b, func(b *testing.B, keys []Key) {
		for b.Loop() {
			before := liveBytes()
			t := fillTable(keys)
			b.ReportMetric(float64(liveBytes()-before)/float64(len(keys)), "B/claim")
			b.ReportMetric(float64(t.Bytes())/float64(len(keys)), "counted-B/claim")
			runtime.KeepAlive(t)
		}
	})
}

func BenchmarkTablePut(b *testing.B) {
	benchKinds(b, func(b *testing.B, keys []Key) {
		b.ReportAllocs()
		t := NewTable(benchShards)
		i := 0
		for b.Loop() { // anew for each million
			if i == len(keys) {
				t, i = NewTable(benchShards), 0
			}
			t.Put(keys[i].Hash(), keys[i], 1, Value{})
			i++
		}
	})
}

func BenchmarkTableLookup(b *testing.B) {
	for _, what := range []string{"hit", "miss"} {
		b.Run(what, func(b *testing.B) {
			benchKinds(b, func(b *testing.B, keys []Key) {
				half := len(keys) / 2
				t := fillTable(keys[:half])
				asked := keys[:half]
				if what == "miss" {
					asked = keys[half:]
				}
				buf := make([]Held, 0, 8)
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					k := &asked[i%half]
					buf = t.Lookup(k.Hash(), *k, buf[:0])
					i += 7919
				}
			})
		})
	}
}

func BenchmarkTableReplace(b *testing.B) {
	keys := benchKeys(1_000_000, true)
	content := make([][]Entry, benchShards)
	for _, k := range keys {
		s := ring.ShardOf(k.Hash(), benchShards)
		content[s] = append(content[s], Entry{Key: k})
	}
	t := NewTable(benchShards)
	b.ReportAllocs()
	claims, i := 0, 0
	for b.Loop() {
		s := ring.Shard(i % benchShards)
		t.Replace(s, 1, content[s])
		claims += len(content[s])
		i++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(claims), "ns/claim")
}

func BenchmarkTableSums(b *testing.B) {
	t := fillTable(benchKeys(1_000_000, true))
	for b.Loop() {
		t.Sums(1)
	}
}
