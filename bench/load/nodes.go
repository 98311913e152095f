package load

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// Proxies is how many proxies the nodes are connected to: node i to proxy i%Proxies.
const Proxies = 10

// Nodes returns the IDs of n nodes: random UUIDs in text, the same for the same seed.
func Nodes(n int, seed uint64) []string {
	r := rand.New(rand.NewPCG(seed, 1))
	ids := make([]string, n)
	var b [16]byte
	for i := range ids {
		binary.BigEndian.PutUint64(b[:8], r.Uint64())
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
		b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, RFC 9562
		ids[i] = fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
	}
	return ids
}

// A Source gives a worker its next batch of nodes, in buf, which has the capacity
// that is wanted. An empty batch ends the worker.
type Source func(worker int, buf []uint32) []uint32

// Homed gives worker w, of Proxies*k, the nodes of proxy w%Proxies below n, each once.
func Homed(n, workers int) Source {
	stride := workers // a multiple of Proxies, so that the proxy stays the same
	next := make([]padded, workers)
	for w := range next {
		next[w].n = w
	}
	return func(w int, buf []uint32) []uint32 {
		for len(buf) < cap(buf) && next[w].n < n {
			buf = append(buf, uint32(next[w].n))
			next[w].n += stride
		}
		return buf
	}
}

// A padded number has a cache line of its own.
type padded struct {
	n int
	_ [56]byte
}

// picks is how many lookups are chosen beforehand; then they begin anew.
const picks = 1 << 20

// zipfExponent is the s of rank^-s. rand.Zipf wants more than 1.
const zipfExponent = 1.01

// Uniform gives nodes below n at random, without end.
func Uniform(n int, seed uint64) Source {
	r := rand.New(rand.NewPCG(seed, 2))
	return picked(func() uint32 { return uint32(r.IntN(n)) })
}

// Zipf gives nodes below n without end, the first ones far more often than the last.
func Zipf(n int, seed uint64) Source {
	z := rand.NewZipf(rand.New(rand.NewPCG(seed, 3)), zipfExponent, 1, uint64(n-1))
	return picked(func() uint32 { return uint32(z.Uint64()) })
}

// mostWorkers is how many workers a picked Source has room for.
const mostWorkers = 1024

func picked(pick func() uint32) Source {
	all := make([]uint32, picks)
	for i := range all {
		all[i] = pick()
	}
	at := make([]padded, mostWorkers)
	for w := range at {
		at[w].n = w * (picks / mostWorkers)
	}
	return func(w int, buf []uint32) []uint32 {
		for len(buf) < cap(buf) {
			buf = append(buf, all[at[w].n%picks])
			at[w].n++
		}
		return buf
	}
}

// Round gives worker w of so many the nodes of Homed again and again, without end.
func Round(n, workers int) Source {
	at := make([]padded, workers)
	for w := range at {
		at[w].n = w
	}
	return func(w int, buf []uint32) []uint32 {
		for len(buf) < cap(buf) {
			if at[w].n >= n {
				at[w].n = w
			}
			buf = append(buf, uint32(at[w].n))
			at[w].n += workers
		}
		return buf
	}
}
