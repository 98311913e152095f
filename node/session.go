package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

var (
	errFenced = errors.New("a newer session took over")
	errSilent = fmt.Errorf("nothing was heard for %v", PingTimeout)
)

// A session is the one ordered stream of one life of a proxy to this life of the
// tracker. One goroutine applies what the proxy says, another one tells it what
// has changed.
type session struct {
	t    *Tracker
	life *life

	mu        sync.Mutex // guards what was said so far
	fenced    bool       // a newer session took over: nothing applies any more
	seq       uint64
	hasClaims bool
	sum       Sum // of the life's claims, less the shards being replaced
	proven    ring.ShardSet
	replacing map[ring.Shard]map[Key]Value
	staged    int     // claims in replacing
	entries   []Entry // for one chunk
	fill      partial // the shards that came anew since the last right Renew

	stored     atomic.Uint64 // seq that everything up to is stored of
	held       atomic.Uint64 // sum.Count
	taken      atomic.Uint64 // claims that have come; stored before stored
	takenAcked atomic.Uint64 // of these, those that were acknowledged
	nonceFirst lease.Nonce   // of this session; written before the writer starts
	nonceLast  atomic.Int64
	nonceDue   atomic.Bool
	counting   atomic.Pointer[lease.Counting]
	heardAt    atomic.Int64  // when the last frame came
	view       atomic.Uint64 // the view for which the last right Renew was complete

	wake   chan struct{}           // a doorbell: there may be something to tell
	before atomic.Pointer[session] // of the same life, until it is fenced

	out     sync.Mutex // guards what is to be told
	differ  *Differ
	drops   []*Drop
	ended   *End
	hasEnd  bool
	waiting map[uint64]chan []ID // for Dropped, by token
}

func (s *session) ring() { ring1(s.wake) }

// Session is Service's.
func (t *Tracker) Session(ctx context.Context, stream SessionStream) error {
	s, welcome, err := t.handshake(ctx, stream)
	if s == nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer t.dismiss(s)
	if !t.reads(func() {
		if err := s.read(stream); err != nil {
			cancel(err)
		}
	}) {
		return ErrClosed
	}
	return s.write(ctx, stream, welcome)
}

func (t *Tracker) checkHello(h *Hello) error {
	switch {
	case h == nil:
		return &InvalidError{"hello", "", "a session begins with one"}
	case h.Pool != "" && h.Pool != t.cfg.Pool.Name:
		return &InvalidError{"pool", h.Pool, fmt.Sprintf("this tracker is of pool %q; look at the address", t.cfg.Pool.Name)}
	case h.Incarnation.Number == 0 || h.Incarnation.Random == 0:
		return &InvalidError{"incarnation", fmt.Sprint(h.Incarnation), "both numbers must be above 0"}
	}
	return CheckProxy(h.Proxy)
}

// awaitWords waits until this tracker knows what more than half of the seats know,
// and has a view, or for a second.
func (t *Tracker) awaitWords(ctx context.Context) error {
	bell, done := t.bell()
	defer done()
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	for {
		t.mu.Lock()
		ok := t.sums.Fingerprint != 0 && t.ledger.Informed(t.cfg.Now())
		placed := t.sums.Fingerprint != 0
		t.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.closed:
			return ErrClosed
		case <-limit.C:
			if placed {
				return nil
			}
			return fmt.Errorf("this tracker has no view yet: %w", ErrUnavailable)
		case <-bell:
		}
	}
}

