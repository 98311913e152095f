package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// maxProxies is how many proxies a tracker may tell on one stream between two
// resets.
const maxProxies = 1 << 18

// A findStream is one stream of a Finder: run's goroutine sends on it, another
// receives.
type findStream struct {
	*Finder
	node.Stream[*node.FindReply, *node.FindRequest]
	ctx    context.Context
	cancel context.CancelCauseFunc
	silent *time.Timer   // cancels when the tracker has said nothing for too long
	heard  chan struct{} // closed by the receiver when the tracker has spoken

	// Guarded by Finder.mu:

	pending map[uint64]*frame
	free    []*frame // that are not under way

	// The sender's.
	last uint64 // the last frame
	view ring.Fingerprint
	sent bool // something, since the last ping was due

	// The receiver's.
	spoken  bool
	proxies []node.Proxy // by their numbers on this stream
	answer  node.Answered
}

// A frame is a batch of asks under way.
type frame struct {
	asks []*Ask
	view ring.Fingerprint
	at   time.Time // when it was sent
}

// serve opens a stream, and sends asks until the stream or the finder ends. Where
// down says why the stream before failed, asks fail with it until the new one is
// open; and where that tracker was stuck, until it speaks, since its end of the
// network opens streams all the same. serve reports whether the tracker spoke, and
// what ended the stream.
func (f *Finder) serve(down error, stuck bool) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	s := &findStream{
		Finder:  f,
		ctx:     ctx,
		cancel:  cancel,
		silent:  time.AfterFunc(node.PingTimeout, func() { cancel(errSilent) }),
		heard:   make(chan struct{}),
		pending: make(map[uint64]*frame, f.frames),
	}
	defer s.silent.Stop()
	if err := s.opened(down); err != nil {
		s.fail(err)
		return false, err
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		cancel(s.receive())
	}()
	if !stuck {
		down = nil
	}
	cancel(s.send(down))
	<-received
	err = context.Cause(ctx)
	s.fail(err)
	f.watches.lost()
	return s.spoken, err
}

// opened opens the stream and refuses calls meanwhile where down is an error.
func (s *findStream) opened(down error) error {
	result := make(chan error, 1) // whoever opens must not wait for us
	go func() {
		stream, err := s.open(s.ctx)
		s.Stream = stream
		result <- err
	}()
	bell := s.bell
	if down == nil {
		bell = nil // they wait for the stream
	} else {
		s.failQueue(down)
	}
	for {
		select {
		case <-bell:
			s.failQueue(down)
		case err := <-result:
			if cause := context.Cause(s.ctx); cause != nil {
				return cause // it says more than that open was cancelled
			}
			return err
		}
	}
}

// fail ends the asks that wait for the stream, or that it has taken, because of what
// ended it.
func (s *findStream) fail(cause error) {
	err := unavailable(cause)
	if s.Finder.ctx.Err() != nil {
		err = node.ErrClosed
	}
	s.mu.Lock()
	var all []*Ask
	for _, fr := range s.pending {
		all = append(all, fr.asks...)
	}
	s.pending = nil
	s.busy, s.underWay = 0, 0
	s.mu.Unlock()
	failAll(all, err)
	s.failQueue(err)
}

// send sends frames, watches and pings until the stream ends; an error ends it.
// Where down is one, calls fail with it until the tracker has spoken.
func (s *findStream) send(down error) error {
	ping := time.NewTicker(node.PingInterval)
	defer ping.Stop()
	if err := s.sendWatches(true); err != nil {
		return err
	}
	s.sent = false
	if err := s.ping(); err != nil { // the sooner the tracker is heard, the better
		return err
	}
	for {
		if down != nil && !s.trusted() {
			s.failQueue(down)
		} else if err := s.sendFrames(); err != nil {
			return err
		}
		select {
		case <-s.bell:
		case <-s.watches.changed:
			if err := s.sendWatches(false); err != nil {
				return err
			}
		case now := <-ping.C:
			if s.overdue(now) {
				return errStuck
			}
			if err := s.ping(); err != nil {
				return err
			}
		case <-s.ctx.Done():
			return nil
		}
	}
}

// trusted reports whether the tracker has spoken on this stream.
func (s *findStream) trusted() bool {
	select {
	case <-s.heard:
		return true
	default:
		return false
	}
}

// overdue reports whether a frame is under way for too long. Else the tracker
// could keep all frames busy for ever with its pings.
func (s *findStream) overdue(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fr := range s.pending {
		if now.Sub(fr.at) > node.PingTimeout {
			return true
		}
	}
	return false
}

// ping tells that the reader is alive, unless something else did.
func (s *findStream) ping() error {
	if s.sent {
		s.sent = false
		return nil
	}
	return s.Send(&node.FindRequest{View: s.view})
}

