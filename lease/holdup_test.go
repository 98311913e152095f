package lease

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

// checkHoldups holds the names to what is in force and open: nobody is named for an
// open shard; for one that is not in force as many seats as keep it from that; and for
// one that waits to open the same proxies as Blocking names.
func checkHoldups(t *testing.T, l *Ledger, now time.Time) {
	t.Helper()
	holdups := l.Holdups(now)
	s := l.Snapshot()
	for sh := range s.Held.All() {
		named := map[HolderUp][]string{}
		for _, h := range holdups {
			if h.Shards.Has(sh) {
				named[h.By] = append(named[h.By], h.ID)
			}
		}
		var mask uint16
		for i, id := range l.seats.ids {
			if !slices.Contains(named[HeldUpBySeat], string(id)) {
				mask |= 1 << i
			}
		}
		force := s.InForce(now, sh)
		if s.Open(now, sh) && len(named) > 0 || force && len(named[HeldUpBySeat]) > 0 || !force && l.seats.most[mask] {
			t.Fatalf("shard %d: in force %v, open %v, held up by %v", sh, force, s.Open(now, sh), named)
		}
		proxies, trackers := l.Blocking(now, sh)
		var want []string
		for _, p := range proxies {
			want = append(want, string(p))
		}
		if !slices.Equal(want, named[HeldUpByProxy]) {
			t.Fatalf("shard %d: Blocking names proxies %v, Holdups %v", sh, want, named)
		}
		for _, id := range named[HeldUpByTracker] {
			if !slices.Contains(trackers, ring.MemberID(id)) {
				t.Fatalf("shard %d: Holdups names tracker %s, Blocking %v", sh, id, trackers)
			}
		}
	}
}

// A reason is a Holdup without its shards, but for their number.
type reason struct {
	By     HolderUp
	ID     string
	Why    string
	Shards int
}

func reasons(l *Ledger, now time.Time) []reason {
	var rs []reason
	for _, h := range l.Holdups(now) {
		rs = append(rs, reason{h.By, h.ID, h.Why, h.Shards.Len()})
	}
	return rs
}

