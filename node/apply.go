package node

import (
	"cmp"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// stampUnit is what Value.Stamp and the ages of packed claims count.
const stampUnit = 100 * time.Millisecond

// stamp is when a node connected, given the age of its connection.
func (t *Tracker) stamp(now time.Time, age uint32) uint32 {
	at := int64(now.Sub(t.epoch)/stampUnit) - int64(age)
	return uint32(min(max(at, 0), 1<<32-1))
}

// age is the age of a connection that began at stamp.
func (t *Tracker) age(now time.Time, stamp uint32) uint32 {
	return uint32(min(max(int64(now.Sub(t.epoch)/stampUnit)-int64(stamp), 0), 1<<32-1))
}

// apply does what one frame says, in the order of the stream.
func (s *session) apply(f *ProxyFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fenced || s.life.dead.Load() {
		return errFenced
	}
	switch {
	case f.Batch != nil:
		return s.stored1(f.Batch.Seq, func() error { return s.batch(f.Batch.Ops) })
	case f.Replace != nil:
		return s.stored1(f.Replace.Seq, func() error { return s.replace(f.Replace.Chunks) })
	case f.Release != nil:
		return s.stored1(f.Release.Seq, func() error { return s.release(f.Release.Shards) })
	case f.Renew != nil:
		return s.stored1(f.Renew.Seq, func() error { return s.renew(f.Renew) })
	case f.Dropped != nil:
		s.dropped(f.Dropped)
	case f.Goodbye:
		s.goodbye()
	case f.Hello != nil:
		return &InvalidError{"hello", "", "a session has one, at its beginning"}
	}
	return nil
}

// stored1 checks that nothing is missing before a numbered frame, applies it, and
// has it acknowledged.
func (s *session) stored1(seq uint64, apply func() error) error {
	if seq != s.seq+1 {
		return &InvalidError{"seq", fmt.Sprint(seq), fmt.Sprintf("it must be %d", s.seq+1)}
	}
	if err := apply(); err != nil {
		return err
	}
	s.seq = seq
	s.held.Store(s.sum.Count)
	s.stored.Store(seq)
	s.ring()
	return nil
}

// claims notes that the life has claims from now on, so that it is heard of.
func (s *session) claims() {
	if s.hasClaims {
		return
	}
	s.hasClaims = true
	s.heard()
}

// heard notes that the life spoke.
func (s *session) heard() {
	now := s.t.cfg.Now()
	s.t.mu.Lock()
	s.t.hearLocked(now, s.life.id, s.life.incarnation, s.hasClaims)
	s.recountLocked(now)
	s.t.mu.Unlock()
}

func (s *session) batch(ops Ops) error {
	s.claims()
	now := s.t.cfg.Now()
	var changes [together]Change
	c := ops.Cursor()
	var op Op
	total := uint64(0)
	for more := true; more; {
		n := 0
		for n < len(changes) {
			if more = c.Next(&op); !more {
				break
			}
			changes[n] = Change{Hashed: Hashed{op.Key, op.Key.Hash()}, Value: Value{Generation: op.Generation, Stamp: s.t.stamp(now, op.Age)}, Remove: op.Remove}
			n++
		}
		if err := s.change(changes[:n]); err != nil {
			return err
		}
		total += uint64(n)
	}
	s.t.counts.ops.Add(total)
	s.t.counts.batchBytes.Add(uint64(len(ops)))
	return cmp.Or(c.Err(), s.take(total))
}

// change makes changes, near the limit of claims one by one.
func (s *session) change(changes []Change) error {
	if !s.full(len(changes)) {
		s.changed(changes)
		return nil
	}
	for i := range changes {
		c := &changes[i]
		if !c.Remove && s.full(1) {
			if _, had := s.t.table.Get(c.Hash, c.Key, s.life.owner); !had {
				return s.tooMany()
			}
		}
		s.changed(changes[i : i+1])
	}
	return nil
}

func (s *session) changed(changes []Change) {
	s.t.table.Change(s.life.owner, changes)
	for i := range changes {
		c := &changes[i]
		if staged, replacing := s.replacing[ring.ShardOf(c.Hash, s.t.cfg.Shards)]; replacing {
			before := len(staged)
			if c.Remove {
				delete(staged, c.Key)
			} else {
				staged[c.Key] = c.Value
			}
			s.staged += len(staged) - before
			continue
		}
		if c.Had {
			s.sum.SubClaim(c.Hash, c.Old.Generation)
		}
		if !c.Remove {
			s.sum.AddClaim(c.Hash, c.Value.Generation)
		}
	}
}

// replace takes sections of shards given anew. A shard that comes whole in one
// section takes its place at once; of others the sections are kept until the last.
func (s *session) replace(chunks Chunks) error {
	s.claims()
	s.t.counts.replaceBytes.Add(uint64(len(chunks)))
	now, table, owner := s.t.cfg.Now(), s.t.table, s.life.owner
	c := chunks.Cursor(s.t.cfg.Shards)
	var head Chunk
	var op Op
	n := uint64(0)
	for c.NextChunk(&head) {
		staged, under := s.replacing[head.Shard]
		switch {
		case head.First && !under:
			s.sum.Sub(table.SumOf(head.Shard, owner))
			s.proven.Remove(head.Shard)
		case !head.First && !under:
			return &InvalidError{"chunks", fmt.Sprint(head.Shard), "the shard's first section is missing"}
		}
		if head.First {
			s.staged -= len(staged)
			staged = nil
		}
		s.entries = s.entries[:0]
		for c.NextOp(&op) {
			if ring.ShardOf(op.Key.Hash(), s.t.cfg.Shards) != head.Shard {
				return &InvalidError{"chunks", string(op.Key.ID()), fmt.Sprintf("the node is not of shard %d", head.Shard)}
			}
			s.entries = append(s.entries, Entry{op.Key, Value{op.Generation, s.t.stamp(now, op.Age)}})
		}
		if c.Err() != nil {
			break
		}
		if s.full(len(s.entries)) {
			return s.tooMany()
		}
		if !head.Last || staged != nil {
			if staged == nil {
				staged = make(map[Key]Value, len(s.entries))
			}
			before := len(staged)
			for _, e := range s.entries {
				staged[e.Key] = e.Value
			}
			s.staged += len(staged) - before
			s.replacing[head.Shard] = staged
		}
		if head.Last {
			if staged != nil {
				s.entries = s.entries[:0]
				for k, v := range staged {
					s.entries = append(s.entries, Entry{k, v})
				}
			}
			_, after := table.Replace(head.Shard, owner, s.entries)
			delete(s.replacing, head.Shard)
			s.staged -= len(staged)
			s.sum.Add(after)
			s.proven.Add(head.Shard)
		}
		n += uint64(head.Claims)
	}
	s.t.counts.ops.Add(n)
	if s.t.cfg.Filled != nil {
		s.fill.add(now, int(n), len(chunks))
	}
	return cmp.Or(c.Err(), s.take(n))
}

func (s *session) release(shards ring.ShardSet) error {
	for sh := range shards.All() {
		if int(sh) >= s.t.cfg.Shards {
			return &InvalidError{"shards", fmt.Sprint(sh), fmt.Sprintf("the pool has %d", s.t.cfg.Shards)}
		}
		sum := s.t.table.Release(sh, s.life.owner)
		s.proven.Remove(sh)
		if staged, under := s.replacing[sh]; under {
			s.staged -= len(staged)
			delete(s.replacing, sh)
		} else {
			s.sum.Sub(sum)
		}
	}
	return nil
}

// renew is the lease: if the sum is right, all shards that it included are proven,
// and covered until a term after the nonce.
func (s *session) renew(r *Renew) error {
	if r.Nonce < s.nonceFirst || r.Nonce > lease.Nonce(s.nonceLast.Load()) {
		return &InvalidError{"nonce", fmt.Sprint(r.Nonce), "it is not of this session"}
	}
	t := s.t
	if r.HasClaims {
		s.hasClaims = true
	}
	if r.Sum != s.sum {
		t.counts.differs.Add(1)
		sums := t.table.Sums(s.life.owner)
		s.out.Lock()
		s.differ = &Differ{Seq: r.Seq, Sums: sums}
		s.out.Unlock()
		s.heard()
		return nil
	}
	complete := s.complete()
	s.proven.Or(complete)
	cover := &coverage{until: r.Nonce.Time().Add(t.term.Held()).UnixNano(), shards: s.proven.Clone()}
	if old := s.life.lease.Load(); old == nil || old.until <= cover.until {
		s.life.lease.Store(cover)
	}
	s.view.Store(uint64(r.View))
	now := t.cfg.Now()
	t.mu.Lock()
	t.hearLocked(now, s.life.id, s.life.incarnation, s.hasClaims)
	if !s.life.dead.Load() {
		t.ledger.Confirmed(now, s.life.id, lease.Confirm{Incarnation: s.life.incarnation, Nonce: r.Nonce, View: r.View, Complete: complete})
	}
	s.recountLocked(now)
	if len(s.replacing) == 0 {
		t.filling.part(now, string(s.life.id), &s.fill) // before the last one ends the filling
	}
	t.publishLocked(now)
	t.mu.Unlock()
	return nil
}

// complete is all shards but those being replaced.
func (s *session) complete() ring.ShardSet {
	c := ring.FullShardSet(s.t.cfg.Shards)
	for sh := range s.replacing {
		c.Remove(sh)
	}
	return c
}

func (s *session) goodbye() {
	now := s.t.cfg.Now()
	s.t.mu.Lock()
	s.t.endLocked(now, s.life.id, s.life.incarnation.Next())
	s.t.publishLocked(now)
	s.t.mu.Unlock()
}
