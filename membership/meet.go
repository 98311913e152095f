package membership

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	// helloFormat begins what each end says first on a stream under TLS.
	helloFormat = 1

	pairLabel = "EXPORTER-trackerpool-gossip"

	// meetAgain is how long after one try the next one to meet the same boot is made.
	meetAgain = time.Second

	// meetAtOnce is how many are met at a time.
	meetAtOnce = 16
)

// TLS says how trackers know each other by their certificates.
type TLS struct {
	// Server returns how to accept streams: TLS 1.3, with a client certificate that
	// an authority of the pool's trackers signed.
	Server func() *tls.Config

	// Client returns how to open streams to an address that may be any: TLS 1.3,
	// with a certificate, to a server whose certificate such an authority signed.
	Client func() *tls.Config

	// Who returns the ID of the tracker whose certificate it is, or an error if it
	// is no tracker's. The chain was verified before.
	Who func(*x509.Certificate) (ring.MemberID, error)
}

// A society is whom a transport under TLS has met, and is about to meet. Two
// trackers that meet prove by their certificates who they are, say which boot, and
// derive the keys of the packets between them. It is safe for concurrent use.
type society struct {
	tls   *TLS
	pairs *pairs

	mu     sync.Mutex // guards the fields below
	name   string     // ours
	others acquaintance
	tried  map[string]time.Time // by gossip name; those that were tried within meetAgain, and some more
	trying int
	closed bool
}

func newSociety(t *TLS) *society {
	return &society{tls: t, pairs: newPairs(), tried: make(map[string]time.Time)}
}

// An acquaintance knows where boots of trackers gossip, and is told who was met.
type acquaintance interface {
	meet(name string)
	at(addr netip.AddrPort) (name string) // empty: nobody
}

// present says who we are from now on.
func (s *society) present(name string, others acquaintance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name, s.others = name, others
}

// whoAt returns the gossip name of the boot that gossips at the address, if there
// is one.
func (s *society) whoAt(addr netip.AddrPort) string {
	s.mu.Lock()
	others := s.others
	s.mu.Unlock()
	if others == nil { // it has not begun
		return ""
	}
	return others.at(addr)
}

// meet shakes hands, and returns the stream for what comes next. The deadline is
// the caller's.
func (s *society) meet(c net.Conn, d direction) (net.Conn, error) {
	s.mu.Lock()
	name, others := s.name, s.others
	s.mu.Unlock()
	var secure *tls.Conn
	if d == outbound {
		secure = tls.Client(c, s.tls.Client())
	} else {
		secure = tls.Server(c, s.tls.Server())
	}
	if err := secure.Handshake(); err != nil {
		return nil, strange(err)
	}
	state := secure.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: it has shown none", errStranger)
	}
	id, err := s.tls.Who(state.PeerCertificates[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStranger, err)
	}
	// The side that accepted says its name after it noted the keys: whoever opened
	// can seal with them as soon as it has read that.
	if d == outbound {
		if err := writeHello(secure, name); err != nil {
			return nil, strange(err)
		}
	}
	other, err := readHello(secure)
	if err != nil {
		return nil, strange(err)
	}
	if said := other[:strings.LastIndexByte(other, '#')]; ring.MemberID(said) != id {
		return nil, fmt.Errorf("%w: it says that it is %q, and its certificate is of tracker %q", errStranger, said, id)
	}
	material, err := state.ExportKeyingMaterial(pairLabel, nil, pairMaterial)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	p, err := newPair(other, state.PeerCertificates[0].NotAfter, material, d == outbound)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	s.pairs.add(p)
	others.meet(other)
	if d == inbound {
		if err := writeHello(secure, name); err != nil {
			return nil, strange(err)
		}
	}
	return secure, nil
}

// strange tells who is no tracker from a stream that ended.
func strange(err error) error {
	var op *net.OpError
	refused := errors.As(err, &op) && op.Op == "remote error" // the other end says why
	var network net.Error
	if !refused && (errors.Is(err, io.EOF) || errors.As(err, &network)) {
		return err
	}
	return fmt.Errorf("%w: %w", errStranger, err)
}

func writeHello(w io.Writer, name string) error {
	_, err := w.Write(append([]byte{helloFormat, byte(len(name))}, name...))
	return err
}

func readHello(r io.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	if head[0] != helloFormat {
		return "", fmt.Errorf("%w: hello has format %d, and this release knows %d", errMalformed, head[0], helloFormat)
	}
	name := make([]byte, head[1])
	if _, err := io.ReadFull(r, name); err != nil {
		return "", err
	}
	if i := bytes.LastIndexByte(name, '#'); i < 1 || i > maxIDLen || len(name) != i+17 {
		return "", fmt.Errorf("%w: %q is no gossip name", errMalformed, name)
	}
	return string(name), nil
}

// A meetingConn meets whoever opened the stream, before its first byte is read.
type meetingConn struct {
	net.Conn // secure, once they have met
	society  *society
	met      bool
	err      error
}

func (c *meetingConn) Read(b []byte) (int, error) {
	if !c.met {
		c.met = true
		secure, err := c.society.meet(c.Conn, inbound)
		if c.err = err; err == nil {
			c.Conn = secure
		}
	}
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(b)
}

// seek opens a stream to a boot that gossips at the address, so as to meet it,
// unless that was tried just now. It does not wait.
func (t *transport) seek(name, addr string) {
	s := t.society
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.trying >= meetAtOnce || now.Sub(s.tried[name]) < meetAgain {
		return
	}
	if len(s.tried) >= maxMembers {
		clear(s.tried)
	}
	s.tried[name] = now
	s.trying++
	t.wg.Go(func() {
		c, err := t.DialTimeout(addr, streamTimeout)
		if err != nil {
			t.log.Debug("a member was not met", "member", name, "addr", addr, "err", err)
		} else {
			_ = c.Close() // nothing was said
		}
		s.mu.Lock()
		s.trying--
		s.mu.Unlock()
	})
}

// meet notes that a boot has proven who it is.
func (g *Gossip) meet(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.table.prove(name) {
		g.joined = g.joined || !g.table.alone()
		knock(g.bell)
	}
}

func (g *Gossip) at(addr netip.AddrPort) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.at(addr)
}

// close keeps seek from beginning anything.
func (s *society) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// seekStrangers tries to meet the members that have not proven who they are, again
// and again, until ctx ends.
func (g *Gossip) seekStrangers(ctx context.Context) {
	ticker := time.NewTicker(meetAgain)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		g.mu.Lock()
		strangers := make(map[string]string)
		for name, e := range g.table.strangers {
			strangers[name] = e.addr.String()
		}
		g.mu.Unlock()
		for name, addr := range strangers {
			g.transport.seek(name, addr)
		}
	}
}
