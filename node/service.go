package node

import (
	"context"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A Service is what a tracker offers over the network. *Tracker is one; package
// rpc serves it.
type Service interface {
	// AddNode makes a unary claim, which lives until its deadline.
	AddNode(ctx context.Context, c Claim) (Written, error)
	// RemoveNode removes the node's claim of one proxy, or with an empty proxy ID
	// of all.
	RemoveNode(ctx context.Context, id ID, proxy ProxyID) (Removed, error)
	// GetProxies is Lookup; with Unknown the claims are hints.
	GetProxies(ctx context.Context, id ID) (Answer, []Claim, error)
	// RemoveProxy ends all lives of a proxy up to the one whose number is given, or
	// up to the highest heard of where that is 0.
	RemoveProxy(ctx context.Context, proxy ProxyID, number uint64) error

	// View returns the view of a fingerprint that this tracker keeps, or the present
	// one for 0. It returns ErrUnknownView where it has none such.
	View(ctx context.Context, fp ring.Fingerprint) (ViewInfo, error)
	// WatchView calls changed at once and whenever the view changes, until ctx ends
	// or changed fails.
	WatchView(ctx context.Context, changed func(ViewSums) error) error

	// Each of these serves one stream until it or ctx ends.
	Session(ctx context.Context, s SessionStream) error
	Find(ctx context.Context, s FindStream) error
	Seat(ctx context.Context, s SeatStream) error
	Copies(ctx context.Context, s CopyStream) error

	// Store takes a unary claim from the tracker that was called.
	Store(ctx context.Context, r StoreRequest) (StoreReply, error)
	// Forget takes a proxy's floor from the tracker that RemoveProxy was called at.
	Forget(ctx context.Context, proxy ProxyID, floor Incarnation) error
	// Stay says whether another tracker that would leave may count on this one.
	Stay(ctx context.Context) (Staying, error)
}

// Written says how far a unary claim got.
type Written struct {
	Copies, Replicas int
	Counted          bool
}

// Removed says how far a removal got.
type Removed struct {
	Claims           int // taken back
	Kept             []ProxyID
	Copies, Replicas int // of the trackers that had to know, those that do
}

// A Peer is a connection to another tracker. rpc.Client is one.
type Peer interface {
	Seat(ctx context.Context) (Stream[*lease.Word, *lease.Ask], error)
	Copies(ctx context.Context) (Stream[*CopyReply, *CopyFrame], error)
	Find(ctx context.Context, k Key, view ring.Fingerprint) (FindResult, error)
	Store(ctx context.Context, r StoreRequest) (StoreReply, error)
	Forget(ctx context.Context, proxy ProxyID, floor Incarnation) error
	Stay(ctx context.Context) (Staying, error)
	View(ctx context.Context, fp ring.Fingerprint) (ViewInfo, error)
	Close() error
}

// A FindResult is one tracker's answer to a lookup.
type FindResult struct {
	Answer  Answer
	Claims  []Claim          // with Unknown they are hints
	View    ring.Fingerprint // the view whose list the answer speaks of
	ListSum uint64           // of that list, where View is not the asked one; else 0
}