// admit begins a session, and fences the one before. It returns the End instead
// where a later life of the proxy is known, and a *DeniedError where another one than
// the caller lives under that ID: a live one is superseded only by its own.
func (t *Tracker) admit(h *Hello) (*session, *Welcome, *End, error) {
	now := t.cfg.Now()
	s := &session{t: t, wake: make(chan struct{}, 1), replacing: map[ring.Shard]map[Key]Value{}, waiting: map[uint64]chan []ID{},
		proven: ring.NewShardSet(t.cfg.Shards), hasClaims: h.HasClaims}
	s.heardAt.Store(now.UnixNano())

	t.mu.Lock()
	known, floor := t.ledger.KnownLife(h.Proxy.ID)
	w := &Welcome{Tracker: t.self, Pool: t.cfg.Pool.Name, Term: t.term, Incarnation: known, Credits: t.cfg.Credits}
	if p := t.snap.Load().Placement; p != nil {
		w.Params = p.Params()
	}
	switch {
	case h.Incarnation.Less(floor):
		t.mu.Unlock()
		if known.Less(floor) {
			known = floor
		}
		return nil, w, &End{Reason: endBelow(floor), Known: known}, nil
	case h.Incarnation.Number < known.Number || h.Incarnation.Number == known.Number && h.Incarnation.Random != known.Random:
		t.mu.Unlock()
		return nil, w, &End{Reason: EndSuperseded, Known: known}, nil
	}
	l := t.proxies[h.Proxy.ID]
	if l != nil && l.by != h.By && (l.session != nil || l.live(now)) {
		t.mu.Unlock()
		return nil, nil, nil, &DeniedError{Field: "proxy_id", Value: string(h.Proxy.ID),
			Problem: fmt.Sprintf("it lives under another certificate (%s); stop that process, and wait for a term", l.by)}
	}
	if l == nil {
		l = t.comeForLocked(h.Proxy.ID)
	}
	again := l != nil && l.incarnation == h.Incarnation
	if again {
		s.before.Store(l.session)
		l.restored.Store(false)
		t.proxies[l.id] = l
		w.Sums, l.sums = l.sums, nil
	} else {
		if l != nil {
			t.killLocked(l, lifeSuperseded, &End{Reason: EndSuperseded, Known: h.Incarnation})
		}
		l = &life{id: h.Proxy.ID, incarnation: h.Incarnation}
		t.lives.add(l)
		t.proxies[l.id] = l
	}
	l.proxy.Store(&h.Proxy)
	l.by = h.By
	s.life, l.session = l, s
	t.sessions[s] = struct{}{}
	t.hearLocked(now, h.Proxy.ID, h.Incarnation, h.HasClaims)
	s.nonceFirst = t.ledger.Nonce(now)
	s.nonceLast.Store(int64(s.nonceFirst))
	s.recountLocked(now)
	t.publishLocked(now)
	t.mu.Unlock()

	w.Incarnation = h.Incarnation
	if again {
		s.takeOver(now)
		if w.Sums == nil {
			w.Sums = t.table.Sums(l.owner)
		}
		for _, sum := range w.Sums {
			s.sum.Add(sum.Sum)
		}
		s.held.Store(s.sum.Count)
	}
	t.counts.sessions.Add(1)
	return s, w, nil, nil
}

// takeOver takes a life over from the sessions before: once it returns nothing of them
// applies. What they covered stays covered to the end of their leases, until this one
// has proven as much.
func (s *session) takeOver(now time.Time) {
	s.fenceBefore()
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.life.session == s { // else the next one has done so, and has a lease perhaps
		s.life.takeOver(now)
	}
}

// fenceBefore fences the session before, which may not have come to fence its own.
func (s *session) fenceBefore() {
	if b := s.before.Load(); b != nil {
		b.fenceBefore()
		b.fence()
		b.end(&End{Reason: EndReplaced})
		s.before.Store(nil)
	}
}

// fence lets nothing of the session apply any more, once it returns.
func (s *session) fence() {
	s.mu.Lock()
	s.fenced = true
	s.mu.Unlock()
}

// end has the writer tell the proxy and leave. A nil End closes without a word.
func (s *session) end(why *End) {
	s.out.Lock()
	if !s.hasEnd {
		s.ended, s.hasEnd = why, true
	}
	s.out.Unlock()
	s.ring()
}

// dismiss forgets a session that is over. Its lease goes on. It is fenced first: the
// next one does not see it any more.
func (t *Tracker) dismiss(s *session) {
	s.fence()
	t.mu.Lock()
	delete(t.sessions, s)
	if s.life.session == s {
		s.life.session = nil
	}
	t.mu.Unlock()
}

// read applies what the proxy says until the stream or the session ends. It returns
// nil where the writer has yet to tell the proxy why.
func (s *session) read(stream SessionStream) error {
	for {
		f, err := stream.Recv()
		if err != nil {
			return err
		}
		s.heardAt.Store(s.t.cfg.Now().UnixNano())
		err = s.apply(f)
		if err == nil && f.Goodbye {
			s.t.log.Info("goodbye", "proxy", s.life.id, "incarnation", s.life.incarnation.Number)
		}
		var bad *InvalidError
		switch {
		case errors.As(err, &bad):
			s.end(&End{Reason: EndBadInput, Detail: bad.Error()})
			return nil
		case errors.Is(err, errFenced):
			return nil
		case err != nil:
			return err
		}
		if f.Replace != nil {
			runtime.Gosched() // there is more: lookups first
		}
	}
}

// recountLocked takes over what the seats say of this life.
func (s *session) recountLocked(now time.Time) {
	s.counting.Store(s.t.ledger.Counting(now, s.life.id, s.life.incarnation))
	s.ring()
}
