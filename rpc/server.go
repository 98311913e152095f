package rpc

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/node"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

const (
	// MaxMessageBytes is the largest message that a server or a client takes.
	MaxMessageBytes = 4 << 20

	// bufferBytes is what a connection reads and writes at a time: a full batch of
	// lookups in one call to the kernel.
	bufferBytes = 64 << 10

	// headerBytes is the most that the headers of a call have, by the count of HTTP/2:
	// names, values and 32 for each. gRPC's own limit allows half a million of them.
	headerBytes = 16 << 10

	// streamWindow is what a client may send on a stream that is not read yet, and
	// connWindow on a connection. They do not grow, as gRPC's own do to 16 MiB each: a
	// thousand streams can be filled while they wait for their client.
	streamWindow = 256 << 10
	connWindow   = 1 << 20

	// keepaliveTime is after how long without a frame a connection is pinged, and
	// keepaliveTimeout how long it then has. What must be noticed sooner, is by the
	// pings of Session and Find.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second

	// workers are goroutines that wait for calls, each with a stack that has grown
	// already: to grow one anew is a sixth of what a unary call costs. A stream keeps
	// its worker for as long as it is open; calls that find none free get a goroutine
	// of their own.
	workers = 64
)

// A Server serves a node.Service. Besides the methods of a grpc.Server (Serve,
// Stop, GracefulStop) it has the health of the whole.
type Server struct {
	*grpc.Server
	health *health.Server
	door   *door
	gate   *gate // nil where all may do all
	counts *callCounts
}

type serverConfig struct {
	creds      credentials.TransportCredentials
	log        *slog.Logger
	operator   node.Operator
	identities *access.Identities
	limits     Limits
	stats      stats.Handler
}

// A ServerOption changes how NewServer serves.
type ServerOption func(*serverConfig)

// WithServerCredentials serves with TLS; see ServerCredentials. Without it a
// server speaks plain text.
func WithServerCredentials(c Credentials) ServerOption {
	return func(cfg *serverConfig) { cfg.creds = c }
}

// WithIdentities lets each caller do only what the identity of its certificate may;
// see package access. It needs server credentials with a CAFile. Without it whoever
// can connect may do everything.
func WithIdentities(ids access.Identities) ServerOption {
	return func(cfg *serverConfig) { cfg.identities = &ids }
}

// WithLimits bounds what clients may use.
func WithLimits(l Limits) ServerOption { return func(cfg *serverConfig) { cfg.limits = l } }

// WithLogger logs to l instead of slog.Default: panics of handlers, and who was
// denied what.
func WithLogger(l *slog.Logger) ServerOption { return func(cfg *serverConfig) { cfg.log = l } }

// NewServer returns a server of svc, of gRPC health and of reflection. It is not
// serving in the sense of health until SetServing says so. A panic of a handler is
// logged, and answered INTERNAL.
func NewServer(svc node.Service, opts ...ServerOption) *Server {
	cfg := serverConfig{creds: Insecure(), log: slog.Default()}
	for _, o := range opts {
		o(&cfg)
	}
	limits := cfg.limits.withDefaults()
	d := newDoor(cfg.creds, limits, cfg.identities)
	counts := newCallCounts()
	stream := []grpc.StreamServerInterceptor{counts.stream, recoverStream(cfg.log)}
	var g *gate
	if cfg.identities != nil {
		g = &gate{log: cfg.log}
		stream = append(stream, g.stream)
	}
	stream = append(stream, d.stream)
	border := &border{counts: counts, log: cfg.log, gate: g}
	serverOptions := []grpc.ServerOption{
		grpc.Creds(d),
		grpc.ConnectionTimeout(limits.HandshakeTime),
		grpc.ForceServerCodecV2(incomingCodec{encoding.GetCodecV2("proto")}),
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.MaxConcurrentStreams(uint32(limits.Streams)),
		grpc.MaxHeaderListSize(headerBytes),
		//lint:ignore SA1019 nothing else keeps a server from what any package of the program has registered
		grpc.RPCDecompressor(compressedNot{}),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ReadBufferSize(bufferBytes),
		grpc.WriteBufferSize(bufferBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, MaxConnectionIdle: limits.IdleTime}),
		// Half of the clients' interval: pings that a slow network bunches are no
		// flood.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.InTapHandle(d.tap(counts)),
		grpc.UnaryInterceptor(border.unary),
		grpc.NumStreamWorkers(workers),
		grpc.ChainStreamInterceptor(stream...),
	}
	if cfg.stats != nil {
		serverOptions = append(serverOptions, grpc.StatsHandler(newUnaryStats(cfg.stats)))
	}
	s := &Server{
		door:   d,
		gate:   g,
		Server: grpc.NewServer(serverOptions...),
		health: health.NewServer(),
		counts: counts,
	}
	s.SetServing(false)
	grpc_health_v1.RegisterHealthServer(s, s.health)
	reflection.Register(s)
	register(s, svc, counts)
	if cfg.operator != nil {
		s.RegisterService(blaming(pb.Operator_ServiceDesc), &operatorServer{op: cfg.operator})
	}
	return s
}

