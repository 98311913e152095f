package pool

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A Client is a proxy's side of the pool, or a reader's. Open makes one.
type Client struct {
	cfg     Config
	connect func(addr string) (conn, finder, error)
	ctx     context.Context // ends with the client
	cancel  context.CancelFunc
	running sync.WaitGroup
	done    chan struct{} // closed when the client has stopped; err is set before
	closing sync.Once
	logStop sync.Once

	shards  int
	term    lease.Term
	waiters sync.Pool // of *waiter

	view  atomic.Pointer[outlook] // what lookups go by
	asked bell                    // the view may have to be looked at
	hedge hedger
	cache *cache // nil for none
	fresh freshSet
	watch watches

	packing sync.Mutex // held while a Replace is packed

	mu  sync.Mutex // guards all below, and what says so elsewhere
	err error

	inc   lease.Incarnation
	known bool // a tracker has said that the seats know inc

	claims    claims
	tellers   [][]*session // by shard: the sessions that keep it
	processes map[lease.Process]*process
	links     map[ring.MemberID]*link
	present   taken
	former    []former
	same      map[ring.Fingerprint]ring.ShardSet // see sameAsPresentLocked
	beyond    bool                               // some session may keep more than the present view places there
	seatHeard time.Time                          // when a seat last had a view to tell

	full    int           // sessions whose queue has reached its limit
	room    chan struct{} // closed when full becomes 0
	dead    list[dead]
	orphans list[*item]
	drops   int // requests to drop claims that are being answered

	changed  chan struct{} // closed at the next change of what Settled looks at
	watching int           // how many look
}

var _ node.Directory = (*Client)(nil)

// goodbyeWait is how long Close waits for the trackers to have heard of it.
const goodbyeWait = time.Second

// Open returns a client of the pool that has any of cfg.Trackers, once it has
// taken a view. The caller closes the client. It is an error if ctx ends before a
// tracker gave a view that places shards, or if cfg is not valid.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	cfg = cfg.withDefaults()
	return open(ctx, cfg, func(addr string) (conn, finder, error) {
		cl, err := cfg.Dial(addr)
		if err != nil {
			return nil, nil, err
		}
		return cl, cl.Finder(), nil
	})
}

func open(ctx context.Context, cfg Config, connect func(string) (conn, finder, error)) (*Client, error) {
	c := &Client{
		cfg: cfg, connect: connect,
		done:      make(chan struct{}),
		asked:     newBell(),
		processes: make(map[lease.Process]*process),
		links:     make(map[ring.MemberID]*link),
		same:      make(map[ring.Fingerprint]ring.ShardSet),
		room:      make(chan struct{}),
		changed:   make(chan struct{}),
	}
	c.inc = newIncarnation()
	first, err := c.firstView(ctx)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	c.shards, c.term = first.placement.Params().Shards, first.pool.Term
	c.claims = newClaims(c.shards, cfg.Now())
	c.tellers = make([][]*session, c.shards)
	if cfg.CacheSize > 0 {
		c.cache = newCache(cfg.CacheSize)
	}
	c.hedge.init(c, cfg.HedgeBudget)
	c.seatHeard = cfg.Now()
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.takeView(first)
	c.goRun(c.followViews)
	c.goRun(c.hedgeSlow)
	return c, nil
}

// newIncarnation is a life that begins now; should an earlier life have had a
// faster clock, a tracker says so.
func newIncarnation() lease.Incarnation {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return lease.Incarnation{
		Number: uint64(max(1, time.Now().UnixMilli())),
		Random: max(1, binary.LittleEndian.Uint64(b[:])),
	}
}

// goRun runs f in a goroutine for which Close waits.
func (c *Client) goRun(f func()) {
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		f()
	}()
}

// Close says goodbye in all sessions, so that the claims go at once, and ends the
// client. It waits for a second at most for trackers to have heard it, and for all
// goroutines.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.mu.Lock()
		c.stopLocked(node.ErrClosed)
		sessions := c.welcomedLocked()
		for _, s := range sessions {
			s.goodbye = true
			s.ring()
		}
		c.mu.Unlock()

		limit := time.NewTimer(goodbyeWait)
		defer limit.Stop()
		for _, s := range sessions {
			select {
			case <-s.ended:
			case <-limit.C:
				c.cancel()
				<-s.ended
			}
		}
		c.closeWatches()
		c.cancel()
	})
	c.running.Wait()
	return nil
}

