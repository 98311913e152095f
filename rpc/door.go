package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

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
	guard    *guard
}

// A door lets connections and calls in as far as there is room, and looks at who
// comes. It is the credentials of a server.
type door struct {
	Credentials
	limits     Limits
	identities *access.Identities // nil: nobody is asked
	refused    atomic.Uint64      // connections, for lack of room
	slow       atomic.Uint64      // connections whose clients did not read
	abusive    atomic.Uint64      // connections whose clients a guard stopped
	half       atomic.Int64       // bytes of messages whose end has not come

	mu                     sync.Mutex // guards the rest
	open, shaking          int
	conns, calls, sessions map[string]int // of an identity, by the name that gives it; calls are streams that have not ended
	guards                 map[*guard]struct{}
	standings              map[string]*standing // by identity
	sources                map[string]time.Time // addresses from which no handshake is begun until then
}

func newDoor(creds Credentials, limits Limits, ids *access.Identities) *door {
	return &door{Credentials: creds, limits: limits, identities: ids,
		conns: map[string]int{}, calls: map[string]int{}, sessions: map[string]int{},
		guards: map[*guard]struct{}{}, standings: map[string]*standing{}, sources: map[string]time.Time{}}
}

// Clone returns d, which nobody can change.
func (d *door) Clone() Credentials { return d }

var (
	errManyConnections = errors.New("there are as many connections as there may be")
	errManyHandshakes  = errors.New("there are as many handshakes under way as there may be")
)

// ServerHandshake closes raw where it returns an error.
func (d *door) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	wait, err := d.knock(raw)
	if err != nil {
		d.refused.Add(1)
		return nil, nil, errors.Join(err, raw.Close())
	}
	time.Sleep(wait)
	conn, auth, err := d.Credentials.ServerHandshake(raw)
	c := identified{AuthInfo: auth, asked: d.identities != nil}
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
	c.guard = newGuard(conn, raw, d, from)
	c.guard.unheard = d.arrivedLocked(from, raw)
	change(d.conns, from, 1)
	d.guards[c.guard] = struct{}{}
	d.mu.Unlock()
	return c.guard, c, nil
}

// leave is told when a connection is closed.
func (d *door) leave(g *guard) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	change(d.conns, g.from, -1)
	delete(d.guards, g)
}

const (
	// arrivals is how many new connections of an identity are heard at once, and
	// arrivalsPerSecond how many more each second. Further ones, as of a fleet that has one
	// certificate and starts, are heard after refusedTime, and handshakes with where they
	// come from wait as long: an attacker does not mind not to be heard. Sessions may be
	// begun as often; further ones are told to come back.
	arrivals          = 100
	arrivalsPerSecond = 10

	// manyStandings are so many identities, or sources, that those are forgotten of which
	// there is nothing to say.
	manyStandings = 1024
)

// A standing is how an identity has behaved of late.
type standing struct {
	arrivals, sessions allowance
	unheard            time.Time // until when new connections are not heard: it was abusive
}

// standingLocked returns the standing of an identity that has one.
func (d *door) standingLocked(from string) *standing {
	s := d.standings[from]
	if s != nil {
		return s
	}
	if len(d.standings) >= manyStandings {
		maps.DeleteFunc(d.standings, func(_ string, s *standing) bool {
			return s.arrivals.full() && s.sessions.full() && time.Now().After(s.unheard)
		})
	}
	s = &standing{arrivals: newAllowance(arrivals, arrivalsPerSecond), sessions: newAllowance(arrivals, arrivalsPerSecond)}
	d.standings[from] = s
	return s
}

// arrivedLocked counts a connection of an identity, and returns until when it is not
// heard.
func (d *door) arrivedLocked(from string, raw net.Conn) time.Time {
	if from == "" {
		return time.Time{}
	}
	s := d.standingLocked(from)
	if s.arrivals.take(1) {
		return s.unheard
	}
	now := time.Now()
	if len(d.sources) >= manyStandings {
		maps.DeleteFunc(d.sources, func(_ string, until time.Time) bool { return now.After(until) })
	}
	d.sources[source(raw)] = now.Add(refusedTime)
	return now.Add(refusedTime)
}

