package trackercmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/clock"
	"github.com/trackerpool/trackerpool/internal/telemetry"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

const (
	serverStopTime  = 2 * time.Second // for calls that run
	gossipLeaveTime = 2 * time.Second
	adminStopTime   = time.Second
	traceFlushTime  = time.Second

	// lookInterval is how often a tracker looks whether it may hold shards, and
	// whether it is ready.
	lookInterval = time.Second
)

// A runner is one run of a tracker.
type runner struct {
	cfg  *loaded
	log  *slog.Logger
	fail func(error) // leaves the pool; see must. With nil it is a wish

	gossip *membership.Gossip
	joined atomic.Pointer[membership.Gossip] // the same, for other goroutines; nil before
	server *rpc.Server
	addr   string // of gRPC, as others reach it

	identities access.Identities // where the configuration asksWho
	probeAddr  string            // that is bound, or nothing

	tracker atomic.Pointer[node.Tracker] // nil until the seats are known
	saver   *saver                       // nil without data_dir; not to be read before tracker is there
	leaving atomic.Bool
	drained chan struct{} // closed when it has left, but for its server and its gossip
	metrics *telemetry.Metrics
	traces  *telemetry.Traces // nil: nothing is traced. Not to be read before tracker is there
}

func newRunner(l *loaded, log *slog.Logger, fail func(error)) *runner {
	r := &runner{cfg: l, log: log, fail: fail, drained: make(chan struct{})}
	r.metrics = telemetry.New(r.sources())
	return r
}

// run runs the tracker until soft ends, then leaves the pool; the end of hard
// stops it at once. What it began ends before it returns.
func (r *runner) run(soft, hard context.Context) error {
	serverOptions, dialing, err := r.credentials()
	if err != nil {
		return err
	}
	r.warnOfStrangers()
	if r.traces, err = r.newTraces(); err != nil {
		return err
	}
	defer func() { // the last: all others may make spans until they end
		flushing, cancel := context.WithTimeout(hard, traceFlushTime)
		defer cancel()
		r.traces.Close(flushing)
	}()
	listener, err := listen("listen_addr", r.cfg.listenAddr)
	if err != nil {
		return err
	}
	defer listener.Close()
	admin, err := listen("admin_addr", r.cfg.adminAddr)
	if err != nil {
		return err
	}
	adminTLS, err := r.adminTLS()
	if err != nil {
		return errors.Join(err, admin.Close())
	}
	stopAdmin := r.serveHTTP(admin, r.adminHandler(adminTLS != nil), adminTLS)
	defer stopAdmin()
	if r.cfg.probeAddr != "" {
		probe, err := listen("probe_addr", r.cfg.probeAddr)
		if err != nil {
			return err
		}
		r.probeAddr = probe.Addr().String()
		stopProbe := r.serveHTTP(probe, r.probeHandler(), nil)
		defer stopProbe()
	}
	if r.addr, err = advertised(&r.cfg.config, listener.Addr()); err != nil {
		return err
	}
	if r.gossip, err = r.join(soft); err != nil {
		return unless(soft, err)
	}
	r.joined.Store(r.gossip)
	defer func() {
		if err := r.gossip.Close(); err != nil {
			r.log.Warn("gossip did not close well", "err", err)
		}
	}()

	t, err := r.newTracker(soft, dialing)
	if err != nil {
		if soft.Err() != nil {
			r.sayGoodbye(hard)
		}
		return unless(soft, err)
	}
	if r.cfg.dataDir != "" {
		r.saver = newSaver(t, r.cfg.dataDir, r.cfg.id, r.cfg.saveInterval, r.log)
		r.saver.restore()
	}
	serverOptions = append(serverOptions, r.traces.ServerOptions()...)
	r.server = rpc.NewServer(t, append(serverOptions, rpc.WithOperator(&operated{t, r}))...)
	r.tracker.Store(t)

	working, stop := context.WithCancel(context.WithoutCancel(soft))
	saving, stopSaving := context.WithCancel(soft) // what is left after the drain is not worth it
	var wg sync.WaitGroup
	defer func() {
		stop()
		stopSaving()
		r.server.Stop()
		wg.Wait()
	}()
	wg.Go(func() { r.must("run", t.Run(working, r.gossip.Views())) })
	wg.Go(func() { r.must("serve gRPC", r.server.Serve(listener)) })
	if r.saver != nil {
		wg.Go(func() { r.saver.run(saving) })
	}
	if err := r.gossip.SetState(ring.Serving); err != nil {
		return fmt.Errorf("announce that this tracker serves: %w", err)
	}
	r.log.Info("tracker serving", "listen_addr", listener.Addr().String(), "gossip_addr", r.gossip.Addr(),
		"admin_addr", admin.Addr().String(), "probe_addr", r.probeAddr, "advertised", r.addr, "pool", r.cfg.pool, "zone", r.cfg.zone,
		"boot", fmt.Sprintf("%016x", r.gossip.Self().Boot))
	r.look(soft, hard)

	switch {
	case hard.Err() != nil:
		return context.Cause(hard)
	case soft.Err() == nil:
		return r.gossip.Err()
	}
	r.leave(hard, stop)
	if hard.Err() != nil {
		return context.Cause(hard)
	}
	return unless(soft, nil)
}

