package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// A peer is the connection to another tracker of the view, with what goes over it
// all the time: its word, if it is a seat, and the unary claims that it holds too.
type peer struct {
	t      *Tracker
	member ring.Member
	conn   Peer
	cancel context.CancelFunc
	wg     sync.WaitGroup

	askNow, askSoon chan struct{} // doorbells
	copied          copied

	// The first Ask to this seat that acknowledged a word by that view; guarded by
	// Tracker.mu.
	ackedView  ring.Fingerprint
	ackedNonce lease.Nonce
}

// reconcilePeersLocked connects to the members of the view, and returns the peers
// that are to be stopped, and why others could not be dialed.
func (t *Tracker) reconcilePeersLocked(ctx context.Context) (stopped []*peer, err error) {
	for id, p := range t.peers {
		if m, ok := t.view.Member(id); !ok || m.Boot != p.member.Boot || m.Addr != p.member.Addr {
			delete(t.peers, id)
			stopped = append(stopped, p)
		}
	}
	for _, m := range t.view.Members() {
		if m.ID == t.self.ID || m.Addr == "" || t.peers[m.ID] != nil || t.cfg.Dial == nil {
			continue
		}
		conn, fault := t.cfg.Dial(m)
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("dial tracker %s at %s: %w", m.ID, m.Addr, fault))
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		p := &peer{t: t, member: m, conn: conn, cancel: cancel, askNow: make(chan struct{}, 1), askSoon: make(chan struct{}, 1)}
		t.peers[m.ID] = p
		if slices.Contains(t.ledger.Seats(), m.ID) {
			p.wg.Go(func() { p.keep(ctx, "word", p.ask) })
		}
		p.wg.Go(func() { p.keep(ctx, "copies", p.copy) })
	}
	return stopped, err
}

// keep does something over the connection until ctx ends, again and again with
// full jitter while it fails.
func (p *peer) keep(ctx context.Context, what string, do func(context.Context) error) {
	for backoff := minBackoff; ctx.Err() == nil; {
		began := time.Now()
		err := do(ctx)
		if ctx.Err() != nil {
			return
		}
		p.t.log.Debug("stream to a tracker ended", "what", what, "tracker", p.member.ID, "err", err)
		if time.Since(began) > maxBackoff {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(backoff)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// stop ends all that goes over the connection, waits for it and closes.
func (p *peer) stop() {
	p.cancel()
	p.wg.Wait()
	if err := p.conn.Close(); err != nil {
		p.t.log.Debug("close", "tracker", p.member.ID, "err", err)
	}
}

// peer returns the connection to a tracker, or nil where there is none.
func (t *Tracker) peer(id ring.MemberID) Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil {
		return p.conn
	}
	return nil
}
