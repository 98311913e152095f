package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	maxPacket = 1 << 16

	// packetBuffer is what the kernel is asked to hold while we are busy.
	packetBuffer = 2 << 20

	// bindTries is how often a port is picked: one that is free for TCP may be
	// taken for UDP.
	bindTries = 10
)

// Sockets are one host's connections to a network. ListenPacket takes and gives
// addresses as *net.UDPAddr, and its WriteTo never blocks for long.
type Sockets interface {
	Listen(port uint16) (net.Listener, error)
	ListenPacket(port uint16) (net.PacketConn, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// machine is the real network. All addresses are bound where ip is not valid.
type machine struct{ ip netip.Addr }

func (m machine) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (m machine) Listen(port uint16) (net.Listener, error) {
	return net.ListenTCP("tcp", &net.TCPAddr{IP: m.ip.AsSlice(), Port: int(port)})
}

func (m machine) ListenPacket(port uint16) (net.PacketConn, error) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: m.ip.AsSlice(), Port: int(port)})
	if err != nil {
		return nil, err
	}
	// The kernel may allow less: take what it gives.
	for size := packetBuffer; size > 0 && c.SetReadBuffer(size) != nil; size /= 2 {
	}
	return c, nil
}

// transport carries memberlist's packets and streams over Sockets. It outlives
// the memberlist that is given up when a boot turns out to be taken: Shutdown
// closes it only after last was set.
type transport struct {
	sockets   Sockets
	log       *slog.Logger
	bound     netip.AddrPort // not valid but for its port where all addresses are bound
	advertise netip.AddrPort
	listener  net.Listener
	packets   net.PacketConn
	packetCh  chan *memberlist.Packet
	streamCh  chan net.Conn
	last      atomic.Bool
	pool      string
	keyring   atomic.Pointer[keyring] // nil: nothing is sealed
	gate      *gate
	society   *society // nil without TLS

	// ctx ends when the transport closes: no dial and no connection outlives it.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen binds what cfg says, and begins to receive.
func listen(ctx context.Context, cfg Config, keys keyring) (*transport, error) {
	bind, err := parseBind(cfg.BindAddr)
	if err != nil {
		return nil, err
	}
	t := &transport{
		sockets: cfg.Sockets, log: cfg.Logger, pool: cfg.Pool, gate: newGate(cfg.Logger),
		packetCh: make(chan *memberlist.Packet),
		streamCh: make(chan net.Conn),
	}
	if cfg.TLS != nil {
		t.society = newSociety(cfg.TLS)
	}
	if t.sockets == nil {
		t.sockets = machine{ip: bind.Addr()}
	}
	for range bindTries {
		if err = t.bind(bind.Port()); err == nil || bind.Port() != 0 {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bind %s: %w", cfg.BindAddr, err)
	}
	tcp, ok := t.listener.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.Join(fmt.Errorf("bind %s: the listener's address %v is not a TCP address", cfg.BindAddr, t.listener.Addr()), t.unbind())
	}
	t.bound = netip.AddrPortFrom(bind.Addr(), tcp.AddrPort().Port())
	if t.advertise, err = cfg.advertised(ctx, t.bound); err != nil {
		return nil, errors.Join(err, t.unbind())
	}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if len(keys) > 0 {
		t.keyring.Store(&keys)
		t.wg.Go(func() { t.watchKeys(t.ctx, cfg.KeyFile, cfg.KeyInterval) })
	}
	t.wg.Go(t.acceptStreams)
	t.wg.Go(t.receivePackets)
	return t, nil
}

func (t *transport) bind(port uint16) error {
	l, err := t.sockets.Listen(port)
	if err != nil {
		return err
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		port = tcp.AddrPort().Port()
	}
	p, err := t.sockets.ListenPacket(port)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	t.listener, t.packets = l, p
	return nil
}

func (t *transport) unbind() error { return errors.Join(t.listener.Close(), t.packets.Close()) }

// Shutdown is memberlist's: it closes the transport if this is the last
// memberlist on it.
func (t *transport) Shutdown() error {
	if !t.last.Load() {
		return nil
	}
	if t.society != nil {
		t.society.close()
	}
	t.cancel()
	err := t.unbind()
	t.wg.Wait()
	return err
}

// open reports whether Shutdown has not closed the transport.
func (t *transport) open() bool { return t.ctx.Err() == nil }

// backoff waits after the given number of failures in a row, and reports whether
// the transport is still open.
func (t *transport) backoff(failures int) bool {
	timer := time.NewTimer(min(time.Duration(failures)*5*time.Millisecond, time.Second))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

func (t *transport) acceptStreams() {
	var failures int
	for {
		c, err := t.listener.Accept()
		if err != nil {
			failures++
			if errors.Is(err, net.ErrClosed) || !t.backoff(failures) {
				return
			}
			t.log.Warn("gossip cannot accept a connection", "err", err)
			continue
		}
		failures = 0
		leave, ok := t.gate.enter(c.RemoteAddr())
		if !ok {
			_ = c.Close()
			continue
		}
		select {
		case t.streamCh <- t.guarded(c, leave, inbound):
		case <-t.ctx.Done():
			leave()
			_ = c.Close()
			return
		}
	}
}

func (t *transport) receivePackets() {
	var failures int
	buf := make([]byte, maxPacket)
	for {
		n, from, err := t.packets.ReadFrom(buf)
		if err != nil {
			failures++
			if errors.Is(err, net.ErrClosed) || !t.backoff(failures) {
				return
			}
			t.log.Warn("gossip cannot receive a packet", "err", err)
			continue
		}
		failures = 0
		if n == 0 {
			continue
		}
		packet, err := t.unwrap(buf[:n], from)
		if err != nil {
			t.gate.refuse("packet", from, err)
			continue
		}
		p := &memberlist.Packet{Buf: bytes.Clone(packet), From: from, Timestamp: time.Now()}
		select {
		case t.packetCh <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// unwrap returns what memberlist may see of a packet.
func (t *transport) unwrap(b []byte, from net.Addr) ([]byte, error) {
	if s := t.society; s != nil {
		opened, err := s.pairs.open(time.Now(), b)
		if errors.Is(err, errUnpaired) {
			// A member whose keys with us we have lost would not be heard for long.
			if addr, ok := from.(*net.UDPAddr); ok {
				at := addr.AddrPort()
				at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
				if name := s.whoAt(at); name != "" {
					t.seek(name, at.String())
				}
			}
		}
		if err != nil {
			return nil, err
		}
		b = opened
	}
	b, err := t.keys().open(t.pool, b)
	if err != nil {
		return nil, err
	}
	return b, checkPacket(t.pool, b)
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packetCh }

func (t *transport) StreamCh() <-chan net.Conn { return t.streamCh }

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress seals and sends a packet. One to who was not met yet is lost, and
// has it met.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip to %q: %w", a.Addr, err)
	}
	b = t.keys().seal(t.pool, b)
	if s := t.society; s != nil {
		name := a.Name
		if name == "" {
			name = s.whoAt(to)
		}
		sealed, ok := s.pairs.seal(time.Now(), name, b)
		if !ok {
			if name != "" {
				t.seek(name, a.Addr)
			}
			return time.Now(), nil
		}
		b = sealed
	}
	_, err = t.packets.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	c, err := t.sockets.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if t.society == nil {
		return t.guarded(c, func() {}, outbound), nil
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	secure, err := t.society.meet(c, outbound)
	stop()
	if err != nil {
		_ = c.Close()
		t.gate.refuse("stream to", c.RemoteAddr(), err)
		return nil, fmt.Errorf("gossip with %s: %w", addr, err)
	}
	return t.guarded(secure, func() {}, outbound), nil
}

func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// guarded returns a connection that gives memberlist one message, if it is fit to
// be seen, and seals. It is closed with the transport, so that nothing which reads
// from it holds up the end; leave is called when it is closed.
func (t *transport) guarded(c net.Conn, leave func(), d direction) net.Conn {
	opened := c
	release := context.AfterFunc(t.ctx, func() { _ = opened.Close() })
	closing := sync.OnceValue(func() error {
		release()
		leave()
		return opened.Close()
	})
	from := c.RemoteAddr()
	if t.society != nil && d == inbound {
		c = &meetingConn{Conn: c, society: t.society}
	}
	if keys := t.keys(); len(keys) > 0 {
		c = &sealedConn{Conn: c, keys: keys, pool: t.pool}
	}
	return &guardedConn{Conn: c, closing: closing, check: func(r io.Reader) ([]byte, error) {
		b, err := checkStream(r, t.pool, d, t.gate)
		if err != nil {
			t.gate.refuse("stream", from, err)
		}
		return b, err
	}}
}

var errSilent = errors.New("nothing was said")

// A guardedConn reads and checks a whole message before its first byte is read.
type guardedConn struct {
	net.Conn
	closing func() error
	check   func(io.Reader) ([]byte, error)

	checked bool
	rest    []byte
	err     error // for what is read after the message
}

func (c *guardedConn) Read(b []byte) (int, error) {
	if !c.checked {
		c.checked, c.err = true, io.EOF
		message, err := c.check(c.Conn)
		if errors.Is(err, io.EOF) {
			err = errSilent // memberlist complains of an empty message
		}
		if err != nil {
			c.err = err
		}
		c.rest = message
	}
	if len(c.rest) == 0 {
		return 0, c.err
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Close may be called more than once.
func (c *guardedConn) Close() error { return c.closing() }
