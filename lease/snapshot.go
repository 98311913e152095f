package lease

import (
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// A Snapshot is what may be said of each shard, until when. It is immutable and
// safe for concurrent use; no list is in force for longer than it says, whatever
// comes or fails to come later.
type Snapshot struct {
	Placement *ring.Placement
	Held      ring.ShardSet   // placed on this tracker
	class     []uint16        // by shard: index into ends; 0: not in force
	masks     []uint16        // by class: the seats that stand for the list
	ends      []int64         // by class: until when it is in force
	shards    []ring.ShardSet // by class; of class 0 none
	open      ring.ShardSet
}

// InForce reports whether the list of a shard is in force here.
func (s *Snapshot) InForce(now time.Time, sh ring.Shard) bool {
	return s.inForce(now.UnixNano(), sh)
}

// Open reports whether this tracker may say that a node of the shard is absent.
func (s *Snapshot) Open(now time.Time, sh ring.Shard) bool {
	return s.open.Has(sh) && s.inForce(now.UnixNano(), sh)
}

func (s *Snapshot) inForce(now int64, sh ring.Shard) bool {
	return int(sh) < len(s.class) && now < s.ends[s.class[sh]]
}

// Waiting counts the shards placed here that are not open, as of the snapshot's time.
func (s *Snapshot) Waiting() int { return s.Held.Len() - s.open.Len() }

// Tally counts the shards placed here, those in force and those open.
func (s *Snapshot) Tally(now time.Time) (held, inForce, open int) {
	n := now.UnixNano()
	for sh := range s.Held.All() {
		held++
		if s.inForce(n, sh) {
			inForce++
			if s.open.Has(sh) {
				open++
			}
		}
	}
	return
}

// A Counting says until when the claims of one life of a proxy count in each
// shard, as far as the seats are concerned: rule 6 without the proxy's lease.
type Counting struct {
	Snapshot *Snapshot
	Known    bool // more than half of the seats know this life of the proxy
	Stalled  bool // seats mark the proxy, and without the marks it would be known
	ends     []int64
}

// Counts reports whether the claims of a shard count as far as the seats say.
func (c *Counting) Counts(now time.Time, sh ring.Shard) bool {
	return int(sh) < len(c.Snapshot.class) && now.UnixNano() < c.ends[c.Snapshot.class[sh]]
}

// Until is the earliest time after now at which some shard stops to count. ok is
// false where none counts.
func (c *Counting) Until(now time.Time) (at time.Time, ok bool) {
	n, first := now.UnixNano(), int64(0)
	for _, e := range c.ends {
		if e > n && (first == 0 || e < first) {
			first = e
		}
	}
	return time.Unix(0, first), first != 0
}

// Forced is the shards whose list is in force here.
func (s *Snapshot) Forced(now time.Time) ring.ShardSet { return s.until(now, s.ends) }

// Shards is the shards in which the claims count, as far as the seats say.
func (c *Counting) Shards(now time.Time) ring.ShardSet { return c.Snapshot.until(now, c.ends) }

// until is the shards whose class ends after now. It is asked for each session
// whenever something changes.
func (s *Snapshot) until(now time.Time, ends []int64) ring.ShardSet {
	set := ring.NewShardSet(len(s.class))
	n := now.UnixNano()
	for c, end := range ends {
		if n < end {
			set.Or(s.shards[c])
		}
	}
	return set
}
