package node

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/lease"
)

// coming is as in package rpc's tests: what a tagged release wrote is never written anew.
const coming = "v0.1.0"

var update = flag.Bool("update", false, "write testdata/golden of the release to come anew")

// TestReleasesSnapshots restores what each release saved: an upgrade finds its claims.
func TestReleasesSnapshots(t *testing.T) {
	x := stillTracker(t)
	lives := map[ProxyID]lease.Incarnation{"p-1": incarnationOf(1795283321447, 0xfedcba98), "p-2": incarnationOf(7, 1)}
	for id, life := range lives {
		s, _, end, _ := x.admit(&Hello{Proxy: testProxy(string(id)), Incarnation: life, HasClaims: true})
		if end != nil {
			t.Fatalf("%+v", end)
		}
		var ops Ops
		for i, n := range []string{"6d0b5a3e-9f1c-4c57-8a55-0123456789ab", "node-1", string(id), "ä 漢"} {
			ops = AppendAdd(ops, mustKey(t, n), uint64(i)*1000, uint32(10*i))
		}
		if err := s.apply(&ProxyFrame{Batch: &Batch{Seq: 1, Ops: ops}}); err != nil {
			t.Fatal(err)
		}
	}
	const dir, name = "testdata/golden", "t-0.claims"
	if *update {
		if err := os.MkdirAll(filepath.Join(dir, coming), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, coming, name), saveOf(t, x), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	releases, err := filepath.Glob(filepath.Join(dir, "*", name))
	if err != nil || len(releases) == 0 {
		t.Fatalf("no snapshots in %s: %v", dir, err)
	}
	for _, file := range releases {
		snapshot, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		y := stillTracker(t)
		saved, err := y.Restore(bytes.NewReader(snapshot), savedAt)
		if err != nil || saved.Proxies != len(lives) || saved.Claims != 4*len(lives) || !saved.At.Equal(savedAt) {
			t.Errorf("%s: %+v, %v", file, saved, err)
			continue
		}
		if diff := cmp.Diff(claimsOf(x), claimsOf(y), cmp.AllowUnexported(Key{})); diff != "" {
			t.Errorf("%s has other claims here (-want +got):\n%s", file, diff)
		}
		for id, life := range lives {
			if l := y.restored[id]; l == nil || l.incarnation != life || *l.proxy.Load() != testProxy(string(id)) {
				t.Errorf("%s: of %s there is %+v", file, id, l)
			}
		}
	}
}
