package lease

import (
	"maps"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// simTracker is one life of a tracker: the shell around a Ledger and, at a seat, a
// Grantor. It does for them what node.Tracker.Run does.
type simTracker struct {
	process
	s     *sim
	index int
	self  Process
	state ring.State
	sees  []ring.State // its view: the members that in names
	in    []bool

	placed    *ring.Placement
	own       *Contacts
	l         *Ledger
	g         *Grantor  // of a seat
	heard     *Contacts // of a seat
	standing  uint64    // version of g that l has
	grounds   uint64
	came      uint64
	ticks     int
	askedAt   time.Duration // the last asking out of turn
	wake      time.Duration
	seatLinks []*stream
	askers    map[Process]*stream
	owedAt    time.Duration                         // when changed words went last
	owing     bool                                  // and some are to go soon
	ackedView map[Process]map[ring.Fingerprint]bool // for the variant "old acks"
	fetching  map[ring.Fingerprint]bool
	stalled   []ProxyID

	claims    []*proxyClaims // by proxy
	unary     map[*simNode]unaryClaim
	copyLinks map[Process]*stream // to holders, as a writer
}

func (s *sim) startTracker(i int, states []ring.State, newPool bool) {
	s.boots++
	t := &simTracker{process: s.newProcess(i), s: s, index: i, self: Process{memberID(i), s.boots}, state: ring.Serving,
		sees: slices.Clone(states), in: make([]bool, len(states)), own: NewContacts(simTerm), seatLinks: make([]*stream, s.cfg.Seats),
		askers: map[Process]*stream{}, ackedView: map[Process]map[ring.Fingerprint]bool{}, fetching: map[ring.Fingerprint]bool{},
		claims: make([]*proxyClaims, s.cfg.Proxies), unary: map[*simNode]unaryClaim{}, copyLinks: map[Process]*stream{}}
	for j, st := range states {
		t.in[j] = st == ring.Serving
	}
	t.in[i], t.sees[i] = true, ring.Serving
	for j := range t.claims {
		t.claims[j] = &proxyClaims{m: map[*simNode]*simClaim{}}
	}
	now := t.time(s.now)
	sets := s.sets
	if s.without("majority") {
		sets = [][]ring.MemberID{{memberID(i % s.cfg.Seats)}}
	}
	t.l = NewLedger(now, t.self, sets, simTerm, t.own)
	if i < s.cfg.Seats {
		t.heard = NewContacts(simTerm)
		t.g = NewGrantor(now, t.self, simTerm, ring.SetSum(s.sets[0]), newPool || s.without("amnesia"), t.heard)
	}
	s.trackers[i] = t
	s.tell("t-%d starts, boot %d", i, t.self.Boot)
	t.adopt()
	s.at(s.now+s.between(0, term/20), &t.process, t.tick)
	s.at(s.now+s.between(0, time.Second), &t.process, t.gossip)
}

func (t *simTracker) now() time.Time { return t.time(t.s.now) }

// seats calls f for the seats that are other processes.
func (t *simTracker) seats(f func(seat int)) {
	for i := range t.s.cfg.Seats {
		if i != t.index {
			f(i)
		}
	}
}

// adopt turns to the view that gossip shows, if it places anything.
func (t *simTracker) adopt() {
	t.in[t.index], t.sees[t.index] = true, t.state
	p := t.s.places.of(t.sees, t.in, t.s.cfg.Shards, t.s.cfg.Replicas)
	if p == nil || p == t.placed {
		return
	}
	t.placed = p
	t.s.tell("t-%d adopts %x: %v %v", t.index, p.Fingerprint()>>48, t.in, t.sees)
	t.l.Adopt(t.now(), p)
	if t.g != nil {
		t.g.Adopt(t.now(), p)
	}
	t.s.custodySees(t)
	t.settle()
}

// tick is what happens every sixth of a term: streams are opened, every second time
// seats asked and nonces sent.
func (t *simTracker) tick() {
	now := t.now()
	t.s.at(t.truly(now.Add(term/6)), &t.process, t.tick)
	t.own.Advance(now)
	t.l.Advance(now)
	t.stalled, _ = t.l.Stalled(now)
	if t.heard != nil {
		t.heard.ReportStalled(now, t.self, t.stalled)
		t.g.Advance(now)
	}
	if t.ticks++; t.ticks%2 == 0 {
		t.dialSeats()
		t.seats(func(i int) { t.ask(i) })
	} else {
		t.offerNonces()
	}
	t.dropForgotten(now)
	t.askCopies()
	t.expireUnary(now)
	t.grounds = 0
	t.settle()
}

func (t *simTracker) dialSeats() {
	t.seats(func(i int) {
		seat := t.s.trackers[i]
		if st := t.seatLinks[i]; st != nil && (!st.broken || st.ended[0] != nil) || seat == nil {
			return
		}
		var st *stream
		st = t.s.dial(&t.process, &seat.process, func() {
			st.ended[0] = nil
			t.seatLinks[i] = nil
		}, func() {
			if seat.askers[t.self] == st {
				delete(seat.askers, t.self)
			}
		})
		t.seatLinks[i] = st
	})
}

// ask sends an Ask to a seat, if there is a stream.
func (t *simTracker) ask(i int) {
	st := t.seatLinks[i]
	if st == nil {
		return
	}
	now := t.now()
	a := &Ask{From: t.self, SeatSets: []uint64{ring.SetSum(t.s.sets[0])}, Nonce: t.l.Nonce(now), Contacts: t.l.Report(now, memberID(i)), Stalled: t.stalled}
	a.SeatBoot, a.Ack = t.l.Ack(memberID(i))
	t.s.send(st, &t.process, func() { t.s.trackers[i].asked(a, st) })
}

// asked is a seat's side of an Ask, and answers it.
func (t *simTracker) asked(a *Ask, st *stream) {
	if t.g == nil {
		return
	}
	if o := t.askers[a.From]; o == nil || o.broken {
		t.askers[a.From] = st
	}
	if t.s.without("old acks") {
		t.noteAck(a)
	}
	t.g.Asked(t.now(), a)
	t.stand()
	t.sendWord(a.From)
	if len(a.Contacts) > 0 {
		t.grounds = 0 // what counts here may have changed too
	}
	t.settle()
}

// stand has the ledger rely on what the seat in this process stands by, before any
// other process hears of it.
func (t *simTracker) stand() {
	if t.g == nil || t.g.Version() == t.standing {
		return
	}
	t.standing = t.g.Version()
	t.l.Standing(t.now(), t.maim(t.g.Standing()), t.heard)
}

func (t *simTracker) noteAck(a *Ask) {
	if a.SeatBoot == t.self.Boot {
		for v, w := range t.g.receivers[a.From].wordsOrNil() {
			if w.seq == a.Ack {
				if t.ackedView[a.From] == nil {
					t.ackedView[a.From] = map[ring.Fingerprint]bool{}
				}
				t.ackedView[a.From][v] = true
			}
		}
	}
}

func (r *receiver) wordsOrNil() map[ring.Fingerprint]given {
	if r == nil {
		return nil
	}
	return r.words
}

// maim takes the part of rule 2 out that the schedule is to go without.
func (t *simTracker) maim(w Word) Word {
	if t.s.without("exclusive") {
		w.Older = nil
	}
	if t.s.without("old acks") {
		var older []Older
		for _, o := range w.Older {
			l := slices.DeleteFunc(slices.Clone(o.Stragglers), func(p Process) bool { return t.ackedView[p][w.View] })
			if len(l) > 0 {
				older = append(older, Older{o.View, l})
			}
		}
		w.Older = older
	}
	return w
}

func (t *simTracker) sendWord(to Process) {
	st := t.askers[to]
	if st == nil {
		return
	}
	w, ok := t.g.Word(t.now(), to)
	if !ok {
		return
	}
	m := t.maim(*w)
	other := st.a
	t.s.send(st, &t.process, func() {
		for _, o := range t.s.trackers {
			if o != nil && &o.process == other {
				o.word(&m, t.index)
			}
		}
	})
}

// word takes a seat's Word, and acknowledges a changed one at once.
func (t *simTracker) word(w *Word, seat int) {
	now := t.now()
	if t.s.without("nonce") {
		w.Nonce = t.l.Nonce(now)
	}
	if t.l.Granted(now, w) {
		t.ask(seat)
	}
	t.settle()
}

// settle does what is due after any event.
func (t *simTracker) settle() {
	now := t.now()
	t.stand()
	t.fetchViews(now)
	if c := t.l.Came(); c != t.came {
		t.came = c
		t.offerNonces()
		t.askCopies()
	}
	if g := t.l.Grounds(); g != t.grounds {
		t.grounds = g
		t.s.oneList(t)
		t.tellStates()
	}
	t.sendOwed()
	t.planWake(now)
}

// sendOwed sends a changed word to all who lack it. What changes within some
// milliseconds goes at once: a hundred trackers that acknowledge one view are not
// told of each other's acknowledgements one by one.
func (t *simTracker) sendOwed() {
	if t.g == nil || t.owing {
		return
	}
	owed := t.g.Owed()
	if len(owed) == 0 {
		return
	}
	if wait := t.owedAt + simRoundTrip - t.s.now; wait > 0 && t.owedAt > 0 {
		t.owing = true
		t.s.at(t.s.now+wait, &t.process, func() {
			t.owing = false
			t.settle()
		})
		return
	}
	t.owedAt = t.s.now
	slices.SortFunc(owed, compareProcesses)
	for _, p := range owed {
		t.sendWord(p)
	}
}

func (t *simTracker) planWake(now time.Time) {
	at, ok := t.l.Next(now)
	if ok && at.Sub(now) < term/20 && t.l.waiting() {
		at = now.Add(term / 20)
	}
	if t.g != nil {
		if g, k := t.g.Next(); k && (!ok || g.Before(at)) {
			at, ok = g, true
		}
	}
	if !ok || at.Sub(now) > term/6 { // tick is earlier
		return
	}
	due := t.truly(at)
	if t.wake > t.s.now && t.wake <= due {
		return
	}
	t.wake = max(due, t.s.now+1)
	t.s.at(t.wake, &t.process, func() {
		t.wake = 0
		t.l.Advance(t.now())
		if t.g != nil {
			t.g.Advance(t.now())
		}
		t.settle()
	})
}

// fetchViews asks seats for the views that their words name.
func (t *simTracker) fetchViews(now time.Time) {
	missing := t.l.Missing(now)
	for _, fp := range slices.Sorted(maps.Keys(missing)) {
		if t.fetching[fp] {
			continue
		}
		t.fetching[fp] = true
		t.s.at(t.s.now+t.s.between(simRoundTrip/2, 4*simRoundTrip), &t.process, func() {
			delete(t.fetching, fp)
			for _, o := range t.s.trackers {
				if o == nil || !o.up || o.g == nil || !t.s.connected(&t.process, &o.process) || !t.s.connected(&o.process, &t.process) {
					continue
				}
				if p := o.l.View(fp); p != nil {
					t.l.Learnt(t.now(), p)
					t.settle()
					return
				}
			}
		})
	}
}

// spoke notes that a proxy was heard of, and tells the seats at once if they lack it.
func (t *simTracker) spoke(p ProxyID, i Incarnation, claims bool) {
	now := t.now()
	t.own.Heard(now, p, i, claims)
	if t.heard != nil {
		t.heard.Heard(now, p, i, claims)
	}
	if t.l.Unreported(p) && t.s.now >= t.askedAt+50*time.Millisecond {
		t.askedAt = t.s.now
		t.seats(func(i int) { t.ask(i) })
	}
}

// ended notes that all lives of a proxy up to one are over.
func (t *simTracker) ended(p ProxyID, i Incarnation) {
	t.own.End(t.now(), p, i.Next())
	if t.heard != nil {
		t.heard.End(t.now(), p, i.Next())
	}
}
