package membership

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/trackerpool/trackerpool/ring"
)

const (
	// joinTimeout bounds the first tries of all addresses to join.
	joinTimeout = 2 * time.Second

	// streamTimeout bounds a dial, and then an exchange, with one member.
	streamTimeout = 2 * time.Second

	// bootTries is how often a boot is taken that turns out to be known.
	bootTries = 3

	// joinsAtOnce is how many addresses are tried at a time.
	joinsAtOnce = 8

	// maxJoin is how many addresses are tried at first. One that answers tells of
	// all others.
	maxJoin = 256
)

// Join starts to gossip as self, and tries all addresses to join once, for about
// 2 s in all; ctx bounds that too, not what comes after. It is no error if none
// answers: they are tried for ever, and [Gossip.Joined] tells. If some
// refuse and none takes us, errors.As finds a *[MismatchError] in the error; the
// tracker must be given the pool's parameters.
//
// Where others know a boot of self's ID that is as high as self.Boot, a higher
// one is taken: see [Gossip.Self].
func Join(ctx context.Context, self ring.Member, cfg Config) (*Gossip, error) {
	cfg = cfg.withDefaults()
	if err := errors.Join(validateSelf(self), cfg.Validate()); err != nil {
		return nil, err
	}
	keys, err := readKeys(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	t, err := listen(ctx, cfg, keys)
	if err != nil {
		return nil, err
	}
	for range bootTries {
		g, err := start(self, cfg, t)
		if err != nil {
			t.last.Store(true)
			return nil, errors.Join(err, t.Shutdown())
		}
		if err := g.joinAll(ctx); err != nil {
			return nil, errors.Join(err, g.Close())
		}
		known := g.KnownBoot()
		if known < self.Boot {
			g.publish()
			g.wg.Go(g.run)
			g.wg.Go(g.rejoin)
			if t.society != nil {
				g.wg.Go(func() { g.seekStrangers(g.ctx) })
			}
			return g, nil
		}
		g.giveUp()
		g.log.Info("this boot is taken, so a higher one is", "boot", self.Boot, "known", known)
		self.Boot = NewBoot(time.Now(), known)
	}
	t.last.Store(true)
	return nil, errors.Join(fmt.Errorf("boots of %q: %d of ours were known already: is another process running under this ID?", self.ID, bootTries), t.Shutdown())
}

// start starts memberlist, and joins nobody.
func start(self ring.Member, cfg Config, t *transport) (*Gossip, error) {
	m := meta{Member: self, shards: cfg.Shards, term: cfg.Term, seats: newSeats(cfg.Seats)}
	encoded, err := m.encode()
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		cfg: cfg, log: cfg.Logger, transport: t,
		views:    make(chan ring.View, 1),
		bell:     make(chan struct{}, 1),
		announce: make(chan struct{}, 1),
		done:     make(chan struct{}),
		table:    newTable(entry{meta: m, addr: t.advertise}),
		encoded:  encoded,
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if t.society != nil {
		t.society.present(m.name(), g)
	}
	mc := gossipConfig(m.name(), cfg, t)
	mc.Delegate, mc.Events, mc.Alive, mc.Merge = delegate{g}, delegate{g}, delegate{g}, delegate{g}
	if g.list, err = memberlist.Create(mc); err != nil {
		g.cancel()
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	return g, nil
}

// gossipConfig has the settings that were measured to see a silent crash in 3 to
// 5 s, without a false alarm at 10% loss.
func gossipConfig(name string, cfg Config, t *transport) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = name
	c.Label = cfg.Pool
	c.Transport = t
	c.BindPort = int(t.bound.Port())
	c.ProbeInterval = 500 * time.Millisecond
	c.ProbeTimeout = 200 * time.Millisecond
	c.SuspicionMult = 4
	c.GossipInterval = 100 * time.Millisecond
	c.PushPullInterval = 15 * time.Second
	c.TCPTimeout = streamTimeout
	// The transport refuses what is compressed: a small packet may grow without end.
	c.EnableCompression = false
	c.UDPBufferSize -= sealOverhead + pairOverhead
	c.Logger = log.New(&logWriter{log: cfg.Logger, open: t.open, warned: make(seldom)}, "", 0)
	return c
}

// KnownBoot is the highest boot of this tracker's ID that others knew of before
// this one, or 0: then they have not seen an earlier life of it.
func (g *Gossip) KnownBoot() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.knownBoot
}