// Calls returns what the server has served, by method, in no order. A request that is
// no message of its method is not counted.
func (s *Server) Calls() []Calls { return s.counts.calls() }

// SetServing sets what gRPC health answers, for the server as a whole ("") and for
// each of its services.
func (s *Server) SetServing(serving bool) {
	answer := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		answer = grpc_health_v1.HealthCheckResponse_SERVING
	}
	for _, service := range []string{"", pb.NodeTracker_ServiceDesc.ServiceName, pb.Peering_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(service, answer)
	}
}

// Denied returns how many calls were refused because of who made them.
func (s *Server) Denied() uint64 {
	if s.gate == nil {
		return 0
	}
	return s.gate.denied.Load()
}

// Refused returns how many connections were closed for lack of room, how many because
// their client did not read, and how many because their client sent frames without end
// that bring nothing, or held back the ends of too large messages.
func (s *Server) Refused() (full, slow, abusive uint64) {
	return s.door.refused.Load(), s.door.slow.Load(), s.door.abusive.Load()
}

// Shutdown stops the server: it takes no new call, waits for those that run until
// ctx ends, and then ends them. Streams run for as long as their clients like, so
// ctx needs a deadline.
func (s *Server) Shutdown(ctx context.Context) {
	s.health.Shutdown()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.Stop()
		<-done
	}
}

// Register adds svc to a gRPC server, which may have services of its own. Prefer
// NewServer, which survives a panic, names a field that is not UTF-8, bounds what a
// client may use, and can ask who it is.
func Register(s grpc.ServiceRegistrar, svc node.Service) { register(s, svc, newCallCounts()) }

func register(s grpc.ServiceRegistrar, svc node.Service, counts *callCounts) {
	s.RegisterService(blaming(pb.NodeTracker_ServiceDesc), &trackerServer{svc: svc, batches: &counts.of(pb.NodeTracker_Find_FullMethodName).took})
	s.RegisterService(blaming(pb.Peering_ServiceDesc), &peeringServer{svc: svc})
}

// blaming returns d with unary calls that blame a request that cannot be read on
// its sender; see incoming.
func blaming(d grpc.ServiceDesc) *grpc.ServiceDesc {
	d.Methods = slices.Clone(d.Methods)
	for i, m := range d.Methods {
		d.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			return m.Handler(srv, ctx, func(v any) error {
				in := incoming{Message: v.(proto.Message)}
				if err := decode(&in); err != nil {
					return err
				}
				return encodeError(in.err)
			}, interceptor)
		}
	}
	return &d
}

func recoverStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer recovered(log, info.FullMethod, &err)
		return handler(srv, s)
	}
}

// recovered makes a panic an error. What it says stays in the log: it is nothing
// that a caller could use.
func recovered(log *slog.Logger, method string, err *error) {
	if p := recover(); p != nil {
		log.Error("panic in a handler: please report it", "method", method, "panic", p, "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "the tracker's handler of %s panicked; its log has the stack", method)
	}
}
