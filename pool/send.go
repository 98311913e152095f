package pool

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// send is the session's sender. It returns when ctx ends, a Goodbye has gone or
// the stream fails.
func (s *session) send(ctx context.Context) error {
	hello := s.hello()
	if err := s.stream.Send(&node.ProxyFrame{Hello: hello}); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	ping := time.NewTicker(node.PingInterval)
	defer ping.Stop()
	var p plan
	for {
		frame := s.next(&p)
		if frame == nil {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-ping.C:
				frame = &node.ProxyFrame{}
			case <-s.bell:
				// Callers that were woken together write together: let them, so that
				// their writes share a frame.
				runtime.Gosched()
				runtime.Gosched()
				continue
			}
		}
		if err := s.stream.Send(frame); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if frame.Replace != nil {
			// While all claims are sent again there is always a next frame. Lookups
			// must not wait for as long as a goroutine may run.
			runtime.Gosched()
			s.c.giveWay(ctx)
		}
		if frame.Goodbye {
			return nil
		}
		ping.Reset(node.PingInterval)
	}
}

const (
	// slowLookup is how long a lookup waits before claims that are sent again give
	// way to it: more than a tracker takes that has nothing else to do, and its link.
	slowLookup = 5 * time.Millisecond
	// giveWayTicks is for how many ticks one frame gives way at most. With fillClaims
	// it leaves a session 16,000 claims a second, however slow its lookups are.
	giveWayTicks = 16
)

// giveWay waits while a lookup is slow. When trackers come back empty, the claims of
// all proxies would else take the processors for themselves, here and at the trackers.
func (c *Client) giveWay(ctx context.Context) {
	for range giveWayTicks {
		if time.Duration(c.hedge.longest.Load()) < slowLookup {
			return
		}
		sleep(ctx, hedgeTick)
	}
}

func (s *session) hello() *node.Hello {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.inc = c.inc
	s.toldHas = c.claims.table.Len() > 0
	return &node.Hello{Pool: c.cfg.Pool, Proxy: c.cfg.Proxy, Incarnation: s.inc, HasClaims: s.toldHas}
}

// A plan is what goes into one frame: decided under Client.mu, packed after it.
type plan struct {
	frame    *node.ProxyFrame
	ops      []op
	sections []section
	entries  []node.Entry // of the sections, one after the other
}

type section struct {
	head  node.Chunk
	after int // the index in entries after its last
}

// A snapshot is what is left to be sent of a shard.
type snapshot struct {
	shard ring.Shard
	sum   node.Sum     // of the whole
	rest  []node.Entry // never empty between two frames while the snapshot is under way
	buf   []node.Entry // of rest, for the next one
}

func (n *snapshot) underWay() bool { return len(n.rest) > 0 }

// next returns the next frame to be sent, or nil where there is nothing to send.
func (s *session) next(p *plan) *node.ProxyFrame {
	p.frame, p.ops, p.sections, p.entries = nil, p.ops[:0], p.sections[:0], p.entries[:0]
	s.c.mu.Lock()
	s.planLocked(p)
	s.c.mu.Unlock()
	if p.frame == nil {
		return nil
	}
	claims, now := &s.c.claims, s.c.cfg.Now()
	if p.frame.Replace != nil {
		// One at a time: all sessions at once would keep the lookups of this process
		// from its processors.
		s.c.packing.Lock()
		defer s.c.packing.Unlock()
	}
	if b := p.frame.Batch; b != nil {
		b.Ops = make(node.Ops, 0, packedSize*len(p.ops))
		for i := range p.ops {
			if o := &p.ops[i]; o.kind == opRemove {
				b.Ops = node.AppendRemove(b.Ops, o.key)
			} else {
				b.Ops = node.AppendAdd(b.Ops, o.key, o.generation, claims.age(now, o.stamp))
			}
		}
		clear(p.ops)
	}
	if r := p.frame.Replace; r != nil {
		r.Chunks = make(node.Chunks, 0, packedSize*(len(p.entries)+len(p.sections)))
		from := 0
		for _, sec := range p.sections {
			r.Chunks = node.AppendChunk(r.Chunks, sec.head)
			for _, e := range p.entries[from:sec.after] {
				r.Chunks = node.AppendChunkAdd(r.Chunks, e.Key, e.Value.Generation, claims.age(now, e.Value.Stamp))
			}
			from = sec.after
		}
		clear(p.entries)
	}
	return p.frame
}

// packedSize is about how long a packed claim is.
const packedSize = 24

// planLocked decides what the next frame is. A Renew waits for the frame in hand
// alone; everything else goes in the order of the queue.
func (s *session) planLocked(p *plan) {
	switch {
	case s.goodbye:
		s.goodbye = false
		p.frame = &node.ProxyFrame{Goodbye: true}
		return
	case s.proc == nil:
		return
	case len(s.dropped) > 0:
		p.frame = &node.ProxyFrame{Dropped: s.dropped[0]}
		s.dropped = s.dropped[1:]
		return
	}
	if r := s.renewLocked(); r != nil {
		p.frame = &node.ProxyFrame{Renew: r}
		return
	}
	for p.frame == nil && s.ops.len() > 0 {
		var waits bool
		switch s.ops.front().kind {
		case opRelease:
			p.frame = s.releaseLocked()
		case opReplace:
			waits = !s.replaceLocked(p)
		default:
			waits = !s.batchLocked(p)
		}
		if waits {
			s.c.cfg.Metrics.Count(MetricCreditWaits, 1)
			return
		}
	}
}

