package node

import "testing"

// A batch of lookups takes a reply and its answers, however many they are.
func TestFindAllocations(t *testing.T) {
	f, tracker := benchFinder(t, 10)
	q := &FindRequest{Frame: 1}
	for i, k := range benchKeys(2*64, true) {
		q.IDs = AppendID(q.IDs, k)
		if i%2 == 0 { // the others are absent
			tracker.table.Put(k.Hash(), k, Owner(1+i%10), Value{})
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := f.reply(q); err != nil {
			t.Fatal(err)
		}
	}); n > 4 {
		t.Errorf("a batch allocates %v times, want at most 4", n)
	}
}
