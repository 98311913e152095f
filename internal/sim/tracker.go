package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/internal/memnet"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

const (
	poolName   = "sim"
	rpcPort    = 7070
	gossipPort = 7946
	everyone   = "trackers" // a name that is looked up as all trackers that run

	drainTime    = 30 * time.Second
	stopTime     = 2 * time.Second
	lookInterval = time.Second
	restartPause = time.Second
)

// A tracker is one under its ID, over all its lives.
type tracker struct {
	pool  *Pool
	index int
	name  string
	clock *clock
	lives int
	turn  chan struct{}               // size 1: has a value while an operation is under way
	life  atomic.Pointer[trackerLife] // nil while there is none
	back  atomic.Int64                // by how many nanoseconds its wall clock was set back
	disk  disk
}

// A trackerLife is one process of a tracker.
type trackerLife struct {
	*tracker
	addr    netip.Addr
	number  int // of its lives
	process lease.Process
	started time.Time
	wall    time.Duration // by how much its wall clock is ahead
	gossip  *membership.Gossip
	node    *node.Tracker
	server  *rpc.Server
	stop    context.CancelFunc
	running sync.WaitGroup
	frozen  atomic.Bool

	mu    sync.Mutex // guards the rest
	heard map[*life]time.Time
	told  map[*life]time.Time // of a seat: what trackers that asked had heard
}

func (t *tracker) begin() { t.turn <- struct{}{} }
func (t *tracker) done()  { <-t.turn }

// start starts a process at a new address, and returns when it serves.
func (t *tracker) start(newPool bool) error {
	t.begin()
	defer t.done()
	if t.life.Load() != nil {
		return nil
	}
	p := t.pool
	t.lives++
	at := netip.AddrFrom4([4]byte{10, 0, byte(t.lives), byte(t.index + 1)})
	host := p.place(t.name, at)
	listener, err := host.Listen(rpcPort)
	if err != nil {
		return err
	}
	given := p.givenNow()
	wall := p.wallError() - time.Duration(t.back.Load())
	log := p.cfg.Logger.With("at", fmt.Sprintf("%s#%d", t.name, t.lives))
	self := ring.Member{
		ID: ring.MemberID(t.name), Boot: membership.NewBoot(time.Now().Add(wall), 0),
		Addr: netip.AddrPortFrom(at, rpcPort).String(), Zone: p.zone(t.index),
		State: ring.Joining, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(given.replicas...),
	}
	g, err := membership.Join(p.ctx, self, membership.Config{
		Pool: poolName, BindAddr: netip.AddrPortFrom(at, gossipPort).String(), Join: []string{everyone},
		Shards: p.cfg.Shards, Term: p.cfg.Term, Seats: given.seatSets(), Logger: log,
		Sockets: sockets{host, p}, Resolve: p.resolve,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("tracker %s: %w", t.name, err), listener.Close())
	}
	n, err := node.New(g.Self(), node.Config{
		Pool:   node.Pool{Name: poolName, Term: lease.Term(p.cfg.Term), Seats: given.seatSets()},
		Shards: p.cfg.Shards, NewPool: newPool, KeepAlive: p.cfg.KeepAlive, Now: t.clock.Now, Logger: log,
		Dial: func(m ring.Member) (node.Peer, error) { return p.dial(host, m.Addr) },
	})
	if err != nil {
		return fmt.Errorf("tracker %s: %w", t.name, err)
	}
	l := &trackerLife{
		tracker: t, addr: at, number: t.lives, started: time.Now(), wall: wall, gossip: g, node: n,
		process: lease.Process{ID: g.Self().ID, Boot: g.Self().Boot},
		heard:   make(map[*life]time.Time), told: make(map[*life]time.Time),
	}
	l.restore()
	l.server = rpc.NewServer(spy{n, l}, rpc.WithLogger(log))
	ctx, stop := context.WithCancel(p.ctx)
	l.stop = stop
	p.mu.Lock()
	p.processes[l.process] = l
	p.mu.Unlock()
	t.life.Store(l)
	l.running.Go(func() { l.must("run", n.Run(ctx, g.Views())) })
	l.running.Go(func() { l.must("serve", l.server.Serve(listener)) })
	l.running.Go(func() { l.look(ctx) })
	if p.cfg.Disks {
		l.running.Go(func() { l.keep(ctx) })
	}
	p.wg.Go(func() { l.supervise(ctx) })
	return g.SetState(ring.Serving)
}

// dial connects from a machine.
func (p *Pool) dial(from *memnet.Host, addr string) (*rpc.Client, error) {
	return rpc.Dial(addr, rpc.Insecure(), rpc.WithShards(p.cfg.Shards), rpc.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return from.DialContext(ctx, "tcp", p.lookUp(addr))
	}))
}