// Done returns a channel that is closed when the client has stopped: by Close, or
// because another process took over its proxy ID or removed the proxy. Err says
// which.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client has stopped: an error that is node.ErrClosed,
// node.ErrSuperseded or node.ErrRemoved. It is nil until then.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// stopLocked has all calls fail from now on.
func (c *Client) stopLocked(err error) {
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}

// failLocked stops the client for good; Close is still to be called.
func (c *Client) failLocked(err error) {
	c.stopLocked(err)
	c.cancel()
}

// welcomedLocked returns the sessions that are welcomed.
func (c *Client) welcomedLocked() []*session {
	all := make([]*session, 0, len(c.links))
	for _, l := range c.links {
		if l.session != nil && l.session.proc != nil {
			all = append(all, l.session)
		}
	}
	return all
}

// View returns the view that the client goes by.
func (c *Client) View() ring.View { return c.view.Load().placement.View() }

// Placement returns the lists of the view that the client goes by.
func (c *Client) Placement() *ring.Placement { return c.view.Load().placement }

// Stats are figures of a Client at one time.
type Stats struct {
	View       ring.Fingerprint
	Trackers   int // to which there are connections
	Sessions   int // that are welcomed
	Claims     int // own
	TableBytes int // of own claims
	Queued     int // changes and snapshots that wait to be sent, in all sessions
	Unacked    int // claims sent and not acknowledged
	Processes  int // lives of trackers that may answer with claims of ours
}

// Stats returns present figures.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := Stats{
		View:       c.present.placement.Fingerprint(),
		Trackers:   len(c.links),
		Claims:     c.claims.table.Len(),
		TableBytes: c.claims.table.Bytes(),
		Processes:  len(c.processes),
	}
	for _, s := range c.welcomedLocked() {
		st.Sessions++
		st.Queued += s.ops.len()
		st.Unacked += s.unacked
	}
	return st
}

// Settled returns nil when all own claims are stored and counted at all holders of
// the present view, or why ctx ended first and what was missing.
func (c *Client) Settled(ctx context.Context) error {
	c.mu.Lock()
	c.watching++
	defer func() { c.watching--; c.mu.Unlock() }()
	for {
		missing := c.unsettledLocked()
		if missing == nil {
			return nil
		}
		if c.err != nil {
			return c.err
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-c.done:
		case <-ctx.Done():
			c.mu.Lock()
			return fmt.Errorf("%w: %w", missing, ctx.Err())
		}
		c.mu.Lock()
	}
}

func (c *Client) unsettledLocked() error {
	present := c.present.placement
	for _, m := range present.View().Members() {
		held := present.Held(m.ID)
		if held.Empty() {
			continue
		}
		l := c.links[m.ID]
		if l == nil || l.session == nil || l.session.proc == nil {
			return fmt.Errorf("tracker %s: no session", m.ID)
		}
		if s := l.session; s.ops.len() > 0 || s.partial.underWay() || s.acked < s.tail {
			return fmt.Errorf("tracker %s: %d changes are not sent and %d claims not acknowledged", m.ID, s.ops.len(), s.unacked)
		}
		uncounted := 0
		for shard := range held.All() {
			if c.claims.sums[shard].Count > 0 && !l.session.counted.Has(shard) {
				uncounted++
			}
		}
		if uncounted > 0 {
			return fmt.Errorf("tracker %s: %d of %d shards do not count", m.ID, uncounted, held.Len())
		}
	}
	return nil
}

func (c *Client) changedLocked() {
	if c.watching > 0 {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// errReader is what a client without a proxy says to writes.
func errReader() error {
	return &node.InvalidError{Field: "proxy_id", Problem: "this client was opened without one and only reads; open one with a proxy"}
}

// stopped reports whether err says that the client has stopped, not that a tracker
// cannot be reached.
func stopped(err error) bool {
	return errors.Is(err, node.ErrSuperseded) || errors.Is(err, node.ErrRemoved)
}

// A bell is a doorbell: it wakes one goroutine that looks.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}
