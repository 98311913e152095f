package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A client is a right proxy: it has a session to each tracker that it is connected to,
// sends it the claims of the shards that its view places there, confirms, and releases
// a former holder when a new one counted.
type client struct {
	c           *cluster
	proxy       Proxy
	incarnation Incarnation
	stop        context.CancelFunc
	wg          sync.WaitGroup

	mu        sync.Mutex // guards all below
	ctx       context.Context
	claims    map[ID]uint64 // generations
	placement *ring.Placement
	links     map[ring.MemberID]*clientLink
	keeps     map[ID]bool // what it does not drop when it is asked to
	ended     *End
}

// A clientLink is a client's session to one tracker. Its client's lock guards it.
type clientLink struct {
	p      *client
	at     ring.MemberID
	stream Stream[*TrackerFrame, *ProxyFrame] // nil: there is no session
	up     bool                               // it was welcomed
	here   ring.ShardSet                      // the shards whose claims were sent
	state  *State
	nonce  lease.Nonce
	seq    uint64
	acked  uint64
	taken  uint64 // seq of the first Renew for the present view
}

// newClient returns a proxy that is connected to trackers and follows a view.
func (c *cluster) newClient(id string, p *ring.Placement, at ...ring.MemberID) *client {
	ctx, cancel := context.WithCancel(context.Background())
	x := &client{c: c, proxy: testProxy(id), incarnation: incarnationOf(1, 1), stop: cancel, ctx: ctx,
		claims: map[ID]uint64{}, placement: p, links: map[ring.MemberID]*clientLink{}, keeps: map[ID]bool{}}
	c.t.Cleanup(x.close)
	x.connect(at...)
	return x
}

// close ends all sessions without a word.
func (x *client) close() {
	x.stop()
	x.wg.Wait()
}

func (x *client) connect(at ...ring.MemberID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range at {
		l := &clientLink{p: x, at: id}
		x.links[id] = l
		x.wg.Go(func() { l.keep(x.ctx) })
	}
}

// keep has a session, again and again.
func (l *clientLink) keep(ctx context.Context) {
	for ctx.Err() == nil {
		l.session(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (l *clientLink) session(ctx context.Context) {
	x := l.p
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := openPipe(ctx, x.c.wire(string(x.proxy.ID), string(l.at)), x.c.host(l.at),
		func(ctx context.Context, t *Tracker, s SessionStream) error { return t.Session(ctx, s) })
	if err != nil {
		return
	}
	x.mu.Lock()
	hello := &Hello{Pool: "test", Proxy: x.proxy, Incarnation: x.incarnation, HasClaims: len(x.claims) > 0}
	x.mu.Unlock()
	pings := make(chan struct{})
	defer func() {
		cancel()
		<-pings
		x.mu.Lock()
		l.stream, l.up, l.state, l.acked = nil, false, nil, 0
		x.mu.Unlock()
	}()
	go func() {
		defer close(pings)
		for f := (&ProxyFrame{Hello: hello}); stream.Send(f) == nil; f = (&ProxyFrame{}) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(PingInterval):
			}
		}
	}()
	for {
		f, err := stream.Recv()
		if err != nil {
			return
		}
		x.mu.Lock()
		l.stream = stream
		l.take(f)
		x.releaseLocked()
		x.mu.Unlock()
	}
}

func (l *clientLink) take(f *TrackerFrame) {
	if f.Welcome != nil {
		l.welcomed(f.Welcome)
	}
	if f.State != nil {
		l.state = f.State
	}
	l.acked = max(l.acked, f.Ack)
	if f.Nonce != 0 {
		l.nonce = f.Nonce
		l.renew()
	}
	if f.Differ != nil {
		l.repair(f.Differ.Sums)
		l.renew()
	}
	if f.Drop != nil {
		l.drop(f.Drop)
	}
	if f.End != nil {
		l.p.ended = f.End
	}
}

func (l *clientLink) send(f *ProxyFrame) {
	if l.stream != nil {
		_ = l.stream.Send(f) // Recv tells
	}
}

func (l *clientLink) next() uint64 {
	l.seq++
	return l.seq
}

func (l *clientLink) welcomed(w *Welcome) {
	l.seq, l.taken, l.up = 0, 0, true
	l.here = l.p.placement.Held(l.at).Clone()
	l.repair(w.Sums)
}

// repair gives anew the shards whose sums differ from those of the tracker, and
// releases those that do not belong there.
func (l *clientLink) repair(theirs []ShardSum) {
	sums := map[ring.Shard]Sum{}
	strange := ring.NewShardSet(poolShards)
	for _, s := range theirs {
		sums[s.Shard] = s.Sum
		if !l.here.Has(s.Shard) {
			strange.Add(s.Shard)
		}
	}
	for sh := range l.here.All() {
		if ids := l.p.nodesLocked(sh); sums[sh] != l.p.sumLocked(ids) {
			l.replace(sh, ids)
		}
	}
	if !strange.Empty() {
		l.send(&ProxyFrame{Release: &Release{Seq: l.next(), Shards: strange}})
	}
}

// replace gives a shard anew, in sections of 20.
func (l *clientLink) replace(sh ring.Shard, ids []ID) {
	for first := true; first || len(ids) > 0; first = false {
		n := min(len(ids), 20)
		p := AppendChunk(nil, Chunk{Shard: sh, First: first, Last: n == len(ids), Claims: n})
		for _, id := range ids[:n] {
			p = AppendChunkAdd(p, mustKey(l.p.c.t, string(id)), l.p.claims[id], 0)
		}
		l.send(&ProxyFrame{Replace: &Replace{Seq: l.next(), Chunks: p}})
		ids = ids[n:]
	}
}

func (l *clientLink) renew() {
	if !l.up || l.nonce == 0 {
		return
	}
	var sum Sum
	for id, g := range l.p.claims {
		if h := ring.Hash(string(id)); l.here.Has(ring.ShardOf(h, poolShards)) {
			sum.AddClaim(h, g)
		}
	}
	l.send(&ProxyFrame{Renew: &Renew{Seq: l.next(), Nonce: l.nonce, HasClaims: len(l.p.claims) > 0, Sum: sum, View: l.p.placement.Fingerprint()}})
	l.taken = cmp.Or(l.taken, l.seq)
}

func (l *clientLink) drop(d *Drop) {
	var kept []ID
	for _, id := range d.IDs {
		if l.p.keeps[id] {
			kept = append(kept, id)
		} else {
			l.p.removeLocked(id)
		}
	}
	l.send(&ProxyFrame{Dropped: &Dropped{Token: d.Token, Kept: kept}})
}

func (x *client) nodesLocked(sh ring.Shard) []ID {
	var ids []ID
	for id := range x.claims {
		if shardOf(id) == sh {
			ids = append(ids, id)
		}
	}
	return ids
}

func (x *client) sumLocked(ids []ID) (sum Sum) {
	for _, id := range ids {
		sum.AddClaim(ring.Hash(string(id)), x.claims[id])
	}
	return sum
}

// tellLocked sends an op to all that have the node's shard.
func (x *client) tellLocked(id ID, op Ops) {
	for _, l := range x.links {
		if l.up && l.here.Has(shardOf(id)) {
			l.send(&ProxyFrame{Batch: &Batch{Seq: l.next(), Ops: op}})
		}
	}
}

func (x *client) add(generation uint64, ids ...ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range ids {
		x.claims[id] = generation
		x.tellLocked(id, AppendAdd(nil, mustKey(x.c.t, string(id)), generation, 0))
	}
}

func (x *client) remove(ids ...ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range ids {
		x.removeLocked(id)
	}
}

func (x *client) removeLocked(id ID) {
	delete(x.claims, id)
	x.tellLocked(id, AppendRemove(nil, mustKey(x.c.t, string(id))))
}

// follow turns the client to a view.
func (x *client) follow(p *ring.Placement) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.placement = p
	for _, l := range x.links {
		l.taken = 0
		if !l.up {
			continue
		}
		for sh := range minus(p.Held(l.at), l.here).All() {
			l.replace(sh, x.nodesLocked(sh))
			l.here.Add(sh)
		}
		l.renew()
	}
}

