package memnet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxBuffered is how many bytes wait in one direction of a connection for the
// network and for Read. There is no window, so that a Write never blocks; what
// exceeds this is an error, as a simulation that gets there has a leak.
const maxBuffered = 16 << 20

// conn is one end of a connection.
type conn struct {
	net           *Network
	local, remote netip.AddrPort
	in, out       *pipe // from the other end, and to it

	// mu guards the fields below.
	mu     sync.Mutex
	closed bool
	write  deadline
}

var _ net.Conn = (*conn)(nil)

// pair connects two addresses, and returns the ends at a and at b.
func (n *Network) pair(a, b netip.AddrPort) (*conn, *conn) {
	ab, ba := newPipe(n, a.Addr(), b.Addr()), newPipe(n, b.Addr(), a.Addr())
	ca := &conn{net: n, local: a, remote: b, in: ba, out: ab}
	cb := &conn{net: n, local: b, remote: a, in: ab, out: ba}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[ab], n.conns[ba] = ca, cb
	return ca, cb
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.error("read", err)
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	closed, late := c.closed, c.write.passed()
	c.mu.Unlock()
	switch {
	case closed:
		return 0, c.error("write", net.ErrClosed)
	case late:
		return 0, c.error("write", os.ErrDeadlineExceeded)
	case c.in.finished():
		return 0, c.error("write", os.NewSyscallError("write", syscall.EPIPE))
	}
	if err := c.out.write(p); err != nil {
		return 0, c.error("write", err)
	}
	return len(p), nil
}

// Close ends both directions. The other end reads what was written before, then
// EOF, and cannot write any more once it has learnt of it.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.error("close", net.ErrClosed)
	}
	c.closed = true
	c.mu.Unlock()
	c.in.abandon()
	c.out.finish()
	return nil
}

// reset breaks both directions at both ends, at once.
func (c *conn) reset() {
	c.in.fail(syscall.ECONNRESET)
	c.out.fail(syscall.ECONNRESET)
	c.net.forget(c.in)
	c.net.forget(c.out)
}

// forget removes the connection that sends through p: nothing is under way
// there that a heal would have to send.
func (n *Network) forget(p *pipe) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, p)
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	if !c.in.setDeadline(t) {
		return c.error("set", net.ErrClosed)
	}
	return nil
}

// SetWriteDeadline sets the time after which Write fails; it never blocks, so
// nothing is woken.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.error("set", net.ErrClosed)
	}
	c.write.at = t
	return nil
}

func (c *conn) error(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// segment is what one Write sent, or the end of the stream.
type segment struct {
	data []byte
	at   time.Time // when it arrives, if the link is up
	fin  bool
}

// pipe is one direction of a connection.
type pipe struct {
	net      *Network
	from, to netip.Addr

	// mu guards the fields below; arrived is signalled when Read may go on.
	mu       sync.Mutex
	arrived  sync.Cond
	flight   []segment // sent, not arrived, in order
	ready    [][]byte  // arrived, not read
	buffered int       // bytes in flight and ready; at most maxBuffered
	ended    bool      // the writer has closed
	fin      bool      // and the reader has learnt of it
	closed   bool      // the reader has closed: what arrives is dropped
	err      error     // the connection was reset
	timer    *time.Timer
	deadline deadline
}

func newPipe(n *Network, from, to netip.Addr) *pipe {
	p := &pipe{net: n, from: from, to: to}
	p.arrived.L = &p.mu
	return p
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case p.deadline.passed():
			return 0, os.ErrDeadlineExceeded
		case p.err != nil:
			return 0, p.err
		case len(p.ready) > 0:
			return p.takeLocked(b), nil
		case p.fin:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		p.arrived.Wait()
	}
}

func (p *pipe) takeLocked(b []byte) int {
	var n int
	for n < len(b) && len(p.ready) > 0 {
		k := copy(b[n:], p.ready[0])
		n += k
		if p.ready[0] = p.ready[0][k:]; len(p.ready[0]) == 0 {
			p.ready[0] = nil
			p.ready = p.ready[1:]
		}
	}
	p.buffered -= n
	return n
}

func (p *pipe) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	late := p.net.delay(p.from, p.to)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return p.err
	case p.ended:
		return net.ErrClosed
	case p.buffered+len(b) > maxBuffered:
		return fmt.Errorf("%d bytes wait for the reader, and %d more exceed %d: %w", p.buffered, len(b), maxBuffered, syscall.ENOBUFS)
	}
	p.buffered += len(b)
	p.sendLocked(segment{data: append([]byte(nil), b...)}, late)
	return nil
}

// finish sends the end of the stream after all that was written.
func (p *pipe) finish() {
	late := p.net.delay(p.from, p.to)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.err != nil {
		return
	}
	p.ended = true
	p.sendLocked(segment{fin: true}, late)
}

func (p *pipe) sendLocked(s segment, late time.Duration) {
	s.at = time.Now().Add(late)
	if k := len(p.flight); k > 0 && s.at.Before(p.flight[k-1].at) {
		s.at = p.flight[k-1].at
	}
	p.flight = append(p.flight, s)
	p.deliverLocked()
}

// deliver hands over all that has arrived by now, and sets a timer for the rest
// unless the link is cut: Network.restore calls it again.
func (p *pipe) deliver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deliverLocked()
}

func (p *pipe) deliverLocked() {
	if len(p.flight) == 0 || !p.net.up(p.from, p.to) {
		return
	}
	now := time.Now()
	for len(p.flight) > 0 {
		s := p.flight[0]
		if wait := s.at.Sub(now); wait > 0 {
			if p.timer == nil {
				p.timer = time.AfterFunc(wait, p.deliver)
			} else {
				p.timer.Reset(wait)
			}
			break
		}
		p.flight[0] = segment{}
		p.flight = p.flight[1:]
		switch {
		case s.fin:
			p.fin = true
			p.net.forget(p)
		case p.closed:
			p.buffered -= len(s.data)
		default:
			p.ready = append(p.ready, s.data)
		}
	}
	p.arrived.Broadcast()
}

// abandon is the reader's Close.
func (p *pipe) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, b := range p.ready {
		p.buffered -= len(b)
	}
	p.ready = nil
	p.deadline.stop()
	p.arrived.Broadcast()
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	p.err = err
	p.flight, p.ready, p.buffered = nil, nil, 0
	if p.timer != nil {
		p.timer.Stop()
	}
	p.arrived.Broadcast()
}

// finished reports whether the writer has closed and the reader knows.
func (p *pipe) finished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fin
}

// setDeadline sets the time after which Read fails, and reports whether the
// reader is still there.
func (p *pipe) setDeadline(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.deadline.set(t, &p.arrived)
	return true
}
