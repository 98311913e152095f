package node

import (
	"context"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// Trackers are the writers of the unary claims that they hold. Each keeps the
// others, as far as they hold the same shards, supplied with them, and confirms so.

// copied is how far the copies to a peer have come.
type copied struct {
	mu        sync.Mutex // guards all below
	sent      uint64     // seq of the last confirm
	acked     uint64
	confirmed ring.Fingerprint // the view of the last confirm
	changes   uint64           // the changes that it covered
}

// settled reports whether the peer has all unary claims of before a change that a
// view places on it.
func (c *copied) settled(view ring.Fingerprint, changes uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent > 0 && c.acked >= c.sent && c.confirmed == view && c.changes >= changes
}

// A copier sends the unary claims of this tracker to one other over one stream.
type copier struct {
	p      *peer
	stream Stream[*CopyReply, *CopyFrame]
	seq    uint64
	sent   []uint64 // by shard: the change up to which it was sent here
	told   confirmed

	mu    sync.Mutex // guards what the other one has said
	nonce lease.Nonce
	want  ring.ShardSet
}

// confirmed is what a confirm said last: nobody needs to hear it twice.
type confirmed struct {
	nonce   lease.Nonce
	view    ring.Fingerprint
	changes uint64
}

// copy keeps a peer supplied with unary claims, until the stream fails.
func (p *peer) copy(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := p.conn.Copies(ctx)
	if err != nil {
		return err
	}
	c := &copier{p: p, stream: stream, sent: make([]uint64, p.t.cfg.Shards), want: ring.NewShardSet(p.t.cfg.Shards)}
	p.copied.mu.Lock()
	p.copied.sent, p.copied.acked = 0, 0
	p.copied.mu.Unlock()
	if err := c.send(&CopyFrame{}); err != nil {
		return err
	}
	bell, done := p.t.bell()
	defer done()
	heard := make(chan struct{}, 1)
	read := make(chan struct{})
	defer func() {
		cancel(nil)
		<-read
	}()
	go func() {
		defer close(read)
		cancel(receive(stream, func(r *CopyReply) error {
			if c.take(r) {
				ring1(heard)
			}
			return nil
		}))
	}()
	compare := time.NewTicker(time.Duration(p.t.term))
	defer compare.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-heard:
			err = c.confirm()
		case <-bell:
			err = c.confirm()
		case <-compare.C:
			err = c.compare()
		}
		if err != nil {
			return err
		}
	}
}

func (c *copier) send(f *CopyFrame) error {
	c.seq++
	f.Seq, f.From = c.seq, c.p.t.self
	return c.stream.Send(f)
}

// take notes what the holder says, and reports whether there is something to send.
// A mere Ack asks for nothing: it would be answered by a confirm, and that by an Ack.
func (c *copier) take(r *CopyReply) bool {
	now := c.p.t.cfg.Now()
	for _, u := range r.Claims {
		c.p.t.unaries.Store(now, u)
	}
	c.mu.Lock()
	c.nonce = max(c.nonce, r.Nonce)
	for sh := range r.Want.All() {
		if int(sh) < c.p.t.cfg.Shards {
			c.want.Add(sh)
		}
	}
	c.mu.Unlock()
	p := c.p
	p.copied.mu.Lock()
	p.copied.acked = max(p.copied.acked, r.Ack)
	p.copied.mu.Unlock()
	return r.Nonce != 0 || !r.Want.Empty()
}

// confirm sends what the holder lacks, and then says that it has all.
func (c *copier) confirm() error {
	t := c.p.t
	placement := t.snap.Load().Placement
	if placement == nil {
		return nil
	}
	changes, now := t.unaries.Changes(), t.cfg.Now()
	c.mu.Lock()
	say := confirmed{c.nonce, placement.Fingerprint(), changes}
	if say == c.told && c.want.Empty() {
		c.mu.Unlock()
		return nil
	}
	for sh := range c.want.All() {
		c.sent[sh] = 0
	}
	clear(c.want)
	c.mu.Unlock()
	for sh := range placement.Held(c.p.member.ID).All() {
		claims := t.unaries.Changed(now, sh, c.sent[sh])
		for len(claims) > 0 {
			n := min(len(claims), MaxChunk)
			if err := c.send(&CopyFrame{Claims: claims[:n]}); err != nil {
				return err
			}
			claims = claims[n:]
		}
		c.sent[sh] = changes
	}
	if say.nonce == 0 {
		return nil
	}
	if err := c.send(&CopyFrame{Confirm: true, Nonce: say.nonce, View: say.view}); err != nil {
		return err
	}
	c.told = say
	d := &c.p.copied
	d.mu.Lock()
	d.sent, d.confirmed, d.changes = c.seq, say.view, changes
	d.mu.Unlock()
	return nil
}

