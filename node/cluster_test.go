package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A cluster is a pool of trackers in one bubble.
type cluster struct {
	t        *testing.T
	config   Config         // of each
	prepare  func(*Tracker) // called before it runs, where there is one
	replicas int

	mu      sync.Mutex // guards all below
	hosts   map[ring.MemberID]*host
	noViews ring.MemberID // that tracker's View never answers
	wires   map[[2]string]*wire
	boots   uint64
}

// A host runs one life of a tracker.
type host struct {
	member  ring.Member
	tracker *Tracker
	views   chan ring.View
	ctx     context.Context
	cancel  context.CancelFunc
	ran     chan struct{} // closed when Run has returned

	mu      sync.Mutex // guards all below
	down    bool
	serving sync.WaitGroup
}

// enter begins to serve, unless the host is down.
func (h *host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return false
	}
	h.serving.Add(1)
	return true
}

func (h *host) leave() { h.serving.Done() }

// crash ends the host at once, and returns when all of it has ended.
func (h *host) crash() {
	h.mu.Lock()
	h.down = true
	h.mu.Unlock()
	h.cancel()
	<-h.ran
	h.serving.Wait()
}

const (
	poolShards = 64
	poolTerm   = 10 * time.Second
)

// newCluster starts trackers whose seats are the first of them, up to three, and
// has each know all. They grant at once.
func newCluster(t *testing.T, replicas int, ids ...ring.MemberID) *cluster {
	t.Helper()
	c := seatedCluster(t, replicas, ids[:(min(3, len(ids))-1)/2*2+1]...)
	c.config.NewPool = true
	for _, id := range ids {
		c.start(id)
	}
	c.config.NewPool = false
	c.show(ids...)
	return c
}

// seatedCluster returns a cluster in which nothing runs yet.
func seatedCluster(t *testing.T, replicas int, seats ...ring.MemberID) *cluster {
	t.Helper()
	c := &cluster{t: t, replicas: replicas, hosts: map[ring.MemberID]*host{}, wires: map[[2]string]*wire{}}
	c.config = Config{
		Pool:   Pool{Name: "test", Term: lease.Term(poolTerm), Seats: [][]ring.MemberID{seats}},
		Shards: poolShards, Now: time.Now, KeepAlive: time.Minute,
	}
	if testing.Verbose() {
		c.config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	t.Cleanup(c.stop)
	return c
}

// stop ends all trackers. The bubble's end shows what they leave behind.
func (c *cluster) stop() {
	c.mu.Lock()
	hosts := c.hosts
	c.hosts = map[ring.MemberID]*host{}
	c.mu.Unlock()
	for _, h := range hosts {
		h.crash()
	}
}

// start runs a new life of a tracker, in place of the one that runs now. It has
// no view yet.
func (c *cluster) start(id ring.MemberID) *host {
	c.t.Helper()
	c.mu.Lock()
	before := c.hosts[id]
	c.boots++
	boot := c.boots
	c.mu.Unlock()
	if before != nil {
		before.crash()
	}
	h := &host{views: make(chan ring.View, 1), ran: make(chan struct{})}
	h.member = ring.Member{ID: id, Boot: boot, Addr: fmt.Sprintf("%s:%d", id, boot), State: ring.Serving, Algorithm: 1, Replicas: ring.ReplicasOf(c.replicas)}
	config := c.config
	config.Dial = func(m ring.Member) (Peer, error) { return &testPeer{c, id, m}, nil }
	if config.Logger != nil {
		config.Logger = config.Logger.With("at", id)
	}
	tracker, err := New(h.member, config)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.prepare != nil {
		c.prepare(tracker)
	}
	h.tracker = tracker
	h.ctx, h.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(h.ran)
		if err := tracker.Run(h.ctx, h.views); err != nil {
			c.t.Errorf("run %s: %v", id, err)
		}
	}()
	c.mu.Lock()
	c.hosts[id] = h
	c.mu.Unlock()
	return h
}

// crash ends a tracker and leaves it in the views.
func (c *cluster) crash(id ring.MemberID) {
	c.mu.Lock()
	h := c.hosts[id]
	delete(c.hosts, id)
	c.mu.Unlock()
	h.crash()
}

func (c *cluster) host(id ring.MemberID) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts[id]
}

// at is the tracker of an ID.
func (c *cluster) at(id ring.MemberID) *Tracker {
	c.t.Helper()
	h := c.host(id)
	if h == nil {
		c.t.Fatalf("tracker %s does not run", id)
	}
	return h.tracker
}

// member is a tracker as gossip shows it.
func (c *cluster) member(id ring.MemberID, state ring.State) ring.Member {
	c.t.Helper()
	h := c.host(id)
	if h == nil {
		c.t.Fatalf("tracker %s does not run", id)
	}
	m := h.member
	m.State = state
	return m
}

// show gives all trackers the view of serving members.
func (c *cluster) show(ids ...ring.MemberID) *ring.Placement {
	c.t.Helper()
	var members []ring.Member
	for _, id := range ids {
		members = append(members, c.member(id, ring.Serving))
	}
	return c.showMembers(members...)
}

func (c *cluster) showMembers(members ...ring.Member) *ring.Placement {
	c.t.Helper()
	c.mu.Lock()
	to := make([]ring.MemberID, 0, len(c.hosts))
	for id := range c.hosts {
		to = append(to, id)
	}
	c.mu.Unlock()
	return c.showTo(to, members...)
}

