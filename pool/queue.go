package pool

import (
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// A kind says what an op does.
type kind uint8

const (
	opAdd     kind = iota
	opRemove       // of one claim
	opReplace      // of a shard: the marker at which its snapshot is taken
	opRelease      // of shards: the next of the queue's releases
)

// An op is something to be sent in a session, in order.
type op struct {
	key        node.Key
	generation uint64
	delta      node.Sum // by which it changes the sum of what was sent
	stamp      uint32
	shard      ring.Shard
	kind       kind
}

// A marker is a shard's place in a queue.
type marker struct {
	at     uint64   // the position of its op; an op with another position is void
	before node.Sum // what the tracker has of the shard when the marker's turn comes
	wrong  bool     // that is not a prefix of what we mean, so that no Renew may vouch for it
}

// A fill is the last section of a shard's Replace.
type fill struct {
	at    uint64 // its position
	shard ring.Shard
}

// A release is shards that are no longer kept at a tracker.
type release struct {
	at     uint64 // position of its op
	shards ring.ShardSet
	wrong  int // how many of them are wrong at the tracker until then
}

// A flight is a frame that was sent and is not acknowledged.
type flight struct {
	seq    uint64
	upTo   uint64 // position up to which the queue had gone with it
	claims int    // credits that it uses
}

// A mark is a view that is complete in a session when the queue has gone up to
// its position.
type mark struct {
	view ring.Fingerprint
	at   uint64
}

// A wait is an item that the Ack of a position stores.
type wait struct {
	at uint64
	it *item
}
