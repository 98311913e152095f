// Package ring places shards on the members of a view.
//
// A node ID hashes to a shard ([ShardOf]), and a [Placement] gives each shard
// its list: the members that hold it, the owner first. A placement is a
// function of the placed members' IDs and zones and of [Params], and of nothing
// else, so every process that has the same view computes the same lists,
// whatever order or history it learnt the view in. [Placement.Fingerprint] says
// in 64 bits that two placements are the same.
//
// The owner of a shard is the one that github.com/buraksezer/consistent gives
// it: consistent hashing with bounded load. The other holders are found by
// walking on along the same ring of vnodes, members of other zones first, so
// that a dead owner's shard mostly goes to a member that already holds it.
//
// The package has no I/O, clock, goroutine or randomness. [View] and
// [Placement] are immutable and safe for concurrent use; the slices, bitmaps
// and maps that they return are shared and must not be modified. [ShardSet] and
// [Replicas] are plain values, as safe as any slice or integer.
package ring
