package membership

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"
)

// rejoin tries to join one address of what is missing at a time, for ever:
// memberlist itself soon forgets those it lost, and a split would last.
func (g *Gossip) rejoin() {
	interval := g.cfg.RejoinInterval / 20
	for {
		if g.Joined() || len(g.cfg.Join) == 0 {
			interval = g.cfg.RejoinInterval
		}
		timer := time.NewTimer(interval/2 + rand.N(interval+1))
		select {
		case <-timer.C:
		case <-g.ctx.Done():
			timer.Stop()
			return
		}
		interval = min(2*interval, g.cfg.RejoinInterval)
		addr, ok := g.missing()
		if !ok {
			continue
		}
		if err := g.tryJoin(addr); err != nil {
			g.log.Debug("a missing member was not reached", "addr", addr, "err", err)
		}
	}
}

// missing returns one address, at random, of a member that was lost or of what
// is to be joined, at which no live member is.
func (g *Gossip) missing() (netip.AddrPort, bool) {
	g.mu.Lock()
	var lost []netip.AddrPort
	for _, l := range g.table.lost {
		lost = append(lost, l.addr)
	}
	g.mu.Unlock()

	ctx, cancel := context.WithTimeout(g.ctx, joinTimeout)
	defer cancel()
	fromLost := func() (netip.AddrPort, bool) { return g.absent(lost) }
	fromJoin := func() (netip.AddrPort, bool) {
		for _, i := range rand.Perm(len(g.cfg.Join)) {
			addrs, err := g.resolve(ctx, g.cfg.Join[i])
			if err != nil {
				g.log.Debug("an address to join was not looked up", "join", g.cfg.Join[i], "err", err)
			}
			if addr, ok := g.absent(addrs); ok {
				return addr, true
			}
		}
		return netip.AddrPort{}, false
	}
	// Neither class may starve the other: each leads half of the time.
	first, second := fromLost, fromJoin
	if rand.N(2) == 0 {
		first, second = second, first
	}
	if addr, ok := first(); ok {
		return addr, true
	}
	return second()
}

// absent returns one of the addresses, at random, at which no live member is.
func (g *Gossip) absent(addrs []netip.AddrPort) (netip.AddrPort, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var absent []netip.AddrPort
	for _, addr := range addrs {
		if !g.table.has(addr) && addr != g.transport.bound {
			absent = append(absent, addr)
		}
	}
	if len(absent) == 0 {
		return netip.AddrPort{}, false
	}
	return absent[rand.N(len(absent))], true
}
