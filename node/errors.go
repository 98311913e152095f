package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

var (
	// ErrNotCounted says that claims are stored and found, but not yet safe from
	// a change of lists. Do not drop the node; the client goes on by itself.
	ErrNotCounted = errors.New("stored and found, but not yet counted")

	// ErrNotRemoved says that some tracker may still answer with a removed claim.
	// The client goes on by itself; at the latest when the lease there has run
	// out the claim is gone.
	ErrNotRemoved = errors.New("not yet removed everywhere")

	// ErrUnavailable says that no holder could be reached within the deadline.
	// Try again.
	ErrUnavailable = errors.New("no holder could be reached")

	// ErrClosed says that the client or tracker was closed.
	ErrClosed = errors.New("closed")

	// ErrSuperseded says that another process runs under this proxy's ID with a
	// later incarnation. This process must stop claiming nodes.
	ErrSuperseded = errors.New("superseded by a later incarnation of this proxy")

	// ErrRemoved says that this proxy was removed by RemoveProxy. Start it anew,
	// or leave it out.
	ErrRemoved = errors.New("this proxy was removed")

	// ErrUnknownView says that a tracker does not keep the view asked for. Ask for
	// the present one.
	ErrUnknownView = errors.New("no such view is kept here")

	// ErrHasSession says that a proxy speaks for itself in a session: claims of it
	// are made and removed there, not by unary calls.
	ErrHasSession = errors.New("the proxy has a session")

	// ErrLastMajority says that a tracker is a seat that the others cannot spare: too
	// few of them would grant, and misses be UNKNOWN. Bring other seats back first.
	ErrLastMajority = errors.New("without this seat too few of the seats would grant, and misses would be UNKNOWN: bring the others back first, or force it")

	// ErrLastTracker says that a tracker is the last that shards are placed on: claims
	// would be lost with it. Start another one first.
	ErrLastTracker = errors.New("this is the last tracker that shards are placed on, and claims would be lost with it: start another one first, or force it")
)

// An InvalidError says what is wrong with an argument. The call did nothing.
type InvalidError struct {
	Field, Value string
	Problem      string // and the limit or remedy
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Problem) }

// A DeniedError says that the caller's certificate does not allow what it asks for.
// The call did nothing, and will not until the configuration changes.
type DeniedError struct {
	Field, Value string
	Problem      string // and the remedy
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("denied: %s %q: %s", e.Field, e.Value, e.Problem)
}

// A NotHolderError says that a tracker does not hold a shard, and who does in
// its view. Go there.
type NotHolderError struct {
	Shard ring.Shard
	List  []ring.MemberID
}

func (e *NotHolderError) Error() string {
	return fmt.Sprintf("not a holder of shard %d: its list is %v", e.Shard, e.List)
}

// An OverloadError says that a request was refused for lack of room. Try again
// after the delay, with full jitter.
type OverloadError struct {
	What  string
	After time.Duration
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("overloaded: %s; try again after %v", e.What, e.After)
}
