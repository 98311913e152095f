package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// A proxy is one of the fleet, over all its lives. It is safe for concurrent use.
type proxy struct {
	self  node.Proxy
	turns atomic.Uint32 // how often it went down or came back with all its nodes: odd while down
	moves atomic.Int32  // under way that begin or end here
	alive atomic.Pointer[life]
}

// A life is one process's worth of a proxy, or a reader.
type life struct {
	client *pool.Client
	cable  *cable
	killed atomic.Bool // errors that it sees are nobody's
}

// up reports whether the proxy's nodes are all registered.
func (p *proxy) up() bool { return p.turns.Load()%2 == 0 }

// A fleet is the clients of a run. It is safe for concurrent use.
type fleet struct {
	cfg     Config
	addrs   []string
	route   func(addr string) string // where to dial what a tracker advertises
	proxies []*proxy
	readers []*life // none: the proxies read themselves
	closing sync.WaitGroup
}

// openFleet opens all clients at the trackers of the given addresses.
func openFleet(ctx context.Context, cfg Config, addrs []string, route func(string) string) (*fleet, error) {
	f := &fleet{cfg: cfg, addrs: addrs, route: route, proxies: make([]*proxy, cfg.Proxies), readers: make([]*life, cfg.Connections)}
	var g errgroup.Group
	g.SetLimit(8)
	for i := range f.proxies {
		p := &proxy{self: proxySelf(i)}
		f.proxies[i] = p
		g.Go(func() error {
			l, err := f.open(ctx, p.self)
			p.alive.Store(l)
			return err
		})
	}
	for i := range f.readers {
		g.Go(func() (err error) {
			f.readers[i], err = f.open(ctx, node.Proxy{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// proxySelf returns what readers are told of a proxy. Nobody dials it: the addresses
// are of a network for examples.
func proxySelf(i int) node.Proxy {
	addr := net.JoinHostPort(fmt.Sprintf("198.18.%d.%d", i/256, i%256), "3024")
	return node.Proxy{ID: node.ProxyID("proxy-" + strconv.Itoa(i)), Addr: addr, Cluster: "loadtest"}
}

func (f *fleet) open(ctx context.Context, self node.Proxy) (*life, error) {
	l := &life{cable: &cable{}}
	client, err := pool.Open(ctx, pool.Config{
		Trackers:  f.addrs,
		Proxy:     self,
		CountWait: f.cfg.CountWait,
		CacheSize: -1, // a lookup that the cache answers says nothing about the trackers
		Logger:    f.cfg.Logger.With("proxy", self.ID),
		Dial: func(addr string) (*rpc.Client, error) {
			return rpc.Dial(addr, rpc.Insecure(), rpc.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				return l.cable.dial(ctx, f.route(addr))
			}))
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open a client of proxy %q: %w", self.ID, err)
	}
	l.client = client
	return l, nil
}

// index returns which proxy a claim names, or -1 where it is none of the fleet, or
// its address is not that proxy's.
func (f *fleet) index(p node.Proxy) int {
	digits, ok := strings.CutPrefix(string(p.ID), "proxy-")
	i, err := strconv.Atoi(digits)
	if !ok || err != nil || i < 0 || i >= len(f.proxies) || f.proxies[i].self != p {
		return -1
	}
	return i
}

// indices appends which proxies claims name.
func (f *fleet) indices(to []int, claims []node.Claim) []int {
	for _, c := range claims {
		to = append(to, f.index(c.Proxy))
	}
	return to
}

// reader returns a client that looks up a node of proxy home: one of the readers, or
// another proxy. Equal choices mean the same client, but for home.
func (f *fleet) reader(home int, choice uint64) *life {
	if len(f.readers) > 0 {
		return f.readers[choice%uint64(len(f.readers))]
	}
	p := int(choice % uint64(len(f.proxies)))
	if p == home {
		p = (p + 1) % len(f.proxies)
	}
	return f.proxies[p].alive.Load()
}

// nowhere is the home of a node that does not exist.
const nowhere = -1

// lives returns all clients.
func (f *fleet) lives() []*life {
	all := make([]*life, 0, len(f.proxies)+len(f.readers))
	for _, p := range f.proxies {
		if l := p.alive.Load(); l != nil {
			all = append(all, l)
		}
	}
	for _, l := range f.readers {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}

// settled returns when the claims of every proxy are at all their holders and
// counted there.
func (f *fleet) settled(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range f.proxies {
		g.Go(func() error {
			if err := p.alive.Load().client.Settled(ctx); err != nil {
				return fmt.Errorf("wait until the claims of proxy %s are filled and counted: %w", p.self.ID, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// seen reports whether every client's view satisfies a condition.
func (f *fleet) seen(condition func(ring.View) bool) bool {
	for _, l := range f.lives() {
		if !condition(l.client.View()) {
			return false
		}
	}
	return true
}

// kill ends a proxy's life without a goodbye and begins the next under its ID. The
// caller sees to it that the proxy is down.
func (f *fleet) kill(ctx context.Context, p *proxy) error {
	old := p.alive.Load()
	old.killed.Store(true)
	old.cable.cut()
	// Close finds no connection to say goodbye on; it only ends goroutines.
	f.closing.Go(func() { _ = old.client.Close() })
	l, err := f.open(ctx, p.self)
	if err != nil {
		return err
	}
	p.alive.Store(l)
	return nil
}

// close closes all clients, with a goodbye.
func (f *fleet) close() error {
	var g errgroup.Group
	for _, l := range f.lives() {
		g.Go(l.client.Close)
	}
	err := g.Wait()
	f.closing.Wait()
	return err
}
