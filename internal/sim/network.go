package sim

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
)

// A link is one direction between two machines, by their names: what is wrong with
// it stays so when a machine comes back under another address.
type link struct{ from, to string }

// recovery is how long a client may take to use a link again that was cut, or whose
// other end was frozen: an attempt to connect that was under way is given up after 3 s,
// the next one comes within a second, and a tracker counts as healthy when it has
// answered a ping. So a holder "can be reached" (invariant 3) that much later.
const recovery = 5 * time.Second

// quality is how the network carries, besides what memnet does.
type quality struct {
	memnet.Quality
	twice float64 // probability that a packet is sent twice
}

// calm is the network with nothing wrong.
func (p *Pool) calm() quality {
	return quality{Quality: memnet.Quality{Delay: p.cfg.Delay, Jitter: p.cfg.Delay}}
}

// place puts a machine at an address, with what is wrong with its links.
func (p *Pool) place(name string, at netip.Addr) *memnet.Host {
	h := p.net.Host(at)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.machines[name] = append(p.machines[name], at)
	for l := range p.cuts {
		if l.from == name || l.to == name {
			p.cutLocked(l)
		}
	}
	if len(p.slow) > 0 {
		p.slowLocked()
	}
	return h
}

func (p *Pool) cutLocked(l link) {
	for _, from := range p.machines[l.from] {
		for _, to := range p.machines[l.to] {
			p.net.CutOneWay(from, to)
		}
	}
}

// cut makes a black hole of one direction between two machines.
func (p *Pool) cut(from, to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[link{from, to}] = true
	p.cutLocked(link{from, to})
	p.changedLocked(from, to)
}

// heal undoes cut in both directions.
func (p *Pool) heal(a, b string) {
	p.mu.Lock()
	delete(p.cuts, link{a, b})
	delete(p.cuts, link{b, a})
	p.changedLocked(a, b)
	as, bs := slices.Clone(p.machines[a]), slices.Clone(p.machines[b])
	p.mu.Unlock()
	for _, from := range as {
		for _, to := range bs {
			p.net.Heal(from, to)
		}
	}
}

// healAll undoes all that is wrong with the network, but for machines that are off.
func (p *Pool) healAll() {
	p.mu.Lock()
	for l := range p.cuts {
		p.changedLocked(l.from, l.to)
	}
	clear(p.cuts)
	clear(p.slow)
	p.slowLocked()
	p.mu.Unlock()
	p.net.HealAll()
	p.setQuality(p.calm())
}

// changedLocked notes that two machines reach each other or not from now on.
func (p *Pool) changedLocked(a, b string) {
	p.changed[link{a, b}], p.changed[link{b, a}] = time.Now(), time.Now()
}

// steady reports whether the link between two machines has long been as it is.
func (p *Pool) steady(a, b string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.changed[link{a, b}]
	for _, name := range []string{a, b} {
		if at := p.changed[link{name, ""}]; at.After(last) {
			last = at
		}
	}
	return time.Since(last) > recovery
}

// blink notes that a machine was frozen, or is not any more.
func (p *Pool) blink(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed[link{name, ""}] = time.Now()
}

// freeze takes a machine off the network and stops its clock for a while.
func (p *Pool) freeze(name string, at netip.Addr, c *clock, frozen *atomic.Bool, d time.Duration) {
	frozen.Store(true)
	p.net.Detach(at)
	c.freeze()
	p.blink(name)
	p.sleep(d)
	c.thaw()
	p.blink(name)
	p.net.Attach(at)
	frozen.Store(false)
}

// reset breaks all connections between two machines.
func (p *Pool) reset(a, b string) {
	p.mu.Lock()
	as, bs := slices.Clone(p.machines[a]), slices.Clone(p.machines[b])
	p.mu.Unlock()
	for _, from := range as {
		for _, to := range bs {
			p.net.Reset(from, to)
		}
	}
}

// slowDown delays all that a machine sends and gets, each way; 0 ends that.
func (p *Pool) slowDown(name string, late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slow[name] = late; late == 0 {
		delete(p.slow, name)
	}
	p.slowLocked()
}

// slowLocked has each link be as slow as the slower of its ends.
func (p *Pool) slowLocked() {
	for a, from := range p.machines {
		for b, to := range p.machines {
			if late := max(p.slow[a], p.slow[b]); a != b {
				p.delayLocked(from, to, late)
			}
		}
	}
}

func (p *Pool) delayLocked(from, to []netip.Addr, late time.Duration) {
	q := p.calm().Quality
	q.Delay += late
	for _, a := range from {
		for _, b := range to {
			if late > 0 {
				p.net.SetLink(a, b, q)
			} else {
				p.net.UnsetLink(a, b)
			}
		}
	}
}

func (p *Pool) setQuality(q quality) {
	p.net.SetQuality(q.Quality)
	p.twice.Store(uint64(q.twice * 1e6))
}

// sockets is a machine's network as its gossip sees it: packets may come twice.
type sockets struct {
	*memnet.Host
	pool *Pool
}

func (s sockets) ListenPacket(port uint16) (net.PacketConn, error) {
	c, err := s.Host.ListenPacket(port)
	if err != nil {
		return nil, err
	}
	return &stuttering{c, s.pool}, nil
}

// stuttering sends some packets twice. Jitter then lets others come between.
type stuttering struct {
	net.PacketConn
	pool *Pool
}

func (c *stuttering) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.pool.chance(float64(c.pool.twice.Load()) / 1e6) {
		c.pool.counts.doubled.Add(1)
		if _, err := c.PacketConn.WriteTo(b, to); err != nil {
			return 0, err
		}
	}
	return c.PacketConn.WriteTo(b, to)
}
