package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

// recorder keeps what is exported.
type recorder struct{ spans []sdktrace.ReadOnlySpan }

func (r *recorder) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	r.spans = append(r.spans, spans...)
	return nil
}

func (r *recorder) Shutdown(context.Context) error { return nil }

func (r *recorder) names() []string {
	var names []string
	for _, s := range r.spans {
		names = append(names, s.Name())
	}
	return names
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestFilled(t *testing.T) {
	var r recorder
	tr := newTraces(TracesConfig{Pool: "p", Tracker: "t-1", Logger: quiet()}, &r) // no call is sampled
	tr.Filled(node.Filling{View: 0xabc, Shards: 9, Took: 8 * time.Second, Ago: time.Second, More: 5, Parts: []node.FillingPart{
		{From: "p-1", Claims: 20, Bytes: 400, Took: 3 * time.Second, Before: 2 * time.Second},
		{From: "t-0", Unary: true, Claims: 4, Took: time.Second},
	}})
	tr.Close(t.Context())
	if want := []string{"fill from proxy", "fill from tracker", "fill"}; !slices.Equal(r.names(), want) {
		t.Fatalf("spans %q, want %q", r.names(), want)
	}
	proxy, tracker, whole := r.spans[0], r.spans[1], r.spans[2]
	for _, part := range []sdktrace.ReadOnlySpan{proxy, tracker} {
		if part.Parent().SpanID() != whole.SpanContext().SpanID() || part.SpanContext().TraceID() != whole.SpanContext().TraceID() {
			t.Errorf("%s is not below the filling", part.Name())
		}
	}
	length := func(s sdktrace.ReadOnlySpan) time.Duration { return s.EndTime().Sub(s.StartTime()) }
	if a, b, c := length(proxy), length(tracker), length(whole); a != 3*time.Second || b != time.Second || c != 8*time.Second {
		t.Errorf("spans of %v, %v and %v, want 3 s, 1 s and 8 s", a, b, c)
	}
	if got := whole.EndTime().Sub(proxy.EndTime()); got != 2*time.Second || time.Until(whole.EndTime()) > -time.Second {
		t.Errorf("the proxy's part was over %v before the end, which is %v; want 2 s, and more than a second ago", got, whole.EndTime())
	}
	attributes := func(s sdktrace.ReadOnlySpan) map[string]string {
		all := map[string]string{}
		for _, a := range s.Attributes() {
			all[string(a.Key)] = a.Value.String()
		}
		return all
	}
	for _, c := range []struct {
		span sdktrace.ReadOnlySpan
		want map[string]string
	}{
		{whole, map[string]string{"trackerpool.view": "0000000000000abc", "trackerpool.shards": "9", "trackerpool.parts": "7"}},
		{proxy, map[string]string{"trackerpool.proxy": "p-1", "trackerpool.claims": "20", "trackerpool.bytes": "400"}},
		{tracker, map[string]string{"trackerpool.tracker": "t-0", "trackerpool.claims": "4", "trackerpool.bytes": "0"}},
	} {
		if diff := cmp.Diff(c.want, attributes(c.span)); diff != "" {
			t.Errorf("attributes of %s (-want +got):\n%s", c.span.Name(), diff)
		}
	}
}

// A lookup at another tracker is traced if the call that it is part of is, and in that
// call's trace.
func TestFindIsTracedWithItsCall(t *testing.T) {
	var r recorder
	tr := newTraces(TracesConfig{Sample: 1, Logger: quiet()}, &r)
	if tr.find(t.Context(), "t-1") != nil {
		t.Error("a lookup of no call is traced")
	}
	call := func(flags trace.TraceFlags) context.Context {
		return trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags, Remote: true,
		}))
	}
	if tr.find(call(0), "t-1") != nil {
		t.Error("a lookup of a call that is not sampled is traced")
	}
	tr.find(call(trace.FlagsSampled), "t-1")(errors.New("broken"))
	tr.Close(t.Context())
	if len(r.spans) != 1 || r.spans[0].SpanContext().TraceID() != (trace.TraceID{1}) || r.spans[0].Status().Description != "broken" {
		t.Errorf("spans %q, want one of the call's trace, with its error", r.names())
	}
}

// A collector that takes connections and says nothing holds up neither those who make
// spans nor the end.
func TestSilentCollector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var log bytes.Buffer
	tr, err := NewTraces(TracesConfig{Endpoint: l.Addr().String(), Creds: rpc.Insecure(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * maxSpans {
		tr.Filled(node.Filling{})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tr.Close(ctx)
	if sent, failed := tr.Spans(); sent != 0 || failed == 0 || failed > maxSpans+512 {
		t.Errorf("%d spans were sent and %d failed, want none, and at most what the queue and a batch hold", sent, failed)
	}
	if n := strings.Count(log.String(), "traces are lost"); n != 1 {
		t.Errorf("%d complaints, want one:\n%s", n, &log)
	}
}

func TestNilTraces(t *testing.T) {
	var tr *Traces
	tr.Close(t.Context())
	if s, d := tr.ServerOptions(), tr.DialOptions("t"); s != nil || d != nil {
		t.Errorf("options %v and %v of no traces", s, d)
	}
}

func TestComplaints(t *testing.T) {
	var log bytes.Buffer
	e := &exporter{endpoint: "c:1", log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "endpoint" {
			return slog.Attr{}
		}
		return a
	}}))}
	broken := errors.New("broken")
	began := time.Unix(1000, 0)
	for i, err := range []error{nil, broken, broken, broken, nil, broken, nil, broken, broken, nil, nil} {
		e.tell(began.Add(time.Duration(i)*complainInterval/6), 10, err)
	}
	want := `level=WARN msg="traces are lost: the collector does not take them" lost=10 err=broken
level=INFO msg="traces arrive again" lost=20
level=WARN msg="traces are lost: the collector does not take them" lost=20 err=broken
level=INFO msg="traces arrive again" lost=10
`
	if diff := cmp.Diff(want, log.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
