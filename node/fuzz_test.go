package node

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

// stillTracker returns a tracker that is a pool of its own and does nothing by itself.
// Its time stands still.
func stillTracker(t testing.TB) *Tracker {
	return trackerOf(t, func() time.Time { return time.Unix(1000, 0) })
}

func trackerOf(t testing.TB, now func() time.Time) *Tracker {
	t.Helper()
	self := ring.Member{ID: "t-0", Boot: 1, State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(1)}
	x, err := New(self, Config{Pool: Pool{Name: "test", Seats: [][]ring.MemberID{{"t-0"}}}, Shards: poolShards, NewPool: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	v, err := ring.NewView(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.adopt(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return x
}

// A sessionModel is what one life has at a tracker, in maps.
type sessionModel struct {
	claims map[ID]uint64
	staged map[ring.Shard]map[ID]uint64 // of shards being replaced
}

func newSessionModel() *sessionModel {
	return &sessionModel{map[ID]uint64{}, map[ring.Shard]map[ID]uint64{}}
}

// batch applies ops up to the first that is not valid.
func (m *sessionModel) batch(ops Ops) {
	c := ops.Cursor()
	for op := (Op{}); c.Next(&op); {
		id := op.Key.ID()
		staged := m.staged[shardOf(id)]
		if op.Remove {
			delete(m.claims, id)
			delete(staged, id)
			continue
		}
		m.claims[id] = op.Generation
		if staged != nil {
			staged[id] = op.Generation
		}
	}
}

// replace applies sections up to the first that is not valid.
func (m *sessionModel) replace(chunks Chunks) {
	c := chunks.Cursor(poolShards)
	var head Chunk
	for c.NextChunk(&head) {
		if head.First {
			m.staged[head.Shard] = map[ID]uint64{}
		}
		staged := m.staged[head.Shard]
		if staged == nil {
			return
		}
		section := map[ID]uint64{}
		for op := (Op{}); c.NextOp(&op); {
			if shardOf(op.Key.ID()) != head.Shard {
				return
			}
			section[op.Key.ID()] = op.Generation
		}
		if c.Err() != nil {
			return
		}
		maps.Copy(staged, section)
		if head.Last {
			m.drop(head.Shard)
			maps.Copy(m.claims, staged)
			delete(m.staged, head.Shard)
		}
	}
}

func (m *sessionModel) drop(sh ring.Shard) {
	maps.DeleteFunc(m.claims, func(id ID, _ uint64) bool { return shardOf(id) == sh })
}

// sum is what a Renew must have.
func (m *sessionModel) sum() (sum Sum) {
	for id, g := range m.claims {
		if m.staged[shardOf(id)] == nil {
			sum.AddClaim(ring.Hash(string(id)), g)
		}
	}
	return sum
}

// sums is what the table must have.
func (m *sessionModel) sums() map[ring.Shard]Sum {
	sums := map[ring.Shard]Sum{}
	for id, g := range m.claims {
		s := sums[shardOf(id)]
		s.AddClaim(ring.Hash(string(id)), g)
		sums[shardOf(id)] = s
	}
	return sums
}

func tableSums(t *Tracker, o Owner) map[ring.Shard]Sum {
	sums := map[ring.Shard]Sum{}
	for _, s := range t.table.Sums(o) {
		sums[s.Shard] = s.Sum
	}
	return sums
}

// A fuzzed is input that is read off by and by.
type fuzzed []byte

func (f *fuzzed) byte() byte {
	if len(*f) == 0 {
		return 0
	}
	b := (*f)[0]
	*f = (*f)[1:]
	return b
}

func (f *fuzzed) bytes(most int) []byte {
	n := min(int(f.byte())%(most+1), len(*f))
	b := (*f)[:n]
	*f = (*f)[n:]
	return b
}

// frame makes a frame of the input: most are right, and few IDs meet often.
func (f *fuzzed) frame(t *testing.T, s *session, m *sessionModel, ids []ID) *ProxyFrame {
	seq := s.seq + 1
	key := func() Key { return mustKey(t, string(ids[int(f.byte())%len(ids)])) }
	switch f.byte() % 9 {
	case 0, 1:
		var ops Ops
		for n := f.byte() % 8; n > 0; n-- {
			if b := f.byte(); b%3 == 0 {
				ops = AppendRemove(ops, key())
			} else {
				ops = AppendAdd(ops, key(), uint64(b/3)<<(b%40), uint32(b))
			}
		}
		return &ProxyFrame{Batch: &Batch{Seq: seq, Ops: ops}}
	case 2, 3:
		var chunks Chunks
		for n := f.byte() % 4; n > 0; n-- {
			k, b := key(), f.byte()
			head := Chunk{Shard: shardOf(k.ID()), First: b&1 != 0, Last: b&2 != 0, Claims: int(b >> 2 & 1)}
			if m.staged[head.Shard] == nil && b&0xf8 != 0 {
				head.First = true
			}
			if chunks = AppendChunk(chunks, head); head.Claims == 1 {
				chunks = AppendChunkAdd(chunks, k, uint64(b), 0)
			}
		}
		return &ProxyFrame{Replace: &Replace{Seq: seq, Chunks: chunks}}
	case 4:
		set := ring.NewShardSet(poolShards)
		for n := f.byte() % 4; n > 0; n-- {
			set.Add(shardOf(key().ID()))
		}
		return &ProxyFrame{Release: &Release{Seq: seq, Shards: set}}
	case 5:
		sum := m.sum()
		sum.Count += uint64(f.byte() % 2)
		return &ProxyFrame{Renew: &Renew{Seq: seq, Nonce: s.nonceFirst, HasClaims: true, Sum: sum, View: s.t.sums.Fingerprint}}
	case 6:
		return &ProxyFrame{Batch: &Batch{Seq: seq, Ops: f.bytes(60)}}
	case 7:
		return &ProxyFrame{Replace: &Replace{Seq: seq, Chunks: f.bytes(60)}}
	}
	return [...]*ProxyFrame{
		{},
		{Batch: &Batch{Seq: seq + 1}},
		{Renew: &Renew{Seq: seq, Nonce: s.nonceFirst - 1}},
		{Hello: &Hello{}},
		{Release: &Release{Seq: seq, Shards: ring.ShardSet{0, 1}}},
		{Dropped: &Dropped{Token: 7}},
	}[f.byte()%6]
}

// model does what the frame says.
func (m *sessionModel) apply(f *ProxyFrame) {
	switch {
	case f.Batch != nil:
		m.batch(f.Batch.Ops)
	case f.Replace != nil:
		m.replace(f.Replace.Chunks)
	case f.Release != nil:
		for sh := range f.Release.Shards.All() {
			m.drop(sh)
			delete(m.staged, sh)
		}
	}
}

// FuzzSession holds a session to a naive model: nothing panics, sums are right after
// each frame and in the next session, and another proxy's claims are left alone.
func FuzzSession(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 3, 1, 1, 4, 2, 7, 3, 5, 0, 2, 2, 1, 1, 4, 5, 0, 5, 1})
	f.Add([]byte{2, 1, 3, 0xf5, 0, 1, 3, 1, 4, 1, 3, 2, 1, 3, 6, 5, 0})
	f.Add([]byte{6, 9, 0, 5, 'n', 'o', 'd', 'e', '1', 0x80, 0, 7, 4, 1, 3, 1, 0, 8, 1, 8, 2})
	f.Add([]byte{0, 2, 1, 1, 1, 2, 5, 0, 4, 1, 1, 2, 1, 1, 1, 0, 2, 3, 1, 5, 0, 8, 3})
	ids := append(nodesOf(6, func(s ring.Shard) bool { return s < 2 }), nodesOf(4, anyShard)...)
	ids = append(ids, "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "a node ID of more than fifteen bytes")
	f.Fuzz(func(t *testing.T, data []byte) {
		x := stillTracker(t)
		begin := func(proxy string) *session {
			s, _, end, _ := x.admit(&Hello{Proxy: testProxy(proxy), Incarnation: incarnationOf(1, 1), HasClaims: true})
			if end != nil {
				t.Fatalf("%s is refused: %+v", proxy, end)
			}
			return s
		}
		other := begin("other")
		if err := other.apply(&ProxyFrame{Batch: &Batch{Seq: 1, Ops: opsOf(t, ids...)}}); err != nil {
			t.Fatal(err)
		}
		theirs := tableSums(x, other.life.owner)
		m, in := newSessionModel(), fuzzed(data)
		s := begin("fuzzed")
		for range 200 {
			if len(in) == 0 {
				break
			}
			if in[0] == 0xff { // the stream breaks, or another one takes over
				in.byte()
				if in.byte()%2 == 0 {
					x.dismiss(s)
				}
				s, m.staged = begin("fuzzed"), map[ring.Shard]map[ID]uint64{}
			}
			frame := in.frame(t, s, m, ids)
			right := m.sum()
			m.apply(frame)
			err := s.apply(frame)
			var invalid *InvalidError
			if err != nil && !errors.As(err, &invalid) {
				t.Fatalf("apply %+v: %v", frame, err)
			}
			if r := frame.Renew; r != nil && err == nil {
				if differs := s.differ != nil; differs == (r.Sum == right) {
					t.Fatalf("a Renew of %v where %v is right: differs is %v", r.Sum, right, differs)
				}
				s.differ = nil
			}
			if err != nil {
				x.dismiss(s)
				s, m.staged = begin("fuzzed"), map[ring.Shard]map[ID]uint64{}
			}
			if diff := cmp.Diff(m.sums(), tableSums(x, s.life.owner)); diff != "" {
				t.Fatalf("after %+v, error %v: sums by shard (-want +got):\n%s", frame, err, diff)
			}
			if s.sum != m.sum() {
				t.Fatalf("after %+v, error %v: sum %v, want %v", frame, err, s.sum, m.sum())
			}
		}
		if diff := cmp.Diff(theirs, tableSums(x, other.life.owner)); diff != "" {
			t.Fatalf("another proxy's claims (-before +after):\n%s", diff)
		}
		for id, g := range m.claims {
			k := mustKey(t, string(id))
			if v, ok := x.table.Get(k.Hash(), k, s.life.owner); !ok || v.Generation != g {
				t.Fatalf("%q has generation %d, %v; want %d", id, v.Generation, ok, g)
			}
		}
	})
}
