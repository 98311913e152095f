package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// firstEphemeral is the first of the ports that are given out for port 0 and to dials.
	firstEphemeral = 49152

	// maxBacklog is how many connections wait for Accept; more are refused.
	maxBacklog = 1024
)

// A Host is one machine on the network.
type Host struct {
	net  *Network
	addr netip.Addr

	// mu guards the fields below.
	mu        sync.Mutex
	next      uint16
	listeners map[uint16]*listener
	packets   map[uint16]*packetConn
}

func newHost(n *Network, addr netip.Addr) *Host {
	return &Host{
		net: n, addr: addr, next: firstEphemeral,
		listeners: make(map[uint16]*listener),
		packets:   make(map[uint16]*packetConn),
	}
}

// Addr returns the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// ephemeralLocked returns the next port for which used is false. The ports of dials
// come round again after 16,384 of them, whether still in use or not: nothing
// here looks a connection up by its ports.
func (h *Host) ephemeralLocked(used func(uint16) bool) (uint16, error) {
	for range 1<<16 - firstEphemeral {
		port := h.next
		if h.next++; h.next == 0 {
			h.next = firstEphemeral
		}
		if !used(port) {
			return port, nil
		}
	}
	return 0, syscall.EADDRINUSE
}

// bind puts what make returns under the port, or under a free one if it is 0.
func bind[T any](h *Host, ports map[uint16]T, network string, port uint16, open func(netip.AddrPort) T) (T, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	used := func(p uint16) bool { _, ok := ports[p]; return ok }
	var err error
	switch {
	case port == 0:
		port, err = h.ephemeralLocked(used)
	case used(port):
		err = syscall.EADDRINUSE
	}
	at := netip.AddrPortFrom(h.addr, port)
	if err != nil {
		var none T
		return none, &net.OpError{Op: "listen", Net: network, Addr: net.TCPAddrFromAddrPort(at), Err: os.NewSyscallError("bind", err)}
	}
	ports[port] = open(at)
	return ports[port], nil
}

// Listen accepts connections to the port; port 0 picks a free one.
func (h *Host) Listen(port uint16) (net.Listener, error) {
	return bind(h, h.listeners, "tcp", port, func(at netip.AddrPort) *listener {
		l := &listener{host: h, at: at}
		l.wake.L = &l.mu
		return l
	})
}

// ListenPacket receives packets to the port; port 0 picks a free one. At most
// 1,024 packets wait for ReadFrom; more are lost.
func (h *Host) ListenPacket(port uint16) (net.PacketConn, error) {
	return bind(h, h.packets, "udp", port, func(at netip.AddrPort) *packetConn {
		c := &packetConn{host: h, at: at}
		c.wake.L = &c.mu
		return c
	})
}

func (h *Host) listener(port uint16) *listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listeners[port]
}

func (h *Host) packetConn(port uint16) *packetConn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.packets[port]
}

// DialContext connects to an address, a literal "ip:port". The network is "tcp"
// or one of its variants. It takes a round trip; where the other host cannot be
// reached it waits until that changes or ctx ends; where nobody listens the
// error is ECONNREFUSED.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("address %q is not a literal ip:port: %w", address, err)}
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	c, err := h.dial(ctx, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, to netip.AddrPort) (*conn, error) {
	if err := h.reach(ctx, to.Addr()); err != nil {
		return nil, err
	}
	if err := pause(ctx, h.net.delay(h.addr, to.Addr())); err != nil {
		return nil, err
	}
	var local, remote *conn
	if l := h.net.host(to.Addr()).listener(to.Port()); l != nil {
		h.mu.Lock()
		port, err := h.ephemeralLocked(func(uint16) bool { return false })
		h.mu.Unlock()
		if err != nil {
			return nil, err
		}
		local, remote = h.net.pair(netip.AddrPortFrom(h.addr, port), to)
		if !l.offer(remote) {
			local.reset()
			local = nil
		}
	}
	// The answer needs the way back.
	err := h.reach(ctx, to.Addr())
	if err == nil {
		err = pause(ctx, h.net.delay(to.Addr(), h.addr))
	}
	switch {
	case err != nil && local != nil:
		local.reset()
		return nil, err
	case err != nil:
		return nil, err
	case local == nil:
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	return local, nil
}

// reach waits until the host and another reach each other.
func (h *Host) reach(ctx context.Context, to netip.Addr) error {
	for {
		up, changed := h.net.reachable(h.addr, to)
		if up {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type listener struct {
	host *Host
	at   netip.AddrPort

	// mu guards the fields below; wake is signalled when one of them changes.
	mu     sync.Mutex
	wake   sync.Cond
	queue  []*conn
	closed bool
}

// offer hands a connection to Accept, and reports whether there was room.
func (l *listener) offer(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= maxBacklog {
		return false
	}
	l.queue = append(l.queue, c)
	l.wake.Signal()
	return true
}

func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.wake.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	c := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return c, nil
}

// Close stops listening, and resets the connections that nobody accepted.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return net.ErrClosed
	}
	l.closed = true
	rest := l.queue
	l.queue = nil
	l.wake.Broadcast()
	l.mu.Unlock()

	l.host.mu.Lock()
	delete(l.host.listeners, l.at.Port())
	l.host.mu.Unlock()
	for _, c := range rest {
		c.reset()
	}
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