func TestHoldups(t *testing.T) {
	p, q := place(t, deskShards, 2, "a", "b", "c", "x"), place(t, deskShards, 2, "a", "b", "x")
	held := p.Held("x").Len()
	gained := 0 // shards that c held in p, and x in q
	for sh := range q.Held("x").All() {
		if !p.SameList(q, sh) && slices.Contains(p.List(sh), "c") {
			gained++
		}
	}
	const silent, granting = "no word of it has come", "it grants nothing yet"
	const copies = "it has not confirmed its unary claims since the lists came into force"
	for _, test := range []struct {
		name string
		do   func(d *desk)
		now  time.Time
		want []reason
	}{
		{"nothing came", func(*desk) {}, at(0), []reason{
			{HeldUpBySeat, "a", silent, held}, {HeldUpBySeat, "b", silent, held}, {HeldUpBySeat, "c", silent, held}}},
		{"one grants, one is silent", func(d *desk) {
			d.word(at(0), "a", p)
			d.word(at(0), "b", nil)
		}, at(0), []reason{{HeldUpBySeat, "b", granting, held}, {HeldUpBySeat, "c", silent, held}}},
		{"words ran out", func(d *desk) {
			d.words(at(0), p)
			d.word(at(time.Second), "c", p)
		}, at(simTerm.Held() + time.Millisecond), []reason{
			{HeldUpBySeat, "a", "its last word ran out", held}, {HeldUpBySeat, "b", "its last word ran out", held}}},
		{"another view", func(d *desk) {
			d.l.Know(at(0), q)
			d.words(at(0), q)
		}, at(0), []reason{
			{HeldUpBySeat, "a", "it stands by another view, " + q.Fingerprint().String(), differ(p, q)},
			{HeldUpBySeat, "b", "it stands by another view, " + q.Fingerprint().String(), differ(p, q)},
			{HeldUpBySeat, "c", "it stands by another view, " + q.Fingerprint().String(), differ(p, q)},
			{HeldUpByTracker, "a", copies, held - differ(p, q)}, {HeldUpByTracker, "b", copies, held - differ(p, q)}, {HeldUpByTracker, "c", copies, held - differ(p, q)}}},
		{"in force, with proxies", func(d *desk) {
			d.words(at(0), p, heardOf("p", life(1), 0), heardOf("q", life(1), 0))
			d.copies(at(1), p)
			d.confirm(at(2), "q", life(1), p)
		}, at(3), []reason{{HeldUpByProxy, "p", "it has claims, and this life of it has not confirmed here", held}}},
		{"a proxy with one shard to send", func(d *desk) {
			d.words(at(0), p, heardOf("p", life(1), 0))
			d.copies(at(1), p)
			most := ring.FullShardSet(deskShards)
			most.Remove(first(p))
			d.l.Confirmed(at(2), "p", Confirm{life(1), d.l.Nonce(at(2)), p.Fingerprint(), most})
		}, at(3), []reason{{HeldUpByProxy, "p", "it has not sent all its claims of these shards", 1}}},
		{"open", func(d *desk) {
			d.words(at(0), p)
			d.copies(at(1), p)
		}, at(2), nil},
	} {
		d := newDesk(t)
		d.l.Adopt(at(0), p)
		test.do(d)
		if diff := cmp.Diff(test.want, reasons(d.l, test.now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		checkHoldups(t, d.l, test.now)
	}

	// c is gone, and the seats wait for the word that they gave it.
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	d.words(at(0), p)
	d.l.Adopt(at(1), q)
	for _, seat := range []ring.MemberID{"a", "b"} {
		d.seq++
		d.l.Granted(at(1), &Word{Seat: proc(seat), Seq: d.seq, Nonce: d.l.Nonce(at(1)), Grants: true, View: q.Fingerprint(),
			Older: []Older{{p.Fingerprint(), []Process{proc("c")}}}})
	}
	rs := reasons(d.l, at(1))
	if want := (reason{HeldUpBySeat, "a", "it waits for a former word to end at c", gained}); len(rs) == 0 || rs[0] != want {
		t.Errorf("with a straggler: got %+v, want %+v first", rs, want)
	}
	checkHoldups(t, d.l, at(1))
}

// differ counts the shards of x in p whose list q has not.
func differ(p, q *ring.Placement) int {
	n := 0
	for sh := range p.Held("x").All() {
		if !p.SameList(q, sh) {
			n++
		}
	}
	return n
}

func TestWordsAndHeard(t *testing.T) {
	p := place(t, deskShards, 2, "a", "b", "c", "x")
	d := newDesk(t)
	d.l.Adopt(at(0), p)
	marked := heardOf("p", life(3), time.Second)
	marked.Stalled = true
	d.word(at(0), "a", p, marked)
	d.word(at(0), "b", nil)
	d.own.Heard(at(0), "q", life(1), false)
	now := at(4 * time.Second)
	left := simTerm.Held() - 4*time.Second
	want := []SeatWord{
		{Seat: proc("a"), Grants: true, View: p.Fingerprint(), Heard: 4 * time.Second, Left: left},
		{Seat: proc("b"), Heard: 4 * time.Second, Left: left + 1}, // nonces are all different
		{Seat: Process{ID: "c"}},
	}
	if diff := cmp.Diff(want, d.l.Words(now)); diff != "" {
		t.Errorf("Words (-want +got):\n%s", diff)
	}
	heard := []HeardProxy{
		{Proxy: "p", Incarnation: life(3), Age: 5 * time.Second, Claims: true, Stalled: true, WaitedFor: true},
		{Proxy: "q", Incarnation: life(1), Age: 4 * time.Second},
	}
	if diff := cmp.Diff(heard, d.l.Heard(now)); diff != "" {
		t.Errorf("Heard (-want +got):\n%s", diff)
	}
	if d.word(now, "c", p); !d.l.MostGrantWithout(now, func(ring.MemberID) bool { return false }) {
		t.Error("two of three seats grant, and that is not most")
	}
	if d.l.MostGrantWithout(now, func(id ring.MemberID) bool { return id == "a" }) {
		t.Error("most seats grant without one of the two that do")
	}
}
