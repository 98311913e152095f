package membership

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxStreams is how many streams others may have open here at a time, and
	// maxStreamsOf those from one address. Each ends within streamTimeout.
	maxStreams   = 128
	maxStreamsOf = 64

	// maxLarge is how many messages of more than smallMessage bytes are read at a
	// time.
	maxLarge = 8
)

// errBusy: the sender tries again, in its own time.
var errBusy = errors.New("there are too many streams already")

// A gate bounds what strangers can make a transport do, and keeps count of what
// was refused. It is safe for concurrent use.
type gate struct {
	log   *slog.Logger
	large chan struct{} // the large messages that are being read

	mu      sync.Mutex // guards the fields below
	streams map[netip.Addr]int
	total   int
	refused map[string]uint64
	warned  seldom
}

func newGate(log *slog.Logger) *gate {
	return &gate{
		log: log, large: make(chan struct{}, maxLarge),
		streams: make(map[netip.Addr]int), refused: make(map[string]uint64), warned: make(seldom),
	}
}

// enter admits a stream from the address, until leave is called, once.
func (g *gate) enter(from net.Addr) (leave func(), ok bool) {
	ip := ipOf(from)
	g.mu.Lock()
	ok = g.total < maxStreams && g.streams[ip] < maxStreamsOf
	if ok {
		g.total++
		g.streams[ip]++
	}
	g.mu.Unlock()
	if !ok {
		g.refuse("stream", from, errBusy)
		return nil, false
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total--
		if g.streams[ip]--; g.streams[ip] == 0 {
			delete(g.streams, ip)
		}
	}, true
}

// enterLarge admits a large message, until leave is called.
func (g *gate) enterLarge() (leave func(), ok bool) {
	select {
	case g.large <- struct{}{}:
		return func() { <-g.large }, true
	default:
		return nil, false
	}
}

// refuse counts, and logs once in a while, that a packet or a stream was refused.
func (g *gate) refuse(what string, from net.Addr, err error) {
	reason := reasonOf(err)
	if reason == "" {
		return
	}
	g.mu.Lock()
	g.refused[reason]++
	fresh := g.warned.fresh(what+" "+reason, time.Now())
	g.mu.Unlock()
	if fresh {
		g.log.Warn("gossip is refused", "what", what, "from", from.String(), "reason", reason, "err", err)
	}
}

// counts returns how much was refused, by reason.
func (g *gate) counts() map[string]uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	counts := make(map[string]uint64)
	for _, reason := range reasons {
		counts[reason] = g.refused[reason]
	}
	return counts
}

// Why gossip is refused.
const (
	reasonKey       = "key"       // sealed with another key, or not at all
	reasonPool      = "pool"      // for another pool
	reasonMalformed = "malformed" // memberlist would not have sent it
	reasonBusy      = "busy"      // too many streams
	reasonTracker   = "tracker"   // not from a tracker with a certificate
	reasonRepeated  = "repeated"  // it has come before
)

var reasons = []string{reasonKey, reasonPool, reasonMalformed, reasonBusy, reasonTracker, reasonRepeated}

// reasonOf returns why something was refused, or nothing where it was not: the
// connection ended, as a port scanner's does.
func reasonOf(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, errPlain), errors.Is(err, errNoKey), errors.Is(err, errNotOurs):
		return reasonKey
	case errors.Is(err, errStranger):
		return reasonTracker
	case errors.Is(err, errRepeated):
		return reasonRepeated
	case errors.Is(err, errUnpaired):
		return "" // to a former life of ours
	case errors.Is(err, errPool):
		return reasonPool
	case errors.Is(err, errBusy):
		return reasonBusy
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &network):
		return ""
	}
	return reasonMalformed
}

// ipOf returns the host of a TCP or UDP address.
func ipOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Refused returns how many packets and streams of gossip were refused since the
// start, by reason; all reasons are there.
func (g *Gossip) Refused() map[string]uint64 { return g.transport.gate.counts() }