// joinAll tries all addresses once. It returns a *MismatchError if some refused
// and none took us.
func (g *Gossip) joinAll(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	addrs, errs := g.joinAddrs(bounded)
	results := make(chan error, len(addrs)) // what comes too late has room
	slots := make(chan struct{}, joinsAtOnce)
	g.wg.Go(func() {
		for _, addr := range addrs {
			select {
			case slots <- struct{}{}:
			case <-bounded.Done():
				return
			case <-g.ctx.Done():
				return
			}
			g.wg.Go(func() {
				results <- g.tryJoin(addr)
				<-slots
			})
		}
	})
	var refused *MismatchError
	for range addrs {
		var err error
		select {
		case err = <-results:
		case <-bounded.Done():
			err = fmt.Errorf("after %v: %w", joinTimeout, bounded.Err())
		}
		var mismatch *MismatchError
		if errors.As(err, &mismatch) {
			refused = mismatch
		}
		errs = append(errs, err)
		if bounded.Err() != nil {
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case g.Joined():
		return nil
	case refused != nil:
		return refused
	}
	if err := errors.Join(errs...); err != nil {
		g.log.Warn("no address to join has answered: is the pool's name the same, and the key?",
			"pool", g.cfg.Pool, "join", g.cfg.Join, "err", err)
	}
	return nil
}

// joinAddrs returns the addresses of all that is to be joined, but our own, and
// the errors of names that could not be looked up.
func (g *Gossip) joinAddrs(ctx context.Context) ([]netip.AddrPort, []error) {
	type answer struct {
		addrs []netip.AddrPort
		err   error
	}
	answers := make(chan answer, len(g.cfg.Join))
	for _, target := range g.cfg.Join {
		g.wg.Go(func() {
			addrs, err := g.resolve(ctx, target)
			answers <- answer{addrs, err}
		})
	}
	var addrs []netip.AddrPort
	var errs []error
	for range g.cfg.Join {
		select {
		case a := <-answers:
			errs = append(errs, a.err)
			for _, addr := range a.addrs {
				if addr != g.transport.advertise && addr != g.transport.bound && !slices.Contains(addrs, addr) {
					addrs = append(addrs, addr)
				}
			}
		case <-ctx.Done():
			return addrs, append(errs, fmt.Errorf("look up the addresses to join: %w", ctx.Err()))
		}
	}
	return addrs[:min(len(addrs), maxJoin)], errs
}

func (g *Gossip) resolve(ctx context.Context, target string) ([]netip.AddrPort, error) {
	host, port, err := splitHostPort(target, g.transport.bound.Port())
	if err != nil {
		return nil, err
	}
	ips, err := g.cfg.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		addrs = append(addrs, netip.AddrPortFrom(ip, port))
	}
	return addrs, nil
}

// tryJoin exchanges all state with the member at the address.
func (g *Gossip) tryJoin(addr netip.AddrPort) error {
	_, err := g.list.Join([]string{addr.String()})
	if err == nil {
		return nil
	}
	g.mu.Lock()
	mismatch := g.refusals.in(err)
	g.mu.Unlock()
	if mismatch != nil {
		return fmt.Errorf("join %v: %w", addr, mismatch)
	}
	return fmt.Errorf("join %v: %w", addr, err)
}

// giveUp ends this boot's gossip, before anyone was given the Gossip, and leaves
// the transport to the next.
func (g *Gossip) giveUp() {
	// Others may have heard of this boot: let them forget it soon. If they do
	// not hear that, they will see it crash. (Shutdown has no error but the
	// transport's, which stays open.)
	_ = g.list.Leave(leaveTimeout / 4)
	g.cancel()
	_ = g.list.Shutdown()
	g.wg.Wait()
}
