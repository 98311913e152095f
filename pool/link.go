package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// A conn is a connection to one tracker. *rpc.Client is one.
type conn interface {
	Session(ctx context.Context) (sessionStream, error)
	View(ctx context.Context, fp ring.Fingerprint) (node.ViewInfo, error)
	WatchView(ctx context.Context, changed func(node.ViewSums) error) error
	Close() error
}

// A finder asks one tracker. *rpc.Finder is one. Ask calls no Done itself.
type finder interface {
	Ask(asks ...*rpc.Ask) error
	Withdraw(a *rpc.Ask) bool
	Healthy() bool
	Latency() time.Duration
	Watch(ctx context.Context, k node.Key, changed func(node.FindResult)) error
	Unwatch(k node.Key)
}

// A link is all that the client has with the tracker of one ID at one address. It
// owns the goroutine that keeps a session or, for a reader, a watch of the
// tracker's view.
type link struct {
	c          *Client
	id         ring.MemberID
	addr, zone string
	conn       conn
	finder     finder
	outlier    outlier
	cancel     context.CancelFunc
	ended      chan struct{}

	// Guarded by Client.mu:

	session *session      // from its Hello to its end
	advert  node.ViewSums // the tracker's view; zero while it cannot be reached
	retired time.Time     // when the present view was taken that lacks it; zero while it has it
	reached time.Time     // when it was last known to answer
}

// openLink connects to a tracker; startLocked then begins to use the link.
func (c *Client) openLink(m ring.Member) (*link, error) {
	conn, finder, err := c.connect(m.Addr)
	if err != nil {
		return nil, fmt.Errorf("tracker %s at %s: %w", m.ID, m.Addr, err)
	}
	return &link{c: c, id: m.ID, addr: m.Addr, zone: m.Zone, conn: conn, finder: finder,
		ended: make(chan struct{}), reached: c.cfg.Now()}, nil
}

func (l *link) startLocked() {
	ctx, cancel := context.WithCancel(l.c.ctx)
	l.cancel = cancel
	l.c.goRun(func() { l.run(ctx) })
}

// run keeps one session after the other until ctx ends. Then it closes the
// connection.
func (l *link) run(ctx context.Context) {
	defer close(l.ended)
	serve := l.serveSession
	if l.c.cfg.Proxy.ID == "" {
		serve = l.serveView
	}
	b := backoff{most: l.c.term.Held() / 2}
	for ctx.Err() == nil {
		good, err := serve(ctx)
		l.c.mu.Lock()
		over, why := l.c.err != nil, l.c.err
		l.advert = node.ViewSums{}
		l.c.mu.Unlock()
		l.c.asked.ring()
		if over || ctx.Err() != nil {
			if stopped(why) {
				l.c.logStop.Do(func() {
					l.c.cfg.Logger.Error("this proxy stops making claims", "proxy", l.c.cfg.Proxy.ID, "err", why)
				})
			}
			break
		}
		if good {
			b.reset()
			l.c.cfg.Metrics.Count(MetricSessionEnds, 1)
			l.c.cfg.Logger.Info("session ended", "tracker", l.id, "err", err)
		} else {
			var bad *endError
			if _, denied := errors.AsType[*node.DeniedError](err); denied || errors.As(err, &bad) && bad.reason == node.EndBadInput {
				l.c.cfg.Logger.Error("tracker refuses what this proxy says", "tracker", l.id, "err", err)
			} else {
				l.c.cfg.Logger.Debug("no session", "tracker", l.id, "err", err)
			}
		}
		sleep(ctx, b.next(err))
	}
	if err := l.conn.Close(); err != nil {
		l.c.cfg.Logger.Debug("close connection", "tracker", l.id, "err", err)
	}
}

// serveSession keeps one session until it ends. It reports whether there was one
// that was welcomed.
func (l *link) serveSession(ctx context.Context) (good bool, err error) {
	c := l.c
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := l.conn.Session(ctx)
	if err != nil {
		return false, fmt.Errorf("open session: %w", err)
	}
	s := newSession(c, l, stream, cancel)
	defer close(s.ended)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return false, c.err
	}
	l.session = s
	c.mu.Unlock()

	var sender sync.WaitGroup
	sender.Go(func() {
		if err := s.send(ctx); err != nil {
			cancel(err)
		}
	})
	err = s.receive(ctx)
	cancel(err)
	sender.Wait()

	c.mu.Lock()
	defer c.mu.Unlock()
	good = s.proc != nil
	s.endLocked()
	c.cfg.Metrics.Gauge(MetricSessions, float64(len(c.welcomedLocked())))
	return good, err
}

// serveView follows the tracker's view until it cannot be reached.
func (l *link) serveView(ctx context.Context) (good bool, err error) {
	err = l.conn.WatchView(ctx, func(sums node.ViewSums) error {
		good = true
		l.c.mu.Lock()
		l.c.advertisedLocked(l, sums)
		l.c.mu.Unlock()
		return nil
	})
	return good, err
}

// A backoff says how long to wait before the next attempt: anything up to a bound
// that doubles, so that those who failed together do not come back together.
type backoff struct {
	bound time.Duration
	most  time.Duration // of what a tracker may ask for
}

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

func (b *backoff) reset() { b.bound = 0 }

// next returns how long to wait after err: where a tracker said when to come back, not
// less, and at random up to twice that, so that those it refused together do not come
// together, but never more than most.
func (b *backoff) next(err error) time.Duration {
	b.bound = min(max(2*b.bound, minBackoff), maxBackoff)
	var overload *node.OverloadError
	if errors.As(err, &overload) && overload.After > 0 {
		after := max(1, min(overload.After, b.most/2))
		return after + rand.N(after)
	}
	return rand.N(b.bound)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
