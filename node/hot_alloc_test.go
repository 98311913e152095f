package node

import (
	"testing"
	"time"
)

// TestHotPathsAllocateNothing: to store, renew and drop a claim takes no memory where
// there is room, of either kind.
func TestHotPathsAllocateNothing(t *testing.T) {
	table, unaries, now := NewTable(1), NewUnaries(1), unaryStart()
	keys := benchKeys(100, true)
	for i, k := range keys { // makes room
		table.Put(k.Hash(), k, 1, Value{Generation: 1})
		unaries.Store(now, UnaryClaim{Node: k.ID(), Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: uint64(i + 1), Left: time.Minute})
	}
	k, id := keys[0], keys[0].ID()
	version := uint64(1000)
	buf := make([]UnaryClaim, 0, 4)
	for name, do := range map[string]func(){
		"Table.Put again": func() { table.Put(k.Hash(), k, 1, Value{Generation: 2}) },
		"Table.Get":       func() { table.Get(k.Hash(), k, 1) },
		"Table.Delete and Put": func() {
			if _, had := table.Delete(k.Hash(), k, 1); !had {
				t.Fatal("the claim is not there")
			}
			table.Put(k.Hash(), k, 1, Value{Generation: 3})
		},
		"Unaries.Store again": func() {
			version++
			unaries.Store(now, UnaryClaim{Node: id, Proxy: Proxy{ID: "p", Addr: "p:1"}, Version: version, Left: time.Minute})
		},
		"Unaries.Versions": func() { unaries.Versions(id, "p") },
		"Unaries.Lookup": func() {
			if buf = unaries.Lookup(now, id, buf[:0]); len(buf) != 1 {
				t.Fatalf("found %v", buf)
			}
		},
	} {
		if n := testing.AllocsPerRun(100, do); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