// releaseLocked releases former holders of the shards of which a new holder counted
// something that was sent after the view was taken.
func (x *client) releaseLocked() {
	for _, l := range x.links {
		if !l.up {
			continue
		}
		done := ring.NewShardSet(poolShards)
		for sh := range minus(l.here, x.placement.Held(l.at)).All() {
			if slices.ContainsFunc(x.placement.List(sh), func(id ring.MemberID) bool { return x.links[id].countsLocked(sh) }) {
				done.Add(sh)
			}
		}
		if !done.Empty() {
			l.here.AndNot(done)
			l.send(&ProxyFrame{Release: &Release{Seq: l.next(), Shards: done}})
		}
	}
}

// countsLocked reports whether all that was sent before the last Ack counts, and the
// first Renew for the present view is covered by it.
func (l *clientLink) countsLocked(sh ring.Shard) bool {
	return l != nil && l.up && l.taken > 0 && l.acked >= l.taken && l.state != nil &&
		l.state.View == l.p.placement.Fingerprint() && l.state.Counted.Has(sh)
}

// unsettled says what the client still waits for: all that it sent to count.
func (x *client) unsettled() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(x.links)) {
		l := x.links[id]
		if !l.up {
			return fmt.Sprintf("%s has no session at %s", x.proxy.ID, id)
		}
		for sh := range x.placement.Held(id).All() {
			if !l.countsLocked(sh) || l.acked < l.seq {
				return fmt.Sprintf("%s at %s: shard %d does not count; acked %d of %d, state %v", x.proxy.ID, id, sh, l.acked, l.seq, l.state)
			}
		}
		if !minus(l.here, x.placement.Held(id)).Empty() {
			return fmt.Sprintf("%s has not released %s", x.proxy.ID, id)
		}
	}
	return ""
}

func (x *client) settle(within time.Duration) {
	x.c.t.Helper()
	eventually(x.c.t, within, x.unsettled)
}

// counted reports whether some holder counts the client's claim of a node.
func (x *client) counted(id ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(x.placement.List(shardOf(id)), func(at ring.MemberID) bool {
		l := x.links[at]
		return l.countsLocked(shardOf(id)) && l.acked == l.seq
	})
}
