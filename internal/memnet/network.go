package memnet

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Quality is how well a link carries what is sent, in one direction.
type Quality struct {
	Delay  time.Duration // of each packet and each write, one way
	Jitter time.Duration // up to this much more, at random; packets may overtake each other, bytes of a stream do not
	Drop   float64       // probability, 0 to 1, that a packet is lost; streams are reliable
}

// link is one direction between two hosts.
type link struct{ from, to netip.Addr }

// A Network joins hosts. At first every host reaches every other at once.
type Network struct {
	// Lock order: a pipe's mutex before mu; nothing is called with mu held.
	mu       sync.RWMutex
	hosts    map[netip.Addr]*Host
	cut      map[link]bool
	detached map[netip.Addr]bool
	standard Quality
	quality  map[link]Quality
	conns    map[*pipe]*conn // by the direction that it sends in, until the end of that has arrived
	changed  chan struct{}   // closed, and made anew, when hosts can reach each other again

	rngMu sync.Mutex
	rng   *rand.Rand
}

// New returns a network without hosts. The seed decides which packets are lost
// and how late the others are, as far as the order of sends is the same.
func New(seed uint64) *Network {
	return &Network{
		hosts:    make(map[netip.Addr]*Host),
		cut:      make(map[link]bool),
		detached: make(map[netip.Addr]bool),
		quality:  make(map[link]Quality),
		conns:    make(map[*pipe]*conn),
		changed:  make(chan struct{}),
		rng:      rand.New(rand.NewPCG(seed, seed)),
	}
}

// Host returns the host with the given address, and creates it at first.
func (n *Network) Host(addr netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.hosts[addr]
	if !ok {
		h = newHost(n, addr)
		n.hosts[addr] = h
	}
	return h
}

// SetQuality sets the quality of all links that SetLink was not called for.
func (n *Network) SetQuality(q Quality) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.standard = q
}

// SetLink sets the quality of the link from one host to another, in that
// direction alone.
func (n *Network) SetLink(from, to netip.Addr, q Quality) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.quality[link{from, to}] = q
}

// UnsetLink undoes SetLink.
func (n *Network) UnsetLink(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.quality, link{from, to})
}

// Cut makes black holes of both directions between a and b: packets are lost,
// the bytes of streams are held until Heal, dials hang.
func (n *Network) Cut(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link{a, b}], n.cut[link{b, a}] = true, true
}

// CutOneWay makes a black hole of the direction from one host to another.
func (n *Network) CutOneWay(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link{from, to}] = true
}

// Heal undoes Cut and CutOneWay between a and b. Bytes that were held arrive at
// once.
func (n *Network) Heal(a, b netip.Addr) {
	n.restore(func() {
		delete(n.cut, link{a, b})
		delete(n.cut, link{b, a})
	})
}

// HealAll undoes every Cut and CutOneWay. Detached hosts stay detached.
func (n *Network) HealAll() { n.restore(func() { clear(n.cut) }) }

// Detach takes a host off the network, as a machine whose power failed: all
// that is sent to it or from it is held or lost, and nobody is told. It still
// reaches itself.
func (n *Network) Detach(host netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.detached[host] = true
}

// Attach undoes Detach. The host's connections go on; where the process on it
// is a new one, call ResetHost first.
func (n *Network) Attach(host netip.Addr) { n.restore(func() { delete(n.detached, host) }) }

// Reset breaks all connections between a and b: both ends get ECONNRESET, and
// bytes under way are lost.
func (n *Network) Reset(a, b netip.Addr) {
	n.reset(func(l link) bool { return l == link{a, b} || l == link{b, a} })
}

// ResetHost breaks all connections of a host, as Reset does.
func (n *Network) ResetHost(host netip.Addr) {
	n.reset(func(l link) bool { return l.from == host || l.to == host })
}

func (n *Network) reset(match func(link) bool) {
	for _, c := range n.liveConns() {
		if match(link{c.local.Addr(), c.remote.Addr()}) {
			c.reset()
		}
	}
}

// restore applies a change after which hosts may reach each other again, then
// wakes the dials that wait for it and sends the bytes that were held.
func (n *Network) restore(change func()) {
	n.mu.Lock()
	change()
	close(n.changed)
	n.changed = make(chan struct{})
	n.mu.Unlock()
	for _, c := range n.liveConns() {
		c.out.deliver()
	}
}

func (n *Network) liveConns() []*conn {
	n.mu.RLock()
	defer n.mu.RUnlock()
	conns := make([]*conn, 0, len(n.conns))
	for _, c := range n.conns {
		conns = append(conns, c)
	}
	return conns
}

// up reports whether what from sends reaches to.
func (n *Network) up(from, to netip.Addr) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.upLocked(from, to)
}

func (n *Network) upLocked(from, to netip.Addr) bool {
	if from == to {
		return true
	}
	return n.hosts[to] != nil && !n.cut[link{from, to}] && !n.detached[from] && !n.detached[to]
}

// reachable returns whether two hosts reach each other and, if not, a channel
// that is closed when that may have changed.
func (n *Network) reachable(a, b netip.Addr) (bool, <-chan struct{}) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.upLocked(a, b) && n.upLocked(b, a), n.changed
}

func (n *Network) host(addr netip.Addr) *Host {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.hosts[addr]
}

func (n *Network) linkQuality(from, to netip.Addr) Quality {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if q, ok := n.quality[link{from, to}]; ok {
		return q
	}
	return n.standard
}

// delay returns how long the next thing sent from one host to another takes.
func (n *Network) delay(from, to netip.Addr) time.Duration {
	return n.jitter(n.linkQuality(from, to))
}

func (n *Network) jitter(q Quality) time.Duration {
	if q.Jitter <= 0 {
		return q.Delay
	}
	n.rngMu.Lock()
	defer n.rngMu.Unlock()
	return q.Delay + time.Duration(n.rng.Int64N(int64(q.Jitter)))
}

func (n *Network) lost(q Quality) bool {
	if q.Drop <= 0 {
		return false
	}
	n.rngMu.Lock()
	defer n.rngMu.Unlock()
	return n.rng.Float64() < q.Drop
}
