package pool

import (
	"context"
	"io"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// pipe is a stream in memory: In comes from in, Out goes to out. Closing gone
// breaks it for both ends.
type pipe[In, Out any] struct {
	ctx  context.Context
	in   <-chan In
	out  chan<- Out
	gone chan struct{}
}

func (p *pipe[In, Out]) Recv() (v In, err error) {
	select {
	case v = <-p.in:
		return v, nil
	case <-p.ctx.Done():
		return v, p.ctx.Err()
	case <-p.gone:
		return v, io.ErrUnexpectedEOF
	}
}

func (p *pipe[In, Out]) Send(v Out) error {
	select {
	case p.out <- v:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.gone:
		return io.ErrUnexpectedEOF
	}
}

// fake is one tracker. It is the conn and the finder of all its clients.
type fake struct {
	w  *world
	id ring.MemberID

	// Guarded by world.mu:
	boot     uint64
	up       bool
	table    *node.Table
	stream   chan struct{} // closed to break the session
	view     chan struct{}
	know     lease.Incarnation
	nonce    lease.Nonce // the newest
	spoilt   bool        // the table was changed behind the client's back: sums are wrong
	renews   int
	differs  int
	released int
	replaced int // claims in Replaces
	last     node.Renew
	answer   func(node.Key) (node.FindResult, error)
	finds    int
	uncount  bool // State counts nothing
	silent   bool // it says nothing
	answered []*node.Dropped
}

func (f *fake) restartLocked() {
	f.boot++
	f.table = node.NewTable(f.w.shards)
	f.spoilt = false
	f.cutLocked()
}

func (f *fake) cutLocked() {
	if f.stream != nil {
		close(f.stream)
		f.stream = nil
	}
}

func (f *fake) Close() error { return nil }

func (f *fake) View(_ context.Context, fp ring.Fingerprint) (node.ViewInfo, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if !f.up {
		return node.ViewInfo{}, node.ErrUnavailable
	}
	if fp == 0 {
		fp = f.w.present.Fingerprint()
	}
	info, ok := f.w.views[fp]
	if !ok {
		return node.ViewInfo{}, node.ErrUnknownView
	}
	return info, nil
}

func (f *fake) WatchView(ctx context.Context, changed func(node.ViewSums) error) error {
	for {
		f.w.mu.Lock()
		sums := f.w.sums()
		f.w.mu.Unlock()
		if err := changed(sums); err != nil {
			return err
		}
		select {
		case <-f.view:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fake) Ask(asks ...*rpc.Ask) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.finds += len(asks)
	for _, a := range asks {
		if answer := f.answer; answer != nil { // else never
			go func() {
				a.Result, a.Err = answer(a.Key)
				a.Done()
			}()
		}
	}
	return nil
}

func (f *fake) Withdraw(*rpc.Ask) bool { return false }

func (f *fake) Healthy() bool          { return true }
func (f *fake) Latency() time.Duration { return 5 * time.Millisecond }
func (f *fake) Watch(context.Context, node.Key, func(node.FindResult)) error {
	return &node.OverloadError{What: "watches", After: time.Second}
}
func (f *fake) Unwatch(node.Key) {}

func (f *fake) Session(ctx context.Context) (sessionStream, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if !f.up {
		return nil, node.ErrUnavailable
	}
	f.cutLocked()
	f.stream = make(chan struct{})
	up, down := make(chan *node.ProxyFrame), make(chan *node.TrackerFrame)
	s := &fakeSession{fake: f, stream: &pipe[*node.ProxyFrame, *node.TrackerFrame]{ctx, up, down, f.stream},
		frames: make(chan *node.ProxyFrame), replacing: map[ring.Shard][]node.Entry{}, boot: f.boot}
	go s.serve(ctx)
	return &pipe[*node.TrackerFrame, *node.ProxyFrame]{ctx, down, up, f.stream}, nil
}

// fakeSession is the tracker's side of one session.
type fakeSession struct {
	*fake
	boot   uint64
	stream *pipe[*node.ProxyFrame, *node.TrackerFrame]
	frames chan *node.ProxyFrame

	seq       uint64
	sum       node.Sum
	replacing map[ring.Shard][]node.Entry
	nonces    map[lease.Nonce]map[node.Key]claimed // the model when each was sent
	unacked   int
}

func (s *fakeSession) serve(ctx context.Context) {
	go func() {
		defer close(s.frames)
		for {
			frame, err := s.stream.Recv()
			if err != nil {
				return
			}
			select {
			case s.frames <- frame:
			case <-ctx.Done():
				return
			case <-s.stream.gone:
				return
			}
		}
	}()
	hello := <-s.frames
	if hello == nil || hello.Hello == nil {
		return
	}
	s.nonces = map[lease.Nonce]map[node.Key]claimed{}
	s.w.mu.Lock()
	w := &node.Welcome{Tracker: lease.Process{ID: s.id, Boot: s.boot}, Pool: "test", Term: s.w.term,
		Params:      ring.Params{Algorithm: 1, Shards: s.w.shards, Replicas: 2},
		Incarnation: s.know, Credits: s.w.window, Sums: s.table.Sums(own)}
	if s.know.Number > hello.Hello.Incarnation.Number {
		s.w.mu.Unlock()
		_ = s.stream.Send(&node.TrackerFrame{Welcome: w, End: &node.End{Reason: node.EndSuperseded, Known: w.Incarnation}})
		return
	}
	s.know, s.spoilt = hello.Hello.Incarnation, false
	w.Incarnation = s.know
	for _, sum := range w.Sums {
		s.sum.Add(sum.Sum)
	}
	sums := s.w.sums()
	first := s.nonceLocked()
	s.w.mu.Unlock()
	if s.stream.Send(&node.TrackerFrame{Welcome: w, View: &sums, State: s.state(), Nonce: first}) != nil {
		return
	}
	renewal, ping := time.NewTicker(s.w.term.Renewal()), time.NewTicker(node.PingInterval)
	defer renewal.Stop()
	defer ping.Stop()
	for {
		var reply node.TrackerFrame
		var pause <-chan time.Time
		if s.unacked > 0 {
			pause = time.After(2 * time.Millisecond)
		}
		select {
		case f, ok := <-s.frames:
			if !ok || f.Goodbye {
				s.w.mu.Lock()
				if s.stream.gone == s.fake.stream {
					s.cutLocked()
				}
				s.w.mu.Unlock()
				return
			}
			reply.Differ = s.apply(f)
			s.unacked++
			if s.w.chance(.5) && reply.Differ == nil {
				continue // several share one Ack
			}
		case <-pause:
		case <-ping.C:
		case <-renewal.C:
			s.w.mu.Lock()
			reply.Nonce = s.nonceLocked()
			s.w.mu.Unlock()
		case <-s.view:
			s.w.mu.Lock()
			sums := s.w.sums()
			reply.Nonce = s.nonceLocked()
			s.w.mu.Unlock()
			reply.View = &sums
		case <-s.stream.gone:
			return
		case <-ctx.Done():
			return
		}
		if s.unacked > 0 {
			reply.Ack, s.unacked = s.seq, 0
		}
		reply.State = s.state()
		s.w.mu.Lock()
		silent := s.silent
		s.w.mu.Unlock()
		if silent {
			continue
		}
		if s.stream.Send(&reply) != nil {
			return
		}
	}
}

func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Float64() < p
}

// nonceLocked makes a nonce, and notes what had been claimed by then.
func (s *fakeSession) nonceLocked() lease.Nonce {
	n := max(lease.NonceAt(time.Now()), s.nonce+1)
	s.nonce = n
	had := make(map[node.Key]claimed, len(s.w.model))
	for k, c := range s.w.model {
		had[k] = c
	}
	s.nonces[n] = had
	return n
}

func (s *fakeSession) state() *node.State {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	st := &node.State{View: s.w.present.Fingerprint(), Counted: s.w.present.Held(s.id).Clone(), Known: true}
	if s.uncount {
		st.Counted = ring.NewShardSet(s.w.shards)
	}
	return st
}

// apply does what a frame says, and checks it.
func (s *fakeSession) apply(f *node.ProxyFrame) *node.Differ {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.stream.gone != s.fake.stream {
		return nil // a newer session took over, or the process has gone
	}
	next := func(seq uint64) {
		if seq != s.seq+1 {
			s.w.t.Errorf("tracker %s: seq %d after %d", s.id, seq, s.seq)
		}
		s.seq = seq
	}
	switch {
	case f.Batch != nil:
		next(f.Batch.Seq)
		s.batchLocked(f.Batch.Ops)
	case f.Replace != nil:
		next(f.Replace.Seq)
		s.replaceLocked(f.Replace.Chunks)
	case f.Release != nil:
		next(f.Release.Seq)
		for shard := range f.Release.Shards.All() {
			s.sum.Sub(s.table.Release(shard, own))
			s.released++
		}
	case f.Dropped != nil:
		s.answered = append(s.answered, f.Dropped)
	case f.Renew != nil:
		next(f.Renew.Seq)
		return s.renewLocked(f.Renew)
	}
	return nil
}

func (s *fakeSession) batchLocked(ops node.Ops) {
	c := ops.Cursor()
	var op node.Op
	for c.Next(&op) {
		h := op.Key.Hash()
		_, under := s.replacing[ring.ShardOf(h, s.w.shards)]
		if under {
			s.w.t.Errorf("tracker %s: a change of a shard between its chunks", s.id)
		}
		if op.Remove {
			if old, had := s.table.Delete(h, op.Key, own); had {
				s.sum.SubClaim(h, old.Generation)
			}
			continue
		}
		old, had := s.table.Put(h, op.Key, own, node.Value{Generation: op.Generation})
		if had {
			s.sum.SubClaim(h, old.Generation)
		}
		s.sum.AddClaim(h, op.Generation)
	}
	if err := c.Err(); err != nil {
		s.w.t.Errorf("tracker %s: batch: %v", s.id, err)
	}
}

func (s *fakeSession) replaceLocked(chunks node.Chunks) {
	c := chunks.Cursor(s.w.shards)
	var head node.Chunk
	var op node.Op
	for c.NextChunk(&head) {
		content, under := s.replacing[head.Shard]
		if head.First == under {
			s.w.t.Errorf("tracker %s: shard %d: first %v, under way %v", s.id, head.Shard, head.First, under)
		}
		if head.First {
			s.sum.Sub(s.table.SumOf(head.Shard, own))
			content = []node.Entry{}
		}
		for c.NextOp(&op) {
			s.replaced++
			content = append(content, node.Entry{Key: op.Key, Value: node.Value{Generation: op.Generation}})
		}
		s.replacing[head.Shard] = content
		if head.Last {
			delete(s.replacing, head.Shard)
			_, after := s.table.Replace(head.Shard, own, content)
			s.sum.Add(after)
		}
	}
	if err := c.Err(); err != nil {
		s.w.t.Errorf("tracker %s: replace: %v", s.id, err)
	}
}

func (s *fakeSession) renewLocked(r *node.Renew) *node.Differ {
	s.renews++
	s.last = *r
	had, ok := s.nonces[r.Nonce]
	if !ok {
		s.w.t.Errorf("tracker %s: a Renew echoes nonce %d, which was not sent in this session", s.id, r.Nonce)
	}
	var all node.Sum
	for _, sum := range s.table.Sums(own) {
		if _, under := s.replacing[sum.Shard]; !under {
			all.Add(sum.Sum)
		}
	}
	if s.spoilt {
		s.sum = all
	}
	if r.Sum != all || s.sum != all {
		if !s.spoilt {
			s.w.t.Errorf("tracker %s: Renew has sum %v, the table %v", s.id, r.Sum, all)
		}
		s.differs++
		return &node.Differ{Seq: r.Seq, Sums: s.table.Sums(own)}
	}
	s.spoilt = false
	if r.View == 0 {
		return nil
	}
	info, ok := s.w.views[r.View]
	if !ok {
		s.w.t.Errorf("tracker %s: Renew is complete for an unknown view %v", s.id, r.View)
		return nil
	}
	p, err := ring.Place(info.View, info.Params)
	if err != nil {
		s.w.t.Error(err)
		return nil
	}
	held := p.Held(s.id)
	for k, c := range had {
		h := k.Hash()
		if s.w.model[k] != c {
			continue
		}
		shard := ring.ShardOf(h, s.w.shards)
		if _, under := s.replacing[shard]; c.gone && !under {
			if _, has := s.table.Get(h, k, own); has {
				s.w.t.Errorf("tracker %s: Renew for view %v vouches for %v, which was taken back before its nonce", s.id, r.View, k)
			}
		}
		if c.gone || !held.Has(shard) {
			continue
		}
		if v, has := s.table.Get(h, k, own); !has || v.Generation != c.generation {
			s.w.t.Errorf("tracker %s: Renew for view %v lacks %v, which was claimed before its nonce", s.id, r.View, k)
			return nil
		}
	}
	return nil
}
