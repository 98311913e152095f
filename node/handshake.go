package node

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// handshake begins the session that a stream's first frame asks for. Without a session
// the stream is over: either the proxy was told why, or the error says so.
func (t *Tracker) handshake(ctx context.Context, stream SessionStream) (*session, *Welcome, error) {
	defer t.opening.Add(-1)
	if t.opening.Add(1) > int64(t.cfg.MaxSessions) {
		return nil, nil, t.overload(refusedOpening, "sessions are being opened", t.cfg.MaxSessions, t.term.Renewal())
	}
	first, err := t.firstFrame(ctx, stream)
	if err != nil {
		return nil, nil, err
	}
	if err := t.checkHello(first.Hello); err != nil {
		return nil, nil, errors.Join(err, stream.Send(&TrackerFrame{End: &End{Reason: EndBadInput, Detail: err.Error()}}))
	}
	if err := t.awaitWords(ctx); err != nil {
		return nil, nil, err
	}
	s, welcome, end, err := t.admitInTurn(ctx, first.Hello)
	if end != nil {
		err = stream.Send(&TrackerFrame{Welcome: welcome, End: end})
	}
	return s, welcome, err
}

// helloTime is how long a stream may say nothing before its Hello.
const helloTime = 10 * time.Second

// firstFrame waits for a Hello. Who opens streams and says nothing must not keep others
// out.
func (t *Tracker) firstFrame(ctx context.Context, stream SessionStream) (*ProxyFrame, error) {
	type received struct {
		frame *ProxyFrame
		err   error
	}
	got := make(chan received, 1) // whoever receives must not wait for us
	if !t.reads(func() {
		f, err := stream.Recv()
		got <- received{f, err}
	}) {
		return nil, ErrClosed
	}
	limit := time.NewTimer(helloTime)
	defer limit.Stop()
	select {
	case r := <-got:
		return r.frame, r.err
	case <-limit.C:
		return nil, &InvalidError{"hello", "", fmt.Sprintf("none came for %v; send it first, and at once", helloTime)}
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.closed:
		return nil, ErrClosed
	}
}

// admitInTurn admits a Hello when there is room: to sum up what a life has takes
// milliseconds, and when all proxies come at once lookups are to keep their share. Who
// finds no room is told to come back; but a life that has a session or a lease here
// waits for its turn, since its lease would run out.
func (t *Tracker) admitInTurn(ctx context.Context, h *Hello) (*session, *Welcome, *End, error) {
	known := t.knows(h)
	select {
	case t.handshakes <- struct{}{}:
	default:
		if !known {
			return nil, nil, nil, t.overload(refusedHandshake, "proxies are being admitted", cap(t.handshakes), t.term.Renewal()/4)
		}
		select {
		case t.handshakes <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, nil, ctx.Err()
		case <-t.closed:
			return nil, nil, nil, ErrClosed
		}
	}
	defer func() { <-t.handshakes }()
	if err := t.checkCeiling(); err != nil && !known {
		return nil, nil, nil, err
	}
	if !known && t.full() {
		return nil, nil, nil, t.overload(refusedSession, "proxies have sessions", t.cfg.MaxSessions, t.term.Renewal())
	}
	return t.admit(h)
}

// knows reports whether a Hello's life has a session or a lease here.
func (t *Tracker) knows(h *Hello) bool {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.proxies[h.Proxy.ID]
	return l != nil && l.incarnation == h.Incarnation && (l.session != nil || l.live(now))
}

// full reports whether there may be no room for another session, besides those that
// others who are being admitted may begin.
func (t *Tracker) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.sessions)+len(t.handshakes) > t.cfg.MaxSessions // one of the handshakes is the caller's
}

// overload refuses something for lack of room.
func (t *Tracker) overload(of refusal, what string, most int, after time.Duration) error {
	t.counts.refused[of].Add(1)
	return &OverloadError{What: fmt.Sprintf("%d %s", most, what), After: after}
}
