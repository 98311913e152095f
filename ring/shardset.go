package ring

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

// A ShardSet is a set of the shards of one pool: a bitmap of a size fixed by
// their number. Like any slice it is not safe for concurrent modification.
type ShardSet []uint64

// NewShardSet returns an empty set for a pool of that many shards.
func NewShardSet(shards int) ShardSet { return make(ShardSet, (shards+63)/64) }

// FullShardSet returns the set of all of that many shards.
func FullShardSet(shards int) ShardSet {
	s := NewShardSet(shards)
	for i := range s {
		s[i] = ^uint64(0)
	}
	if rest := shards % 64; rest != 0 {
		s[len(s)-1] = 1<<rest - 1
	}
	return s
}

// Has reports whether shard is in the set; it is false beyond the end.
func (s ShardSet) Has(shard Shard) bool {
	i := int(shard / 64)
	return i < len(s) && s[i]&(1<<(shard%64)) != 0
}

// Add puts shard into the set. It panics beyond the end.
func (s ShardSet) Add(shard Shard) { s[shard/64] |= 1 << (shard % 64) }

// Remove takes shard out of the set; beyond the end there is nothing to take.
func (s ShardSet) Remove(shard Shard) {
	if i := int(shard / 64); i < len(s) {
		s[i] &^= 1 << (shard % 64)
	}
}

// Len returns the number of shards in the set.
func (s ShardSet) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Empty reports whether no shard is in the set.
func (s ShardSet) Empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// Clone returns a copy of the set.
func (s ShardSet) Clone() ShardSet { return slices.Clone(s) }

// Equal reports whether both sets have the same size and shards.
func (s ShardSet) Equal(o ShardSet) bool { return slices.Equal(s, o) }

// Or adds the shards of o, a set of the same size.
func (s ShardSet) Or(o ShardSet) {
	s.mustMatch(o)
	for i, w := range o {
		s[i] |= w
	}
}

// And keeps only the shards that are in o too, a set of the same size.
func (s ShardSet) And(o ShardSet) {
	s.mustMatch(o)
	for i, w := range o {
		s[i] &= w
	}
}

// AndNot removes the shards of o, a set of the same size.
func (s ShardSet) AndNot(o ShardSet) {
	s.mustMatch(o)
	for i, w := range o {
		s[i] &^= w
	}
}

func (s ShardSet) mustMatch(o ShardSet) {
	if len(s) != len(o) {
		panic(fmt.Sprintf("ring: invariant broken: shard sets of one pool have one size, not %d and %d words", len(s), len(o)))
	}
}

// All returns the shards in rising order.
func (s ShardSet) All() iter.Seq[Shard] {
	return func(yield func(Shard) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(Shard(i*64 + bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// Bytes returns the set for the wire: shard n is bit n%8 of byte n/8. Zero
// bytes at the end are left out, so equal sets have equal bytes.
func (s ShardSet) Bytes() []byte {
	b := make([]byte, 0, 8*len(s))
	for _, w := range s {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// ShardSetFromBytes returns the set that [ShardSet.Bytes] gave b for, in a pool
// of 1 to 65536 shards. It is an error if b is longer than that many shards
// need or has a bit beyond them.
func ShardSetFromBytes(b []byte, shards int) (ShardSet, error) {
	if shards < 1 || shards > maxShards {
		return nil, fmt.Errorf("shard set: shards %d: choose 1 to %d", shards, maxShards)
	}
	if need := (shards + 7) / 8; len(b) > need {
		return nil, fmt.Errorf("shard set has %d bytes: %d shards need at most %d; does its sender have another number of shards?", len(b), shards, need)
	}
	if len(b) > 0 {
		if last := 8*len(b) + bits.Len8(b[len(b)-1]) - 9; last >= shards {
			return nil, fmt.Errorf("shard set has shard %d: the pool has %d; does its sender have another number of shards?", last, shards)
		}
	}
	s := NewShardSet(shards)
	for i, c := range b {
		s[i/8] |= uint64(c) << (i % 8 * 8)
	}
	return s, nil
}
