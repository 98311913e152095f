package memnet

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// maxPackets is how many packets wait for ReadFrom; more are lost, as in a
// kernel's buffer.
const maxPackets = 1024

var errNotUDP = errors.New("the destination is not a *net.UDPAddr")

type packet struct {
	data []byte
	from netip.AddrPort
}

type packetConn struct {
	host *Host
	at   netip.AddrPort

	// mu guards the fields below; wake is signalled when one of them changes.
	mu     sync.Mutex
	wake   sync.Cond
	queue  []packet
	closed bool
	read   deadline
}

var _ net.PacketConn = (*packetConn)(nil)

func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, nil, c.error("read", net.ErrClosed)
		case c.read.passed():
			return 0, nil, c.error("read", os.ErrDeadlineExceeded)
		case len(c.queue) > 0:
			next := c.queue[0]
			c.queue[0] = packet{}
			c.queue = c.queue[1:]
			return copy(p, next.data), net.UDPAddrFromAddrPort(next.from), nil
		}
		c.wake.Wait()
	}
}

// WriteTo sends a packet, which may be lost on its way; it never blocks.
func (c *packetConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, c.error("write", errNotUDP)
	}
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return 0, c.error("write", net.ErrClosed)
	}
	to := udp.AddrPort()
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	nw := c.host.net
	q := nw.linkQuality(c.host.addr, to.Addr())
	if nw.up(c.host.addr, to.Addr()) && !nw.lost(q) {
		sent := packet{data: bytes.Clone(p), from: c.at}
		if late := nw.jitter(q); late > 0 {
			time.AfterFunc(late, func() { nw.arrive(to, sent) })
		} else {
			nw.arrive(to, sent)
		}
	}
	return len(p), nil
}

func (n *Network) arrive(to netip.AddrPort, p packet) {
	h := n.host(to.Addr())
	if h == nil {
		return
	}
	c := h.packetConn(to.Port())
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.queue) >= maxPackets {
		return
	}
	c.queue = append(c.queue, p)
	c.wake.Signal()
}

func (c *packetConn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.error("close", net.ErrClosed)
	}
	c.closed = true
	c.queue = nil
	c.read.stop()
	c.wake.Broadcast()
	c.mu.Unlock()

	c.host.mu.Lock()
	delete(c.host.packets, c.at.Port())
	c.host.mu.Unlock()
	return nil
}

func (c *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.at) }

func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.error("set", net.ErrClosed)
	}
	c.read.set(t, &c.wake)
	return nil
}

// SetWriteDeadline does nothing: WriteTo never blocks.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

func (c *packetConn) error(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Err: err}
}

// deadline is a time after which waiting ends. It is guarded by the lock of the
// condition that set is given.
type deadline struct {
	at    time.Time // zero: none
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set changes the deadline, and wakes those who wait on cond now and when it
// passes.
func (d *deadline) set(t time.Time, cond *sync.Cond) {
	d.stop()
	d.at = t
	if !t.IsZero() && !d.passed() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			cond.L.Lock()
			defer cond.L.Unlock()
			cond.Broadcast()
		})
	}
	cond.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
