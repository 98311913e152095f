package pool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/rpc"
)

// A proxy makes a claim for each node that connects to it, and takes it back when
// the node has gone.
func Example() {
	ctx := context.Background()
	c, err := pool.Open(ctx, pool.Config{
		Trackers: []string{"tracker-0.tracker:7940", "tracker-1.tracker:7940"},
		Proxy:    node.Proxy{ID: "proxy-7", Addr: "10.0.3.7:8443", Zone: "eu-1a"},
		Dial:     func(addr string) (*rpc.Client, error) { return rpc.Dial(addr, rpc.Insecure()) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	id := node.ID("5f0c1c1e-9a3b-4c59-8f1e-0c6b1f6e2a11")
	switch err := c.Add(ctx, node.Claim{Node: id, Generation: 3}); {
	case errors.Is(err, node.ErrNotCounted), errors.Is(err, node.ErrUnavailable):
		// Keep the node: the client goes on by itself.
		log.Print(err)
	case err != nil:
		log.Fatal(err)
	}
	if err := c.Remove(ctx, "proxy-7", id); err != nil {
		log.Print(err)
	}
}

// A reader finds the proxies that reach a node, and asks anew when none of them
// could be dialed.
func ExampleClient_Lookup() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := pool.Open(ctx, pool.Config{Trackers: []string{"tracker:7940"}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	answer, claims, err := c.Lookup(ctx, "a node")
	switch {
	case err != nil:
		log.Print(err)
	case answer == node.Absent:
		fmt.Println("connected nowhere")
	default: // with UNKNOWN the claims are hints, worth a try
		for _, claim := range claims {
			fmt.Println("dial", claim.Proxy.Addr)
		}
		c.Invalidate("a node") // if none of them could be reached
	}
}

// A reader is told when a node appears, moves and goes.
func ExampleClient_Watch() {
	ctx := context.Background()
	c, err := pool.Open(ctx, pool.Config{Trackers: []string{"tracker:7940"}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	events, err := c.Watch(ctx, "a node")
	if err != nil {
		log.Fatal(err)
	}
	for e := range events {
		fmt.Println(e.Answer, len(e.Claims))
	}
}

// A process that traces has the handler of OpenTelemetry look at its calls; the module
// itself asks for nothing of it. Unary calls, such as those of an rpc.Client, are then
// spans, and the tracker's are below them. Claims and lookups of a pool.Client share
// streams, of which there are no spans: begin one around Lookup where one is wanted.
func Example_traces() {
	ctx := context.Background()
	// The process has given OpenTelemetry a provider of its choice before, by
	// otel.SetTracerProvider.
	handler := otelgrpc.NewClientHandler(otelgrpc.WithPropagators(propagation.TraceContext{}))
	dial := func(addr string) (*rpc.Client, error) {
		return rpc.Dial(addr, rpc.Insecure(), rpc.WithStatsHandler(handler))
	}
	c, err := pool.Open(ctx, pool.Config{Trackers: []string{"tracker:7940"}, Dial: dial})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	asking, span := otel.Tracer("proxy").Start(ctx, "find the node's proxy")
	answer, claims, err := c.Lookup(asking, "a node")
	span.End()
	fmt.Println(answer, len(claims), err)
}
