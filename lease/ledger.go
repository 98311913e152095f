package lease

import (
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	// Patience is how long a proxy may fail to confirm to a holder before it counts
	// as stalled, and another tracker before it counts as lost.
	Patience = time.Minute

	// floorTold is how old a floor that came in a Word may be that this tracker tells
	// the seats in its turn: they must know it also when each has started anew since it
	// was put there. One that is about to be forgotten is not told, or a circle of
	// trackers would remember it for ever.
	floorTold = FloorKept - time.Hour

	// forever is the end of a word that a seat gives itself: it changes at once.
	forever = 100 * 365 * 24 * time.Hour
)

// A Ledger is one tracker's side of relying on seats and proxies: which lists are
// in force here, which shards are open (rules 3, 4, 6 and 7 of the design). It is
// not safe for concurrent use.
//
// Invariant: open ⊆ in force ⊆ held, and for every shard in force
// since[s] < the nonce of every confirm that opened it.
type Ledger struct {
	self  Process
	term  Term
	seats seats
	own   *Contacts // what this tracker heard itself

	current  *ring.Placement
	held     ring.ShardSet
	known    map[ring.Fingerprint]*knownView
	words    []*wordHeld // by seat
	confirms map[ProxyID]*confirm
	copies   map[ring.MemberID]copyConfirm
	silent   map[ProxyID]time.Time // proxies heard of that do not confirm, and since when

	// Invariant: whatever shard is in force and not open is kept so by one of
	// blockers, or by trackers alone. So the Renew of another proxy opens nothing,
	// and while a thousand confirm, all are looked at some ten times.
	blockers map[ProxyID]bool

	lists    []uint64 // sums of the lists that since speaks of
	since    []Nonce  // by shard: when its list came into force without a break
	snapshot *Snapshot
	grounds  uint64 // grows when what is in force may have changed
	came     uint64 // grows when lists came into force
	last     Nonce
	started  time.Time
}

// A Confirm is a proxy's Renew, as far as it says that claims are complete.
type Confirm struct {
	Incarnation Incarnation
	Nonce       Nonce
	View        ring.Fingerprint // every claim that it places here went before
	Complete    ring.ShardSet    // proven, and no Replace under way; not modified afterwards
}

type confirm struct {
	Confirm
	until time.Time
}

type copyConfirm struct {
	nonce Nonce
	view  ring.Fingerprint
}

// NewLedger returns the ledger of a tracker that starts now.
func NewLedger(now time.Time, self Process, sets [][]ring.MemberID, term Term, heard *Contacts) *Ledger {
	l := &Ledger{self: self, term: term, seats: newSeats(sets), own: heard, known: map[ring.Fingerprint]*knownView{},
		confirms: map[ProxyID]*confirm{}, copies: map[ring.MemberID]copyConfirm{}, silent: map[ProxyID]time.Time{}, blockers: map[ProxyID]bool{}, snapshot: &Snapshot{}, started: now}
	l.words = make([]*wordHeld, len(l.seats.ids))
	return l
}

// Nonce makes a nonce. Nonces and the times at which lists come into force are
// all different and in the order in which they arose, also where the clock stood still.
func (l *Ledger) Nonce(now time.Time) Nonce { return l.tick(now) }

func (l *Ledger) tick(now time.Time) Nonce {
	l.last = max(l.last+1, NonceAt(now))
	return l.last
}

// Adopt turns the ledger to a view.
func (l *Ledger) Adopt(now time.Time, p *ring.Placement) {
	if l.current != nil && l.current.Fingerprint() != p.Fingerprint() {
		l.Know(now, l.current)
		for _, w := range l.words {
			if w != nil {
				w.stands = nil
			}
		}
	}
	if l.lists == nil {
		l.lists = make([]uint64, p.Params().Shards)
		l.since = make([]Nonce, p.Params().Shards)
	}
	l.current, l.held = p, p.Held(l.self.ID)
	l.Know(now, p)
	if k := l.known[p.Fingerprint()]; k != nil {
		k.placement = p // with the addresses of now
	}
	l.refresh(now)
}

