package lease

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// group is the shards that came into force at one moment and are not open yet.
type group struct {
	since  Nonce
	shards ring.ShardSet
}

// waiting reports whether a shard is in force and not open.
func (l *Ledger) waiting() bool {
	if len(l.snapshot.ends) < 2 {
		return false
	}
	for sh := range l.held.All() {
		if l.snapshot.class[sh] != 0 && !l.snapshot.open.Has(sh) {
			return true
		}
	}
	return false
}

func (l *Ledger) groups(now time.Time) []group {
	var gs []group
	n := now.UnixNano()
	for sh := range l.held.All() {
		if !l.snapshot.inForce(n, sh) || l.snapshot.open.Has(sh) {
			continue
		}
		i := slices.IndexFunc(gs, func(g group) bool { return g.since == l.since[sh] })
		if i < 0 {
			i = len(gs)
			gs = append(gs, group{l.since[sh], ring.NewShardSet(len(l.since))})
		}
		gs[i].shards.Add(sh)
	}
	return gs
}

// reopen opens what a confirm has made ready, and leaves alone what is in force.
func (l *Ledger) reopen(now time.Time) {
	if l.current == nil || !l.waiting() {
		return
	}
	s := *l.snapshot
	s.open = s.open.Clone()
	l.openMore(now, &s)
	l.snapshot = &s
}

// openMore opens in s the shards that every proxy heard of and every other tracker
// has confirmed since their lists came into force (rule 7).
func (l *Ledger) openMore(now time.Time, s *Snapshot) {
	before := l.blockers
	l.blockers = map[ProxyID]bool{}
	gs := l.groups(now)
	look := func(p ProxyID) (more bool) {
		if i, ok := l.waitsFor(now, p, false); ok && l.keepConfirmed(now, gs, l.complete(now, p, i)) {
			l.blockers[p] = true
		}
		return slices.ContainsFunc(gs, func(g group) bool { return !g.shards.Empty() })
	}
	if len(gs) == 0 {
		return
	}
	for p := range before { // mostly they still do, and nobody else need be looked at
		if !look(p) {
			return
		}
	}
	for p := range l.heardOf(now) {
		if !look(p) {
			return
		}
	}
	for _, m := range l.current.View().Members() {
		if m.ID == l.self.ID || m.State == ring.Joining {
			continue
		}
		c := l.copies[m.ID]
		l.keepConfirmed(now, gs, completeness{nonce: c.nonce, shards: l.placedBy(c.view), patience: true})
	}
	for _, g := range gs {
		s.open.Or(g.shards)
	}
}

// completeness is what one writer has confirmed: these shards, since that nonce.
type completeness struct {
	nonce    Nonce
	shards   ring.ShardSet // nil: none
	more     ring.ShardSet // and of these shards too; nil: no others
	patience bool          // a writer that does not confirm within Patience counts as lost
}

// keepConfirmed leaves in gs what c confirms, and reports whether it took any out.
func (l *Ledger) keepConfirmed(now time.Time, gs []group, c completeness) (took bool) {
	for _, g := range gs {
		if c.patience && now.Sub(g.since.Time()) >= Patience {
			continue
		}
		for i, had := range g.shards {
			if c.nonce <= g.since || c.shards == nil {
				g.shards[i] = 0
			} else {
				g.shards[i] &= c.shards[i]
				if c.more != nil {
					g.shards[i] &= c.more[i]
				}
			}
			took = took || g.shards[i] != had
		}
	}
	return took
}

// complete is what a proxy has confirmed under a live lease.
func (l *Ledger) complete(now time.Time, p ProxyID, i Incarnation) completeness {
	c := l.confirms[p]
	if c == nil || c.Incarnation != i || !now.Before(c.until) {
		return completeness{}
	}
	placed := l.placedBy(c.View)
	if placed == nil || len(placed) != len(c.Complete) {
		return completeness{}
	}
	return completeness{nonce: c.Nonce, shards: c.Complete, more: placed}
}

// placedBy is what a view places here; nil where the view is not known.
func (l *Ledger) placedBy(fp ring.Fingerprint) ring.ShardSet {
	v := l.known[fp]
	if v == nil || v.placement.Params().Shards != l.current.Params().Shards {
		return nil
	}
	return v.placement.Held(l.self.ID)
}