// compare sends the sums of the shards that both hold.
func (c *copier) compare() error {
	t := c.p.t
	placement := t.snap.Load().Placement
	if placement == nil {
		return nil
	}
	both := bothHold(placement, t.self.ID, c.p.member.ID)
	return c.send(&CopyFrame{View: placement.Fingerprint(), Sums: t.unaries.Sums(t.cfg.Now(), both)})
}

func bothHold(p *ring.Placement, a, b ring.MemberID) ring.ShardSet {
	both := p.Held(a).Clone()
	both.And(p.Held(b))
	return both
}

// Copies is Service's: the other side of copy.
func (t *Tracker) Copies(ctx context.Context, stream CopyStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	from := first.From
	bell, done := t.bell()
	defer done()
	var mu sync.Mutex // guards reply
	reply := &CopyReply{}
	said := make(chan struct{}, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !t.reads(func() {
		fill := partial{unary: true} // the claims that came since the last confirm
		cancel(receive(stream, func(f *CopyFrame) error {
			if err := checkFrom(f.From, from); err != nil {
				return err
			}
			claims, want := t.copiesFrom(f, &fill)
			mu.Lock()
			reply.Ack = f.Seq
			if want != nil {
				reply.Claims, reply.Want = claims, want
			}
			mu.Unlock()
			ring1(said)
			return nil
		}))
	}) {
		return ErrClosed
	}
	renewal := time.NewTicker(t.term.Renewal())
	defer renewal.Stop()
	came, nonce := ^uint64(0), true
	for {
		t.mu.Lock()
		if t.came != came {
			came, nonce = t.came, true
		}
		var n lease.Nonce
		if nonce {
			n, nonce = t.ledger.Nonce(t.cfg.Now()), false
		}
		t.mu.Unlock()
		mu.Lock()
		r := reply
		reply = &CopyReply{}
		mu.Unlock()
		r.Nonce = n
		if r.Nonce != 0 || r.Ack != 0 {
			if err := stream.Send(r); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.closed:
			return ErrClosed
		case <-bell:
		case <-said:
		case <-renewal.C:
			nonce = true
		}
	}
}

// copiesFrom takes one frame, and returns what the sender lacks and what is wanted of it.
func (t *Tracker) copiesFrom(f *CopyFrame, fill *partial) (claims []UnaryClaim, want ring.ShardSet) {
	now := t.cfg.Now()
	for _, c := range f.Claims {
		t.unaries.Store(now, c)
	}
	if t.cfg.Filled != nil && len(f.Claims) > 0 {
		fill.add(now, len(f.Claims), 0)
	}
	t.mu.Lock()
	placement := t.ledger.View(f.View)
	if f.Confirm {
		t.ledger.CopiesConfirmed(now, f.From.ID, f.Nonce, f.View)
		t.filling.part(now, string(f.From.ID), fill)
		t.publishLocked(now)
	}
	t.mu.Unlock()
	if f.Confirm || f.View == 0 || placement == nil {
		return nil, nil
	}
	both := bothHold(placement, t.self.ID, f.From.ID)
	theirs := map[ring.Shard]Sum{}
	for _, s := range f.Sums {
		theirs[s.Shard] = s.Sum
	}
	for _, s := range t.unaries.Sums(now, both) {
		if theirs[s.Shard] != s.Sum {
			theirs[s.Shard] = Sum{} // differs
			if len(claims) < MaxChunk {
				claims = append(claims, t.unaries.Shard(now, s.Shard)...)
			}
		} else {
			delete(theirs, s.Shard)
		}
	}
	claims = claims[:min(len(claims), MaxChunk)] // the rest comes when this tracker compares
	want = ring.NewShardSet(t.cfg.Shards)
	for sh := range theirs {
		if both.Has(sh) {
			want.Add(sh)
		}
	}
	if want.Empty() {
		return nil, nil
	}
	t.counts.copiesDiffer.Add(uint64(want.Len()))
	return claims, want
}
