package ring

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A set behaves as a map of shards does.
func TestShardSetAgainstMap(t *testing.T) {
	const seed = 1
	r := seeded(seed)
	for _, shards := range []int{1, 2, 63, 64, 65, 100, 4096, 4099, 65536} {
		a, b := NewShardSet(shards), NewShardSet(shards)
		inA, inB := make(map[Shard]bool), make(map[Shard]bool)
		for range 200 {
			s, q := Shard(r.IntN(shards)), Shard(r.IntN(shards))
			a.Add(s)
			inA[s] = true
			b.Add(q)
			inB[q] = true
			if r.IntN(3) == 0 {
				a.Remove(q)
				delete(inA, q)
			}
		}
		or, and, andNot := a.Clone(), a.Clone(), a.Clone()
		or.Or(b)
		and.And(b)
		andNot.AndNot(b)
		var wantA, wantOr, wantAnd, wantAndNot []Shard
		for i := range shards {
			s := Shard(i)
			x, y := inA[s], inB[s]
			for _, op := range []struct {
				in   bool
				want *[]Shard
			}{{x, &wantA}, {x || y, &wantOr}, {x && y, &wantAnd}, {x && !y, &wantAndNot}} {
				if op.in {
					*op.want = append(*op.want, s)
				}
			}
			if a.Has(s) != x {
				t.Fatalf("seed %d, %d shards: Has(%d) is %v", seed, shards, s, !x)
			}
		}
		for name, c := range map[string]struct {
			set  ShardSet
			want []Shard
		}{"set": {a, wantA}, "or": {or, wantOr}, "and": {and, wantAnd}, "andnot": {andNot, wantAndNot}} {
			if diff := cmp.Diff(c.want, slices.Collect(c.set.All())); diff != "" {
				t.Errorf("seed %d, %d shards, %s (-want +got):\n%s", seed, shards, name, diff)
			}
			if c.set.Len() != len(c.want) || c.set.Empty() != (len(c.want) == 0) {
				t.Errorf("seed %d, %d shards, %s: Len %d, Empty %v; want %d", seed, shards, name, c.set.Len(), c.set.Empty(), len(c.want))
			}
		}
	}
}

func TestShardSetEnds(t *testing.T) {
	for _, shards := range []int{1, 63, 64, 65, 65536} {
		full := FullShardSet(shards)
		if full.Len() != shards || !full.Has(Shard(shards-1)) {
			t.Errorf("full set of %d has %d", shards, full.Len())
		}
		if shards < maxShards && full.Has(Shard(shards)) {
			t.Errorf("full set of %d has shard %d", shards, shards)
		}
	}
	s := NewShardSet(64)
	s.Remove(64)
	if s.Has(64) || s.Has(65535) || ShardSet(nil).Has(0) || !ShardSet(nil).Empty() {
		t.Error("a set has a shard beyond its end")
	}
	if s.Equal(NewShardSet(65)) || !s.Equal(NewShardSet(1)) {
		t.Error("equal sets are those of equal size and shards")
	}
	for range FullShardSet(100).All() {
		break
	}
}

func TestShardSetsOfTwoPools(t *testing.T) {
	for name, op := range map[string]func(a, b ShardSet){"Or": ShardSet.Or, "And": ShardSet.And, "AndNot": ShardSet.AndNot} {
		func() {
			defer func() {
				if msg, _ := recover().(string); !strings.Contains(msg, "invariant broken") {
					t.Errorf("%s: got panic %q, want the invariant named", name, msg)
				}
			}()
			op(NewShardSet(64), NewShardSet(65))
		}()
	}
}

func TestShardSetBytes(t *testing.T) {
	s := NewShardSet(100)
	if got := s.Bytes(); len(got) != 0 {
		t.Errorf("empty: got %x", got)
	}
	for _, n := range []Shard{0, 9, 66} {
		s.Add(n)
	}
	if got, want := s.Bytes(), []byte{1, 2, 0, 0, 0, 0, 0, 0, 4}; !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	for _, tt := range []struct {
		name   string
		b      []byte
		shards int
		ok     bool
	}{
		{"nothing", nil, 1, true},
		{"zeros", []byte{0, 0}, 9, true},
		{"zeros too long", []byte{0, 0}, 8, false},
		{"last", []byte{0, 1}, 9, true},
		{"beyond", []byte{0, 2}, 9, false},
		{"beyond, with others", []byte{255, 3}, 9, false},
		{"no shards", nil, 0, false},
		{"negative shards", nil, -7, false},
		{"too many shards", nil, 65537, false},
		{"all", bytes.Repeat([]byte{255}, 8192), 65536, true},
	} {
		if got, err := ShardSetFromBytes(tt.b, tt.shards); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, %v; want ok %v", tt.name, got, err, tt.ok)
		}
	}
}

func FuzzShardSetFromBytes(f *testing.F) {
	f.Add([]byte{}, 1)
	f.Add([]byte{1, 2, 0, 0, 0, 0, 0, 0, 4}, 100)
	f.Add([]byte{255}, 7)
	f.Add(bytes.Repeat([]byte{255}, 512), 4096)
	f.Fuzz(func(t *testing.T, b []byte, shards int) {
		s, err := ShardSetFromBytes(b, shards)
		if err != nil {
			return
		}
		if want := bytes.TrimRight(b, "\x00"); !bytes.Equal(s.Bytes(), want) {
			t.Errorf("got %x, want %x", s.Bytes(), want)
		}
		if len(s) != len(NewShardSet(shards)) {
			t.Errorf("%d words for %d shards", len(s), shards)
		}
		for n := range s.All() {
			if int(n) >= shards {
				t.Errorf("shard %d of %d", n, shards)
			}
		}
	})
}

func BenchmarkShardSetAll(b *testing.B) {
	s := NewShardSet(4096)
	r := seeded(1)
	for range 800 {
		s.Add(Shard(r.IntN(4096)))
	}
	for b.Loop() {
		for range s.All() {
		}
	}
}
