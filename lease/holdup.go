package lease

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A HolderUp says what kind of process a Holdup names.
type HolderUp uint8

// What may keep a shard from opening.
const (
	HeldUpBySeat    HolderUp = iota + 1 // its word does not stand for the list, which is not in force
	HeldUpByProxy                       // it has not confirmed since the list came into force
	HeldUpByTracker                     // it has not confirmed its unary claims since then
)

// String returns the word for it: seat, proxy or tracker.
func (h HolderUp) String() string {
	switch h {
	case HeldUpBySeat:
		return "seat"
	case HeldUpByProxy:
		return "proxy"
	case HeldUpByTracker:
		return "tracker"
	}
	return fmt.Sprintf("holder-up(%d)", uint8(h))
}

// A Holdup names one process that keeps shards from opening at a holder, for the
// operator. A list needs more than half of the seats, so that a shard may come into
// force without each of those that are named; it opens only when nobody is.
type Holdup struct {
	By     HolderUp
	ID     string // of the seat, the proxy or the tracker
	Why    string // for people
	Shards ring.ShardSet
}

// Holdups names who keeps shards from opening: seats first, then trackers, then
// proxies, each by ID. It costs a look at all shards and at all proxies heard of.
func (l *Ledger) Holdups(now time.Time) []Holdup {
	if l.current == nil {
		return nil
	}
	held := l.heldUpBySeats(now)
	gs := l.groups(now)
	if len(gs) == 0 {
		return held
	}
	for _, m := range l.current.View().Members() {
		if m.ID == l.self.ID || m.State == ring.Joining {
			continue
		}
		c := l.copies[m.ID]
		done := completeness{nonce: c.nonce, shards: l.placedBy(c.view), patience: true}
		if lacks := l.lacking(now, gs, done); !lacks.Empty() {
			held = append(held, Holdup{HeldUpByTracker, string(m.ID), "it has not confirmed its unary claims since the lists came into force", lacks})
		}
	}
	seen := map[ProxyID]bool{}
	for p := range l.heardOf(now) {
		if seen[p] {
			continue
		}
		seen[p] = true
		i, ok := l.waitsFor(now, p, false)
		if !ok {
			continue
		}
		if lacks := l.lacking(now, gs, l.complete(now, p, i)); !lacks.Empty() {
			held = append(held, Holdup{HeldUpByProxy, string(p), l.unconfirmed(now, p, i, gs), lacks})
		}
	}
	slices.SortStableFunc(held, func(a, b Holdup) int {
		if a.By != HeldUpByProxy || b.By != HeldUpByProxy {
			return 0
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return held
}

// lacking is the shards of the groups that c does not confirm.
func (l *Ledger) lacking(now time.Time, gs []group, c completeness) ring.ShardSet {
	all := ring.NewShardSet(len(l.since))
	rest := make([]group, len(gs))
	for i, g := range gs {
		all.Or(g.shards)
		rest[i] = group{g.since, g.shards.Clone()}
	}
	l.keepConfirmed(now, rest, c)
	for _, g := range rest {
		all.AndNot(g.shards)
	}
	return all
}

// unconfirmed says why the confirm of a proxy does not do.
func (l *Ledger) unconfirmed(now time.Time, p ProxyID, i Incarnation, gs []group) string {
	c := l.confirms[p]
	switch {
	case c == nil || c.Incarnation.Less(i):
		return "it has claims, and this life of it has not confirmed here"
	case !now.Before(c.until):
		return "its lease here ran out"
	case l.placedBy(c.View) == nil:
		return "it confirmed by a view that is not known here"
	case slices.ContainsFunc(gs, func(g group) bool { return c.Nonce <= g.since }):
		return "it has not confirmed since the lists came into force"
	}
	return "it has not sent all its claims of these shards"
}

// heldUpBySeats names the seats whose word does not stand for lists that are not in
// force.
func (l *Ledger) heldUpBySeats(now time.Time) []Holdup {
	masks := l.standing(now)
	lacks := make([]ring.ShardSet, len(l.words))
	for i := range lacks {
		lacks[i] = ring.NewShardSet(len(l.since))
	}
	for sh := range l.held.All() {
		if l.snapshot.InForce(now, sh) {
			continue
		}
		for i := range lacks {
			if masks[sh]>>i&1 == 0 {
				lacks[i].Add(sh)
			}
		}
	}
	var held []Holdup
	for i, id := range l.seats.ids {
		if !lacks[i].Empty() {
			held = append(held, Holdup{HeldUpBySeat, string(id), l.doesNotStand(now, l.words[i], lacks[i]), lacks[i]})
		}
	}
	slices.SortFunc(held, func(a, b Holdup) int { return cmp.Compare(a.ID, b.ID) })
	return held
}

// doesNotStand says why a seat's word does not stand for the lists of some shards.
func (l *Ledger) doesNotStand(now time.Time, w *wordHeld, shards ring.ShardSet) string {
	switch {
	case w == nil:
		return "no word of it has come"
	case !now.Before(w.until):
		return "its last word ran out"
	case !w.word.Grants:
		return "it grants nothing yet"
	case l.known[w.word.View] == nil:
		return fmt.Sprintf("it stands by view %v, which is not known here", w.word.View)
	}
	stragglers := map[string]bool{}
	for _, o := range w.word.Older {
		k := l.known[o.View]
		if k == nil {
			return fmt.Sprintf("it names an older view %v, which is not known here", o.View)
		}
		for _, p := range o.Stragglers {
			on := k.placement.Held(p.ID).Clone()
			on.And(shards)
			if !on.Empty() {
				stragglers[string(p.ID)] = true
			}
		}
	}
	if w.word.View != l.current.Fingerprint() {
		return fmt.Sprintf("it stands by another view, %v", w.word.View)
	}
	return "it waits for a former word to end at " + strings.Join(slices.Sorted(maps.Keys(stragglers)), ", ")
}

// A SeatWord is what a tracker has of one seat, for the operator.
type SeatWord struct {
	Seat   Process          // the boot is 0 where no word came
	Grants bool             // a word of it that has not run out stands by View
	View   ring.Fingerprint // 0 where no word came
	Heard  time.Duration    // since its last word came; 0 of the seat in this same process
	Left   time.Duration    // until its word runs out, at most a term; 0 where it has
}

// Words is what this tracker has of each seat.
func (l *Ledger) Words(now time.Time) []SeatWord {
	words := make([]SeatWord, len(l.seats.ids))
	for i, id := range l.seats.ids {
		words[i].Seat.ID = id
		w := l.words[i]
		if w == nil {
			continue
		}
		s := &words[i]
		s.Seat.Boot, s.View, s.Grants = w.word.Seat.Boot, w.word.View, w.grants(now)
		s.Heard = max(0, now.Sub(w.heardAt))
		if w.live != nil {
			s.Heard = 0
		}
		s.Left = min(max(0, w.until.Sub(now)), l.term.Held())
	}
	return words
}

// MostGrantWithout reports whether more than half of the seats grant to this tracker
// when those that gone names do not.
func (l *Ledger) MostGrantWithout(now time.Time, gone func(ring.MemberID) bool) bool {
	var mask uint16
	for i, w := range l.words {
		if w != nil && w.grants(now) && !gone(l.seats.ids[i]) {
			mask |= 1 << i
		}
	}
	return l.seats.most[mask]
}

// A HeardProxy is what is known of a proxy by hearsay, for the operator.
type HeardProxy struct {
	Proxy       ProxyID
	Incarnation Incarnation   // the highest heard of
	Age         time.Duration // since anybody last heard of it, at the latest
	Claims      bool          // it has claims
	Stalled     bool          // a seat marks it
	WaitedFor   bool          // shards open only when it has confirmed
	Ended       bool          // its lives up to this one are over
}

// Heard is all proxies of which this tracker or a granting seat has heard, by ID.
func (l *Ledger) Heard(now time.Time) []HeardProxy {
	all := map[ProxyID]*HeardProxy{}
	for p := range l.heardOf(now) {
		if all[p] != nil {
			continue
		}
		h := &HeardProxy{Proxy: p}
		all[p] = h
		i, floor := l.KnownLife(p)
		h.Incarnation, h.Ended = i, i.Less(floor) || i.IsZero()
		h.Age = max(0, now.Sub(l.LastHeard(p)))
		_, h.WaitedFor = l.waitsFor(now, p, false)
		if e := l.own.m[p]; e != nil && e.incarnation == i {
			h.Claims = e.claims
		}
		for _, w := range l.words {
			if w == nil {
				continue
			}
			if c, ok := w.contact(p); ok {
				h.Claims = h.Claims || c.claims && c.incarnation == i
				h.Stalled = h.Stalled || !c.stalledSince.IsZero()
			}
		}
	}
	list := make([]HeardProxy, 0, len(all))
	for _, p := range slices.Sorted(maps.Keys(all)) {
		list = append(list, *all[p])
	}
	return list
}
