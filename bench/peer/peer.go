package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/bench/load"
)

// A Peer is a server to be measured. It is used by one goroutine at a time, but for
// its connections.
type Peer interface {
	Name() string
	Version(ctx context.Context) string // with what it was started
	Modes() Modes
	Start(ctx context.Context) error // a fresh, empty process that answers
	Process() *Process
	Stop() // ends the process at once

	// Dial opens connection number i, which speaks for proxy i%load.Proxies, and
	// returns when it is ready for what it is for.
	Dial(ctx context.Context, i int, use Use) (Conn, error)
	// Load adds all nodes and sees that they stay.
	Load(ctx context.Context) error
	// Count returns how many nodes the server has.
	Count(ctx context.Context) (int, error)
	// Live returns the bytes of the heap that are in use, after a collection where
	// there is one; 0 where the server does not tell.
	Live(ctx context.Context) (int64, error)
}

// A Use is what a connection is for, which alone it may do.
type Use uint8

// The uses.
const (
	ToAdd Use = iota
	ToLookup
	ToKeep
)

// A Conn is a connection to a peer. It has one call under way at a time.
type Conn interface {
	Add(nodes []uint32) error    // with a TTL or lease
	Lookup(nodes []uint32) error // an error where one is not found at its proxy
	Close()
}

// A Keeper is a Conn whose server forgets nodes unless somebody prolongs each.
type Keeper interface {
	Keep(nodes []uint32) error
}

// A Together is a Conn with a command of its own for many lookups at a time. It is
// measured beside Lookup, where that sends one command for each.
type Together interface {
	LookupTogether(nodes []uint32) error
}

// A Callers is a Peer with a client that many goroutines share, which gathers what
// they ask into batches. Callers returns one for each way in which it may be set up;
// the caller closes them.
type Callers interface {
	Callers(ctx context.Context) ([]*Shared, error)
}

// A Shared is a client for many goroutines.
type Shared struct {
	Mode   string // for a table
	Lookup func(node uint32) error
	Writes func() int64 // to the network, so far
	Close  func()
}

// A Returner is a Peer whose own client adds everything again when the server comes
// back empty. Return kills the server, starts it, and returns when all is there: how
// long that took from when the server was ready, and which CPU time it cost the
// server.
type Returner interface {
	Return(ctx context.Context) (took, cpu time.Duration, err error)
}

// A Renewer is a Peer that keeps all nodes alive by a few words for all of them; Renew
// says them once. One whose client does so by itself after Load has nothing to do.
type Renewer interface {
	Renew(ctx context.Context) error
}

// A Crowded is a Peer that can be loaded by any number of proxies, which keep their
// nodes alive by themselves.
type Crowded interface {
	LoadBy(ctx context.Context, proxies int) error
}

// ErrMissing says that a peer is not there to be measured.
var ErrMissing = errors.New("not installed")

// Modes say, for a table, in which way a peer does what is measured.
type Modes struct{ Add, Lookup, Together, Keep string }

// proxyName is what is stored for a node: 8 bytes.
func proxyName(i uint32) string { return proxyNames[i%load.Proxies] }

var proxyNames = func() (names [load.Proxies]string) {
	for i := range names {
		names[i] = fmt.Sprintf("proxy-%02d", i)
	}
	return names
}()
