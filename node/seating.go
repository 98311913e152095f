package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// askAgain is the least time between two Asks to a seat because of a proxy that it
// does not know yet.
const askAgain = 50 * time.Millisecond

// Seat is Service's: this tracker gives another one its word, at each Ask and
// whenever it changes.
func (t *Tracker) Seat(ctx context.Context, stream SeatStream) error {
	if t.grantor == nil {
		return &InvalidError{"tracker", string(t.self.ID), fmt.Sprintf("it is no seat; the seats are %v", t.ledger.Seats())}
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	from := first.From
	bell, done := t.bell()
	defer done()
	asked := make(chan struct{}, 1) // a doorbell: an Ask is to be answered
	t.asked(first)
	ring1(asked)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !t.reads(func() {
		cancel(receive(stream, func(a *lease.Ask) error {
			if err := checkFrom(a.From, from); err != nil {
				return err
			}
			t.asked(a)
			ring1(asked)
			return nil
		}))
	}) {
		return ErrClosed
	}
	for {
		always := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.closed:
			return ErrClosed
		case <-asked:
			always = true
		case <-bell:
		}
		if w := t.wordTo(from, always); w != nil {
			if err := stream.Send(w); err != nil {
				return err
			}
		}
	}
}

// receive has each message of a stream taken until the stream ends or one is refused,
// and returns why.
func receive[In, Out any](stream Stream[In, Out], take func(In) error) error {
	for {
		m, err := stream.Recv()
		if err == nil {
			err = take(m)
		}
		if err != nil {
			return err
		}
	}
}

// checkFrom refuses what one tracker says on the stream of another.
func checkFrom(from, of lease.Process) error {
	if from != of {
		return &InvalidError{"from", fmt.Sprint(from), fmt.Sprintf("the stream is %v's", of)}
	}
	return nil
}

// asked takes an Ask.
func (t *Tracker) asked(a *lease.Ask) {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.grantor.Asked(now, a)
	for _, c := range a.Contacts {
		if !c.Floor.IsZero() {
			t.applyFloorLocked(c.Proxy, c.Floor)
		}
		if l := t.proxies[c.Proxy]; l != nil && l.session != nil {
			l.session.recountLocked(now)
		}
	}
	t.publishLocked(now)
}

// wordTo is this seat's word to a tracker, or nil where it has nothing new to say.
func (t *Tracker) wordTo(to lease.Process, always bool) *lease.Word {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !always && !t.grantor.Owes(to) {
		return nil
	}
	now := t.cfg.Now()
	w, _ := t.grantor.Word(now, to)
	if t.grantor.Version() != t.stands { // time alone changed it just now
		t.publishLocked(now)
	}
	return w
}

// ask keeps a seat's word: it asks every third of a term, and at once when there is
// something to acknowledge or to tell.
func (p *peer) ask(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := p.conn.Seat(ctx)
	if err != nil {
		return err
	}
	read := make(chan struct{})
	defer func() {
		cancel(nil)
		<-read
	}()
	go func() {
		defer close(read)
		cancel(receive(stream, func(w *lease.Word) error { return p.t.granted(ctx, p, w) }))
	}()
	renewal := time.NewTicker(p.t.term.Renewal())
	defer renewal.Stop()
	var last time.Time
	soon := time.NewTimer(time.Hour)
	defer soon.Stop()
	for {
		if err := stream.Send(p.t.question(p.member.ID)); err != nil {
			return err
		}
		last = time.Now()
	wait:
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-p.askSoon:
				if left := askAgain - time.Since(last); left > 0 {
					soon.Reset(left)
					continue
				}
			case <-renewal.C:
			case <-soon.C:
			case <-p.askNow:
			}
			break wait
		}
	}
}

// question is an Ask to a seat.
func (t *Tracker) question(seat ring.MemberID) *lease.Ask {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &lease.Ask{From: t.self, Nonce: t.ledger.Nonce(now), Contacts: t.ledger.Report(now, seat)}
	a.SeatBoot, a.Ack = t.ledger.Ack(seat)
	for _, set := range t.cfg.Pool.Seats {
		a.SeatSets = append(a.SeatSets, ring.SetSum(set))
	}
	a.Stalled = t.stalledLocked(now)
	if view, _, ok := t.ledger.Word(now, seat); ok {
		if p := t.peers[seat]; p != nil && p.ackedView != view {
			p.ackedView, p.ackedNonce = view, a.Nonce
		}
	}
	return a
}

// reliesLocked names a seat that may still take this tracker for one that relies on a
// word by another view than the present one. To leave before it knows better would
// hold up the shards that were placed here until that word has run out.
func (t *Tracker) reliesLocked(now time.Time) (seat ring.MemberID, yes bool) {
	for id, p := range t.peers {
		view, n, ok := t.ledger.Word(now, id)
		if ok && (view != t.sums.Fingerprint || p.ackedView != view || n < p.ackedNonce) {
			return id, true
		}
	}
	return "", false
}

// granted takes a seat's word, and fetches from it the views that it names and that
// are not known here.
func (t *Tracker) granted(ctx context.Context, p *peer, w *lease.Word) error {
	if w.Seat.ID != p.member.ID {
		return &InvalidError{"seat", string(w.Seat.ID), fmt.Sprintf("the stream is to %s", p.member.ID)}
	}
	now := t.cfg.Now()
	t.mu.Lock()
	changed := t.ledger.Granted(now, w)
	for _, c := range w.Contacts {
		if !c.Floor.IsZero() {
			t.applyFloorLocked(c.Proxy, c.Floor)
		}
	}
	var fetch []ring.Fingerprint
	for fp := range t.ledger.Missing(now) {
		if w.View == fp || slices.ContainsFunc(w.Older, func(o lease.Older) bool { return o.View == fp }) {
			fetch = append(fetch, fp)
		}
	}
	t.publishLocked(now)
	t.ringBellsLocked() // who waits to be informed
	t.mu.Unlock()
	if changed {
		ring1(p.askNow)
	}
	for _, fp := range fetch {
		if err := t.fetchView(ctx, p, fp); err != nil {
			t.log.Debug("view not fetched", "view", fp, "from", p.member.ID, "err", err)
		}
	}
	return nil
}

// fetchView learns a view from a peer that gave it.
func (t *Tracker) fetchView(ctx context.Context, p *peer, fp ring.Fingerprint) error {
	ctx, cancel := context.WithTimeout(ctx, callWait) // the words after this one wait
	defer cancel()
	info, err := p.conn.View(ctx, fp)
	if err != nil {
		return err
	}
	placement, err := ring.Place(info.View, info.Params)
	if err != nil {
		return err
	}
	if got := placement.Fingerprint(); got != fp || info.Params.Shards != t.cfg.Shards {
		return &InvalidError{"view", got.String(), fmt.Sprintf("%v of %d shards was asked for", fp, t.cfg.Shards)}
	}
	now := t.cfg.Now()
	t.mu.Lock()
	t.ledger.Learnt(now, placement)
	t.publishLocked(now)
	t.mu.Unlock()
	return nil
}
