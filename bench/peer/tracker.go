package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/bench/load"
	"github.com/trackerpool/trackerpool/internal/freeport"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// A tracker is a pool of one, with one copy of each claim, over mutual TLS.
type tracker struct {
	server
	admin, gossip int
	certs         *keyring
	keys          []node.Key // of ids
	unary         bool
	proxies       []*pool.Client // after Load
}

// NewTracker returns the tracker, spoken to in sessions and streams of lookups.
func NewTracker(dir string, ids []string) (Peer, error) { return newTracker(dir, ids, false) }

// NewUnaryTracker returns the tracker, spoken to by unary calls.
func NewUnaryTracker(dir string, ids []string) (Peer, error) {
	t, err := newTracker(dir, ids, true)
	return unaryTracker{t}, err
}

func newTracker(dir string, ids []string, unary bool) (*tracker, error) {
	t := &tracker{server: server{ids: ids, dir: dir}, unary: unary}
	var err error
	if t.certs, err = makeKeys(dir); err != nil {
		return nil, err
	}
	t.keys = make([]node.Key, len(ids))
	for i, id := range ids {
		if t.keys[i], err = node.ParseID(node.ID(id)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *tracker) Name() string { return "trackerpool" }

func (t *tracker) Modes() Modes {
	return Modes{Add: "Batch in a session", Lookup: "Find stream", Keep: "ten sessions of pool.Client"}
}

func (t *tracker) Version(ctx context.Context) string {
	return firstLine(ctx, "tracker", "version") + "; one tracker, R=1, mutual TLS"
}

func (t *tracker) Start(ctx context.Context) error {
	path, err := exec.LookPath("tracker")
	if err != nil {
		return fmt.Errorf("tracker: %w", ErrMissing)
	}
	if t.port == 0 { // later lives have the same addresses: proxies know them
		ports, err := freeport.Ports(3)
		if err != nil {
			return err
		}
		t.port, t.gossip, t.admin = ports[0], ports[1], ports[2]
	}
	t.proc, err = start(t.dir, path, "--id", trackerID, "--pool", "bench", "--seats", trackerID, "--new-pool", "--replicas", "1",
		"--listen-addr", loopback(t.port), "--gossip-addr", loopback(t.gossip), "--admin-addr", loopback(t.admin),
		"--https-keypairs", t.certs.server.CertFile+","+t.certs.server.KeyFile, "--ca-file", t.certs.authority.CAFile(), "--client-ca-file", t.certs.authority.CAFile(),
		"--pprof", "--log-level", "warn", "--proxy-keep-alive-interval", "1h")
	if err != nil {
		return err
	}
	return t.proc.ready(ctx, func() error {
		_, err := get(ctx, "http://"+loopback(t.admin)+"/readyz")
		return err
	})
}

// Stop ends the proxies first.
func (t *tracker) Stop() {
	t.server.Stop()
	var wg sync.WaitGroup
	for _, p := range t.proxies {
		if p != nil {
			wg.Go(func() { _ = p.Close() }) // its tracker is gone
		}
	}
	wg.Wait()
	t.proxies = nil
}

// Load adds the nodes by one pool.Client for each proxy, which stays.
func (t *tracker) Load(ctx context.Context) error {
	return t.loadBy(ctx, load.Proxies, func(i int) string { return proxyName(uint32(i)) })
}

// LoadBy is Crowded's.
func (t *tracker) LoadBy(ctx context.Context, proxies int) error {
	return t.loadBy(ctx, proxies, func(i int) string { return fmt.Sprintf("crowd-%04d", i) })
}

// opening is how many proxies are being opened at a time.
const opening = 8

func (t *tracker) loadBy(ctx context.Context, proxies int, name func(int) string) error {
	var group errgroup.Group
	group.SetLimit(opening)
	t.proxies = make([]*pool.Client, proxies)
	for i := range proxies {
		creds, err := t.certs.client(access.Proxy, name(i))
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		group.Go(func() error {
			p, err := pool.Open(ctx, pool.Config{
				Trackers:  []string{loopback(t.port)},
				Proxy:     node.Proxy{ID: node.ProxyID(name(i)), Addr: proxyAddr},
				Dial:      func(addr string) (*rpc.Client, error) { return rpc.Dial(addr, creds) },
				CountWait: time.Minute,
				Logger:    slog.New(slog.DiscardHandler),
			})
			t.proxies[i] = p // nil where there is an error
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return t.each(func(i int, p *pool.Client) error {
		claims := make([]node.Claim, 0, len(t.ids)/proxies+1)
		for n := i; n < len(t.ids); n += proxies {
			claims = append(claims, node.Claim{Node: node.ID(t.ids[n])})
		}
		return p.Add(ctx, claims...)
	})
}

// each calls do with all proxies at the same time.
func (t *tracker) each(do func(i int, p *pool.Client) error) error {
	failed := make(chan error, len(t.proxies))
	for i, p := range t.proxies {
		go func() { failed <- do(i, p) }()
	}
	var first error
	for range t.proxies {
		if err := <-failed; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Renew has nothing to do: the proxies do it.
func (t *tracker) Renew(context.Context) error { return nil }

// Return is Returner's. All is there when every claim is counted.
func (t *tracker) Return(ctx context.Context) (took, cpu time.Duration, err error) {
	t.server.Stop()
	for _, p := range t.proxies {
		for p.Stats().Sessions > 0 { // else Settled would speak of the former life
			if err := ctx.Err(); err != nil {
				return 0, 0, err
			}
			time.Sleep(time.Millisecond)
		}
	}
	if err := t.Start(ctx); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	before, err := t.proc.CPU()
	if err != nil {
		return 0, 0, err
	}
	if err := t.each(func(_ int, p *pool.Client) error { return p.Settled(ctx) }); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	after, err := t.proc.CPU()
	return took, after - before, err
}

func (t *tracker) metric(ctx context.Context, name string) (int64, error) {
	text, err := get(ctx, "http://"+loopback(t.admin)+"/metrics")
	if err != nil {
		return 0, err
	}
	return figure(text, name)
}

func (t *tracker) Count(ctx context.Context) (int, error) {
	kind := "session"
	if t.unary {
		kind = "unary"
	}
	n, err := t.metric(ctx, `tracker_claims{kind="`+kind+`"}`)
	return int(n), err
}

func (t *tracker) Live(ctx context.Context) (int64, error) { return goHeap(ctx, loopback(t.admin)) }

// Callers is a pool.Client without a proxy and without a cache.
func (t *tracker) Callers(ctx context.Context) ([]*Shared, error) {
	creds, err := t.certs.client(access.Reader, "reader")
	if err != nil {
		return nil, err
	}
	var writes atomic.Int64
	p, err := pool.Open(ctx, pool.Config{
		Trackers:  []string{loopback(t.port)},
		CacheSize: -1,
		Logger:    slog.New(slog.DiscardHandler),
		Dial: func(addr string) (*rpc.Client, error) {
			return rpc.Dial(addr, creds, rpc.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
				return countedConn{conn, &writes}, err
			}))
		},
	})
	if err != nil {
		return nil, err
	}
	return []*Shared{{
		Mode: "pool.Client, no cache",
		Lookup: func(i uint32) error {
			answer, claims, err := p.Lookup(context.Background(), node.ID(t.ids[i]))
			if err == nil && (answer != node.Found || len(claims) != 1 || string(claims[0].Proxy.ID) != proxyName(i)) {
				err = fmt.Errorf("node %s is %v at %v, not at %s", t.ids[i], answer, claims, proxyName(i))
			}
			return err
		},
		Writes: writes.Load,
		Close:  func() { _ = p.Close() }, // nothing is under way
	}}, nil
}

func (t *tracker) Dial(ctx context.Context, i int, use Use) (Conn, error) {
	creds, err := t.certs.client(access.Proxy, proxyName(uint32(i)))
	if err != nil {
		return nil, err
	}
	if t.unary {
		c, err := dialUnary(ctx, loopback(t.port), creds, t.ids, "")
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	client, err := rpc.Dial(loopback(t.port), creds)
	if err != nil {
		return nil, err
	}
	info, err := client.View(ctx, 0)
	if err != nil {
		return nil, err
	}
	placement, err := ring.Place(info.View, info.Params)
	if err != nil {
		return nil, err
	}
	c := &trackerConn{tracker: t, client: client, view: placement.Fingerprint()}
	if use == ToAdd {
		err = c.hello(node.ProxyID(proxyName(uint32(i))))
	} else {
		c.find, err = client.FindStream(context.Background())
	}
	return c, err
}

// An unaryTracker has no client of its own.
type unaryTracker struct{ *tracker }

func (unaryTracker) Modes() Modes {
	return Modes{Add: "unary AddNode", Lookup: "unary GetProxies"}
}
