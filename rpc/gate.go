package rpc

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/node"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

const (
	// operatorService is gated as a whole, and so are those that are gRPC's own.
	operatorService   = "/trackerpool.v1.Operator/"
	reflectionService = "/grpc.reflection."

	// logDenied is how often refusals are logged at most; the line says how many
	// there were.
	logDenied = time.Second
)

// actionOf returns what a method does, or 0 for one that nobody may call.
func actionOf(method string) access.Action {
	switch method {
	case pb.NodeTracker_GetProxies_FullMethodName, pb.NodeTracker_GetView_FullMethodName, pb.NodeTracker_WatchView_FullMethodName,
		pb.NodeTracker_Find_FullMethodName,
		grpc_health_v1.Health_Check_FullMethodName, grpc_health_v1.Health_List_FullMethodName, grpc_health_v1.Health_Watch_FullMethodName:
		return access.Look
	case pb.NodeTracker_AddNode_FullMethodName, pb.NodeTracker_Session_FullMethodName:
		return access.Claim
	case pb.NodeTracker_RemoveNode_FullMethodName, pb.NodeTracker_RemoveProxy_FullMethodName:
		return access.Remove
	case pb.Peering_Seat_FullMethodName, pb.Peering_Copies_FullMethodName, pb.Peering_Store_FullMethodName, pb.Peering_Forget_FullMethodName,
		pb.Peering_Stay_FullMethodName:
		return access.Peer
	}
	switch {
	case strings.HasPrefix(method, operatorService):
		return access.Operate
	case strings.HasPrefix(method, reflectionService):
		return access.Look
	}
	return 0
}

// identify returns whose connection it is. A certificate counts only where it was
// verified.
func identify(ids access.Identities, auth credentials.AuthInfo) (access.Identity, error) {
	var chains [][]*x509.Certificate
	if info, ok := auth.(credentials.TLSInfo); ok {
		chains = info.State.VerifiedChains
	}
	if len(chains) == 0 || len(chains[0]) == 0 {
		return access.Identity{}, errNoCertificate()
	}
	return ids.Of(chains[0][0])
}

func errNoCertificate() error {
	return &node.DeniedError{Field: "certificate", Problem: "none was presented; connect with TLS and one that the tracker's client_ca_file has signed"}
}

// callerOf returns who calls. ok is false where the server asks nobody who he is.
func callerOf(ctx context.Context) (who access.Identity, ok bool, err error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return who, false, nil
	}
	c, _ := p.AuthInfo.(identified)
	return c.identity, c.asked, c.err
}

// own returns an error unless the caller may do it as, or to, the subject.
func own(ctx context.Context, a access.Action, subject string) error {
	who, known, err := callerOf(ctx)
	if !known || err != nil {
		return err
	}
	return who.Check(a, subject)
}

// A gate lets each caller call what its role may, and tells of those that were
// refused, by it or by the handlers behind it.
type gate struct {
	log    *slog.Logger
	denied atomic.Uint64

	mu     sync.Mutex // guards the rest
	told   time.Time
	untold int
}

// enter decides at the beginning of a call; what it is about is for the handler.
func (g *gate) enter(ctx context.Context, method string) error {
	who, known, err := callerOf(ctx)
	switch {
	case err != nil:
		return err
	case !known: // a server with a gate makes callers of all
		return errNoCertificate()
	}
	return who.CheckRole(actionOf(method))
}

// leave returns what a call returns, and tells of it if it was refused.
func (g *gate) leave(ctx context.Context, method string, err error) error {
	if _, ok := errors.AsType[*node.DeniedError](err); ok {
		err = encodeError(err)
	}
	if err == nil || status.Code(err) != codes.PermissionDenied {
		return err
	}
	g.denied.Add(1)
	g.mu.Lock()
	g.untold++
	n, now := g.untold, time.Now()
	if now.Sub(g.told) < logDenied {
		g.mu.Unlock()
		return err
	}
	g.told, g.untold = now, 0
	g.mu.Unlock()
	who, _, _ := callerOf(ctx) // nobody, where it is not known
	addr := ""
	if p, ok := peer.FromContext(ctx); ok {
		addr = p.Addr.String()
	}
	g.log.Warn("denied", "identity", who.String(), "certificate", who.From, "method", method, "from", addr, "err", status.Convert(err).Message(), "denied_since", n)
	return err
}

func (g *gate) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	err := g.enter(s.Context(), info.FullMethod)
	if err == nil {
		err = handler(srv, s)
	}
	return g.leave(s.Context(), info.FullMethod, err)
}
