package rpc

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/trackerpool/trackerpool/node"
)

// Limits bound what clients may use of a server. Fields that are zero mean their
// default.
type Limits struct {
	// Connections is how many there may be, default 16,384, and Handshakes how many of
	// them may be at their TLS handshake, default 1,024; further ones are closed at once.
	Connections, Handshakes int

	// Streams is how many calls and streams one connection may have at a time; default
	// 1,024. Further ones wait at the client.
	Streams int

	// ConnectionsPerIdentity, CallsPerIdentity and SessionsPerIdentity are what one
	// identity may have at a time, where the server asks for identities: default 1,024,
	// 4,096 and 4. Of calls streams are a part, and of these sessions. Further
	// connections are closed at once, and further calls get an *OverloadError. A call is
	// there until its client has taken the answer.
	ConnectionsPerIdentity, CallsPerIdentity, SessionsPerIdentity int

	// UnfinishedBytes is how much there may be of messages whose end has not come, in
	// bytes; default 128 MiB. Past it the connection with the most of them is closed, of the
	// identity with the most.
	UnfinishedBytes int

	// HandshakeTime is how long a connection has until it is ready for calls; default
	// 10 s. IdleTime is how long one may have none; default 5 min. SendTime is how long
	// a client may not take what is sent on a stream, or as an answer; default 10 s. After that the
	// connection is closed.
	HandshakeTime, IdleTime, SendTime time.Duration
}

// Default values of Limits.
const (
	DefaultConnections            = 16_384
	DefaultHandshakes             = 1024
	DefaultStreams                = 1024
	DefaultConnectionsPerIdentity = 1024
	DefaultCallsPerIdentity       = 4096
	DefaultSessionsPerIdentity    = 4
	DefaultUnfinishedBytes        = 128 << 20
	DefaultHandshakeTime          = 10 * time.Second
	DefaultIdleTime               = 5 * time.Minute
	DefaultSendTime               = 10 * time.Second
)

// Validate returns all faults of l, joined.
func (l Limits) Validate() error {
	var faults []error
	for _, f := range []struct {
		field string
		value int64
	}{
		{"max_connections", int64(l.Connections)}, {"max_handshakes", int64(l.Handshakes)}, {"max_streams", int64(l.Streams)},
		{"max_connections_per_identity", int64(l.ConnectionsPerIdentity)}, {"max_calls_per_identity", int64(l.CallsPerIdentity)},
		{"max_sessions_per_identity", int64(l.SessionsPerIdentity)},
		{"max_unfinished_bytes", int64(l.UnfinishedBytes)},
		{"handshake_time", int64(l.HandshakeTime)}, {"idle_time", int64(l.IdleTime)}, {"send_time", int64(l.SendTime)},
	} {
		if f.value < 0 {
			faults = append(faults, &node.InvalidError{Field: f.field, Value: fmt.Sprint(f.value), Problem: "use more than 0, or 0 for the default"})
		}
	}
	return errors.Join(faults...)
}

func (l Limits) withDefaults() Limits {
	l.Connections = cmp.Or(l.Connections, DefaultConnections)
	l.Handshakes = cmp.Or(l.Handshakes, DefaultHandshakes)
	l.Streams = cmp.Or(l.Streams, DefaultStreams)
	l.ConnectionsPerIdentity = cmp.Or(l.ConnectionsPerIdentity, DefaultConnectionsPerIdentity)
	l.CallsPerIdentity = cmp.Or(l.CallsPerIdentity, DefaultCallsPerIdentity)
	l.SessionsPerIdentity = cmp.Or(l.SessionsPerIdentity, DefaultSessionsPerIdentity)
	l.UnfinishedBytes = cmp.Or(l.UnfinishedBytes, DefaultUnfinishedBytes)
	l.HandshakeTime = cmp.Or(l.HandshakeTime, DefaultHandshakeTime)
	l.IdleTime = cmp.Or(l.IdleTime, DefaultIdleTime)
	l.SendTime = cmp.Or(l.SendTime, DefaultSendTime)
	return l
}
