package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// WithStatsHandler tells h of the unary calls that the client makes, such as a handler
// of OpenTelemetry, which makes spans of them and sends the caller's along. It is told
// nothing of streams: sessions and lookups share theirs, which last for days. Without
// it, and for nil, nobody is told, and it costs nothing.
func WithStatsHandler(h stats.Handler) Option {
	return func(o *options) { o.stats = h }
}

// WithServerStatsHandler tells h of the unary calls that the server takes, but not of
// those that find no room; see WithStatsHandler.
func WithServerStatsHandler(h stats.Handler) ServerOption {
	return func(cfg *serverConfig) { cfg.stats = h }
}

// WithFindObserver has begin called when Find begins, and what it returns when Find
// ends, with its error. Find's question goes in a batch with those of others, so that
// no handler of WithStatsHandler hears of it. Both must not block; the returned
// function may be nil.
func WithFindObserver(begin func(context.Context) (end func(error))) Option {
	return func(o *options) { o.observe = begin }
}

// unaryStats passes on what is of a unary call of this pool.
type unaryStats struct {
	stats.Handler
	methods map[string]bool // not modified
}

// A toldOf marks the context of a call that the handler is told of.
type toldOf struct{}

func newUnaryStats(h stats.Handler) stats.Handler {
	u := unaryStats{h, map[string]bool{}}
	for _, d := range []grpc.ServiceDesc{pb.NodeTracker_ServiceDesc, pb.Peering_ServiceDesc, pb.Operator_ServiceDesc} {
		for _, m := range d.Methods {
			u.methods["/"+d.ServiceName+"/"+m.MethodName] = true
		}
	}
	return u
}

// TagRPC is stats.Handler's. The mark is set for every call, since a call that is
// made within another has that one's context.
func (u unaryStats) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	told := u.methods[info.FullMethodName]
	if told {
		ctx = u.Handler.TagRPC(ctx, info)
	}
	return context.WithValue(ctx, toldOf{}, told)
}

// HandleRPC is stats.Handler's.
func (u unaryStats) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if told, _ := ctx.Value(toldOf{}).(bool); told {
		u.Handler.HandleRPC(ctx, s)
	}
}
