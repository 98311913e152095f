package lease

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

var deskSets = []ring.MemberID{"a", "b", "c"}

// seat is a Grantor that grants, with the nonces and seqs of those who ask it.
type seat struct {
	t     testing.TB
	g     *Grantor
	nonce Nonce
	last  map[ring.MemberID]uint64 // seq of the last Word
}

func newSeat(t testing.TB, now time.Time, p *ring.Placement) *seat {
	s := &seat{t: t, g: NewGrantor(now, proc("a"), simTerm, ring.SetSum(deskSets), true, NewContacts(simTerm)), last: map[ring.MemberID]uint64{}}
	s.g.Adopt(now, p)
	return s
}

// ask has a tracker ask with a fresh nonce, acknowledging a Word, and get its Word.
func (s *seat) ask(now time.Time, id ring.MemberID, ack uint64) *Word {
	s.t.Helper()
	s.nonce++
	s.g.Asked(now, &Ask{From: proc(id), SeatSets: []uint64{ring.SetSum(deskSets)}, Nonce: s.nonce, SeatBoot: 1, Ack: ack})
	return s.word(now, id)
}

func (s *seat) word(now time.Time, id ring.MemberID) *Word {
	s.t.Helper()
	w, ok := s.g.Word(now, proc(id))
	if !ok {
		s.t.Fatalf("no word to %s, who asked", id)
	}
	s.last[id] = w.Seq
	return w
}

func (s *seat) stragglers(what string, want []Older) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.g.Standing().Older); diff != "" {
		s.t.Errorf("%s: older views (-want +got):\n%s", what, diff)
	}
}

func TestGrantorNamesStragglersUntilTheyAcknowledge(t *testing.T) {
	v1, v2 := place(t, 16, 2, "a", "b", "c"), place(t, 16, 2, "a", "b", "c", "d")
	s := newSeat(t, at(0), v1)
	s.ask(at(0), "b", 0)
	s.ask(at(0), "c", 0)
	s.g.Adopt(at(time.Second), v2)
	s.stragglers("turned", []Older{{v1.Fingerprint(), []Process{proc("b"), proc("c")}}})
	s.word(at(time.Second), "b")
	s.word(at(time.Second), "c")
	s.stragglers("told", []Older{{v1.Fingerprint(), []Process{proc("b"), proc("c")}}})
	s.ask(at(2*time.Second), "b", s.last["b"])
	s.stragglers("b acknowledged", []Older{{v1.Fingerprint(), []Process{proc("c")}}})
	s.ask(at(2*time.Second), "c", s.last["c"]-2) // a late Ask acknowledges an older word
	s.stragglers("a late Ask", []Older{{v1.Fingerprint(), []Process{proc("c")}}})
	s.ask(at(2*time.Second), "c", s.last["c"])
	s.stragglers("c acknowledged", nil)
}

func TestGrantorFreesStragglersByTime(t *testing.T) {
	v1, v2 := place(t, 16, 2, "a", "b", "c"), place(t, 16, 2, "a", "b")
	s := newSeat(t, at(0), v1)
	s.ask(at(time.Second), "c", 0)
	s.word(at(5*time.Second), "c") // the same nonce again prolongs nothing
	s.g.Adopt(at(6*time.Second), v2)
	end := at(time.Second + simTerm.Given())
	if got, ok := s.g.Next(); !ok || !got.Equal(end) {
		t.Errorf("Next = %v, %v, want the end of c's word, %v", got, ok, end)
	}
	s.g.Advance(end.Add(-1))
	s.stragglers("just before the end", []Older{{v1.Fingerprint(), []Process{proc("c")}}})
	before := s.g.Version()
	s.g.Advance(end)
	s.stragglers("at the end", nil)
	if s.g.Version() == before {
		t.Error("time alone changed the word, but not its version")
	}
	if !s.g.Owes(proc("c")) {
		t.Error("nothing is owed though the word changed")
	}
}

func TestGrantorNonceThatComesLateProlongsNothing(t *testing.T) {
	v1, v2 := place(t, 16, 2, "a", "b", "c"), place(t, 16, 2, "a", "b")
	s := newSeat(t, at(0), v1)
	s.ask(at(0), "c", 0)
	for i := range 3 {
		s.g.Asked(at(time.Duration(3*i)*time.Second), &Ask{From: proc("c"), SeatSets: []uint64{ring.SetSum(deskSets)}, Nonce: s.nonce, SeatBoot: 1})
		s.word(at(time.Duration(3*i)*time.Second), "c")
	}
	s.g.Adopt(at(7*time.Second), v2)
	s.g.Advance(at(simTerm.Given()))
	s.stragglers("a term after the nonce first came", nil)
}

