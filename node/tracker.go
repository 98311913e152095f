package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A Tracker is one process of the pool. It is a Service and a Directory.
type Tracker struct {
	self lease.Process
	cfg  Config
	term lease.Term
	log  *slog.Logger

	table   *Table
	unaries *Unaries
	lookups sync.Pool // of *lookup, for single ones
	lives   *lives
	epoch   time.Time // that Value.Stamp counts from
	started time.Time
	counts  counters

	snap atomic.Pointer[lease.Snapshot]

	handshakes chan struct{} // has a value for each Hello being admitted
	opening    atomic.Int64  // sessions that are not admitted yet
	watches    atomic.Int64  // of all Find streams
	hops       atomic.Int64  // unary calls that concern other trackers
	short      atomic.Pointer[shortage]
	finds      atomic.Int64 // Find streams
	departing  atomic.Int64 // wishes to leave that were not refused

	streams sync.WaitGroup // readers of streams served, which may outlive the handler; added to under mu
	closed  chan struct{}  // closed under mu: no streams are served any more
	rearm   chan struct{}  // a doorbell: what time alone changes next may have changed
	sweep   chan struct{}  // a doorbell: some life is dead

	mu       sync.Mutex      // guards all below
	own      *lease.Contacts // heard by this tracker itself
	heard    *lease.Contacts // of a seat: its own and what trackers reported
	grantor  *lease.Grantor  // of a seat, else nil
	ledger   *lease.Ledger
	view     ring.View // as gossip shows it now
	sums     ViewSums
	former   []formerView      // the newest first; never modified
	proxies  map[ProxyID]*life // the present life of each
	restored map[ProxyID]*life // of a snapshot: nobody came for them yet
	sessions map[*session]struct{}
	peers    map[ring.MemberID]*peer
	bells    map[chan struct{}]struct{} // rung when the view or the seat's word changes
	stands   uint64                     // grantor's version last taken over
	grounds  uint64                     // ledger's grounds last told to sessions
	came     uint64                     // ledger's count of lists come into force, last told
	filling  filling
	selfish  time.Time // until when this tracker blames itself for what it lacks
	marked   []ProxyID // as stalled by this seat, as last logged
	ready    bool
}

// New returns a tracker that holds nothing yet. Run starts it.
func New(self ring.Member, cfg Config) (*Tracker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	now := cfg.Now()
	p := lease.Process{ID: self.ID, Boot: self.Boot}
	t := &Tracker{
		self: p, cfg: cfg, term: cfg.Pool.Term, log: cfg.Logger,
		table: NewTable(cfg.Shards), unaries: NewUnaries(cfg.Shards), lives: newLives(),
		started: now, epoch: now.Add(-(1 << 31) * stampUnit),
		closed: make(chan struct{}), rearm: make(chan struct{}, 1), sweep: make(chan struct{}, 1),
		handshakes: make(chan struct{}, cfg.Handshakes),
		own:        lease.NewContacts(cfg.Pool.Term), proxies: map[ProxyID]*life{}, sessions: map[*session]struct{}{},
		peers: map[ring.MemberID]*peer{}, bells: map[chan struct{}]struct{}{},
	}
	t.ledger = lease.NewLedger(now, p, cfg.Pool.Seats, t.term, t.own)
	newest := cfg.Pool.Seats[len(cfg.Pool.Seats)-1]
	for _, set := range cfg.Pool.Seats {
		for _, id := range set {
			if id == self.ID && t.grantor == nil {
				t.heard = lease.NewContacts(t.term)
				t.grantor = lease.NewGrantor(now, p, t.term, ring.SetSum(newest), cfg.NewPool, t.heard)
			}
		}
	}
	t.filling.told = cfg.Filled != nil
	t.snap.Store(t.ledger.Snapshot())
	return t, nil
}

