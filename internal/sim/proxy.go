package sim

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/rpc"
)

// openTime is how long a proxy that starts tries to reach the pool.
const openTime = 20 * time.Second

// A proxy is one under its ID, over all its lives.
type proxy struct {
	pool  *Pool
	index int
	id    string
	clock *clock
	lives int
	turn  chan struct{}                // size 1: has a value while an operation is under way
	life  atomic.Pointer[proxyProcess] // the latest; nil while there is none
}

// A proxyProcess is one life of a proxy.
type proxyProcess struct {
	*life
	at      netip.Addr
	client  *pool.Client
	frozen  atomic.Bool
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (x *proxy) begin() { x.turn <- struct{}{} }
func (x *proxy) done()  { <-x.turn }

// open starts a process. With rival the one before goes on.
func (x *proxy) open(rival bool) {
	x.begin()
	defer x.done()
	if before := x.life.Load(); before != nil {
		if !rival {
			return
		}
		x.pool.mu.Lock()
		x.pool.rivals = append(x.pool.rivals, before)
		x.pool.mu.Unlock()
	}
	l, host := x.born()
	ctx, cancel := context.WithTimeout(x.pool.ctx, openTime)
	defer cancel()
	client, err := pool.Open(ctx, pool.Config{
		Trackers: x.pool.names(), Pool: poolName, Proxy: node.Proxy{ID: node.ProxyID(x.id), Addr: l.addr, Zone: x.pool.zone(x.index)},
		Dial:      func(addr string) (*rpc.Client, error) { return x.pool.dial(host, addr) },
		CacheSize: x.pool.cacheSize(x.index), Now: x.clock.Now,
		Logger: x.pool.cfg.Logger.With("at", l.name),
	})
	if err != nil {
		x.pool.note("%s did not open: %v", l.name, err)
		x.pool.truth.died(l)
		return
	}
	p := &proxyProcess{life: l, at: host.Addr(), client: client}
	ctx, p.cancel = context.WithCancel(x.pool.ctx)
	x.life.Store(p)
	p.running.Go(func() { p.watch(ctx) })
	p.running.Go(func() { p.keepCounting(ctx) })
}

// born makes a new life, on a machine of its own.
func (x *proxy) born() (*life, *memnet.Host) {
	x.lives++
	at := netip.AddrFrom4([4]byte{10, 1, byte(x.lives), byte(x.index + 1)})
	host := x.pool.place(x.id, at)
	l := &life{proxy: x, name: fmt.Sprintf("%s#%d", x.id, x.lives), addr: netip.AddrPortFrom(at, 443).String()}
	x.pool.truth.born(l)
	return l, host
}

// watch notes when the pool ends the process.
func (p *proxyProcess) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-p.client.Done():
	}
	if err := p.client.Err(); !errors.Is(err, node.ErrClosed) {
		p.pool.note("%s stops: %v", p.name, err)
		p.pool.counts.superseded.Add(1)
	}
	p.pool.truth.died(p.life)
}

// keepCounting notes when claims count that did not when they were made.
func (p *proxyProcess) keepCounting(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.pool.truth.uncounted(p.life) == 0 {
			continue
		}
		before := time.Now()
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		if p.client.Settled(ctx) == nil {
			p.pool.truth.settled(p.life, before)
		}
		cancel()
	}
}

// crash ends the process without a goodbye. Where its machine goes down with it
// trackers are not told.
func (x *proxy) crash(machine bool) {
	x.begin()
	defer x.done()
	p := x.life.Swap(nil)
	if p == nil {
		return
	}
	x.pool.net.Detach(p.at)
	x.pool.truth.died(p.life)
	if !machine {
		x.pool.net.ResetHost(p.at)
	}
	p.end()
}

func (p *proxyProcess) end() {
	p.cancel()
	if err := p.client.Close(); err != nil {
		p.pool.violate("%s: close: %v", p.name, err)
	}
	p.running.Wait()
	p.clock.thaw()
}

// close ends the process with a goodbye.
func (x *proxy) close() {
	x.begin()
	defer x.done()
	if p := x.life.Swap(nil); p != nil {
		x.pool.truth.died(p.life)
		p.end()
	}
}

// freeze lets the process see nothing for a while.
func (x *proxy) freeze(d time.Duration) {
	x.begin()
	defer x.done()
	p := x.life.Load()
	if p == nil {
		return
	}
	x.pool.freeze(x.id, p.at, x.clock, &p.frozen, d)
}

// ahead leaves a trace of a life whose clock was fast, by saying hello with an
// incarnation from the future: to the next life it is as if the clock had been
// set back.
func (x *proxy) ahead(by time.Duration) {
	x.begin()
	defer x.done()
	l, host := x.born()
	defer x.pool.truth.died(l)
	live := x.pool.live()
	if len(live) == 0 {
		return
	}
	c, err := x.pool.dial(host, live[x.pool.intN(len(live))].rpcAddr())
	if err != nil {
		x.pool.violate("%s: dial: %v", l.name, err)
		return
	}
	ctx, cancel := context.WithTimeout(x.pool.ctx, 4*time.Second)
	defer cancel()
	if s, err := c.Session(ctx); err == nil {
		err = s.Send(&node.ProxyFrame{Hello: &node.Hello{
			Pool: poolName, Proxy: node.Proxy{ID: node.ProxyID(x.id), Addr: l.addr}, HasClaims: true,
			Incarnation: lease.Incarnation{Number: uint64(time.Now().Add(by).UnixMilli()), Random: 1 + uint64(x.pool.intN(1<<30))},
		}})
		if err == nil {
			_, err = s.Recv()
		}
		x.pool.note("%s said hello from the future: %v", l.name, err)
	}
	if err := c.Close(); err != nil {
		x.pool.violate("%s: close: %v", l.name, err)
	}
}

// forget has the pool remove the proxy, as an operator does.
func (x *proxy) forget() {
	x.begin()
	defer x.done()
	if p := x.life.Load(); p != nil {
		x.pool.truth.released(p.life)
	}
	live := x.pool.live()
	if len(live) == 0 || len(x.pool.readers) == 0 {
		return
	}
	c := x.pool.readers[0].direct(live[x.pool.intN(len(live))])
	ctx, cancel := context.WithTimeout(x.pool.ctx, 4*time.Second)
	defer cancel()
	x.pool.note("%s is removed: %v", x.id, c.RemoveProxy(ctx, node.ProxyID(x.id), 0))
}