// unless returns err, or where ctx has ended what ended it: nil for a wish.
func unless(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	var f *failure
	switch {
	case cause == nil:
		return err
	case errors.As(cause, &f):
		return f.error
	case errors.Is(cause, ErrKilled):
		return cause
	}
	return nil
}

// A failure is why a runner's context ended, where nobody wished it.
type failure struct{ error }

// must has the tracker leave because of an error.
func (r *runner) must(what string, err error) {
	if err != nil {
		r.fail(&failure{fmt.Errorf("%s: %w", what, err)})
	}
}

func listen(key, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w: give an address of this machine and a free port", key, addr, err)
	}
	return l, nil
}

// advertised returns where others reach the gRPC server.
func advertised(c *config, bound net.Addr) (string, error) {
	at, ok := bound.(*net.TCPAddr)
	if !ok {
		return "", fmt.Errorf("listen_addr %q: it is bound to %v, which is no TCP address", c.listenAddr, bound)
	}
	port := strconv.Itoa(at.Port)
	if c.advertiseAddr != "" {
		host, given, err := splitTarget(c.advertiseAddr)
		if err != nil {
			return "", fmt.Errorf("advertise_addr %q: %w", c.advertiseAddr, err)
		}
		return net.JoinHostPort(host, cmp.Or(given, port)), nil
	}
	if !at.IP.IsUnspecified() {
		return net.JoinHostPort(at.IP.String(), port), nil
	}
	ip, err := routedIP()
	if err != nil {
		return "", fmt.Errorf("listen_addr %q is all addresses, and which of them others reach is not known (%w): give advertise_addr", c.listenAddr, err)
	}
	return net.JoinHostPort(ip.String(), port), nil
}

// routedIP returns this machine's address on its default route. Nothing is sent.
func routedIP() (net.IP, error) {
	conn, err := net.Dial("udp", "192.0.2.1:9") // reserved for documentation: nobody is there
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP, nil
}

// join starts the gossip, as a tracker that does not take part yet.
func (r *runner) join(ctx context.Context) (*membership.Gossip, error) {
	c := r.cfg
	gossipHost := ""
	if c.advertiseAddr != "" {
		gossipHost, _, _ = splitTarget(c.advertiseAddr) // validate has checked it
	}
	self := ring.Member{
		ID: ring.MemberID(c.id), Boot: membership.NewBoot(time.Now(), 0), Addr: r.addr, Zone: c.zone,
		State: ring.Joining, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(c.replicas...),
	}
	gossipTLS, err := r.gossipTLS()
	if err != nil {
		return nil, err
	}
	g, err := membership.Join(ctx, self, membership.Config{
		Pool: c.pool, BindAddr: c.gossipAddr, AdvertiseAddr: gossipHost, Join: c.join, KeyFile: c.gossipKeyFile, TLS: gossipTLS,
		Shards: c.shards, Term: c.term, Seats: c.seats, Logger: r.log,
	})
	if err != nil {
		return nil, fmt.Errorf("join pool %q: %w", c.pool, err)
	}
	return g, nil
}

