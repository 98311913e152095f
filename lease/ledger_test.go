package lease

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

// settled is a desk at which the lists of a view are in force and open.
func settled(t *testing.T, p *ring.Placement) *desk {
	t.Helper()
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	d.words(at(0), p)
	d.copies(at(1), p)
	held := p.Held("x").Len()
	d.want(at(1), "all seats grant and all trackers confirmed", held, held)
	return d
}

func TestLedgerNeedsMoreThanHalfOfTheSeats(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	held := p.Held("x").Len()
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	d.want(at(0), "no words", 0, 0)
	d.word(at(0), "a", p)
	d.want(at(0), "one of three", 0, 0)
	d.word(at(0), "z", p)
	d.want(at(0), "one of three, and one that is no seat", 0, 0)
	d.word(at(2*time.Second), "b", p)
	d.want(at(2*time.Second), "two of three", held, 0)
	d.want(at(simTerm.Held()-1), "up to the end of the first word", held, 0)
	d.want(at(simTerm.Held()), "at its end", 0, 0)
	if next, ok := d.l.Next(at(2 * time.Second)); !ok || next.After(at(simTerm.Held())) {
		t.Errorf("Next = %v, %v, want the end of the first word at the latest", next, ok)
	}
	d.word(at(3*time.Second), "c", p)
	d.want(at(simTerm.Held()), "with the third, at the end of the first", held, 0)
	d.want(at(2*time.Second+simTerm.Held()), "at the end of the second", 0, 0)
}

func TestLedgerIgnoresLateWords(t *testing.T) {
	p, q := place(t, deskShards, 2, "a", "b", "c", "x"), place(t, deskShards, 2, "a", "b", "x")
	d := settled(t, p)
	now, n := at(time.Second), d.l.Nonce(at(time.Second))
	word := func(seat Process, seq uint64, nonce Nonce) *Word {
		return &Word{Seat: seat, Seq: seq, Nonce: nonce, Grants: true, View: q.Fingerprint()}
	}
	d.l.Know(now, q)
	for name, w := range map[string]*Word{
		"an earlier seq":            word(proc("a"), 1, n),
		"an earlier life":           word(Process{"a", 0}, 99, n),
		"a nonce not yet made":      word(proc("a"), 99, n+1),
		"a process that is no seat": word(proc("z"), 99, n),
	} {
		if d.l.Granted(now, w) {
			t.Errorf("%s: the word is taken for news", name)
		}
	}
	if boot, seq := d.l.Ack("a"); boot != 1 || seq != 1 {
		t.Errorf("Ack(a) = %d, %d, want life 1, word 1", boot, seq)
	}
	if w := word(proc("a"), 99, n); !d.l.Granted(now, w) || d.l.Granted(now, word(proc("a"), 100, n)) {
		t.Error("a word of another view is no news, or the same again is")
	}
	if !d.l.Granted(now, &Word{Seat: Process{"a", 2}, Seq: 1, Nonce: n}) {
		t.Error("the first word of the seat's next life, which grants nothing, is no news")
	}
}

// A seat whose clock was set back while it was away, for so long that nobody could tell
// it its former boot, has an older one. Once its former words have run out it is heard.
func TestLedgerHearsASeatWithAnOlderBoot(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	d := settled(t, p)
	n := d.l.Nonce(at(time.Second))
	d.l.Granted(at(time.Second), &Word{Seat: Process{"a", 9}, Seq: 50, Nonce: n, Grants: true, View: p.Fingerprint()})
	end := n.Time().Add(simTerm.Held())
	word := func(now time.Time) *Word {
		return &Word{Seat: Process{"a", 5}, Seq: 1, Nonce: d.l.Nonce(now), Grants: true, View: p.Fingerprint()}
	}
	if d.l.Granted(end.Add(-1), word(end.Add(-1))) {
		t.Error("while the former word holds, one of an older boot is taken for news")
	}
	if !d.l.Granted(end, word(end)) {
		t.Error("when the former word has run out, one of an older boot is no news")
	}
	if boot, seq := d.l.Ack("a"); boot != 5 || seq != 1 {
		t.Errorf("Ack(a) = %d, %d, want life 5, word 1", boot, seq)
	}
	if d.l.Granted(end, word(end)) {
		t.Error("the same word again is news")
	}
}

