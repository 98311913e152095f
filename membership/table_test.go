package membership

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

func someEntry(id ring.MemberID, boot uint64) entry {
	m := someMeta()
	m.ID, m.Boot, m.Addr = id, boot, string(id)+":7000"
	return entry{meta: m, addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(len(id)), byte(boot)}), 7946)}
}

// boots returns the boots that are in the table's view, by ID.
func boots(t *testing.T, tab *table) map[ring.MemberID]uint64 {
	t.Helper()
	v, err := tab.view()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[ring.MemberID]uint64)
	for _, m := range v.Members() {
		got[m.ID] = m.Boot
	}
	return got
}

func TestTableShowsYoungestBoots(t *testing.T) {
	type view = map[ring.MemberID]uint64
	a1, a2, a3, b1 := someEntry("a", 1), someEntry("a", 2), someEntry("a", 3), someEntry("b", 1)
	tab := newTable(someEntry("self", 5))
	stranger := someEntry("c", 1)
	stranger.shards = 7
	for _, step := range []struct {
		what string
		do   func()
		want view
	}{
		{"alone", func() {}, view{"self": 5}},
		{"two join", func() { tab.put(a2); tab.put(b1) }, view{"self": 5, "a": 2, "b": 1}},
		{"an older boot shows", func() { tab.put(a1) }, view{"self": 5, "a": 2, "b": 1}},
		{"a younger boot", func() { tab.put(a3) }, view{"self": 5, "a": 3, "b": 1}},
		{"the former boot goes", func() { tab.drop(a2.name()) }, view{"self": 5, "a": 3, "b": 1}},
		{"the younger goes, an older still shows", func() { tab.drop(a3.name()) }, view{"self": 5, "b": 1}},
		{"all boots of a are gone", func() { tab.drop(a1.name()) }, view{"self": 5, "b": 1}},
		{"a is back", func() { tab.put(a2) }, view{"self": 5, "a": 2, "b": 1}},
		{"one that differs", func() { tab.put(stranger) }, view{"self": 5, "a": 2, "b": 1}},
		{"we are said to be gone", func() { tab.drop(tab.self) }, view{"self": 5, "a": 2, "b": 1}},
		{"unknown", func() { tab.drop("nobody#1") }, view{"self": 5, "a": 2, "b": 1}},
		{"an older boot of ours", func() { tab.put(someEntry("self", 4)) }, view{"self": 5, "a": 2, "b": 1}},
	} {
		step.do()
		if diff := cmp.Diff(step.want, boots(t, &tab)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.what, diff)
		}
	}
	if boot, yes := tab.supersededBy(); yes {
		t.Errorf("superseded by %d, which is not younger", boot)
	}
	tab.put(someEntry("self", 6))
	if boot, yes := tab.supersededBy(); !yes || boot != 6 {
		t.Errorf("superseded by %d (%v), want 6", boot, yes)
	}
}

// Who crashed is looked for, who left is not, and the oldest losses make room.
func TestTableLost(t *testing.T) {
	tab := newTable(someEntry("self", 1))
	left := someEntry("left", 1)
	left.State = ring.Leaving
	tab.put(left)
	tab.drop(left.name())
	tab.put(someEntry("back", 1))
	tab.drop(someEntry("back", 1).name())
	tab.put(someEntry("back", 2))
	if len(tab.lost) != 0 {
		t.Errorf("lost %v, want none", tab.lost)
	}
	var want []ring.MemberID
	for i := range maxLost + 3 {
		e := someEntry(ring.MemberID(fmt.Sprintf("t-%d", i)), 1)
		tab.put(e)
		tab.drop(e.name())
		if i >= 3 {
			want = append(want, e.ID)
		}
	}
	var got []ring.MemberID
	for _, l := range tab.lost {
		got = append(got, l.id)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	for i := range 3 * maxRefusals {
		e := &MismatchError{Field: "shards", Member: ring.MemberID(fmt.Sprintf("t-%d", i))}
		r.note(e)
		r.note(e)
		if got := r.in(fmt.Errorf("join: %v", e)); got != e {
			t.Fatalf("refusal %d is not found again: %v", i, got)
		}
	}
	if len(r.seen) > maxRefusals || len(r.unsaid) > maxRefusals {
		t.Errorf("%d seen, %d unsaid: want at most %d", len(r.seen), len(r.unsaid), maxRefusals)
	}
	if got := r.in(fmt.Errorf("connection refused")); got != nil {
		t.Errorf("another error is taken for %v", got)
	}
}