// flyLocked gives the next seq to a frame that has gone up to s.sent.
func (s *session) flyLocked(claims int) (seq uint64) {
	s.seq++
	s.unacked += claims
	s.flights.push(flight{seq: s.seq, upTo: s.sent, claims: claims})
	return s.seq
}

// renewLocked returns a Renew where one is due.
func (s *session) renewLocked() *node.Renew {
	if s.nonce == 0 || s.wrong > 0 {
		return nil
	}
	has := s.c.claims.table.Len() > 0
	view := s.complete()
	refilled := s.replaced && len(s.queued) == 0 && !s.partial.underWay()
	if !s.nonceNew && !refilled && (!has || s.toldHas) && (view == 0 || view == s.renewed) {
		return nil
	}
	s.nonceNew, s.toldHas, s.renewed = false, has, view
	if refilled {
		s.replaced = false
	}
	s.proc.renewed(s.c.term)
	return &node.Renew{Seq: s.flyLocked(0), Nonce: s.nonce, HasClaims: has, Sum: s.sum, View: view}
}

func (s *session) releaseLocked() *node.ProxyFrame {
	i := 0
	for s.releases.all()[i].at <= s.sent { // sent before, and not acknowledged
		i++
	}
	r := s.releases.all()[i]
	s.sum.Add(s.ops.front().delta)
	s.wrong -= r.wrong
	s.poppedLocked(1)
	return &node.ProxyFrame{Release: &node.Release{Seq: s.flyLocked(0), Shards: r.shards}}
}

// creditLocked returns how many claims may be sent now. While frames are under
// way it waits for enough credits that frames do not get ever smaller.
func (s *session) creditLocked(wanted int) int {
	free := min(s.window-s.unacked, node.MaxChunk)
	if s.flights.len() > 0 && free < min(wanted, s.window/4) {
		return 0
	}
	return max(free, 0)
}

// batchLocked plans a Batch of the changes at the front of the queue. It returns
// false where it must wait for credits.
func (s *session) batchLocked(p *plan) bool {
	ops := s.ops.all()
	run := 0
	for run < len(ops) && run < node.MaxChunk && ops[run].kind <= opRemove {
		run++
	}
	run = min(run, s.creditLocked(run))
	if run == 0 {
		return false
	}
	p.ops = append(p.ops, ops[:run]...)
	for i := range p.ops {
		s.sum.Add(p.ops[i].delta)
	}
	s.poppedLocked(run)
	p.frame = &node.ProxyFrame{Batch: &node.Batch{Seq: s.flyLocked(run)}}
	return true
}

// fillClaims is after how many claims a Replace ends with the shard at hand. Larger
// frames are little cheaper, and lookups wait while one is made and while one is
// stored.
const fillClaims = 256

// replaceLocked plans a Replace of the shards whose markers are at the front of
// the queue. It returns false where it must wait for credits.
func (s *session) replaceLocked(p *plan) bool {
	room := s.creditLocked(node.MaxChunk)
	for len(p.sections) < node.MaxChunk && len(p.entries) < fillClaims && s.ops.len() > 0 && s.ops.front().kind == opReplace {
		first := !s.partial.underWay()
		if first {
			shard := s.ops.front().shard
			m, ok := s.queued[shard]
			if !ok || m.at != s.sent+1 { // void: released since
				s.poppedLocked(1)
				continue
			}
			count := int(s.c.claims.sums[shard].Count)
			if room == 0 && count > 0 || count > room && len(p.sections) > 0 {
				break // whole in the next one, if it fits there
			}
			s.snapLocked(shard, m)
		} else if room == 0 {
			break
		}
		room -= s.sectionLocked(p, first, room)
	}
	if len(p.sections) == 0 {
		return s.ops.len() == 0 || s.ops.front().kind != opReplace
	}
	p.frame = &node.ProxyFrame{Replace: &node.Replace{Seq: s.flyLocked(len(p.entries))}}
	return true
}

// snapLocked takes the snapshot of a shard whose marker is at the front, and makes
// it told.
func (s *session) snapLocked(shard ring.Shard, m marker) {
	s.partial.shard, s.partial.sum = shard, s.c.claims.sums[shard]
	s.partial.rest = s.c.claims.table.AppendShard(shard, own, s.partial.buf[:0])
	if s.partial.buf = s.partial.rest; cap(s.partial.buf) > keepCap {
		s.partial.buf = nil
	}
	delete(s.queued, shard)
	s.marked.Remove(shard)
	s.told.Add(shard)
	s.proc.told.Add(shard)
	s.sum.Sub(m.before)
	if m.wrong {
		s.wrong--
	}
}

// sectionLocked puts as much of the snapshot as there is room for into the plan,
// and returns how many claims that are.
func (s *session) sectionLocked(p *plan, first bool, room int) int {
	n := min(len(s.partial.rest), room)
	p.entries = append(p.entries, s.partial.rest[:n]...)
	s.partial.rest = s.partial.rest[n:]
	last := !s.partial.underWay()
	if last {
		s.sum.Add(s.partial.sum)
		s.replaced = true
		s.poppedLocked(1)
		s.fills.push(fill{s.sent, s.partial.shard})
	}
	p.sections = append(p.sections, section{
		head:  node.Chunk{Shard: s.partial.shard, First: first, Last: last, Claims: n},
		after: len(p.entries),
	})
	return n
}