// heardOf yields the proxies of which a granting seat or this tracker itself knows
// something, some of them more than once.
func (l *Ledger) heardOf(now time.Time) iter.Seq[ProxyID] {
	return func(yield func(ProxyID) bool) {
		for p := range l.own.m {
			if !yield(p) {
				return
			}
		}
		for _, w := range l.words {
			if w == nil || !w.grants(now) {
				continue
			}
			for p := range w.all() {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// waitsFor reports whether opening waits for a proxy, and for which life: the highest
// heard of, where a granting seat or this tracker itself heard of it within two
// terms, with claims, and it is not over. It waits no longer where every granting
// seat that heard of it so has marked it as stalled for two terms, unless marked is true.
func (l *Ledger) waitsFor(now time.Time, p ProxyID, marked bool) (i Incarnation, ok bool) {
	oldest := now.Add(-l.term.Forgotten())
	var floor Incarnation
	var recent, seat, waited bool // heard of within two terms; so by a seat; that has not marked it long enough
	note := func(c seatContact, bySeat bool) {
		if floor.Less(c.floor) {
			floor = c.floor
		}
		o := c.incarnation.Compare(i)
		if o > 0 {
			i, recent, seat, waited = c.incarnation, false, false, false
		}
		if o >= 0 && c.claims && !c.forOpening.Before(oldest) {
			recent = true
			seat = seat || bySeat
			waited = waited || bySeat && (c.stalledSince.IsZero() || c.stalledSince.After(oldest))
		}
	}
	for _, w := range l.words {
		if w == nil || !w.grants(now) {
			continue
		}
		if c, ok := w.contact(p); ok {
			note(c, true)
		}
	}
	if e := l.own.m[p]; e != nil {
		note(e.seatContact(), false)
	}
	return i, recent && (marked || waited || !seat) && !i.IsZero() && !i.Less(floor)
}

// Stalled are the proxies heard of that have not confirmed to this holder for
// Patience, whatever their incarnation, to be told to the seats. selfish reports that
// it would be more than half of those heard of, and more than two: then the fault
// is this tracker's own, and none is named.
func (l *Ledger) Stalled(now time.Time) (stalled []ProxyID, selfish bool) {
	heard := map[ProxyID]bool{}
	for p := range l.heardOf(now) {
		if _, ok := l.waitsFor(now, p, true); ok { // a mark ends when the proxy confirms, not because nobody waits for it any more
			heard[p] = true
		}
	}
	for p := range l.silent {
		if !heard[p] {
			delete(l.silent, p)
		}
	}
	for p := range heard {
		if c := l.confirms[p]; c != nil && now.Before(c.until) {
			delete(l.silent, p)
		} else if at, ok := l.silent[p]; !ok {
			l.silent[p] = now
		} else if now.Sub(at) >= Patience {
			stalled = append(stalled, p)
		}
	}
	if len(stalled) > 2 && 2*len(stalled) > len(heard) {
		return nil, true
	}
	slices.Sort(stalled)
	return stalled, false
}

// Counting says until when the claims of one life of a proxy count, as far as the
// seats say: more than half of them grant the list and have heard of that life
// within a term.
func (l *Ledger) Counting(now time.Time, p ProxyID, i Incarnation) *Counting {
	s := l.snapshot
	c := &Counting{Snapshot: s, ends: make([]int64, len(s.ends))}
	until := make([]time.Time, len(l.words))
	var know, marked uint16
	for n, w := range l.words {
		if w == nil || !now.Before(w.until) {
			continue
		}
		e, ok := w.contact(p)
		end := e.forCounting.Add(l.term.Held())
		if !ok || e.incarnation != i || !e.claims || i.Less(e.floor) || !now.Before(end) {
			continue
		}
		if !e.stalledSince.IsZero() {
			marked |= 1 << n
			continue
		}
		know |= 1 << n
		until[n] = w.until
		if end.Before(w.until) {
			until[n] = end
		}
	}
	c.Known = l.seats.most[know]
	c.Stalled = !c.Known && l.seats.most[know|marked]
	for k, m := range s.masks {
		if k > 0 {
			if end := l.seats.end(m&know, until); end.After(now) {
				c.ends[k] = end.UnixNano()
			}
		}
	}
	return c
}

// Report is what an Ask to a seat says of proxies: those that this tracker heard
// itself, and of which the seat's last word does not know as much.
func (l *Ledger) Report(now time.Time, seat ring.MemberID) []Contact {
	var have map[ProxyID]seatContact
	if i := slices.Index(l.seats.ids, seat); i >= 0 && l.words[i] != nil {
		have = l.words[i].contacts
	}
	var r []Contact
	for p, e := range l.own.m {
		if l.lacks(have, p, e) {
			c := e.contact(now, p)
			c.Stalled, c.StalledAge = false, 0
			r = append(r, c)
		}
	}
	slices.SortFunc(r, func(a, b Contact) int { return cmp.Compare(a.Proxy, b.Proxy) })
	return r
}

func (l *Ledger) lacks(have map[ProxyID]seatContact, p ProxyID, e *contact) bool {
	h, ok := have[p]
	if !ok || h.floor.Less(e.floor) {
		return true
	}
	if e.incarnation.Less(h.incarnation) || e.incarnation.IsZero() {
		return false
	}
	return h.incarnation != e.incarnation || e.claims && !h.claims || e.at.Sub(h.forOpening) >= time.Duration(l.term)/6
}

// Unreported reports whether a proxy with claims spoke here in an incarnation that
// the word of some seat lacks, so that the seats are to be asked at once.
func (l *Ledger) Unreported(p ProxyID) bool {
	e := l.own.m[p]
	if e == nil || !e.claims {
		return false
	}
	for i, w := range l.words {
		if w == nil || l.seats.ids[i] == l.self.ID {
			continue
		}
		if h, _ := w.contact(p); h.incarnation.Less(e.incarnation) || h.incarnation == e.incarnation && !h.claims {
			return true
		}
	}
	return false
}
