package lease

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A Grantor is a seat's side of giving its word (rules 2, 3, 5 and 10 of the
// design). It is not safe for concurrent use.
//
// Invariant: for each receiver r and view U, r relies on a word given while the
// seat stood by U only while r.words[U] exists and now < r.words[U].until.
type Grantor struct {
	term       Term
	self       Process
	newest     uint64    // sum of the newest set of seats that this seat was given
	grantsFrom time.Time // rule 5: it has forgotten to whom it gave its word before
	contacts   *Contacts

	current   *ring.Placement
	older     []Older
	granting  bool
	version   uint64 // of what it stands by: grows whenever a Word would say something new
	marks     uint64 // of contacts, at version
	seq       uint64
	receivers map[Process]*receiver

	stale bool      // older may name processes that are stragglers no more, or not name some that are
	next  time.Time // when the first word given under an older view runs out; zero: never
}

// receiver is what a seat knows of one tracker that asks it.
type receiver struct {
	nonce   Nonce
	nonceAt time.Time // when nonce was first received: its word ends a term of the giver after it
	askedAt time.Time
	allowed bool // it was given the newest set of seats of this seat
	words   map[ring.Fingerprint]given
	sent    uint64 // version of the last Word
	acked   uint64 // version of contacts that it has for certain
	pending []pendingContacts
	full    bool // it has had all contacts once, in a word that it acknowledged
}

// given is the last word given to a receiver while the seat stood by one view.
type given struct {
	seq   uint64
	until time.Time
}

// pendingContacts is which version of the contacts a Word on its way brings up to.
type pendingContacts struct{ seq, version uint64 }

// maxPending bounds what is remembered of Words that are not acknowledged.
const maxPending = 16

// NewGrantor returns the grantor of a seat that starts now: it grants nothing for
// two terms, or at once where there was no pool before.
func NewGrantor(now time.Time, self Process, term Term, newestSeats uint64, newPool bool, heard *Contacts) *Grantor {
	g := &Grantor{term: term, self: self, newest: newestSeats, grantsFrom: now.Add(term.Forgotten()), contacts: heard, receivers: map[Process]*receiver{}}
	if newPool {
		g.grantsFrom = now
	}
	return g
}

// GrantsFrom is when the seat begins to grant.
func (g *Grantor) GrantsFrom() time.Time { return g.grantsFrom }

// Adopt turns the seat to a view. Older views stay beside it while someone may
// rely on them.
func (g *Grantor) Adopt(now time.Time, p *ring.Placement) {
	if g.current == nil || g.current.Fingerprint() != p.Fingerprint() {
		g.version++
		g.stale = true
	}
	g.current = p
	g.refresh(now)
}

// Asked takes a tracker's Ask: its nonce, its acknowledgement, and what it heard.
func (g *Grantor) Asked(now time.Time, a *Ask) {
	r := g.receivers[a.From]
	if r == nil {
		r = &receiver{words: map[ring.Fingerprint]given{}}
		g.receivers[a.From] = r
	}
	r.askedAt = now
	r.allowed = slices.Contains(a.SeatSets, g.newest)
	if a.Nonce > r.nonce { // the same again, or a late one, prolongs nothing
		r.nonce, r.nonceAt = a.Nonce, now
	}
	if a.SeatBoot == g.self.Boot {
		g.acknowledged(r, a.Ack)
	} else {
		r.acked, r.pending, r.full = 0, nil, false
	}
	for _, c := range a.Contacts {
		g.contacts.Report(now, c)
	}
	g.contacts.ReportStalled(now, a.From, a.Stalled)
	g.refresh(now)
}

// acknowledged frees r from every word before seq: it holds a later one.
func (g *Grantor) acknowledged(r *receiver, seq uint64) {
	if seq > g.seq {
		return
	}
	for v, w := range r.words {
		if w.seq < seq {
			delete(r.words, v)
			g.stale = true
		}
	}
	r.pending = slices.DeleteFunc(r.pending, func(p pendingContacts) bool {
		if p.seq == seq {
			r.acked, r.full = max(r.acked, p.version), true
		}
		return p.seq <= seq
	})
}

