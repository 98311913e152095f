package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/rpc"
)

const (
	// lookupTime is how long a lookup may take.
	lookupTime = 2 * time.Second

	// findTime is how long one may take that is to find what is there, whoever else
	// has fallen silent: only a share of lookups asks a second holder before the first
	// has been silent for 3 s, which is when it counts as lost.
	findTime = 5 * time.Second

	// cacheFound and cacheAbsent are by how much a caching client may be behind.
	cacheFound, cacheAbsent = time.Second, 200 * time.Millisecond

	// checkEvery is how often a reader looks whether an answer was to be had.
	checkEvery = 8
)

// A reader is a machine that asks for nodes: by a client of its own, by proxies'
// clients, and by unary calls to one tracker.
type reader struct {
	pool   *Pool
	index  int
	host   *memnet.Host
	client *pool.Client
	rng    *rand.Rand

	mu    sync.Mutex // guards conns
	conns map[netip.Addr]*rpc.Client
}

func (p *Pool) openReader(i int) {
	name := fmt.Sprintf("r-%d", i)
	r := &reader{
		pool: p, index: i, rng: rand.New(rand.NewPCG(p.cfg.Seed, uint64(1000+i))), conns: make(map[netip.Addr]*rpc.Client),
		host: p.place(name, netip.AddrFrom4([4]byte{10, 2, 0, byte(i + 1)})),
	}
	ctx, cancel := context.WithTimeout(p.ctx, openTime)
	defer cancel()
	var err error
	r.client, err = pool.Open(ctx, pool.Config{
		Trackers: p.names(), Pool: poolName, CacheSize: p.cacheSize(i),
		Dial:   func(addr string) (*rpc.Client, error) { return p.dial(r.host, addr) },
		Logger: p.cfg.Logger.With("at", name), Now: newClock(p.began, r.rng).Now,
	})
	if err != nil {
		p.violate("reader %s: %v", name, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers = append(p.readers, r)
}

func (r *reader) name() string { return fmt.Sprintf("r-%d", r.index) }

func (r *reader) close() {
	if err := r.client.Close(); err != nil {
		r.pool.violate("reader %d: close: %v", r.index, err)
	}
	for _, c := range r.conns {
		if err := c.Close(); err != nil {
			r.pool.violate("reader %d: close: %v", r.index, err)
		}
	}
}

// direct returns a connection to one process of a tracker.
func (r *reader) direct(l *trackerLife) *rpc.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.conns[l.addr]
	if c == nil {
		var err error
		if c, err = r.pool.dial(r.host, l.rpcAddr()); err != nil {
			r.pool.violate("reader %d: dial: %v", r.index, err)
			return nil
		}
		r.conns[l.addr] = c
	}
	return c
}

// forget closes the connections to processes that have ended.
func (r *reader) forget() {
	live := r.pool.live()
	r.mu.Lock()
	var over []*rpc.Client
	for at, c := range r.conns {
		if !slices.ContainsFunc(live, func(l *trackerLife) bool { return l.addr == at }) {
			over = append(over, c)
			delete(r.conns, at)
		}
	}
	r.mu.Unlock()
	for _, c := range over {
		if err := c.Close(); err != nil {
			r.pool.violate("reader %d: close: %v", r.index, err)
		}
	}
}

// read asks for nodes until the pool ends.
func (p *Pool) read(i int) {
	r := p.readers[i]
	for n := 1; p.sleep(time.Duration(2+r.rng.IntN(60)) * time.Millisecond); n++ {
		if n%64 == 0 {
			r.forget()
		}
		id := nodeID(r.rng.IntN(p.cfg.Nodes + 1)) // the last is nowhere
		switch way := r.rng.IntN(8); {
		case n%checkEvery == 0:
			r.readChecked(id)
		case way < 3:
			r.readBy(r.client, r.slack(), id)
		case way < 5:
			r.readByProxy(id)
		default:
			r.readUnary(id)
		}
	}
}

func (r *reader) slack() staleness { return slackOf(r.pool.cacheSize(r.index)) }

func slackOf(cacheSize int) staleness {
	if cacheSize < 0 {
		return staleness{}
	}
	return staleness{cacheFound, cacheAbsent}
}

type looker interface {
	Lookup(ctx context.Context, id node.ID) (node.Answer, []node.Claim, error)
}

// readBy looks a node up and judges the answer.
func (r *reader) readBy(by looker, slack staleness, id node.ID) (node.Answer, error) {
	return r.readWithin(lookupTime, by, slack, id)
}

func (r *reader) readWithin(limit time.Duration, by looker, slack staleness, id node.ID) (node.Answer, error) {
	ctx, cancel := context.WithTimeout(r.pool.ctx, limit)
	defer cancel()
	began := time.Now()
	answer, claims, err := by.Lookup(ctx, id)
	r.pool.counts.lookups.Add(1)
	if err != nil {
		return answer, err
	}
	r.pool.counts.answers[answer].Add(1)
	if why := r.pool.truth.judge(id, began, slack, answer, claims); why != "" {
		r.pool.violate("reader %d by %T, asked at %v: %s", r.index, by, r.pool.at(began), why)
	}
	return answer, nil
}

func (r *reader) readByProxy(id node.ID) {
	x := r.pool.proxies[r.rng.IntN(len(r.pool.proxies))]
	p := x.life.Load()
	if p == nil || p.frozen.Load() {
		return
	}
	_, _ = r.readBy(thawed{p}, slackOf(r.pool.cacheSize(x.index)), id) // of an error nothing follows
}

// thawed is a proxy's client whose answer counts for nothing where the proxy was
// frozen meanwhile.
type thawed struct{ *proxyProcess }

func (t thawed) Lookup(ctx context.Context, id node.ID) (node.Answer, []node.Claim, error) {
	answer, claims, err := t.client.Lookup(ctx, id)
	if t.frozen.Load() {
		return node.Unknown, nil, err
	}
	return answer, claims, err
}

func (r *reader) readUnary(id node.ID) {
	live := r.pool.live()
	if len(live) == 0 {
		return
	}
	if c := r.direct(live[r.rng.IntN(len(live))]); c != nil {
		_, _ = r.readBy(c, staleness{}, id) // of an error nothing follows
	}
}

// readChecked looks a node up by the reader's own client. Where that finds nothing,
// although a holder that the client knows the address of had a claim before and has
// it afterwards, and could be reached all the while, the client is at fault, whatever
// befell other holders. (An answer ABSENT is judged by the truth.)
func (r *reader) readChecked(id node.ID) {
	began := time.Now()
	placement := r.client.Placement()
	before := r.finders(id)
	answer, err := r.readWithin(findTime, r.client, r.slack(), id)
	if answer != node.Unknown && err == nil || len(before) == 0 || r.pool.ctx.Err() != nil {
		return
	}
	after := r.finders(id)
	list := placement.List(placement.ShardOf(string(id)))
	for _, holder := range list {
		m, _ := placement.View().Member(holder)
		if !r.pool.steady(r.name(), string(holder)) {
			continue
		}
		if before[m.Addr] && after[m.Addr] && r.pool.truth.steady(id, began) {
			r.pool.violate("reader %d: %v (%v) for %s, but holder %s had it before and afterwards", r.index, answer, err, id, m.ID)
			return
		}
	}
}

// finders are the addresses of trackers that say FOUND when they are asked.
func (r *reader) finders(id node.ID) map[string]bool {
	key, err := node.ParseID(id)
	if err != nil {
		r.pool.violate("parse %q: %v", id, err)
		return nil
	}
	var mu sync.Mutex
	found := make(map[string]bool)
	var wg sync.WaitGroup
	for _, l := range r.pool.live() {
		c := r.direct(l)
		if c == nil {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(r.pool.ctx, 500*time.Millisecond)
			defer cancel()
			got, err := c.Find(ctx, key, 0)
			if err == nil && got.Answer == node.Found {
				mu.Lock()
				defer mu.Unlock()
				found[l.rpcAddr()] = true
			}
		})
	}
	wg.Wait()
	return found
}
