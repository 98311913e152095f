package trackercmd_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

// A receiver is a collector of traces: it keeps what it gets.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	addr string

	mu    sync.Mutex // guards spans
	spans []receivedSpan
}

type receivedSpan struct {
	*tracepb.Span
	from string // the tracker; empty for others
}

func (r *receiver) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range q.GetResourceSpans() {
		from := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.instance.id" {
				from = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				r.spans = append(r.spans, receivedSpan{s, from})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *receiver) all() []receivedSpan {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// String is what came, for failures.
func (r *receiver) String() string {
	var b strings.Builder
	for _, s := range r.all() {
		fmt.Fprintf(&b, "%x %x below %x: %q of %q, %v\n", s.GetTraceId(), s.GetSpanId(), s.GetParentSpanId(), s.GetName(), s.from, s.GetKind())
	}
	return b.String()
}

// below returns the span of that name, tracker and kind whose parent is a span.
func (r *receiver) below(t *testing.T, parent *tracepb.Span, from, name string, kind tracepb.Span_SpanKind) *tracepb.Span {
	t.Helper()
	for _, s := range r.all() {
		if s.from == from && s.GetName() == name && s.GetKind() == kind &&
			string(s.GetTraceId()) == string(parent.GetTraceId()) && string(s.GetParentSpanId()) == string(parent.GetSpanId()) {
			return s.Span
		}
	}
	t.Fatalf("no span %q of %q below %x in trace %x:\n%v", name, from, parent.GetSpanId(), parent.GetTraceId(), r)
	return nil
}

func serveCollector(t *testing.T, creds rpc.Credentials) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{addr: l.Addr().String()}
	s := grpc.NewServer(grpc.Creds(creds))
	collector.RegisterTraceServiceServer(s, r)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return r
}

// A call that its caller traces is traced at the tracker that takes it and at the one
// that it goes on to; a filling is without anybody's asking; and a tracker that stops
// sends what it has. The collector speaks TLS, and is known by an authority.
func TestTraces(t *testing.T) {
	ca := newCerts(t)
	pair, err := ca.Issue(access.Tracker, "collector", []string{"127.0.0.1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := rpc.ServerCredentials(rpc.TLSFiles{KeyPairs: []rpc.KeyPair{rpc.KeyPair(pair)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	traces := serveCollector(t, creds)
	tracing := []string{"--trace-endpoint", traces.addr, "--trace-ca-file", ca.CAFile(), "--trace-sample", "0"}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	first := start(t, flags("t-0", slices.Concat(ca.tracker("t-0"), tracing, []string{"--seats", "t-0", "--new-pool"})...)...)
	first.ready()
	proxy := ca.open(first.addr("listen_addr"), "p-1", ca.files(access.Proxy, "p-1"))
	var claims []node.Claim
	for i := range 100 {
		claims = append(claims, node.Claim{Node: node.ID(fmt.Sprint("n-", i))})
	}
	if err := proxy.Add(ctx, claims...); err != nil {
		t.Fatal(err)
	}
	second := start(t, flags("t-1", slices.Concat(ca.tracker("t-1"), tracing, []string{"--join", first.addr("gossip_addr")})...)...)
	second.ready()
	for _, p := range []*process{first, second} {
		p.metric(`tracker_shards{state="open"}`, "64")
	}

	own := ca.files(access.Proxy, "p-2")
	exported, err := rpc.ClientCredentials(rpc.TLSFiles{CAFile: ca.CAFile()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(traces.addr), otlptracegrpc.WithTLSCredentials(exported))
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	defer func() {
		if err := provider.Shutdown(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	dialing, err := rpc.ClientCredentials(own, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rpc.Dial(second.addr("listen_addr"), dialing, rpc.WithStatsHandler(otelgrpc.NewClientHandler(
		otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagation.TraceContext{}))))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	calling, call := provider.Tracer("test").Start(ctx, "a caller's")
	if _, err := client.AddNode(calling, node.Claim{Node: "x", Proxy: node.Proxy{ID: "p-2", Addr: "192.0.2.1:3022"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.GetProxies(calling, "nobody's"); err != nil {
		t.Fatal(err)
	}
	call.End()
	if err := proxy.Close(); err != nil { // trackers leave at once where nobody has anything there
		t.Fatal(err)
	}
	untraced := ca.dial(second.addr("listen_addr"), own)
	if err := untraced.RemoveProxy(ctx, "p-2", 0); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{second, first} {
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d after SIGTERM, want 0", code)
		}
	}

	const inTracker, inPeering = "trackerpool.v1.NodeTracker/", "trackerpool.v1.Peering/"
	const server, clients = tracepb.Span_SPAN_KIND_SERVER, tracepb.Span_SPAN_KIND_CLIENT
	root := traces.below(t, &tracepb.Span{TraceId: traceID(call.SpanContext().TraceID())}, "", "a caller's", tracepb.Span_SPAN_KIND_INTERNAL)
	added := traces.below(t, traces.below(t, root, "", inTracker+"AddNode", clients), "t-1", inTracker+"AddNode", server)
	traces.below(t, traces.below(t, added, "t-1", inPeering+"Store", clients), "t-0", inPeering+"Store", server)
	asked := traces.below(t, traces.below(t, root, "", inTracker+"GetProxies", clients), "t-1", inTracker+"GetProxies", server)
	traces.below(t, asked, "t-1", "find", clients)

	fillings := map[string]bool{} // of t-1, by span
	for _, s := range traces.all() {
		switch {
		case s.GetName() == "fill" && s.from == "t-1":
			fillings[string(s.GetSpanId())] = true
		case s.GetName() == inTracker+"RemoveProxy":
			t.Errorf("a call is traced that nobody traces, with a ratio of 0")
		case strings.HasSuffix(s.GetName(), "/Session") || strings.HasSuffix(s.GetName(), "/Find") || strings.HasSuffix(s.GetName(), "/Copies"):
			t.Errorf("a stream is traced: %q", s.GetName())
		}
	}
	filledWith := int64(0)
	for _, s := range traces.all() {
		if s.GetName() != "fill from proxy" || !fillings[string(s.GetParentSpanId())] {
			continue
		}
		for _, a := range s.GetAttributes() {
			switch a.GetKey() {
			case "trackerpool.proxy":
				if got := a.GetValue().GetStringValue(); got != "p-1" {
					t.Errorf("t-1 was filled by %q, want p-1 alone", got)
				}
			case "trackerpool.claims":
				filledWith += a.GetValue().GetIntValue()
			}
		}
	}
	if filledWith < int64(len(claims)) {
		t.Errorf("t-1 was filled with %d claims, want all %d:\n%v", filledWith, len(claims), traces)
	}
}

func traceID(id [16]byte) []byte { return id[:] }

// A collector that is away costs a tracker nothing but a line in its log.
func TestTracesWithoutCollector(t *testing.T) {
	p := start(t, flags("t-0", "--new-pool", "--trace-endpoint", "127.0.0.1:1", "--trace-plain", "--trace-sample", "1")...)
	p.ready()
	for range 3 {
		addNode(t, p)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	if n := strings.Count(p.log.String(), "traces are lost"); n != 1 {
		t.Errorf("%d complaints, want one", n)
	}
	p.logged("left")
}
