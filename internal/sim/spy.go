package sim

import (
	"context"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
)

// A spy is what a process of a tracker serves: the tracker, with a note of which
// proxies' words reach it, and reach the seats through it.
type spy struct {
	*node.Tracker
	life *trackerLife
}

// Session is node.Service's.
func (s spy) Session(ctx context.Context, stream node.SessionStream) error {
	return s.Tracker.Session(ctx, &spiedSession{SessionStream: stream, at: s.life})
}

// Seat is node.Service's.
func (s spy) Seat(ctx context.Context, stream node.SeatStream) error {
	return s.Tracker.Seat(ctx, &spiedSeat{stream, s.life})
}

// A spiedSession's Recv is called by one goroutine at a time.
type spiedSession struct {
	node.SessionStream
	at   *trackerLife
	from *life
}

func (s *spiedSession) Recv() (*node.ProxyFrame, error) {
	f, err := s.SessionStream.Recv()
	if err != nil {
		return f, err
	}
	switch {
	case f.Hello != nil:
		s.from = s.at.pool.truth.lifeAt(f.Hello.Proxy.Addr)
	case s.from != nil: // it has been welcomed
		s.at.mu.Lock()
		s.at.heard[s.from] = time.Now()
		s.at.mu.Unlock()
	}
	return f, nil
}

type spiedSeat struct {
	node.SeatStream
	at *trackerLife
}

func (s *spiedSeat) Recv() (*lease.Ask, error) {
	a, err := s.SeatStream.Recv()
	if err != nil {
		return a, err
	}
	s.at.pool.mu.Lock()
	from := s.at.pool.processes[a.From]
	s.at.pool.mu.Unlock()
	if from == nil {
		return a, nil
	}
	heard := from.heardCopy()
	s.at.mu.Lock()
	defer s.at.mu.Unlock()
	for l, at := range heard {
		if at.After(s.at.told[l]) {
			s.at.told[l] = at
		}
	}
	return a, nil
}

func (l *trackerLife) heardCopy() map[*life]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[*life]time.Time, len(l.heard))
	for k, v := range l.heard {
		m[k] = v
	}
	return m
}

// heardOf is when the process last had a word of a proxy, itself or as a seat from
// others.
func (l *trackerLife) heardOf(x *life) (own, any time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own = l.heard[x]
	if told := l.told[x]; told.After(own) {
		return own, told
	}
	return own, own
}
