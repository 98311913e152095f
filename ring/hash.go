package ring

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Shard is a fixed slice of the key space; their number is fixed for the life
// of a pool.
type Shard uint16

// Fingerprint says that two placements are the same; see
// [Placement.Fingerprint].
type Fingerprint uint64

// String returns the fingerprint as 16 hex digits.
func (f Fingerprint) String() string { return fmt.Sprintf("%016x", uint64(f)) }

// Hash returns the xxhash64 of key, with seed 0. It is part of the wire
// contract: a change of it moves every node to another shard.
func Hash(key string) uint64 { return xxhash.Sum64String(key) }

// ShardOf returns the shard of a key with the given hash, in a pool of 1 to
// 65536 shards. It panics if shards is 0.
func ShardOf(hash uint64, shards int) Shard { return Shard(hash % uint64(shards)) }

// appendString appends s behind its length, so that no two sequences of
// strings have the same bytes.
func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// SetSum returns the sum of a set of members, such as one of seats, by which two
// processes tell whether they were given the same, in whatever order.
func SetSum(ids []MemberID) uint64 {
	var b []byte
	for _, id := range slices.Sorted(slices.Values(ids)) {
		b = appendString(b, string(id))
	}
	return xxhash.Sum64(b)
}
