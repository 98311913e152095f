package lease

import (
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// at is a time of a process, d after it started.
func at(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }

// place is the placement of serving members.
func place(t testing.TB, shards, replicas int, ids ...ring.MemberID) *ring.Placement {
	t.Helper()
	members := make([]ring.Member, len(ids))
	for i, id := range ids {
		members[i] = ring.Member{ID: id, State: ring.Serving}
	}
	v, err := ring.NewView(members...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ring.Place(v, ring.Params{Algorithm: 1, Shards: shards, Replicas: replicas})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// proc is the first life of a tracker.
func proc(id ring.MemberID) Process { return Process{id, 1} }

// life is a proxy's life of a number.
func life(n uint64) Incarnation { return Incarnation{n, 7} }

// desk is one tracker that is no seat, with the words of three seats at hand.
type desk struct {
	t   testing.TB
	l   *Ledger
	own *Contacts
	seq uint64
}

const deskShards = 16

func newDesk(t testing.TB, sets ...[]ring.MemberID) *desk {
	if sets == nil {
		sets = [][]ring.MemberID{{"a", "b", "c"}}
	}
	own := NewContacts(simTerm)
	return &desk{t: t, l: NewLedger(at(0), proc("x"), sets, simTerm, own), own: own}
}

// word has a seat stand by a view, for an Ask of now.
func (d *desk) word(now time.Time, seat ring.MemberID, p *ring.Placement, contacts ...Contact) {
	d.echo(d.l.Nonce(now), now, seat, p, contacts...)
}

// echo is word for an Ask with a nonce of another time.
func (d *desk) echo(n Nonce, now time.Time, seat ring.MemberID, p *ring.Placement, contacts ...Contact) {
	d.seq++
	w := &Word{Seat: proc(seat), Seq: d.seq, Nonce: n, Contacts: contacts}
	if p != nil {
		w.Grants, w.View = true, p.Fingerprint()
	}
	d.l.Granted(now, w)
}

func (d *desk) words(now time.Time, p *ring.Placement, contacts ...Contact) {
	for _, seat := range []ring.MemberID{"a", "b", "c"} {
		d.word(now, seat, p, contacts...)
	}
}

// copies has all other members confirm their unary claims.
func (d *desk) copies(now time.Time, p *ring.Placement) {
	n := d.l.Nonce(now)
	for _, m := range p.View().Members() {
		d.l.CopiesConfirmed(now, m.ID, n, p.Fingerprint())
	}
}

func (d *desk) confirm(now time.Time, proxy ProxyID, i Incarnation, p *ring.Placement) {
	d.l.Confirmed(now, proxy, Confirm{i, d.l.Nonce(now), p.Fingerprint(), ring.FullShardSet(p.Params().Shards)})
}

// tally is "held, in force, open".
func (d *desk) tally(now time.Time) [3]int {
	h, f, o := d.l.Snapshot().Tally(now)
	return [3]int{h, f, o}
}

func (d *desk) want(now time.Time, what string, force, open int) {
	d.t.Helper()
	if got := d.tally(now); got[1] != force || got[2] != open {
		d.t.Errorf("%s: held, in force, open are %v, want %d in force and %d open", what, got, force, open)
	}
}

// heard is what a seat says of a proxy with claims.
func heardOf(p ProxyID, i Incarnation, age time.Duration) Contact {
	return Contact{Proxy: p, Incarnation: i, Age: age, Claims: true}
}