// Run keeps the tracker going until ctx ends, then waits for all that it started.
// It takes the views that gossip shows; it may be called once.
func (t *Tracker) Run(ctx context.Context, views <-chan ring.View) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { t.keepTime(ctx) })
	wg.Go(func() { t.sweepDead(ctx) })
	wg.Go(func() { t.audit(ctx) })
	if t.cfg.MaxBytes > 0 {
		wg.Go(func() { t.keepCeiling(ctx) })
	}
	defer func() {
		cancel()
		wg.Wait()
		t.mu.Lock()
		close(t.closed)
		peers := t.peers
		t.peers = map[ring.MemberID]*peer{}
		t.mu.Unlock()
		for _, p := range peers {
			p.stop()
		}
		t.streams.Wait()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case v, ok := <-views:
			if !ok {
				views = nil
				continue
			}
			if err := t.adopt(ctx, v); err != nil {
				t.log.Warn("view not adopted", "err", err, "members", v.Len())
			}
		}
	}
}

// reads has read run until it returns, which is after the handler of its stream has.
// It reports false, and does nothing, when Run ends.
func (t *Tracker) reads(read func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.closed:
		return false
	default:
		t.streams.Go(read)
		return true
	}
}

// adopt turns the tracker to a view. One that would place nothing on anyone is not
// adopted: the placement before stays.
func (t *Tracker) adopt(ctx context.Context, v ring.View) error {
	var placement *ring.Placement
	var err error
	if v.Placed() > 0 {
		var params ring.Params
		if params, err = ring.Resolve(v, t.cfg.Shards); err == nil {
			placement, err = ring.Place(v, params)
		}
	}
	now := t.cfg.Now()
	t.mu.Lock()
	t.view = v
	changed := placement != nil && placement.Fingerprint() != t.sums.Fingerprint
	if placement != nil {
		if changed {
			t.keepFormerLocked(now)
		}
		t.ledger.Adopt(now, placement)
		if t.grantor != nil {
			t.grantor.Adopt(now, placement)
		}
		t.sums = ViewSums{placement.Fingerprint(), v.Sum()}
	}
	stopped, undialed := t.reconcilePeersLocked(ctx)
	t.publishLocked(now)
	t.ringBellsLocked()
	for s := range t.sessions {
		s.ring()
	}
	t.mu.Unlock()
	if changed {
		t.log.Info("view adopted", "view", placement.Fingerprint(), "placed", v.Placed(), "members", v.Len())
	}
	if undialed != nil {
		t.log.Warn("no connection", "err", undialed)
	}
	for _, p := range stopped {
		p.stop()
	}
	return err
}

// publishLocked makes known what the ledger and the grantor have decided.
func (t *Tracker) publishLocked(now time.Time) {
	if t.grantor != nil && t.grantor.Version() != t.stands {
		t.stands = t.grantor.Version()
		t.ledger.Standing(now, t.grantor.Standing(), t.heard)
		t.ringBellsLocked()
	}
	snap := t.ledger.Snapshot()
	t.snap.Store(snap)
	t.filling.note(now, snap.Waiting(), t.sums.Fingerprint)
	if g := t.ledger.Grounds(); g != t.grounds {
		t.grounds = g
		for s := range t.sessions {
			s.recountLocked(now)
		}
	}
	if c := t.ledger.Came(); c != t.came {
		t.came = c
		t.noncesDueLocked()
	}
	ring1(t.rearm)
}

// noncesDueLocked has every writer given a nonce at once.
func (t *Tracker) noncesDueLocked() {
	for s := range t.sessions {
		s.nonceDue.Store(true)
		s.ring()
	}
	t.ringBellsLocked()
}

// bell returns a doorbell that is rung when the view or the seat's word changes,
// and what to call in the end.
func (t *Tracker) bell() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	t.mu.Lock()
	t.bells[c] = struct{}{}
	t.mu.Unlock()
	return c, func() {
		t.mu.Lock()
		delete(t.bells, c)
		t.mu.Unlock()
	}
}

func (t *Tracker) ringBellsLocked() {
	for c := range t.bells {
		ring1(c)
	}
}

