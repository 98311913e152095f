package rpc

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/timing"
)

// servedCalls is what a server has counted of a method.
func servedCalls(t *testing.T, s *Server, method string) Calls {
	t.Helper()
	all := s.Calls()
	i := slices.IndexFunc(all, func(c Calls) bool { return c.Method == method })
	if i < 0 {
		t.Fatalf("method %s is not counted", method)
	}
	return all[i]
}

func TestCalls(t *testing.T) {
	find := newFindServer()
	s, addr := serve(t, &service{
		getProxies: func(id node.ID) (node.Answer, []node.Claim, error) {
			switch id {
			case "bad":
				return node.Unknown, nil, errors.New("nobody knows")
			case "panics":
				panic("a panic of this test")
			}
			return node.Absent, nil, nil
		},
		find: find.serve,
	})
	c := dial(t, addr, Insecure())
	ctx := t.Context()
	for _, id := range []node.ID{"a", "b", "bad", "panics"} {
		_, _, _ = c.GetProxies(ctx, id)
	}
	got := servedCalls(t, s, "GetProxies")
	if got.Class != "lookup" || got.Open != 0 || got.Took.Count() != 4 {
		t.Errorf("GetProxies: class %s, %d open, %d timed; want lookup, 0, 4", got.Class, got.Open, got.Took.Count())
	}
	if n := got.Ended; n["OK"] != 2 || n["Internal"]+n["Unknown"] != 2 {
		t.Errorf("GetProxies ended %v, want 2 OK, and 2 that failed", n)
	}

	keys := []node.Key{key(t, "a"), key(t, "b"), key(t, "c")}
	for _, k := range keys { // each waits for its answer, so each is a batch
		if _, err := c.Find(ctx, k, 1); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "3 batches of Find are counted", func() bool { return servedBatches(s).Count() == 3 })
	if got := servedCalls(t, s, "Find"); got.Open != 1 || got.Ended["OK"] != 0 {
		t.Errorf("Find: %d streams open, ended %v; want 1 and none", got.Open, got.Ended)
	}

	// What strangers call is one method, whatever they call it.
	if _, err := grpc_health_v1.NewHealthClient(c.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := servedCalls(t, s, "other"); got.Ended["OK"] != 1 {
		t.Errorf("others ended %v, want 1 OK", got.Ended)
	}
	if n := len(s.Calls()); n != len(classes)+1 {
		t.Errorf("%d methods are counted, want %d", n, len(classes)+1)
	}
}

func servedBatches(s *Server) *timing.Snapshot {
	for _, c := range s.Calls() {
		if c.Method == "Find" {
			return &c.Took
		}
	}
	return new(timing.Snapshot)
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after 10 s: %s", what)
		}
	}
}

// TestCodes holds the room for codes to those of gRPC: each counts by itself.
func TestCodes(t *testing.T) {
	var m methodCounts
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		m.ended[code].Add(1)
	}
	if got := m.calls("m", "c").Ended; len(got) != int(codes.Unauthenticated)+1 {
		t.Errorf("%d codes are told apart: %v", len(got), got)
	}
}

// TestTimedFindAllocatesNothing: to time a batch must cost lookups no garbage.
func TestTimedFindAllocatesNothing(t *testing.T) {
	var took timing.Histogram
	s := &timedFind{FindStream: echo{}, took: &took}
	once := func() {
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		if err := s.Send(answered); err != nil {
			t.Fatal(err)
		}
	}
	once() // makes room
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("a timed batch allocates %v times", n)
	}
	snap := took.Snapshot()
	if n := snap.Count(); n != 1002 {
		t.Errorf("%d batches were timed, want 1002", n)
	}
}

var asked, answered = &node.FindRequest{Frame: 1}, &node.FindReply{Frame: 1}

// An echo is a stream on which nothing is sent: only what is around it costs.
type echo struct{}

func (echo) Recv() (*node.FindRequest, error) { return asked, nil }
func (echo) Send(*node.FindReply) error       { return nil }

// TestCallsOfRefused: what a handler refuses is counted by its code.
func TestCallsOfRefused(t *testing.T) {
	counts := newCallCounts()
	b := &border{counts: counts}
	_, err := b.unary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/x/y"}, func(context.Context, any) (any, error) { return nil, encodeError(node.ErrHasSession) })
	if err == nil {
		t.Fatal("the refusal was lost")
	}
	if got := counts.other.calls("other", "other").Ended; got["FailedPrecondition"] != 1 {
		t.Errorf("ended %v, want 1 FailedPrecondition", got)
	}
}
