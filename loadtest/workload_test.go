package loadtest

import (
	"math"
	"testing"

	"github.com/google/uuid"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

func TestIDsAreDifferentUUIDs(t *testing.T) {
	w := workload{seed: 7, nodes: 10_000, proxies: 3}
	seen := make(map[node.ID]uint64)
	for _, first := range []uint64{0, firstMissing, firstVerifiedMissing, firstProbedMissing, firstProbedCounted} {
		for n := first; n < first+10_000; n++ {
			id := w.id(n)
			if other, ok := seen[id]; ok {
				t.Fatalf("seed %d: nodes %d and %d are both %s", w.seed, other, n, id)
			}
			seen[id] = n
			u, err := uuid.Parse(string(id))
			if err != nil || u.String() != string(id) || u.Version() != 4 || u.Variant() != uuid.RFC4122 {
				t.Fatalf("seed %d: node %d is %q, want a canonical random UUID: %v", w.seed, n, id, err)
			}
		}
	}
	if a, b := w.id(1), (workload{seed: 8}).id(1); a == b {
		t.Errorf("seeds 7 and 8 both give %s", a)
	}
}

func TestIDsArePinned(t *testing.T) {
	w := workload{seed: 1}
	for n, want := range map[uint64]node.ID{
		0:            "910a2dec-8902-4cc1-beeb-8da1658eec67",
		1:            "f893a2ee-fb32-455e-b1c1-8690ee42c90b",
		firstMissing: "ba374209-8e97-4b39-a894-3b1574d91cad",
	} {
		if got := w.id(n); got != want {
			t.Errorf("id(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestEveryNodeIsAtOneProxy(t *testing.T) {
	for _, w := range []workload{{nodes: 1, proxies: 2}, {nodes: 10, proxies: 3}, {nodes: 12, proxies: 3}, {nodes: 5, proxies: 10}} {
		at := make(map[uint32]int)
		for p := range w.proxies {
			for _, n := range w.homed(p) {
				if _, twice := at[n]; twice {
					t.Errorf("%+v: node %d is at two proxies", w, n)
				}
				at[n] = p
				if got := w.home(uint64(n)); got != p {
					t.Errorf("%+v: home(%d) = %d, want %d", w, n, got, p)
				}
			}
		}
		if len(at) != w.nodes {
			t.Errorf("%+v: %d nodes are at a proxy", w, len(at))
		}
	}
}

func TestOperationsHaveTheirShares(t *testing.T) {
	w := workload{seed: 3, nodes: 1000, proxies: 4}
	const n = 200_000
	var kinds [3]int
	for k := range uint64(n) {
		op := w.operation(k)
		kinds[op.kind]++
		if exists := op.number < uint64(w.nodes); exists == (op.kind == opMiss) {
			t.Fatalf("operation %d is %+v", k, op)
		}
	}
	for kind, perMille := range map[opKind]float64{opMiss: missPerMille, opReconnect: reconnectPerMille} {
		got, want := float64(kinds[kind])/n, perMille/1000
		if math.Abs(got-want) > 0.1*want {
			t.Errorf("seed %d: kind %d has a share of %.4f, want %.4f", w.seed, kind, got, want)
		}
	}
}

func TestOtherIsAnotherProxy(t *testing.T) {
	w := workload{proxies: 4}
	for p := range w.proxies {
		seen := make(map[int]bool)
		for choice := range uint64(100) {
			seen[w.other(p, choice)] = true
		}
		if seen[p] || len(seen) != w.proxies-1 {
			t.Errorf("others of proxy %d: %v", p, seen)
		}
	}
}

func TestPerShardHasAnIDForEachShard(t *testing.T) {
	const shards = 512
	for s, id := range (workload{seed: 5}).perShard(firstProbedMissing, shards) {
		if got := ring.ShardOf(ring.Hash(string(id)), shards); got != ring.Shard(s) {
			t.Errorf("the ID for shard %d, %q, is of shard %d", s, id, got)
		}
	}
}