func (l *trackerLife) must(what string, err error) {
	if err != nil && l.life.Load() == l {
		l.pool.violate("tracker %s: %s: %v", l.name, what, err)
	}
}

// look keeps the tracker's state as its status wants it, as the command does.
func (l *trackerLife) look(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	state := ring.Serving
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := l.node.Status()
		want := ring.Serving
		if s.CutOff || s.Selfish {
			want = ring.Leaving
		}
		if want != state {
			state = want
			l.must("set state", l.gossip.SetState(state))
		}
	}
}

// supervise stops the process when it learns that a younger one has its ID, as the
// command does, and starts another, as whoever runs the command does.
func (l *trackerLife) supervise(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-l.gossip.Done():
	}
	if err := l.gossip.Err(); !errors.Is(err, membership.ErrSuperseded) || l.life.Load() != l {
		return
	}
	l.pool.note("%s stops: %v", l.name, l.gossip.Err())
	l.pool.counts.tooOld.Add(1)
	if l.crashThis(l) && l.pool.sleep(restartPause) {
		l.pool.started(l.tracker)
	}
}

// take takes the process out of the pool's books.
func (t *tracker) take() *trackerLife {
	l := t.life.Swap(nil)
	if l != nil {
		t.pool.mu.Lock()
		delete(t.pool.processes, l.process)
		t.pool.mu.Unlock()
	}
	return l
}

// crash ends the process without a word. Where its machine goes down with it
// nobody is told; else its connections break.
func (t *tracker) crash(machine bool) {
	t.begin()
	defer t.done()
	if l := t.take(); l != nil {
		l.crashed(machine)
	}
}

// crashThis ends a process, but not the one that has come after it.
func (t *tracker) crashThis(l *trackerLife) bool {
	t.begin()
	defer t.done()
	if t.life.Load() != l {
		return false
	}
	t.take().crashed(false)
	return true
}

func (l *trackerLife) crashed(machine bool) {
	t := l.tracker
	n := t.pool.net
	if machine {
		t.pool.blink(t.name)
	}
	n.Detach(l.addr)
	if !machine {
		n.ResetHost(l.addr)
	}
	l.end()
	if !machine {
		n.Attach(l.addr) // where nobody listens any more
	}
}

// end ends all that the process runs.
func (l *trackerLife) end() {
	l.stop()
	l.server.Stop()
	l.running.Wait()
	if err := l.gossip.Close(); err != nil {
		l.pool.violate("tracker %s: close gossip: %v", l.name, err)
	}
	l.clock.thaw()
}

// leave ends the process as the command does. It finds wrong if that takes longer
// than a limit, where there is one.
func (t *tracker) leave(limit time.Duration) {
	t.begin()
	defer t.done()
	l := t.life.Load()
	if l == nil {
		return
	}
	l.save()
	l.must("announce leaving", l.gossip.SetState(ring.Leaving))
	ctx, cancel := context.WithTimeout(t.pool.ctx, drainTime)
	defer cancel()
	began := time.Now()
	err := l.node.Drain(ctx)
	took := time.Since(began)
	t.pool.note("%s drained after %v: %v", t.name, took.Round(time.Millisecond), err)
	if limit > 0 && took > limit {
		t.pool.violate("%s drained after %v, not within %v: %v", t.name, took, limit, err)
	}
	t.take()
	l.stop()
	stopping, cancel := context.WithTimeout(t.pool.ctx, stopTime)
	defer cancel()
	l.server.Shutdown(stopping)
	leaving, cancel := context.WithTimeout(t.pool.ctx, stopTime)
	defer cancel()
	if err := l.gossip.Leave(leaving); err != nil {
		t.pool.note("%s left gossip: %v", t.name, err)
	}
	l.end()
}

// freeze lets the process see nothing for a while.
func (t *tracker) freeze(d time.Duration) {
	t.begin()
	defer t.done()
	l := t.life.Load()
	if l == nil {
		return
	}
	t.pool.freeze(t.name, l.addr, t.clock, &l.frozen, d)
}

// awaitReady returns when the tracker is ready, or after a minute and a half.
func (t *tracker) awaitReady() {
	t.pool.until(90*time.Second, func() string {
		if l := t.life.Load(); l != nil && !l.node.Status().Ready {
			return "not ready"
		}
		return ""
	})
}

// resolve looks up the name that all trackers are known by.
func (p *Pool) resolve(context.Context, string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, l := range p.live() {
		addrs = append(addrs, l.addr)
	}
	return addrs, nil
}
