package pool

import (
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// own is whose the claims in a Client's table are; there is nobody else.
const own node.Owner = 1

// stampUnit is the unit in which ages travel and the times of connections are
// kept.
const stampUnit = 100 * time.Millisecond

// olderThanClient is how old a connection may be when the client starts. What is
// left of 32 bits lasts for 12 years.
const olderThanClient = 365 * 24 * time.Hour

// claims are the proxy's own. Guarded by Client.mu.
type claims struct {
	table *node.Table // the stamp is when the node connected, in stampUnits since epoch
	sums  []node.Sum  // by shard; Table.SumOf would read the shard
	epoch time.Time
}

func newClaims(shards int, now time.Time) claims {
	return claims{table: node.NewTable(shards), sums: make([]node.Sum, shards), epoch: now.Add(-olderThanClient)}
}

// stamp is when a connection of the given age began.
func (c *claims) stamp(now time.Time, age time.Duration) uint32 {
	return uint32(max(0, now.Sub(c.epoch)-age) / stampUnit)
}

// age is that of a connection, in stampUnits.
func (c *claims) age(now time.Time, stamp uint32) uint32 {
	return c.stamp(now, 0) - min(stamp, c.stamp(now, 0))
}

// put stores a claim and returns by how much the sum of its shard changed.
func (c *claims) put(s ring.Shard, hash uint64, k node.Key, v node.Value) (delta node.Sum) {
	old, had := c.table.Put(hash, k, own, v)
	delta.AddClaim(hash, v.Generation)
	if had {
		delta.SubClaim(hash, old.Generation)
	}
	c.sums[s].Add(delta)
	return delta
}

// remove drops a claim, if there is one, and returns by how much the sum of its
// shard changed.
func (c *claims) remove(s ring.Shard, hash uint64, k node.Key) (delta node.Sum) {
	if old, had := c.table.Delete(hash, k, own); had {
		delta.SubClaim(hash, old.Generation)
	}
	c.sums[s].Add(delta)
	return delta
}