// Word is the seat's word to a tracker that has asked: renewal and change alike.
// It echoes the newest nonce, and holds no longer for being repeated.
func (g *Grantor) Word(now time.Time, to Process) (*Word, bool) {
	r := g.receivers[to]
	if r == nil {
		return nil, false
	}
	g.refresh(now)
	g.seq++
	w := &Word{Seat: g.self, Seq: g.seq, Nonce: r.nonce, Full: !r.full, Contacts: g.contacts.since(now, r.acked)}
	if g.granting && r.allowed {
		w.Grants, w.View, w.Older = true, g.current.Fingerprint(), g.older
		until := r.nonceAt.Add(g.term.Given())
		if o := r.words[w.View]; o.until.After(until) {
			until = o.until
		}
		r.words[w.View] = given{g.seq, until}
	}
	if len(r.pending) == maxPending {
		r.pending = r.pending[1:]
	}
	r.pending = append(r.pending, pendingContacts{g.seq, g.contacts.version})
	r.sent = g.version
	return w, true
}

// Owes reports whether the last Word to a tracker no longer says what the seat
// stands by.
func (g *Grantor) Owes(to Process) bool {
	r := g.receivers[to]
	return r != nil && r.sent != g.version
}

// Standing is the word that the seat gives itself: it asks itself without a message.
func (g *Grantor) Standing() (w Word) {
	w = Word{Seat: g.self, Grants: g.granting}
	if g.granting {
		w.View, w.Older = g.current.Fingerprint(), g.older
	}
	return w
}

// Version grows whenever Standing changes.
func (g *Grantor) Version() uint64 { return g.version }

// Advance lets time alone change the word.
func (g *Grantor) Advance(now time.Time) {
	g.contacts.Advance(now)
	g.stale = true
	for p, r := range g.receivers {
		if now.Sub(r.askedAt) > g.term.Forgotten() && len(r.words) == 0 {
			delete(g.receivers, p)
		}
	}
	g.refresh(now)
}

// Next is when time alone may change the word next.
func (g *Grantor) Next() (at time.Time, ok bool) {
	at, ok = g.contacts.next()
	if !g.granting {
		if g.current != nil && (!ok || g.grantsFrom.Before(at)) {
			at, ok = g.grantsFrom, true
		}
		return at, ok
	}
	if !g.next.IsZero() && (!ok || g.next.Before(at)) {
		at, ok = g.next, true
	}
	return at, ok
}

// refresh works out which older views still have stragglers.
func (g *Grantor) refresh(now time.Time) {
	granting := g.current != nil && !now.Before(g.grantsFrom)
	if g.contacts.marks != g.marks || granting != g.granting {
		g.marks, g.granting = g.contacts.marks, granting
		g.version++
	}
	if g.current == nil || !g.stale && (g.next.IsZero() || now.Before(g.next)) {
		return
	}
	g.stale, g.next = false, time.Time{}
	stragglers := map[ring.Fingerprint][]Process{}
	for p, r := range g.receivers {
		for v, w := range r.words {
			switch {
			case !now.Before(w.until):
				delete(r.words, v)
			case v != g.current.Fingerprint():
				stragglers[v] = append(stragglers[v], p)
				if g.next.IsZero() || w.until.Before(g.next) {
					g.next = w.until
				}
			}
		}
	}
	var older []Older
	for _, v := range slices.Sorted(maps.Keys(stragglers)) {
		l := stragglers[v]
		slices.SortFunc(l, compareProcesses)
		older = append(older, Older{v, l})
	}
	if !slices.EqualFunc(older, g.older, func(a, b Older) bool {
		return a.View == b.View && slices.Equal(a.Stragglers, b.Stragglers)
	}) {
		g.older = older
		g.version++
	}
}

func compareProcesses(a, b Process) int {
	if c := strings.Compare(string(a.ID), string(b.ID)); c != 0 {
		return c
	}
	switch {
	case a.Boot < b.Boot:
		return -1
	case a.Boot > b.Boot:
		return 1
	}
	return 0
}
