package telemetry

import (
	"context"
	"net"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

// absent answers every call in no time.
type absent struct{ node.Service }

func (absent) GetProxies(context.Context, node.ID) (node.Answer, []node.Claim, error) {
	return node.Absent, nil, nil
}

// discard exports nowhere.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

// BenchmarkCall is a unary call over loopback, client and server in this process, with
// traces off, on and not sampled, and sampled.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct {
		name   string
		on     bool
		sample float64
	}{{"off", false, 0}, {"unsampled", true, 0}, {"sampled", true, 1}} {
		b.Run(c.name, func(b *testing.B) {
			var tr *Traces
			if c.on {
				tr = newTraces(TracesConfig{Sample: c.sample, Logger: quiet()}, discard{})
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			s := rpc.NewServer(absent{}, tr.ServerOptions()...)
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := s.Serve(l); err != nil {
					b.Error(err)
				}
			})
			defer func() { s.Stop(); wg.Wait(); tr.Close(context.Background()) }()
			client, err := rpc.Dial(l.Addr().String(), rpc.Insecure(), tr.DialOptions("t")...)
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := client.GetProxies(b.Context(), "n"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
