package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

const (
	// scope is what says in each span that it was made here.
	scope = "github.com/trackerpool/trackerpool"

	// fillingSpan is the name of a filling's span, which goes by no ratio.
	fillingSpan = "fill"

	// maxSpans is how many spans wait to be sent, of about 1 KiB each; further ones
	// are dropped.
	maxSpans = 2048

	// exportTime is how long one batch is tried to be sent; it is lost then.
	exportTime = 10 * time.Second

	// complainInterval is how often a collector that does not answer is logged at most.
	complainInterval = time.Minute
)

// TracesConfig says where traces go and which.
type TracesConfig struct {
	Endpoint string // host:port of a collector that speaks OTLP over gRPC
	Creds    rpc.Credentials

	// Sample is the ratio of the calls that are traced of those whose caller says
	// nothing of traces, 0 to 1. Where the caller does, it decides. A filling always is.
	Sample float64

	Pool, Tracker, Zone string // that all spans name
	Logger              *slog.Logger
}

// Traces makes spans of what a tracker does, and sends them to a collector. It never
// waits for the collector: what finds no room is dropped. It is safe for concurrent
// use. A nil one makes none.
type Traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	exporter *exporter
}

// NewTraces returns traces that go where cfg says. It does not wait for a connection.
// The caller closes them.
func NewTraces(cfg TracesConfig) (*Traces, error) {
	client := otlptracegrpc.NewClient(
		otlptracegrpc.WithEndpoint(cfg.Endpoint),
		otlptracegrpc.WithTLSCredentials(cfg.Creds),
		otlptracegrpc.WithTimeout(exportTime),
	)
	sent, err := otlptrace.New(context.Background(), client)
	if err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", cfg.Endpoint, err)
	}
	return newTraces(cfg, sent), nil
}

func newTraces(cfg TracesConfig, sent sdktrace.SpanExporter) *Traces {
	e := &exporter{SpanExporter: sent, endpoint: cfg.Endpoint, log: cfg.Logger}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	named := []attribute.KeyValue{
		attribute.String("service.name", "tracker"),
		attribute.String("service.namespace", cfg.Pool),
		attribute.String("service.instance.id", cfg.Tracker),
		attribute.String("service.version", buildinfo.Read().Version),
	}
	if cfg.Zone != "" {
		named = append(named, attribute.String("cloud.availability_zone", cfg.Zone))
	}
	p := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sampler{sdktrace.TraceIDRatioBased(cfg.Sample)})),
		// Named in full: what the SDK would find out of the machine is for others.
		sdktrace.WithResource(resource.NewSchemaless(named...)),
		sdktrace.WithBatcher(e, sdktrace.WithMaxQueueSize(maxSpans), sdktrace.WithExportTimeout(exportTime)),
	)
	return &Traces{p, p.Tracer(scope), e}
}

// Close sends what was not sent yet, until ctx ends; what is left then is lost.
func (t *Traces) Close(ctx context.Context) {
	if t == nil {
		return
	}
	stop := context.AfterFunc(ctx, t.exporter.cancel)
	defer stop()
	// Not with ctx: Shutdown would return with its goroutine under way. What it waits
	// for ends with the exporter's.
	if err := t.provider.Shutdown(context.Background()); err != nil {
		t.exporter.log.Warn("traces did not close well", "err", err)
	}
	t.exporter.cancel()
}

// Spans returns how many spans the collector took, and how many were lost because it
// did not. Those for which there was no room are in neither.
func (t *Traces) Spans() (sent, failed uint64) {
	return t.exporter.sent.Load(), t.exporter.failed.Load()
}

// ServerOptions have a server make a span of each sampled unary call.
func (t *Traces) ServerOptions() []rpc.ServerOption {
	if t == nil {
		return nil
	}
	return []rpc.ServerOption{rpc.WithServerStatsHandler(otelgrpc.NewServerHandler(t.options()...))}
}