// Of a view that comes again, with other addresses, the latest are kept: a client that
// asks for it by its fingerprint, late, must not be sent to where nobody is any more.
func TestLedgerKeepsTheLatestAddresses(t *testing.T) {
	d := newDesk(t)
	at := func(addr string, ids ...ring.MemberID) *ring.Placement {
		var members []ring.Member
		for _, id := range ids {
			members = append(members, ring.Member{ID: id, Boot: 1, Addr: addr, State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(2)})
		}
		v, err := ring.NewView(members...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ring.Place(v, ring.Params{Algorithm: ring.Algorithm, Shards: deskShards, Replicas: 2})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	now := time.Unix(1000, 0)
	again := at("new:1", "a", "b", "x")
	for _, p := range []*ring.Placement{at("old:1", "a", "b", "x"), at("old:1", "a", "x"), again, at("new:1", "a", "x")} {
		now = now.Add(time.Second)
		d.l.Adopt(now, p)
	}
	m, _ := d.l.View(again.Fingerprint()).View().Member("b")
	if m.Addr != "new:1" {
		t.Errorf("the view that came again has b at %s, want new:1", m.Addr)
	}
}

// A break in what is in force closes shards, though no confirm was missed.
func TestLedgerABreakClosesShards(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	held := p.Held("x").Len()
	d := settled(t, p)
	d.words(at(simTerm.Held()-1), p)
	d.want(at(simTerm.Held()), "renewed in time", held, held)
	late := at(3 * simTerm.Held())
	d.words(late, p)
	d.want(late, "renewed too late", held, 0)
	d.l.CopiesConfirmed(late, "a", 5, p.Fingerprint())
	d.want(late, "a confirm from before", held, 0)
	d.copies(late, p)
	d.want(late, "confirmed again", held, held)
}

// Words that ran out are noted as a break though nobody looked at the clock between.
func TestLedgerAFrozenProcessFindsWordsRunOut(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	d := settled(t, p)
	thaw := at(time.Hour)
	n := d.l.Nonce(at(time.Second))
	d.echo(n, thaw, "a", p)
	d.echo(n, thaw, "b", p)
	d.want(thaw, "words for nonces from before the freeze", 0, 0)
}

func TestLedgerAChangeOfViewInterruptsChangedListsAlone(t *testing.T) {
	p, q := place(t, 64, 2, "a", "b", "c", "x"), place(t, 64, 2, "a", "b", "c", "d", "x")
	d := settled(t, p)
	now := at(time.Second)
	d.l.Adopt(now, q)
	d.words(now, q)
	same, gained := ring.NewShardSet(64), ring.NewShardSet(64)
	for sh := range q.Held("x").All() {
		if p.SameList(q, sh) {
			same.Add(sh)
		} else {
			gained.Add(sh)
		}
	}
	if same.Empty() || gained.Empty() {
		t.Fatalf("the views differ in all or no lists: %d same, %d changed", same.Len(), gained.Len())
	}
	d.want(now, "after the change", q.Held("x").Len(), same.Len())
	d.copies(now, q)
	d.want(now, "confirmed under the new view", q.Held("x").Len(), q.Held("x").Len())
}

// Rule 2 as the receiver reads it: the lists for which a straggler may rely on an
// older view do not stand, all others do.
func TestLedgerHeedsStragglers(t *testing.T) {
	p, q := place(t, 64, 2, "a", "b", "c", "x"), place(t, 64, 2, "a", "b", "x")
	d := newDesk(t)
	d.l.Adopt(at(0), q)
	n := d.l.Nonce(at(0))
	for i, id := range deskSets {
		d.l.Granted(at(0), &Word{Seat: proc(id), Seq: uint64(i + 1), Nonce: n, Grants: true, View: q.Fingerprint(),
			Older: []Older{{p.Fingerprint(), []Process{proc("c")}}}})
	}
	d.want(at(0), "words that name an unknown view", 0, 0)
	if m := d.l.Missing(at(0)); len(m) != 1 || m[p.Fingerprint()] == "" {
		t.Fatalf("Missing = %v, want the older view, at some seat", m)
	}
	d.l.Learnt(at(0), p)
	if m := d.l.Missing(at(0)); m != nil {
		t.Errorf("Missing = %v after it was learnt, want none", m)
	}
	snap := d.l.Snapshot()
	for sh := range q.Held("x").All() {
		straggles := !p.SameList(q, sh) && (p.List(sh)[0] == "c" || p.List(sh)[1] == "c")
		if got := snap.InForce(at(0), sh); got == straggles {
			t.Errorf("shard %d, %v then %v: in force %v", sh, p.List(sh), q.List(sh), got)
		}
	}
}

func TestLedgerSeatSetsInChange(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "x")
	held := p.Held("x").Len()
	d := newDesk(t, []ring.MemberID{"a", "b", "c"}, []ring.MemberID{"c", "d", "e"})
	d.l.Adopt(at(0), p)
	d.word(at(0), "a", p)
	d.word(at(0), "b", p)
	d.word(at(time.Second), "d", p)
	d.want(at(time.Second), "two of the first set, one of the second", 0, 0)
	d.word(at(2*time.Second), "c", p)
	d.want(at(2*time.Second), "more than half of each", held, 0)
	d.want(at(simTerm.Held()+time.Millisecond), "when a and b have run out", 0, 0)
	if got := d.l.Seats(); !cmp.Equal(got, []ring.MemberID{"a", "b", "c", "d", "e"}) {
		t.Errorf("Seats = %v", got)
	}
}

// A seat's own word needs no nonce, and changes at once.
func TestLedgerStandsByItsOwnSeat(t *testing.T) {
	p, q := place(t, deskShards, 1, "a", "b", "x"), place(t, deskShards, 1, "a", "x")
	contacts := NewContacts(simTerm)
	d := newDesk(t, []ring.MemberID{"x"})
	g := NewGrantor(at(0), proc("x"), simTerm, ring.SetSum([]ring.MemberID{"x"}), true, contacts)
	d.l.Adopt(at(0), p)
	d.l.Know(at(0), q)
	g.Adopt(at(0), p)
	d.l.Standing(at(0), g.Standing(), contacts)
	held := p.Held("x").Len()
	d.want(at(1), "its own word", held, 0)
	d.want(at(24*time.Hour), "a day later", held, 0)
	if d.l.Cut(at(24 * time.Hour)) {
		t.Error("a lone seat is cut off from itself")
	}
	contacts.Heard(at(24*time.Hour), "p", life(1), true)
	if !d.l.Counting(at(24*time.Hour), "p", life(1)).Known {
		t.Error("what the seat hears is not known at once")
	}
	d.l.Know(at(25*time.Hour), q)
	g.Adopt(at(25*time.Hour), q)
	d.l.Standing(at(25*time.Hour), g.Standing(), contacts)
	now := at(25 * time.Hour)
	for sh := range p.Held("x").All() {
		if got := d.l.Snapshot().InForce(now, sh); got != p.SameList(q, sh) {
			t.Errorf("shard %d: in force %v under the view before", sh, got)
		}
	}
}

func TestLedgerCut(t *testing.T) {
	p := place(t, deskShards, 2, "a", "x")
	d := newDesk(t)
	if d.l.Cut(at(simTerm.Forgotten() - 1)) {
		t.Error("cut before two terms after the start")
	}
	if !d.l.Cut(at(simTerm.Forgotten())) {
		t.Error("not cut two terms after the start without a word")
	}
	d.word(at(simTerm.Forgotten()), "a", p)
	d.word(at(simTerm.Forgotten()), "b", nil)
	if d.l.Cut(at(simTerm.Forgotten())) {
		t.Error("cut though more than half of the seats spoke, with or without a view")
	}
	if !d.l.Informed(at(simTerm.Forgotten())) || d.l.Informed(at(2*simTerm.Forgotten())) {
		t.Error("informed is not while words of more than half of the seats are in hand")
	}
}

func TestLedgerReportsWhatSeatsLack(t *testing.T) {
	p := place(t, deskShards, 2, "a", "x")
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	report := func(now time.Time) (l []ProxyID) {
		for _, c := range d.l.Report(now, "a") {
			l = append(l, c.Proxy)
		}
		return l
	}
	d.own.Heard(at(0), "p", life(1), true)
	d.own.Heard(at(0), "q", life(1), false)
	if got := report(at(0)); !cmp.Equal(got, []ProxyID{"p", "q"}) {
		t.Errorf("without a word the report is %v, want p and q", got)
	}
	d.word(at(1), "a", p, heardOf("p", life(1), 0), Contact{Proxy: "q", Incarnation: life(1)})
	if got := report(at(1)); got != nil {
		t.Errorf("what the seat knows is reported: %v", got)
	}
	if d.l.Unreported("p") || d.l.Unreported("q") {
		t.Error("something is to be reported at once, though the only word has it all")
	}
	d.own.Heard(at(term/6), "p", life(1), true)
	if got := report(at(term / 6)); got != nil {
		t.Errorf("a little younger: %v, want nothing", got)
	}
	d.own.Heard(at(term/6+2), "p", life(1), true)
	if got := report(at(term/6 + 2)); !cmp.Equal(got, []ProxyID{"p"}) {
		t.Errorf("younger by a sixth of a term: %v, want p", got)
	}
	d.own.Heard(at(term/6+3), "q", life(1), true)
	if !d.l.Unreported("q") {
		t.Error("a proxy that has claims now is not to be reported at once")
	}
	d.own.Heard(at(term/6+3), "p", life(2), true)
	if !d.l.Unreported("p") {
		t.Error("a new incarnation is not to be reported at once")
	}
	d.own.End(at(term/6+4), "r", life(3))
	if got := report(at(term/6 + 4)); !cmp.Equal(got, []ProxyID{"p", "q", "r"}) {
		t.Errorf("with a floor the report is %v, want r too", got)
	}
	if i, floor := d.l.KnownLife("p"); i != life(2) || !floor.IsZero() {
		t.Errorf("KnownLife(p) = %v, %v", i, floor)
	}
	if got := d.l.LastHeard("p"); !got.Equal(at(term/6 + 3)) {
		t.Errorf("LastHeard(p) = %v", got)
	}
}

// Everything that others name is forgotten in time: a pool whose proxies and
// trackers have names that never come again keeps nothing of them.
func TestLedgerForgets(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	d := newDesk(t)
	d.l.Advance(at(0)) // before any view
	d.l.Know(at(0), p)
	d.l.Advance(at(simTerm.Forgotten() + 1))
	d.l.Adopt(at(0), p)
	for i := range 300 {
		now := at(time.Duration(i) * term)
		proxy := ProxyID(rune('A' + i))
		d.words(now, p, heardOf(proxy, life(1), 0))
		d.confirm(now, proxy, life(1), p)
		d.l.CopiesConfirmed(now, ring.MemberID(proxy), d.l.Nonce(now), p.Fingerprint())
		d.own.Heard(now, proxy, life(1), true)
		d.own.Advance(now)
		d.l.Stalled(now)
		d.l.Advance(now)
	}
	for what, n := range map[string]int{"contacts of a seat": len(d.l.words[0].contacts), "confirms": len(d.l.confirms), "copies": len(d.l.copies),
		"silent proxies": len(d.l.silent), "blockers": len(d.l.blockers), "views": len(d.l.known), "own contacts": d.own.Len()} {
		if n > 10 {
			t.Errorf("%s: %d are kept, want at most 10", what, n)
		}
	}
	d.l.Know(at(0), place(t, 2*deskShards, 2, "a", "x")) // another pool's
	if len(d.l.known) != 1 {
		t.Errorf("a view with another number of shards is kept")
	}
}

func TestNoncesRise(t *testing.T) {
	l := newDesk(t).l
	a, b := l.Nonce(at(0)), l.Nonce(at(0))
	if c := l.Nonce(at(time.Second)); a >= b || b >= c || c.Time() != at(time.Second) {
		t.Errorf("nonces %d, %d, %d do not rise, or are not the time", a, b, c)
	}
}