// ring1 rings a doorbell: a channel of size 1.
func ring1(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// keepTime renews what has a term and lets time alone change what it changes.
func (t *Tracker) keepTime(ctx context.Context) {
	renewal := time.NewTicker(t.term.Renewal())
	defer renewal.Stop()
	alarm := time.NewTimer(t.untilNext())
	defer alarm.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renewal.C:
			t.renew()
		case <-alarm.C:
			t.advance()
		case <-t.rearm:
		}
		t.tellFillings()
		alarm.Reset(t.untilNext())
	}
}

// untilNext is how long until time alone changes something.
func (t *Tracker) untilNext() time.Duration {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := t.term.Renewal()
	if at, ok := t.ledger.Next(now); ok {
		wait = min(wait, at.Sub(now))
	}
	if t.grantor != nil {
		if at, ok := t.grantor.Next(); ok {
			wait = min(wait, at.Sub(now))
		}
	}
	return max(wait, time.Millisecond)
}

func (t *Tracker) advance() {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grantor != nil {
		t.grantor.Advance(now)
	}
	t.ledger.Advance(now)
	t.publishLocked(now)
}

// renew is what happens every third of a term.
func (t *Tracker) renew() {
	now := t.cfg.Now()
	t.unaries.Expire(now)
	var forgotten []*life
	t.mu.Lock()
	unclaimed := t.forgetRestoredLocked(now)
	t.own.Advance(now)
	if t.grantor != nil {
		t.heard.ReportStalled(now, t.self, t.stalledLocked(now)) // a seat asks itself without a message
		t.grantor.Advance(now)
	}
	t.ledger.Advance(now)
	for id, l := range t.proxies {
		if !l.live(now) && now.Sub(t.ledger.LastHeard(id)) > t.term.Forgotten() {
			forgotten = append(forgotten, l)
			t.killLocked(l, lifeForgotten, nil)
		}
	}
	t.noncesDueLocked()
	t.publishLocked(now)
	stalled, recovered := t.marksLocked()
	t.mu.Unlock()
	t.logMarks(stalled, recovered)
	if unclaimed > 0 {
		t.log.Info("restored claims dropped: their proxies did not come", "proxies", unclaimed)
	}
	for _, l := range forgotten {
		t.log.Info("proxy forgotten", "proxy", l.id, "incarnation", l.incarnation.Number)
	}
}

// hearLocked notes that a life of a proxy spoke here, and has the seats asked at
// once where they do not know that it has claims.
func (t *Tracker) hearLocked(now time.Time, p ProxyID, i Incarnation, claims bool) {
	t.own.Heard(now, p, i, claims)
	if t.heard != nil {
		t.heard.Heard(now, p, i, claims)
	}
	if claims && t.ledger.Unreported(p) {
		for _, seat := range t.ledger.Seats() {
			if q := t.peers[seat]; q != nil {
				ring1(q.askSoon)
			}
		}
	}
}

// View is Service's.
func (t *Tracker) View(_ context.Context, fp ring.Fingerprint) (ViewInfo, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info := ViewInfo{Pool: t.cfg.Pool}
	if fp == 0 {
		fp = t.sums.Fingerprint
	}
	p := t.ledger.View(fp)
	if fp == t.sums.Fingerprint { // with the addresses of now
		p = t.snap.Load().Placement
	}
	if p == nil {
		return info, fmt.Errorf("view %v: %w", fp, ErrUnknownView)
	}
	info.View, info.Params = p.View(), p.Params()
	return info, nil
}

// WatchView is Service's.
func (t *Tracker) WatchView(ctx context.Context, changed func(ViewSums) error) error {
	bell, done := t.bell()
	defer done()
	var last ViewSums
	for {
		if now := t.viewSums(); now != last {
			if err := changed(now); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.closed:
			return ErrClosed
		case <-bell:
		}
	}
}

func (t *Tracker) viewSums() ViewSums {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sums
}
