package trackercmd

import (
	"math"
	"runtime/debug"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

// limits are what clients may use at most: each field is the option of its name.
type limits struct {
	connections, connectionsPerIdentity, handshakes   int
	streams, callsPerIdentity, sessionsPerIdentity    int
	unfinished                                        int
	sessions, finds, watches, hops                    int
	claimsPerProxy, claimsPerNode, unaries, tableSize int
}

func defaultLimits() limits {
	return limits{
		connections: rpc.DefaultConnections, connectionsPerIdentity: rpc.DefaultConnectionsPerIdentity, handshakes: rpc.DefaultHandshakes,
		streams: rpc.DefaultStreams, callsPerIdentity: rpc.DefaultCallsPerIdentity, sessionsPerIdentity: rpc.DefaultSessionsPerIdentity,
		unfinished: rpc.DefaultUnfinishedBytes,
		sessions:   node.DefaultMaxSessions, finds: node.DefaultMaxFinds, watches: node.DefaultMaxWatches, hops: node.DefaultMaxHops,
		claimsPerProxy: node.DefaultMaxClaims, claimsPerNode: node.DefaultMaxClaimsPerNode, unaries: node.DefaultMaxUnaries,
	}
}

// A limit is one of limits.
type limit struct {
	name, doc string
	field     func(*limits) *int
	optional  bool // 0 is none
}

func allLimits() []limit {
	return []limit{
		{"max-connections", "connections of gRPC; further ones are closed at once", func(l *limits) *int { return &l.connections }, false},
		{"max-connections-per-identity", "connections of one identity", func(l *limits) *int { return &l.connectionsPerIdentity }, false},
		{"max-handshakes", "connections that are at their TLS handshake, which may take 10 s", func(l *limits) *int { return &l.handshakes }, false},
		{"max-streams", "calls and streams of one connection; further ones wait at the client", func(l *limits) *int { return &l.streams }, false},
		{"max-calls-per-identity", "calls and streams of one identity", func(l *limits) *int { return &l.callsPerIdentity }, false},
		{"max-sessions-per-identity", "sessions of one identity, those that are being replaced included", func(l *limits) *int { return &l.sessionsPerIdentity }, false},
		{"max-unfinished-bytes", "bytes of messages whose end has not come", func(l *limits) *int { return &l.unfinished }, false},
		{"max-sessions", "sessions of proxies", func(l *limits) *int { return &l.sessions }, false},
		{"max-finds", "streams of lookups", func(l *limits) *int { return &l.finds }, false},
		{"max-watches", "watched nodes of all streams; each is looked up ten times a second", func(l *limits) *int { return &l.watches }, false},
		{"max-hops", "unary calls under way that concern other trackers", func(l *limits) *int { return &l.hops }, false},
		{"max-claims-per-proxy", "claims of one proxy", func(l *limits) *int { return &l.claimsPerProxy }, false},
		{"max-claims-per-node", "proxies that claim one node without a session, and claims of a node that are told", func(l *limits) *int { return &l.claimsPerNode }, false},
		{"max-unary-claims", "claims and removals without a session, some 100 bytes each", func(l *limits) *int { return &l.unaries }, false},
		{"max-table-bytes", "memory of the claims of sessions; above it the proxy with the most is slowed down, and what is new is refused. Default: half of GOMEMLIMIT where that is set, else none",
			func(l *limits) *int { return &l.tableSize }, true},
	}
}

func limitOptions() []option {
	var opts []option
	for _, l := range allLimits() {
		opts = append(opts, number(l.name, "N", "the most "+l.doc, func(c *config) *int { return l.field(&c.limits) }))
	}
	return opts
}

func (v *validator) limits() {
	for _, l := range allLimits() {
		n := *l.field(&v.l.config.limits)
		switch {
		case l.optional && n < 0:
			v.fault(l.name, n, "give 1 or more, or 0 for the default")
		case !l.optional && (n < 1 || n > math.MaxInt32):
			v.fault(l.name, n, "give 1 to %d", math.MaxInt32)
		}
	}
}

// ofServer are those that the server of gRPC keeps.
func (l *limits) ofServer() rpc.Limits {
	return rpc.Limits{
		Connections: l.connections, ConnectionsPerIdentity: l.connectionsPerIdentity, Handshakes: l.handshakes,
		Streams: l.streams, CallsPerIdentity: l.callsPerIdentity, SessionsPerIdentity: l.sessionsPerIdentity,
		UnfinishedBytes: l.unfinished,
	}
}

// limit puts those that the tracker keeps into its configuration.
func (l *limits) limit(c *node.Config) {
	c.MaxSessions, c.MaxFinds, c.MaxWatches, c.MaxHops = l.sessions, l.finds, l.watches, l.hops
	c.MaxClaims, c.MaxClaimsPerNode, c.MaxUnaries, c.MaxBytes = l.claimsPerProxy, l.claimsPerNode, l.unaries, l.tableSize
	if memory := debug.SetMemoryLimit(-1); c.MaxBytes == 0 && memory < math.MaxInt64 {
		c.MaxBytes = int(memory / 2)
	}
}
