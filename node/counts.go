package node

import (
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// counters count since the start.
type counters struct {
	sessions, ops, differs, drops      atomic.Uint64
	batchBytes, replaceBytes           atomic.Uint64
	swept, auditFailures, copiesDiffer atomic.Uint64

	answers [3]atomic.Uint64 // by Answer
	unknown [len(doubts)]atomic.Uint64
	refused [len(refusals)]atomic.Uint64
	ended   [len(lifeEnds)]atomic.Uint64
}

// A doubt is why this tracker cannot say that a node is absent.
type doubt uint8

const (
	leaseRanOut doubt = iota
	notPlaced
	notForced
	notOpen
	changing
)

var doubts = [...]string{
	leaseRanOut: "no_lease",     // all claims of it are of proxies whose leases ran out
	notPlaced:   "not_held",     // its shard is not placed here
	notForced:   "not_in_force", // too few seats grant its shard's list
	notOpen:     "not_open",     // not every proxy and tracker has confirmed its shard
	changing:    "changing",     // what may be said of its shard changed all the while
}

// doubtOf says why nothing may be said of a shard.
func doubtOf(now time.Time, snap *lease.Snapshot, sh ring.Shard) doubt {
	switch {
	case !snap.Held.Has(sh):
		return notPlaced
	case !snap.InForce(now, sh):
		return notForced
	case !snap.Open(now, sh):
		return notOpen
	}
	return changing
}

// A refusal is what there was no room for.
type refusal uint8

const (
	refusedOpening refusal = iota
	refusedHandshake
	refusedSession
	refusedFind
	refusedUnary
	refusedClaims
	refusedMemory
	refusedHop
	refusedWatch
)

var refusals = [...]string{
	refusedOpening:   "opening",
	refusedHandshake: "handshake",
	refusedSession:   "session",
	refusedFind:      "find",
	refusedUnary:     "unary_claim",
	refusedClaims:    "claim",
	refusedMemory:    "memory",
	refusedHop:       "hop",
	refusedWatch:     "watch",
}

// A lifeEnd is why claims of a life of a proxy are not answered any more.
type lifeEnd uint8

const (
	lifeForgotten lifeEnd = iota
	lifeUnclaimed
	lifeSuperseded
	lifeGoodbye
	lifeRemoved
)

var lifeEnds = [...]string{
	lifeForgotten:  "forgotten",  // nobody heard of it for two terms
	lifeUnclaimed:  "unclaimed",  // its claims came from a snapshot, and it did not come for them
	lifeSuperseded: "superseded", // a later one came
	lifeGoodbye:    "goodbye",
	lifeRemoved:    "removed", // by RemoveProxy
}

// Stats are counts since the start of a tracker.
type Stats struct {
	Sessions uint64 // begun
	Ops      uint64 // claims added and removed in sessions
	Differs  uint64 // renewals whose sum was wrong
	Refused  uint64 // sessions, streams of lookups and unary claims refused for lack of room

	Answers   map[Answer]uint64 // lookups answered
	Unknown   map[string]uint64 // of these UNKNOWN, by reason
	RefusedBy map[string]uint64 // what there was no room for
	Ended     map[string]uint64 // lives of proxies that claims are not answered of any more, by reason

	BatchBytes, ReplaceBytes uint64 // packed claims received one by one, and whole shards
	Swept                    uint64 // claims of such lives that were dropped
	AuditFailures            uint64 // sessions whose sum was not that of their claims here
	CopiesDiffer             uint64 // shards whose unary claims differed from another tracker's

	Filled  uint64        // times that shards placed here waited to be open, and are
	Filling time.Duration // for how long in all, with what goes on now
}

// Stats returns what the tracker has counted.
func (t *Tracker) Stats() Stats {
	c := &t.counts
	s := Stats{
		Sessions: c.sessions.Load(), Ops: c.ops.Load(), Differs: c.differs.Load(), Answers: map[Answer]uint64{},
		Unknown: named(doubts[:], c.unknown[:]), RefusedBy: named(refusals[:], c.refused[:]), Ended: named(lifeEnds[:], c.ended[:]),
		BatchBytes: c.batchBytes.Load(), ReplaceBytes: c.replaceBytes.Load(),
		Swept: c.swept.Load(), AuditFailures: c.auditFailures.Load(), CopiesDiffer: c.copiesDiffer.Load(),
	}
	for a := range c.answers {
		s.Answers[Answer(a)] = c.answers[a].Load()
	}
	for _, n := range s.RefusedBy {
		s.Refused += n
	}
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Filled, s.Filling = t.filling.times, t.filling.sum(now)
	return s
}

func named(names []string, counts []atomic.Uint64) map[string]uint64 {
	m := make(map[string]uint64, len(names))
	for i, name := range names {
		m[name] = counts[i].Load()
	}
	return m
}
