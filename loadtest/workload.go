package loadtest

import (
	"encoding/hex"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// Nodes are numbered. Those below the first of these exist all the time; the others
// are asked for in vain, or made and removed by a probe.
const (
	firstMissing = 1 << 40 * (iota + 1)
	firstVerifiedMissing
	firstProbedMissing
	firstProbedCounted
)

// A workload says from a seed alone which nodes there are and what happens to them.
// It is immutable.
type workload struct {
	seed           uint64
	nodes, proxies int
}

// id returns the ID of a node by its number: a random UUID to look at. Different
// numbers have different IDs but for chance, 1 in 2^122 for two of them.
func (w workload) id(number uint64) node.ID {
	hi, lo := scramble(w.seed, 2*number), scramble(w.seed, 2*number+1)
	hi = hi&^0xf000 | 0x4000     // version 4
	lo = lo&^(3<<62) | (2 << 62) // variant of RFC 9562
	var raw [16]byte
	for i := range 8 {
		raw[i], raw[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	var text [36]byte
	b := hex.AppendEncode(text[:0], raw[0:4])
	b = hex.AppendEncode(append(b, '-'), raw[4:6])
	b = hex.AppendEncode(append(b, '-'), raw[6:8])
	b = hex.AppendEncode(append(b, '-'), raw[8:10])
	b = hex.AppendEncode(append(b, '-'), raw[10:16])
	return node.ID(b)
}

// home returns the proxy that a node is connected to at first. Proxy p has the
// nodes p, p+proxies, p+2*proxies and so on.
func (w workload) home(number uint64) int { return int(number % uint64(w.proxies)) }

// homed returns the numbers of the nodes that proxy p has at first.
func (w workload) homed(p int) []uint32 {
	numbers := make([]uint32, 0, w.nodes/w.proxies+1)
	for n := p; n < w.nodes; n += w.proxies {
		numbers = append(numbers, uint32(n))
	}
	return numbers
}

// An operation is one of the mix.
type operation struct {
	kind   opKind
	number uint64 // of the node
	choice uint64 // random: of a proxy; the same for all operations of a burst
}

// burst is how many operations in a row come from one proxy, so that its client can
// gather them as it would those of a busy proxy.
const burst = 16

type opKind uint8

const (
	opLookup opKind = iota
	opMiss
	opReconnect
)

// operation returns the k-th operation of the mix.
func (w workload) operation(k uint64) operation {
	r := scramble(^w.seed, 2*k)
	op := operation{number: (r >> 16) % uint64(w.nodes), choice: scramble(^w.seed, 2*(k/burst)+1)}
	switch p := r % (1 << 16) % 1000; {
	case p < reconnectPerMille:
		op.kind = opReconnect
	case p < reconnectPerMille+missPerMille:
		op.kind, op.number = opMiss, firstMissing+k
	}
	return op
}

// other returns a proxy other than p, chosen by a random number.
func (w workload) other(p int, choice uint64) int {
	return (p + 1 + int(choice%uint64(w.proxies-1))) % w.proxies
}

// perShard returns one node for each shard, by shard, of the numbers from first on.
func (w workload) perShard(first uint64, shards int) []node.ID {
	ids := make([]node.ID, shards)
	for missing := shards; missing > 0; first++ {
		id := w.id(first)
		if s := ring.ShardOf(ring.Hash(string(id)), shards); ids[s] == "" {
			ids[s] = id
			missing--
		}
	}
	return ids
}

// scramble returns the n-th number of a sequence that looks random: SplitMix64.
func scramble(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
