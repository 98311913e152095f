package lease

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// wordHeld is the last word of one seat.
type wordHeld struct {
	word     Word
	until    time.Time
	heardAt  time.Time // of the last Word, with or without a view
	contacts map[ProxyID]seatContact
	live     *Contacts     // of the seat in this same process, in place of contacts
	stands   ring.ShardSet // of word, under the current placement; nil: to be computed
}

// grants reports whether the word stands by a view, and has not run out.
func (w *wordHeld) grants(now time.Time) bool { return w.word.Grants && now.Before(w.until) }

// contact is what the seat says of a proxy.
func (w *wordHeld) contact(p ProxyID) (seatContact, bool) {
	if w.live == nil {
		c, ok := w.contacts[p]
		return c, ok
	}
	if e := w.live.m[p]; e != nil {
		return e.seatContact(), true
	}
	return seatContact{}, false
}

func (w *wordHeld) all() iter.Seq2[ProxyID, seatContact] {
	if w.live == nil {
		return maps.All(w.contacts)
	}
	return func(yield func(ProxyID, seatContact) bool) {
		for p, e := range w.live.m {
			if !yield(p, e.seatContact()) {
				return
			}
		}
	}
}

// seatContact is what a seat's word says of a proxy. The age in a word is true at
// some time between the nonce and the receipt, so that each use takes the safe end.
type seatContact struct {
	incarnation  Incarnation
	claims       bool
	floor        Incarnation
	forCounting  time.Time // heard of at this time or later
	forOpening   time.Time // heard of at this time or earlier
	stalledSince time.Time // zero: not marked
	toldAt       time.Time // when a word last named it
}

func (e *contact) seatContact() seatContact {
	return seatContact{e.incarnation, e.claims, e.floor, e.at, e.at, e.stalledAt, time.Time{}}
}

// forget drops the contacts that the seat has forgotten by now: no word says so.
func (w *wordHeld) forget(now time.Time, term Term) {
	for p, c := range w.contacts {
		kept := 2 * term.Forgotten()
		if !c.floor.IsZero() {
			kept += FloorKept
		}
		if now.Sub(c.toldAt) > kept && c.stalledSince.IsZero() {
			delete(w.contacts, p)
		}
	}
}

// standing is by shard the seats whose word stands for the current list.
func (l *Ledger) standing(now time.Time) []uint16 {
	masks := make([]uint16, len(l.since))
	for i, w := range l.words {
		if w == nil || !w.grants(now) {
			continue
		}
		if w.stands == nil {
			w.stands = l.standsFor(&w.word)
		}
		for sh := range w.stands.All() {
			masks[sh] |= 1 << i
		}
	}
	return masks
}

// standsFor is rule 2 as the receiver reads it.
func (l *Ledger) standsFor(w *Word) ring.ShardSet {
	stands := ring.NewShardSet(len(l.since))
	v := l.known[w.View]
	if v == nil {
		return stands
	}
	older := make([]*ring.Placement, len(w.Older))
	for i, o := range w.Older {
		k := l.known[o.View]
		if k == nil {
			return stands
		}
		older[i] = k.placement
	}
	for sh := range l.held.All() {
		if !v.placement.SameList(l.current, sh) {
			continue
		}
		ok := true
		for i, o := range older {
			if ok && !o.SameList(l.current, sh) {
				ok = !slices.ContainsFunc(o.List(sh), func(h ring.MemberID) bool {
					return slices.ContainsFunc(w.Older[i].Stragglers, func(p Process) bool { return p.ID == h })
				})
			}
		}
		if ok {
			stands.Add(sh)
		}
	}
	return stands
}