// newTracker returns the tracker, once the seats are known.
func (r *runner) newTracker(ctx context.Context, dialing rpc.Credentials) (*node.Tracker, error) {
	dial := func(m ring.Member) (node.Peer, error) {
		options := []rpc.Option{rpc.WithShards(r.cfg.shards), rpc.WithTracker(m.ID)}
		return rpc.Dial(m.Addr, dialing, append(options, r.traces.DialOptions(string(m.ID))...)...)
	}
	seats := r.cfg.seats
	if r.cfg.learns() {
		var err error
		if seats, err = r.learnSeats(ctx, dial); err != nil {
			return nil, err
		}
	}
	newPool := r.cfg.newPool
	if newPool {
		if why := notNew(time.Now(), r.cfg.term, r.gossip.View(), ring.MemberID(r.cfg.id), r.gossip.KnownBoot(), r.cfg.learns()); why != "" {
			newPool = false
			r.log.Warn("new_pool is ignored: this is no new pool", "why", why)
		}
	}
	cfg := node.Config{
		Pool:   node.Pool{Name: r.cfg.pool, Term: lease.Term(r.cfg.term), Seats: seats},
		Shards: r.cfg.shards, NewPool: newPool, KeepAlive: r.cfg.proxyKeepAliveInterval,
		Dial: dial, Now: clock.Now, Logger: r.log,
	}
	r.cfg.limits.limit(&cfg)
	if r.traces != nil {
		cfg.Filled = r.traces.Filled
	}
	t, err := node.New(r.gossip.Self(), cfg)
	if err != nil {
		return nil, err
	}
	if r.cfg.lone {
		r.log.Info("neither join nor seats are given: this tracker is a pool of its own, and its single seat", "pool", r.cfg.pool)
	}
	if s := t.Status(); s.Silence > 0 {
		r.log.Info("this seat says nothing yet, since it may have given its word before it started; what is not found is UNKNOWN until most seats speak. If there was no pool before, start with --new-pool",
			"grants_in", s.Silence.Round(time.Millisecond).String(), "grants_from", time.Now().Add(s.Silence).Format(time.RFC3339))
	}
	return t, nil
}

// look keeps the tracker's state as its status wants it, until soft or hard ends
// or the gossip is over.
func (r *runner) look(soft, hard context.Context) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	var last node.Status
	for {
		s := r.tracker.Load().Status()
		if state, why := allowed(s); state != first(allowed(last)) {
			r.must("announce that this tracker is "+state.String(), r.gossip.SetState(state))
			r.log.Warn("this tracker's state has changed", "state", state, "why", why)
		}
		if s.Ready != last.Ready {
			r.server.SetServing(s.Ready)
			if s.Ready {
				r.log.Info("ready")
			} else {
				r.log.Warn("not ready any more", "why", s.Why)
			}
		}
		last = s
		select {
		case <-ticker.C:
		case <-r.gossip.Done():
			return
		case <-soft.Done():
			return
		case <-hard.Done():
			return
		}
	}
}

// allowed returns the state that a tracker may announce, and why not Serving.
func allowed(s node.Status) (ring.State, string) {
	switch {
	case s.CutOff:
		return ring.Leaving, "gossip shows most seats, but no word of them has come for two terms"
	case s.Selfish:
		return ring.Leaving, "most proxies do not confirm here: the fault must be this tracker's"
	}
	return ring.Serving, ""
}

func first(s ring.State, _ string) ring.State { return s }

// leave leaves the pool in order: nothing is left on this tracker alone, or the
// drain deadline is over. stop ends the tracker's own work, and the streams that
// it serves.
func (r *runner) leave(hard context.Context, stop func()) {
	began := time.Now()
	r.leaving.Store(true)
	_ = r.tracker.Load().Depart(hard, true) // by force: never an error
	r.server.SetServing(false)
	draining, cancel := context.WithTimeout(hard, r.cfg.drainDeadline)
	defer cancel()
	if r.saver != nil { // before proxies release what is here
		saving, cancel := context.WithTimeout(draining, r.cfg.drainDeadline/2)
		r.saver.save(saving)
		cancel()
	}
	if err := r.gossip.SetState(ring.Leaving); err != nil {
		r.log.Warn("leaving was not announced", "err", err)
	}
	r.log.Info("leaving", "drain_deadline", r.cfg.drainDeadline.String())
	if err := r.tracker.Load().Drain(draining); err != nil {
		r.log.Warn("left before all was handed over", "after", time.Since(began).Round(time.Millisecond).String(), "err", err)
	} else {
		r.log.Info("drained", "after", time.Since(began).Round(time.Millisecond).String())
	}
	close(r.drained)
	stop()
	stopping, cancel := context.WithTimeout(hard, serverStopTime)
	defer cancel()
	r.server.Shutdown(stopping)
	r.sayGoodbye(hard)
}

// sayGoodbye leaves the gossip, so that others do not take it for a crash.
func (r *runner) sayGoodbye(hard context.Context) {
	if err := r.gossip.SetState(ring.Leaving); err != nil {
		r.log.Warn("leaving was not announced", "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(hard, gossipLeaveTime)
	defer cancel()
	if err := r.gossip.Leave(ctx); err != nil {
		r.log.Warn("the others may take this for a crash", "err", err)
		return
	}
	r.log.Info("left")
}