// Granted takes a seat's word. A late one is ignored, as is one of a process that
// is no seat. It reports whether the word was news, to be acknowledged at once.
//
// A word of an older boot is late while the word in hand holds. Afterwards it is of a
// seat whose clock was set back while it was away; should it be late all the same, it
// has run out too, or is of a life that has granted nothing to anyone else since.
func (l *Ledger) Granted(now time.Time, w *Word) (changed bool) {
	i := slices.Index(l.seats.ids, w.Seat.ID)
	if i < 0 || w.Nonce > l.last {
		return false
	}
	h := l.words[i]
	if h != nil && (w.Seat.Boot < h.word.Seat.Boot && now.Before(h.until) || w.Seat.Boot == h.word.Seat.Boot && w.Seq <= h.word.Seq) {
		return false
	}
	first := h == nil || h.word.Seat.Boot != w.Seat.Boot
	if first {
		h = &wordHeld{contacts: map[ProxyID]seatContact{}}
		l.words[i] = h
	}
	changed = first || h.word.Grants != w.Grants || h.word.View != w.View || !slices.EqualFunc(h.word.Older, w.Older, func(a, b Older) bool {
		return a.View == b.View && slices.Equal(a.Stragglers, b.Stragglers)
	})
	if changed {
		h.stands = nil
	}
	if w.Full {
		clear(h.contacts)
	}
	sent := w.Nonce.Time()
	for _, c := range w.Contacts {
		age := max(0, c.Age)
		s := seatContact{incarnation: c.Incarnation, claims: c.Claims, floor: c.Floor,
			forCounting: sent.Add(-age), forOpening: now.Add(-age), toldAt: now}
		if o := h.contacts[c.Proxy]; o.incarnation == s.incarnation && o.forCounting.After(s.forCounting) {
			s.forCounting = o.forCounting
		}
		if c.Stalled {
			s.stalledSince = now.Add(-max(0, c.StalledAge))
		}
		if !c.Floor.IsZero() && c.FloorAge < floorTold {
			l.own.End(now.Add(-max(0, c.FloorAge)), c.Proxy, c.Floor)
		}
		h.contacts[c.Proxy] = s
	}
	h.word, h.heardAt = *w, now
	h.word.Contacts = nil
	h.until = sent.Add(l.term.Held())
	if w.Grants {
		l.renewKnown(now, w)
	}
	l.refresh(now)
	return changed
}

// Standing takes the word of the seat in this same process, which needs no nonce,
// and reads the contacts of that seat as they are from now on. It is due whenever
// the Grantor's Version grew, before any Word that tells others so.
func (l *Ledger) Standing(now time.Time, w Word, heard *Contacts) {
	i := slices.Index(l.seats.ids, w.Seat.ID)
	if i < 0 {
		return
	}
	l.words[i] = &wordHeld{word: w, until: now.Add(forever), heardAt: now, live: heard}
	if w.Grants {
		l.renewKnown(now, &w)
	}
	l.refresh(now)
}

// Confirmed takes a proxy's Renew whose sum was right. It is the lease too, and
// holds until a term after its nonce. The latest replaces the one before. One with a
// nonce that was never made here is ignored.
func (l *Ledger) Confirmed(now time.Time, proxy ProxyID, c Confirm) {
	if o := l.confirms[proxy]; c.Nonce > l.last || o != nil && c.Incarnation.Less(o.Incarnation) {
		return
	}
	l.confirms[proxy] = &confirm{c, c.Nonce.Time().Add(l.term.Held())}
	if l.blockers[proxy] {
		l.reopen(now)
	}
}

// CopiesConfirmed takes another tracker's word that all unary claims that it has,
// of shards that the view places here, went before.
func (l *Ledger) CopiesConfirmed(now time.Time, from ring.MemberID, n Nonce, view ring.Fingerprint) {
	if n > l.last {
		return
	}
	l.copies[from] = copyConfirm{n, view}
	l.reopen(now)
}

// Advance lets time alone change what is in force and open.
func (l *Ledger) Advance(now time.Time) {
	for fp, k := range l.known {
		if k.placement != l.current && now.After(k.until) {
			delete(l.known, fp)
		}
	}
	for m, c := range l.copies { // nobody waits for a tracker for longer than that
		if now.Sub(c.nonce.Time()) > Patience {
			delete(l.copies, m)
		}
	}
	for _, w := range l.words {
		if w != nil {
			w.forget(now, l.term)
		}
	}
	for p, c := range l.confirms {
		if now.After(c.until.Add(l.term.Forgotten())) {
			delete(l.confirms, p)
		}
	}
	l.refresh(now)
}