// DialOptions have a client of another tracker make a span of each call and each
// lookup that is part of a sampled one, and send the call's trace along.
func (t *Traces) DialOptions(tracker string) []rpc.Option {
	if t == nil {
		return nil
	}
	return []rpc.Option{
		rpc.WithStatsHandler(otelgrpc.NewClientHandler(t.options()...)),
		rpc.WithFindObserver(func(ctx context.Context) func(error) { return t.find(ctx, tracker) }),
	}
}

func (t *Traces) options() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(propagation.TraceContext{}), // no baggage: it is the callers' own
	}
}

// find begins the span of a lookup at another tracker. It shares a stream, and its
// batch, with others, so that the other tracker makes none.
func (t *Traces) find(ctx context.Context, tracker string) func(error) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil
	}
	_, span := t.tracer.Start(ctx, "find", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("trackerpool.tracker", tracker)))
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// Filled makes spans of a filling that is over: one of it, and below it one of each
// part.
func (t *Traces) Filled(f node.Filling) {
	end := time.Now().Add(-f.Ago)
	ctx, span := t.tracer.Start(context.Background(), fillingSpan, trace.WithTimestamp(end.Add(-f.Took)), trace.WithAttributes(
		attribute.String("trackerpool.view", f.View.String()),
		attribute.Int("trackerpool.shards", f.Shards),
		attribute.Int("trackerpool.parts", len(f.Parts)+f.More),
	))
	for i := range f.Parts {
		p := &f.Parts[i]
		name, from := "fill from proxy", "trackerpool.proxy"
		if p.Unary {
			name, from = "fill from tracker", "trackerpool.tracker"
		}
		over := end.Add(-p.Before)
		_, part := t.tracer.Start(ctx, name, trace.WithTimestamp(over.Add(-p.Took)), trace.WithAttributes(
			attribute.String(from, p.From),
			attribute.Int("trackerpool.claims", p.Claims),
			attribute.Int("trackerpool.bytes", p.Bytes),
		))
		part.End(trace.WithTimestamp(over))
	}
	span.End(trace.WithTimestamp(end))
}

// A sampler takes every filling: there are few, and a ratio fit for calls would
// hardly ever show one.
type sampler struct{ calls sdktrace.Sampler }

// ShouldSample is sdktrace.Sampler's.
func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.Name == fillingSpan {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return s.calls.ShouldSample(p)
}

// Description is sdktrace.Sampler's.
func (s sampler) Description() string { return "fillings, and " + s.calls.Description() }

// An exporter counts what it sends, and says now and then what it cannot: the SDK
// would tell a handler that the whole process shares, each time.
type exporter struct {
	sdktrace.SpanExporter
	endpoint     string
	log          *slog.Logger
	ctx          context.Context // ends when nothing is to be sent any more
	cancel       context.CancelFunc
	sent, failed atomic.Uint64

	// What was logged. The SDK exports one batch after the other.
	complained time.Time
	lost       uint64 // since then
	away       bool   // a complaint was logged, and no spans arrived since
}

// ExportSpans is sdktrace.SpanExporter's. What fails is not tried again.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		e.sent.Add(uint64(len(spans)))
	} else {
		e.failed.Add(uint64(len(spans)))
	}
	e.tell(time.Now(), len(spans), err)
	return nil
}

// tell logs at most one loss in complainInterval, and where there was one the first
// success after it.
func (e *exporter) tell(now time.Time, spans int, err error) {
	switch {
	case err == nil && e.away:
		e.away = false
		e.log.Info("traces arrive again", "endpoint", e.endpoint, "lost", e.lost)
		e.lost = 0
	case err != nil:
		e.lost += uint64(spans)
		if !e.complained.IsZero() && now.Sub(e.complained) < complainInterval {
			return
		}
		e.complained, e.away = now, true
		e.log.Warn("traces are lost: the collector does not take them", "endpoint", e.endpoint, "lost", e.lost, "err", err)
		e.lost = 0
	}
}