// showTo gives some trackers a view.
func (c *cluster) showTo(to []ring.MemberID, members ...ring.Member) *ring.Placement {
	c.t.Helper()
	v, err := ring.NewView(members...)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, id := range to {
		c.host(id).views <- v
	}
	params, err := ring.Resolve(v, c.config.Shards)
	if err != nil {
		c.t.Fatal(err)
	}
	p, err := ring.Place(v, params)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// wire is what lies between two processes.
func (c *cluster) wire(a, b string) *wire {
	if a > b {
		a, b = b, a
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.wires[[2]string{a, b}]
	if w == nil {
		w = &wire{}
		c.wires[[2]string{a, b}] = w
	}
	return w
}

// isolate cuts all wires between a tracker and the others.
func (c *cluster) isolate(id ring.MemberID, others ...ring.MemberID) {
	for _, o := range others {
		c.wire(string(id), string(o)).Cut()
	}
}

// tally says how many shards a tracker holds, has in force and open.
func (c *cluster) tally(id ring.MemberID) (held, forced, open int) {
	s := c.at(id).Status().Shards
	return s.Held, s.InForce, s.Open
}

// awaitOpen waits until all shards are in force and open at trackers.
func (c *cluster) awaitOpen(within time.Duration, ids ...ring.MemberID) {
	c.t.Helper()
	eventually(c.t, within, func() string {
		for _, id := range ids {
			if held, forced, open := c.tally(id); held == 0 || forced < held || open < held {
				return fmt.Sprintf("%s holds %d shards, %d are in force, %d open", id, held, forced, open)
			}
		}
		return ""
	})
}

// look asks one tracker alone.
func (c *cluster) look(at ring.MemberID, id ID) FindResult {
	c.t.Helper()
	k, err := ParseID(id)
	if err != nil {
		c.t.Fatal(err)
	}
	r, _ := c.at(at).lookHere(k)
	return r
}

// get asks the pool through one tracker.
func (c *cluster) get(at ring.MemberID, id ID) (Answer, []Claim) {
	c.t.Helper()
	a, claims, err := c.at(at).GetProxies(context.Background(), id)
	if err != nil {
		c.t.Fatalf("GetProxies(%s) at %s: %v", id, at, err)
	}
	return a, claims
}

// A testPeer connects one tracker to one life of another.
type testPeer struct {
	c    *cluster
	from ring.MemberID
	to   ring.Member
}

func (p *testPeer) wire() *wire { return p.c.wire(string(p.from), string(p.to.ID)) }

func (p *testPeer) host() *host {
	if h := p.c.host(p.to.ID); h != nil && h.member.Boot == p.to.Boot {
		return h
	}
	return nil
}

func (p *testPeer) Seat(ctx context.Context) (Stream[*lease.Word, *lease.Ask], error) {
	return openPipe(ctx, p.wire(), p.host(), func(ctx context.Context, t *Tracker, s SeatStream) error { return t.Seat(ctx, s) })
}

func (p *testPeer) Copies(ctx context.Context) (Stream[*CopyReply, *CopyFrame], error) {
	return openPipe(ctx, p.wire(), p.host(), func(ctx context.Context, t *Tracker, s CopyStream) error { return t.Copies(ctx, s) })
}

func (p *testPeer) Find(ctx context.Context, k Key, view ring.Fingerprint) (FindResult, error) {
	return callOver(ctx, p.wire(), p.host(), func(_ context.Context, t *Tracker) (FindResult, error) {
		r, _ := t.lookHere(k)
		if r.View == view {
			r.ListSum = 0
		}
		return r, nil
	})
}

func (p *testPeer) Store(ctx context.Context, r StoreRequest) (StoreReply, error) {
	return callOver(ctx, p.wire(), p.host(), func(ctx context.Context, t *Tracker) (StoreReply, error) { return t.Store(ctx, r) })
}

func (p *testPeer) Forget(ctx context.Context, proxy ProxyID, floor Incarnation) error {
	_, err := callOver(ctx, p.wire(), p.host(), func(ctx context.Context, t *Tracker) (bool, error) {
		return true, t.Forget(ctx, proxy, floor)
	})
	return err
}

func (p *testPeer) Stay(ctx context.Context) (Staying, error) {
	return callOver(ctx, p.wire(), p.host(), func(ctx context.Context, t *Tracker) (Staying, error) { return t.Stay(ctx) })
}

func (p *testPeer) View(ctx context.Context, fp ring.Fingerprint) (ViewInfo, error) {
	p.c.mu.Lock()
	silent := p.c.noViews == p.to.ID
	p.c.mu.Unlock()
	if silent {
		<-ctx.Done()
		return ViewInfo{}, ctx.Err()
	}
	return callOver(ctx, p.wire(), p.host(), func(ctx context.Context, t *Tracker) (ViewInfo, error) { return t.View(ctx, fp) })
}

func (p *testPeer) Close() error { return nil }

var _ Peer = (*testPeer)(nil)

// nodesOf returns so many node IDs whose shards match.
func nodesOf(n int, match func(ring.Shard) bool) []ID {
	var ids []ID
	for i := 0; len(ids) < n && i < 1e6; i++ {
		id := ID(fmt.Sprintf("node-%06d", i))
		if match(shardOf(id)) {
			ids = append(ids, id)
		}
	}
	return ids
}

func shardOf(id ID) ring.Shard { return ring.ShardOf(ring.Hash(string(id)), poolShards) }

// heldBy matches the shards whose list has a tracker.
func heldBy(p *ring.Placement, id ring.MemberID) func(ring.Shard) bool {
	return func(s ring.Shard) bool { return slices.Contains(p.List(s), id) }
}
