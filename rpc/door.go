package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/node"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// An identified is the AuthInfo of a connection: who its client is, or why that is not
// known, worked out once, at the handshake.
type identified struct {
	credentials.AuthInfo
	asked    bool // the server asks its clients who they are
	identity access.Identity
	err      error
	raw      net.Conn // to close where the client does not read
}

// A door lets connections and calls in as far as there is room, and looks at who
// comes. It is the credentials of a server.
type door struct {
	Credentials
	limits     Limits
	identities *access.Identities // nil: nobody is asked
	refused    atomic.Uint64      // connections, for lack of room
	slow       atomic.Uint64      // connections whose clients did not read

	mu                     sync.Mutex // guards the rest
	open, shaking          int
	conns, calls, sessions map[string]int // of an identity, by the name that gives it
}

func newDoor(creds Credentials, limits Limits, ids *access.Identities) *door {
	return &door{Credentials: creds, limits: limits, identities: ids, conns: map[string]int{}, calls: map[string]int{}, sessions: map[string]int{}}
}

// Clone returns d, which nobody can change.
func (d *door) Clone() Credentials { return d }

var (
	errManyConnections = errors.New("there are as many connections as there may be")
	errManyHandshakes  = errors.New("there are as many handshakes under way as there may be")
)

// ServerHandshake closes raw where it returns an error.
func (d *door) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if err := d.knock(); err != nil {
		d.refused.Add(1)
		return nil, nil, errors.Join(err, raw.Close())
	}
	conn, auth, err := d.Credentials.ServerHandshake(raw)
	c := identified{AuthInfo: auth, asked: d.identities != nil, raw: raw}
	if err == nil && c.asked {
		c.identity, c.err = identify(*d.identities, auth)
	}
	d.mu.Lock()
	d.shaking--
	from := c.identity.From
	if err == nil && from != "" && d.conns[from] >= d.limits.ConnectionsPerIdentity {
		d.refused.Add(1)
		err = fmt.Errorf("%v has as many connections as it may have", c.identity)
	}
	if err != nil {
		d.open--
		d.mu.Unlock()
		return nil, nil, errors.Join(err, raw.Close())
	}
	change(d.conns, from, 1)
	d.mu.Unlock()
	return &doorConn{Conn: conn, leave: sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open--
		change(d.conns, from, -1)
	})}, c, nil
}

// knock counts a connection that is to be, if there is room.
func (d *door) knock() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.open >= d.limits.Connections:
		return errManyConnections
	case d.shaking >= d.limits.Handshakes:
		return errManyHandshakes
	}
	d.open++
	d.shaking++
	return nil
}

// change changes a count of an identity, and keeps none that is 0. Nobody's are not
// counted.
func change(counts map[string]int, from string, by int) {
	if from == "" {
		return
	}
	if counts[from] += by; counts[from] == 0 {
		delete(counts, from)
	}
}

// A doorConn is a connection that says when it is closed.
type doorConn struct {
	net.Conn
	leave func()
}

func (c *doorConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// SyscallConn lets gRPC set options of the socket.
func (c *doorConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// admit counts a call of an identity, until leave is called, if there is room.
func (d *door) admit(ctx context.Context, method string) (leave func(), err error) {
	p, _ := peer.FromContext(ctx)
	c, _ := p.AuthInfo.(identified)
	from := c.identity.From
	if from == "" {
		return func() {}, nil
	}
	session := 0
	if method == pb.NodeTracker_Session_FullMethodName {
		session = 1
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	overload := func(most int, what string) error {
		return encodeError(&node.OverloadError{What: fmt.Sprintf("%v has %d %s under way, the most that there may be", c.identity, most, what), After: time.Second})
	}
	switch {
	case d.calls[from] >= d.limits.CallsPerIdentity:
		return nil, overload(d.limits.CallsPerIdentity, "calls")
	case d.sessions[from]+session > d.limits.SessionsPerIdentity:
		return nil, overload(d.limits.SessionsPerIdentity, "sessions")
	}
	change(d.calls, from, 1)
	change(d.sessions, from, session)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		change(d.calls, from, -1)
		change(d.sessions, from, -session)
	}, nil
}

func (d *door) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	leave, err := d.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	defer leave()
	return handler(ctx, req)
}

func (d *door) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	leave, err := d.admit(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	defer leave()
	p, _ := peer.FromContext(s.Context())
	c, _ := p.AuthInfo.(identified)
	slow := time.AfterFunc(d.limits.SendTime, func() {
		d.slow.Add(1)
		_ = c.raw.Close() // the stream then fails
	})
	slow.Stop()
	defer slow.Stop()
	return handler(srv, &readStream{s, slow, d.limits.SendTime})
}

// A readStream is a stream whose client must read: else the connection is closed.
// Nothing less ends a stream that waits for its client.
type readStream struct {
	grpc.ServerStream
	slow *time.Timer
	time time.Duration
}

func (s *readStream) SendMsg(m any) error {
	s.slow.Reset(s.time)
	err := s.ServerStream.SendMsg(m)
	s.slow.Stop()
	return err
}
