package node

import (
	"context"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// MaxIDBytes is the longest node or proxy ID.
const MaxIDBytes = 255

// An ID names a node: opaque UTF-8 of 1 to MaxIDBytes bytes, usually a UUID.
type ID string

type (
	// A ProxyID names a proxy, whatever its incarnation.
	ProxyID = lease.ProxyID
	// An Incarnation is one life of a proxy.
	Incarnation = lease.Incarnation
)

// A Proxy is what readers are told of a proxy.
type Proxy struct {
	ID      ProxyID
	Addr    string // where other proxies dial it: host:port
	Cluster string
	Zone    string
}

// A Claim says that a node is reachable through a proxy.
type Claim struct {
	Node       ID
	Proxy      Proxy
	Generation uint64        // of the node's connection, where the agent counts them; the higher one is the later
	Age        time.Duration // of the node's connection, to a tenth of a second
}

// An Answer is FOUND, ABSENT or UNKNOWN. Only FOUND has claims that hold; UNKNOWN
// may have hints.
type Answer uint8

// The answers to a lookup.
const (
	Unknown Answer = iota // nobody can say now; ask again
	Found
	Absent
)

func (a Answer) String() string {
	switch a {
	case Found:
		return "FOUND"
	case Absent:
		return "ABSENT"
	}
	return "UNKNOWN"
}

// A Directory is what the pool offers to proxies. Tracker, rpc.Client and
// pool.Client are Directories, safe for concurrent use.
type Directory interface {
	// Add makes claims, or renews them. It returns nil when they are counted,
	// ErrNotCounted when they are stored and found but not yet counted, and
	// another error when at least one was not stored.
	Add(ctx context.Context, claims ...Claim) error

	// Remove takes back proxy's claims of the given nodes, and nobody else's.
	// Claims that are not there are no error. It returns nil when they cannot be
	// found again, ErrNotRemoved when some tracker may still answer with them.
	Remove(ctx context.Context, proxy ProxyID, ids ...ID) error

	// Lookup returns the proxies that reach a node, the best first: the higher
	// generation, then the younger connection.
	Lookup(ctx context.Context, id ID) (Answer, []Claim, error)
}

// A Pool is what all trackers of a pool have in common, and what a client must
// know to place a node.
type Pool struct {
	Name  string
	Term  lease.Term
	Seats [][]ring.MemberID // the sets that are in use, the newest last; more than half of each decides
}