// source is where a connection comes from.
func source(raw net.Conn) string {
	addr := raw.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// disgrace has new connections of an identity not heard for a while: one of its
// connections was ended for what it did.
func (d *door) disgrace(from string) {
	if from == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.standingLocked(from).unheard = time.Now().Add(refusedTime)
}

// count changes how many streams an identity has that have not ended.
func (d *door) count(from string, by int) {
	if from == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d.calls, from, by)
}

// spare closes connections while messages that have not come to their end take more
// than they may. It begins with the greediest connection of the greediest identity.
func (d *door) spare() {
	for d.half.Load() > int64(d.limits.UnfinishedBytes) {
		g := d.greediest()
		if g == nil {
			return
		}
		d.abusive.Add(1)
		g.leave(errHalf)
		_ = g.raw.Close() // what is under way on it then fails
	}
}

func (d *door) greediest() *guard {
	d.mu.Lock()
	defer d.mu.Unlock()
	sums := map[string]int64{}
	var most *guard
	var mostOf, mostOwn int64
	for g := range d.guards {
		sums[g.from] += g.half.Load()
	}
	for g := range d.guards {
		own := g.half.Load()
		of := sums[g.from]
		if g.from == "" {
			of = own // nobody knows who they are
		}
		if own > 0 && (of > mostOf || of == mostOf && own > mostOwn) {
			most, mostOf, mostOwn = g, of, own
		}
	}
	return most
}

// knock counts a connection that is to be, if there is room, and returns for how long its
// handshake is to wait because of where it comes from.
func (d *door) knock(raw net.Conn) (wait time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.open >= d.limits.Connections:
		return 0, errManyConnections
	case d.shaking >= d.limits.Handshakes:
		return 0, errManyHandshakes
	}
	d.open++
	d.shaking++
	return time.Until(d.sources[source(raw)]), nil
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

// tap refuses calls of an identity that has too many. It does so before their messages
// come: a call whose message never does is one, too. The guards have counted each, and
// do so until the client has the answer.
func (d *door) tap(counts *callCounts) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		c := whoCalls(ctx)
		if c.identity.From == "" {
			return ctx, nil
		}
		d.mu.Lock()
		many := d.calls[c.identity.From] > d.limits.CallsPerIdentity
		d.mu.Unlock()
		if !many {
			return ctx, nil
		}
		err := overload(c.identity, "calls", d.limits.CallsPerIdentity)
		counts.refused(info.FullMethodName, err)
		return ctx, err
	}
}

// whoCalls returns who makes a call.
func whoCalls(ctx context.Context) identified {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identified{}
	}
	c, _ := p.AuthInfo.(identified)
	return c
}

func overload(who access.Identity, what string, most int) error {
	return encodeError(&node.OverloadError{What: fmt.Sprintf("%v has %d %s under way, the most that there may be", who, most, what), After: time.Second})
}

// begin counts a session of an identity, until end is called, if there is room.
func (d *door) begin(who access.Identity) (end func(), err error) {
	if who.From == "" {
		return func() {}, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions[who.From] >= d.limits.SessionsPerIdentity {
		return nil, overload(who, "sessions", d.limits.SessionsPerIdentity)
	}
	if !d.standingLocked(who.From).sessions.take(1) {
		return nil, encodeError(&node.OverloadError{What: fmt.Sprintf("%v has begun %d sessions, and %d more each second, the most that it may", who, arrivals, arrivalsPerSecond), After: time.Second})
	}
	change(d.sessions, who.From, 1)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		change(d.sessions, who.From, -1)
	}, nil
}

func (d *door) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c := whoCalls(s.Context())
	if info.FullMethod == pb.NodeTracker_Session_FullMethodName {
		end, err := d.begin(c.identity)
		if err != nil {
			return err
		}
		defer end()
	}
	slow := time.AfterFunc(d.limits.SendTime, c.guard.slow) // the stream then fails
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
