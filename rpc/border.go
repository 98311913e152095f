package rpc

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
)

// A border is what every unary call passes: it is counted, its panics are caught, and
// the gate lets it in, in this order. A chain of interceptors would say the same, but
// each link has two frames, and a call begins on a small stack that grows by being
// copied.
type border struct {
	counts *callCounts
	log    *slog.Logger
	gate   *gate // nil where all may do all
}

func (b *border) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	m := b.counts.of(info.FullMethod)
	m.open.Add(1)
	began := time.Now()
	defer func() {
		m.took.Observe(time.Since(began))
		m.end(err)
	}()
	defer recovered(b.log, info.FullMethod, &err)
	if b.gate == nil {
		return handler(ctx, req)
	}
	if err := b.gate.enter(ctx, info.FullMethod); err != nil {
		return nil, b.gate.leave(ctx, info.FullMethod, err)
	}
	resp, err = handler(ctx, req)
	return resp, b.gate.leave(ctx, info.FullMethod, err)
}