// sendFrames sends the asks that are to go now.
func (s *findStream) sendFrames() error {
	for s.sendable() {
		// Askers that the last reply woke are about to ask again. To let them run
		// first doubles the batches, and so the throughput.
		runtime.Gosched()
		runtime.Gosched()
		fr := s.gather()
		if fr == nil {
			continue // all were withdrawn
		}
		ids := make(node.IDs, 0, 17*len(fr.asks)) // so many bytes has a UUID
		for _, a := range fr.asks {
			ids = node.AppendID(ids, a.Key)
		}
		s.view, s.sent = fr.view, true
		s.Finder.sent[0].Add(1)
		s.Finder.sent[1].Add(uint64(len(fr.asks)))
		if err := s.Send(&node.FindRequest{Frame: s.last, View: fr.view, IDs: ids}); err != nil {
			return err
		}
	}
	return nil
}

// gather makes a frame of the asks that wait and have the same view, or none where
// there are none.
func (s *findStream) gather() *frame {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.n == 0 {
		return nil
	}
	fr := &frame{}
	if n := len(s.free); n > 0 {
		fr, s.free = s.free[n-1], s.free[:n-1]
	}
	fr.view, fr.at = s.queue.head.next.View, now
	fr.asks = s.queue.takeView(fr.asks, node.MaxFind)
	s.last++
	s.pending[s.last] = fr
	s.busy++
	s.underWay += len(fr.asks)
	return fr
}

// receive hands out results until the stream ends, and returns why it did.
func (s *findStream) receive() error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return errEnded
		}
		if err != nil {
			return err
		}
		s.silent.Reset(node.PingTimeout)
		if !s.spoken {
			s.spoken = true
			close(s.heard)
			s.healthy.Store(true)
		}
		if r.Reset {
			s.proxies = nil
		}
		if n := len(s.proxies) + len(r.Proxies); n > maxProxies {
			return fmt.Errorf("the tracker told %d proxies without a reset; the most is %d", n, maxProxies)
		}
		s.proxies = append(s.proxies, r.Proxies...)
		switch {
		case r.Frame != 0:
			err = s.answered(r)
		case len(r.Watched) > 0:
			err = s.watched(r)
		}
		if err != nil {
			return err
		}
	}
}

// answered finishes the asks of a frame. Those that it does not come to stay
// pending, to be failed with the stream.
func (s *findStream) answered(r *node.FindReply) error {
	s.mu.Lock()
	fr := s.pending[r.Frame]
	s.mu.Unlock()
	if fr == nil {
		return fmt.Errorf("the tracker answered frame %d, which is not under way", r.Frame)
	}
	other := r.View != fr.view
	if other && len(r.ListSums) != len(fr.asks) {
		return fmt.Errorf("the tracker gave %d list sums for %d lookups under another view", len(r.ListSums), len(fr.asks))
	}
	s.latency.observe(time.Since(fr.at))
	asks := fr.asks
	cursor := r.Answers.Cursor()
	for i, a := range asks {
		if !cursor.Next(&s.answer) {
			return cmp.Or(cursor.Err(), fmt.Errorf("the tracker gave %d answers to %d lookups", i, len(asks)))
		}
		claims, err := s.claims(a.Key, a.ID)
		if err != nil {
			return err
		}
		a.Result = node.FindResult{Answer: s.answer.Answer, Claims: claims, View: r.View}
		if other {
			a.Result.ListSum = r.ListSums[i]
		}
		fr.asks = asks[i+1:]
		a.Done()
	}
	if cursor.Next(&s.answer) {
		return fmt.Errorf("the tracker gave more than %d answers to as many lookups", len(asks))
	}
	clear(asks)
	fr.asks = asks[:0]
	s.mu.Lock()
	delete(s.pending, r.Frame)
	s.free = append(s.free, fr)
	s.busy--
	s.underWay -= len(asks)
	ring := s.ringLocked()
	s.mu.Unlock()
	if ring {
		s.ring()
	}
	return nil
}

// claims returns the claims of the present answer, which are the asker's to keep. id
// is the text of k, if it is at hand.
func (s *findStream) claims(k node.Key, id node.ID) ([]node.Claim, error) {
	if len(s.answer.Claims) == 0 {
		return nil, nil
	}
	if id == "" {
		id = k.ID()
	}
	claims := make([]node.Claim, len(s.answer.Claims))
	for i, ref := range s.answer.Claims {
		if int(ref.Proxy) >= len(s.proxies) {
			return nil, fmt.Errorf("the tracker named proxy %d, and told of %d", ref.Proxy, len(s.proxies))
		}
		claims[i] = node.Claim{
			Node:       id,
			Proxy:      s.proxies[ref.Proxy],
			Generation: ref.Generation,
			Age:        time.Duration(ref.Age) * (time.Second / 10),
		}
	}
	return claims, nil
}