// The case that acknowledgements by view would get wrong: c acknowledges the second
// word of V2 from before the seat turned back.
func TestGrantorTurnsThereAndBack(t *testing.T) {
	v1, v2 := place(t, 16, 2, "a", "b", "c"), place(t, 16, 2, "a", "b")
	s := newSeat(t, at(0), v1)
	s.ask(at(0), "c", 0)
	s.g.Adopt(at(1), v2)
	second := s.word(at(1), "c").Seq
	s.g.Adopt(at(2), v1)
	third := s.word(at(2), "c").Seq
	s.stragglers("back", []Older{{v2.Fingerprint(), []Process{proc("c")}}})
	s.g.Adopt(at(3), v2)
	s.stragglers("there again", []Older{{v1.Fingerprint(), []Process{proc("c")}}})
	s.ask(at(4), "c", second)
	s.stragglers("c has the first word of V2, and may yet get that of V1", []Older{{v1.Fingerprint(), []Process{proc("c")}}})
	s.ask(at(5), "c", third)
	s.stragglers("c has the word of V1", []Older{{v1.Fingerprint(), []Process{proc("c")}}})
	s.ask(at(6), "c", s.last["c"])
	s.stragglers("c has a later one", nil)
}

func TestGrantorGrantsNothingForTwoTermsAfterItsStart(t *testing.T) {
	v := place(t, 16, 2, "a", "b", "c")
	g := NewGrantor(at(0), proc("a"), simTerm, ring.SetSum(deskSets), false, NewContacts(simTerm))
	if at, ok := g.Next(); ok {
		t.Errorf("Next = %v without a view, want nothing: time alone changes nothing", at)
	}
	g.Adopt(at(0), v)
	g.Asked(at(0), &Ask{From: proc("b"), SeatSets: []uint64{ring.SetSum(deskSets)}, Nonce: 1, Contacts: []Contact{heardOf("p", life(1), 0)}})
	w, _ := g.Word(at(0), proc("b"))
	if w.Grants || len(w.Contacts) != 1 || !w.Full {
		t.Errorf("the word of a seat that starts is %+v, want no view, and all contacts", w)
	}
	from, ok := g.Next()
	if !ok || !from.Equal(at(simTerm.Forgotten())) {
		t.Errorf("Next = %v, %v, want two terms after the start", from, ok)
	}
	before := g.Version()
	g.Advance(from)
	if !g.Standing().Grants || g.Version() == before || !g.Owes(proc("b")) {
		t.Error("after two terms it does not begin to grant, or owes nobody the word")
	}
	h := NewGrantor(at(0), proc("a"), simTerm, ring.SetSum(deskSets), false, NewContacts(simTerm))
	h.Adopt(at(0), v)
	h.GrantAtOnce(at(1))
	if !h.Standing().Grants {
		t.Error("GrantAtOnce does not begin to grant")
	}
}

func TestGrantorGrantsToTheNewestSetOfSeatsAlone(t *testing.T) {
	five := []ring.MemberID{"a", "b", "c", "d", "e"}
	g := NewGrantor(at(0), proc("a"), simTerm, ring.SetSum(five), true, NewContacts(simTerm))
	g.Adopt(at(0), place(t, 16, 2, "a", "b", "c"))
	for _, tt := range []struct {
		name string
		sets []uint64
		want bool
	}{
		{"both sets", []uint64{ring.SetSum(deskSets), ring.SetSum(five)}, true},
		{"the new one alone", []uint64{ring.SetSum([]ring.MemberID{"e", "d", "c", "b", "a"})}, true},
		{"the old one alone", []uint64{ring.SetSum(deskSets)}, false},
		{"none", nil, false},
	} {
		g.Asked(at(1), &Ask{From: proc("b"), SeatSets: tt.sets, Nonce: 1})
		if w, _ := g.Word(at(1), proc("b")); w.Grants != tt.want {
			t.Errorf("%s: Grants = %v, want %v", tt.name, w.Grants, tt.want)
		}
	}
}