// Next is when time alone changes something next.
func (l *Ledger) Next(now time.Time) (at time.Time, ok bool) {
	n := now.UnixNano()
	for _, e := range l.snapshot.ends {
		if e > n && (!ok || e < at.UnixNano()) {
			at, ok = time.Unix(0, e), true
		}
	}
	if l.waiting() { // for proxies and trackers to be forgotten
		if t := now.Add(time.Duration(l.term) / 50); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// Snapshot is what may be said now.
func (l *Ledger) Snapshot() *Snapshot { return l.snapshot }

// Grounds grows whenever what is in force may have changed.
func (l *Ledger) Grounds() uint64 { return l.grounds }

// Came grows whenever a list came into force here, so that confirms are due.
func (l *Ledger) Came() uint64 { return l.came }

// Informed reports whether words of more than half of the seats are in hand, with
// or without a view: then this tracker knows the proxies that they know.
func (l *Ledger) Informed(now time.Time) bool {
	var mask uint16
	for i, w := range l.words {
		if w != nil && now.Before(w.until) {
			mask |= 1 << i
		}
	}
	return l.seats.most[mask]
}

// KnownLife is the highest incarnation and the highest floor that this tracker or a
// seat's word knows of a proxy.
func (l *Ledger) KnownLife(p ProxyID) (i, floor Incarnation) {
	i, floor = l.own.Known(p)
	for _, w := range l.words {
		if w == nil {
			continue
		}
		if c, ok := w.contact(p); ok {
			if i.Less(c.incarnation) {
				i = c.incarnation
			}
			if floor.Less(c.floor) {
				floor = c.floor
			}
		}
	}
	return i, floor
}

// LastHeard is when anybody last heard of any life of a proxy, at the latest.
func (l *Ledger) LastHeard(p ProxyID) time.Time {
	var at time.Time
	if e := l.own.m[p]; e != nil {
		at = e.at
	}
	for _, w := range l.words {
		if w == nil {
			continue
		}
		if c, ok := w.contact(p); ok && c.forOpening.After(at) {
			at = c.forOpening
		}
	}
	return at
}

// Cut reports whether this tracker had no word from more than half of the seats
// for two terms: one that gossips but is cut off must hold nothing.
func (l *Ledger) Cut(now time.Time) bool {
	var mask uint16
	for i := range l.seats.ids {
		at := l.started
		if w := l.words[i]; w != nil {
			at = w.heardAt
			if w.until.Sub(now) > forever/2 { // its own
				at = now
			}
		}
		if now.Sub(at) < l.term.Forgotten() {
			mask |= 1 << i
		}
	}
	return !l.seats.most[mask]
}

// Seats are all members of the sets in use.
func (l *Ledger) Seats() []ring.MemberID { return l.seats.ids }

// Ack is what an Ask to a seat acknowledges.
func (l *Ledger) Ack(seat ring.MemberID) (boot, seq uint64) {
	if i := slices.Index(l.seats.ids, seat); i >= 0 && l.words[i] != nil {
		return l.words[i].word.Seat.Boot, l.words[i].word.Seq
	}
	return 0, 0
}

// Word is the view by which a seat's word in hand stands, and the nonce that it
// echoes. ok is false where there is none that grants.
func (l *Ledger) Word(now time.Time, seat ring.MemberID) (view ring.Fingerprint, n Nonce, ok bool) {
	if i := slices.Index(l.seats.ids, seat); i >= 0 && l.words[i] != nil && l.words[i].grants(now) {
		return l.words[i].word.View, l.words[i].word.Nonce, true
	}
	return 0, 0, false
}

// refresh works out anew what is in force and open. It computes all shards at once
// from the few views in play.
func (l *Ledger) refresh(now time.Time) {
	if l.current == nil {
		return
	}
	masks := l.standing(now)
	s := &Snapshot{Placement: l.current, Held: l.held, class: make([]uint16, len(l.since)), masks: []uint16{0}, ends: []int64{0}, shards: []ring.ShardSet{nil}}
	until := make([]time.Time, len(l.words))
	for i, w := range l.words {
		if w != nil {
			until[i] = w.until
		}
	}
	classes := map[uint16]uint16{}
	old, n := l.snapshot, now.UnixNano()
	for sh := range l.held.All() {
		m := masks[sh]
		c, ok := classes[m]
		if !ok {
			if end := l.seats.end(m, until); end.After(now) {
				c = uint16(len(s.ends))
				s.masks, s.ends = append(s.masks, m), append(s.ends, end.UnixNano())
				s.shards = append(s.shards, ring.NewShardSet(len(l.since)))
			}
			classes[m] = c
		}
		if c == 0 {
			continue
		}
		s.class[sh] = c
		s.shards[c].Add(sh)
		if list := l.current.ListSum(sh); !old.inForce(n, sh) || l.lists[sh] != list {
			l.lists[sh] = list
			l.since[sh] = 0
		}
	}
	var came Nonce
	s.open = ring.NewShardSet(len(l.since))
	for sh := range l.held.All() {
		switch {
		case s.class[sh] == 0:
		case l.since[sh] == 0:
			if came == 0 {
				came = l.tick(now)
				l.came++
			}
			l.since[sh] = came
		case old.open.Has(sh):
			s.open.Add(sh)
		}
	}
	l.snapshot = s
	l.grounds++
	l.openMore(now, s)
}
