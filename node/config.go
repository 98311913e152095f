package node

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// A Config says how a tracker runs. Fields that are zero mean their default.
type Config struct {
	Pool    Pool             // name, term (default lease.DefaultTerm) and seats, the same at all trackers
	Shards  int              // fixed for the life of a pool; default 4096
	NewPool bool             // there was no pool before: a seat grants at once
	Dial    Dialer           // connects to another tracker; required where there are others
	Now     func() time.Time // a clock that counts suspension; required
	Logger  *slog.Logger

	// Filled is told of each Filling when it is over, with no lock held; it must not
	// block. A filling that ends as Run does may not be told. By default nobody is told,
	// and nothing is noted.
	Filled func(Filling)

	// KeepAlive is how long a unary claim lives after its own last AddNode; default
	// one minute. A removal is remembered as long.
	KeepAlive time.Duration

	// MaxUnaries is how many unary claims and removals a tracker holds, each of some
	// 100 bytes; further ones are refused. Default 1,000,000.
	MaxUnaries int

	// Handshakes is how many Hellos are being admitted at a time: each takes some
	// milliseconds where the proxy has claims here. Default 16.
	Handshakes int

	// MaxSessions and MaxFinds are how many sessions and how many Find streams there
	// are at most. Default 10,000 and 20,000. Who finds no room gets an
	// *OverloadError; one whose session or lease is here always finds some.
	MaxSessions, MaxFinds int

	// MaxWatches is how many nodes all Find streams together watch at most: each is
	// looked up ten times a second. Default 100,000. A stream may watch MaxWatches of
	// this package.
	MaxWatches int

	// MaxHops is how many unary calls that concern other trackers are under way at most;
	// default 4,096. Further ones get an *OverloadError.
	MaxHops int

	// MaxClaims is how many claims one proxy may have here; default 4,000,000. A session
	// that adds more ends with an *OverloadError.
	MaxClaims int

	// MaxClaimsPerNode is how many proxies may claim one node here by unary calls, and
	// how many of a node's claims are told, the best; default 64.
	MaxClaimsPerNode int

	// MaxBytes is how much memory the table of claims may take; 0 for any. Above it the
	// proxy with the most claims is given credits for a thousand claims a second, and
	// above it and an eighth every proxy; unary claims and proxies that are not here yet
	// get an *OverloadError. Lookups and renewals go on.
	MaxBytes int

	// Credits is how many claims a session may have sent and not acknowledged;
	// default 32,768. A claim takes about 20 bytes on its way.
	Credits uint32
}

// A Dialer connects to another tracker. It returns at once; what cannot be reached
// shows in the calls.
type Dialer func(ring.Member) (Peer, error)

// Default values of Config.
const (
	DefaultShards    = 4096
	DefaultKeepAlive = time.Minute
	DefaultCredits   = 32768

	DefaultMaxUnaries  = 1_000_000
	DefaultHandshakes  = 16
	DefaultMaxSessions = 10_000
	DefaultMaxFinds    = 20_000
	DefaultMaxWatches  = 100_000
	DefaultMaxHops     = 4096
	DefaultMaxClaims   = 4_000_000

	DefaultMaxClaimsPerNode = 64
)

// Validate returns all faults of c, joined.
func (c *Config) Validate() error {
	var faults []error
	fault := func(field, value, problem string) {
		faults = append(faults, &InvalidError{field, value, problem})
	}
	if c.Pool.Name == "" {
		fault("pool", "", "give the pool a name, the same at all trackers")
	}
	if len(c.Pool.Seats) == 0 {
		fault("seats", "", "name 1, 3 or 5 trackers")
	}
	all := map[ring.MemberID]bool{}
	for _, set := range c.Pool.Seats {
		ids := map[ring.MemberID]bool{}
		for _, id := range set {
			ids[id], all[id] = true, true
		}
		if n := len(set); n != 1 && n != 3 && n != 5 || len(ids) < n || ids[""] {
			fault("seats", fmt.Sprint(set), "name 1, 3 or 5 trackers, each once")
		}
	}
	if len(all) > lease.MaxSeats {
		fault("seats", fmt.Sprint(c.Pool.Seats), fmt.Sprintf("name at most %d trackers in all sets together", lease.MaxSeats))
	}
	if t := c.Pool.Term; t != 0 && (time.Duration(t) < time.Second || time.Duration(t) > 10*time.Minute) {
		fault("term", time.Duration(t).String(), "use 1s to 10m")
	}
	if c.Shards != 0 && (c.Shards < 1 || c.Shards > 1<<16) {
		fault("shards", fmt.Sprint(c.Shards), "use 1 to 65536")
	}
	if c.KeepAlive < 0 || c.KeepAlive != 0 && c.KeepAlive < time.Second {
		fault("proxy_keep_alive_interval", c.KeepAlive.String(), "use 1s or more")
	}
	if c.MaxUnaries < 0 {
		fault("max_unaries", fmt.Sprint(c.MaxUnaries), "use 1 or more, or 0 for the default")
	}
	for _, bound := range []struct {
		field string
		value int
	}{{"handshakes", c.Handshakes}, {"max_sessions", c.MaxSessions}, {"max_finds", c.MaxFinds}, {"max_watches", c.MaxWatches}, {"max_hops", c.MaxHops},
		{"max_claims", c.MaxClaims}, {"max_claims_per_node", c.MaxClaimsPerNode}, {"max_bytes", c.MaxBytes}} {
		if bound.value < 0 {
			fault(bound.field, fmt.Sprint(bound.value), "use 1 or more, or 0 for the default")
		}
	}
	if c.Now == nil {
		fault("now", "", "a clock is required")
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	c.Pool.Term = cmp.Or(c.Pool.Term, lease.DefaultTerm)
	c.Shards = cmp.Or(c.Shards, DefaultShards)
	c.KeepAlive = cmp.Or(c.KeepAlive, DefaultKeepAlive)
	c.Credits = cmp.Or(c.Credits, DefaultCredits)
	c.MaxUnaries = cmp.Or(c.MaxUnaries, DefaultMaxUnaries)
	c.Handshakes = cmp.Or(c.Handshakes, DefaultHandshakes)
	c.MaxSessions = cmp.Or(c.MaxSessions, DefaultMaxSessions)
	c.MaxFinds = cmp.Or(c.MaxFinds, DefaultMaxFinds)
	c.MaxWatches = cmp.Or(c.MaxWatches, DefaultMaxWatches)
	c.MaxHops = cmp.Or(c.MaxHops, DefaultMaxHops)
	c.MaxClaims = cmp.Or(c.MaxClaims, DefaultMaxClaims)
	c.MaxClaimsPerNode = cmp.Or(c.MaxClaimsPerNode, DefaultMaxClaimsPerNode)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