// Rule 10: whoever's word changes owes it at once to all who hold it.
func TestGrantorOwesWhatChanged(t *testing.T) {
	v1, v2 := place(t, 16, 2, "a", "b", "c"), place(t, 16, 2, "a", "b")
	s := newSeat(t, at(0), v1)
	s.ask(at(0), "b", 0)
	s.ask(at(0), "c", 0)
	change := func(what string, want int, f func()) {
		t.Helper()
		f()
		if got := len(s.g.Owed()); got != want {
			t.Errorf("%s: %d are owed a word, want %d", what, got, want)
		}
		s.word(at(0), "b")
		s.word(at(0), "c")
		if got := s.g.Owed(); got != nil {
			t.Errorf("%s: after their words %v are still owed", what, got)
		}
	}
	change("nothing", 0, func() { s.g.Advance(at(time.Second)) })
	change("another view", 2, func() { s.g.Adopt(at(time.Second), v2) })
	change("the same view again", 0, func() { s.g.Adopt(at(time.Second), v2) })
	change("one straggler less", 2, func() {
		s.g.Asked(at(time.Second), &Ask{From: proc("b"), SeatSets: []uint64{ring.SetSum(deskSets)}, Nonce: 99, SeatBoot: 1, Ack: s.last["b"]})
	})
	change("a stalled mark", 2, func() {
		s.g.Asked(at(time.Second), &Ask{From: proc("x"), Nonce: 1, Stalled: []ProxyID{"p"}})
		s.word(at(1), "x")
	})
	end, ok := s.g.Next()
	if !ok {
		t.Fatal("Next names no end of c's word and of the mark")
	}
	s.g.Advance(end)
	if len(s.g.Owed()) == 0 {
		t.Error("time alone changed the word, but nobody is owed it")
	}
}

func TestGrantorSendsContactsThatChanged(t *testing.T) {
	s := newSeat(t, at(0), place(t, 16, 2, "a", "b", "c"))
	names := func(w *Word) (l []ProxyID) {
		for _, c := range w.Contacts {
			l = append(l, c.Proxy)
		}
		return l
	}
	s.g.contacts.Heard(at(0), "p", life(1), true)
	w := s.ask(at(0), "b", 0)
	if got := names(w); !w.Full || len(got) != 1 {
		t.Fatalf("the first word has %v, full %v, want p and full", got, w.Full)
	}
	if w = s.word(at(0), "b"); !w.Full || len(w.Contacts) != 1 {
		t.Errorf("a word that may follow none has %v, full %v, want all again", names(w), w.Full)
	}
	if w = s.ask(at(1), "b", w.Seq); w.Full || w.Contacts != nil {
		t.Errorf("an acknowledged contact is told again: %v, full %v", names(w), w.Full)
	}
	s.g.contacts.Heard(at(2), "q", life(1), true)
	if got := names(s.word(at(2), "b")); !cmp.Equal(got, []ProxyID{"q"}) {
		t.Errorf("the change is %v, want q", got)
	}
	if got := names(s.word(at(2), "b")); !cmp.Equal(got, []ProxyID{"q"}) {
		t.Errorf("before it is acknowledged the change is %v, want q again", got)
	}
	for range 3 * maxPending {
		s.word(at(2), "b")
	}
	if got := len(s.g.receivers[proc("b")].pending); got > maxPending {
		t.Errorf("%d words are remembered, want at most %d", got, maxPending)
	}
	s.nonce++
	s.g.Asked(at(3), &Ask{From: proc("b"), Nonce: s.nonce, SeatBoot: 0})
	if w = s.word(at(3), "b"); !w.Full || len(w.Contacts) != 2 {
		t.Errorf("a tracker that knows another life of the seat is told %v, full %v, want all", names(w), w.Full)
	}
}

func TestGrantorForgetsWhoNoLongerAsks(t *testing.T) {
	s := newSeat(t, at(0), place(t, 16, 2, "a", "b", "c"))
	for boot := range uint64(50) {
		s.g.Asked(at(0), &Ask{From: Process{"b", boot}, SeatSets: []uint64{ring.SetSum(deskSets)}, Nonce: 1})
		s.g.Word(at(0), Process{"b", boot})
	}
	s.g.Advance(at(simTerm.Given()))
	s.g.Advance(at(simTerm.Forgotten() + 1))
	if n := len(s.g.receivers); n != 0 {
		t.Errorf("%d receivers are remembered, want none", n)
	}
}
