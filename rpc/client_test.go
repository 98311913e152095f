package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

var someClaim = node.Claim{
	Node:       "n",
	Proxy:      node.Proxy{ID: "p", Addr: "10.0.0.1:3080", Cluster: "c", Zone: "z"},
	Generation: 3,
	Age:        1500 * time.Millisecond,
}

func TestUnaryCalls(t *testing.T) {
	view, err := ring.NewView(ring.Member{ID: "t-0", Boot: 1, Addr: "a:1", State: ring.Serving, Algorithm: 1, Replicas: ring.ReplicasOf(2)})
	if err != nil {
		t.Fatal(err)
	}
	info := node.ViewInfo{
		Pool:   node.Pool{Name: "pool", Term: lease.DefaultTerm, Seats: [][]ring.MemberID{{"t-0"}, {"t-0", "t-1", "t-2"}}},
		View:   view,
		Params: ring.Params{Algorithm: 1, Shards: 64, Replicas: 2},
	}
	placed, err := ring.Place(view, info.Params)
	if err != nil {
		t.Fatal(err)
	}
	written := node.Written{Copies: 1, Replicas: 2, Counted: true}
	removed := node.Removed{Claims: 1, Kept: []node.ProxyID{"q"}, Copies: 2, Replicas: 3}
	stored := node.StoreReply{Stored: true, Counted: true, Version: 9, ListSum: 8}
	request := node.StoreRequest{ListSum: 5, Claim: node.UnaryClaim{Node: "n", Proxy: someClaim.Proxy, Version: 4, Left: time.Minute}}
	floor := node.Incarnation{Number: 4, Random: 5}
	svc := &service{
		addNode: func(c node.Claim) (node.Written, error) {
			check(t, "AddNode's claim", c, someClaim, nil)
			return written, nil
		},
		removeNode: func(id node.ID, p node.ProxyID) (node.Removed, error) {
			check(t, "RemoveNode's IDs", string(id)+" "+string(p), "n p", nil)
			return removed, nil
		},
		getProxies: func(id node.ID) (node.Answer, []node.Claim, error) {
			switch id {
			case "absent":
				return node.Absent, nil, nil
			case "unknown":
				c := someClaim
				c.Node = id
				return node.Unknown, []node.Claim{c}, nil
			}
			return node.Found, []node.Claim{someClaim}, nil
		},
		removeProxy: func(p node.ProxyID, n uint64) error {
			check(t, "RemoveProxy's number", n, uint64(12), nil)
			return nil
		},
		view: func(fp ring.Fingerprint) (node.ViewInfo, error) {
			if fp > 1 {
				return node.ViewInfo{}, node.ErrUnknownView
			}
			return info, nil
		},
		watchView: func(_ context.Context, changed func(node.ViewSums) error) error {
			for i := range 3 {
				if err := changed(node.ViewSums{Fingerprint: ring.Fingerprint(i), Sum: 7}); err != nil {
					return err
				}
			}
			return node.ErrClosed
		},
		store: func(r node.StoreRequest) (node.StoreReply, error) {
			check(t, "Store", r, request, nil)
			return stored, nil
		},
		forget: func(p node.ProxyID, f node.Incarnation) error { check(t, "Forget's floor", f, floor, nil); return nil },
		stay:   func() (node.Staying, error) { return node.Staying{Leaving: true, Grants: true}, nil },
	}
	_, addr := serve(t, svc)
	c := dial(t, addr, Insecure())
	ctx := t.Context()

	w, err := c.AddNode(ctx, someClaim)
	check(t, "AddNode", w, written, err)
	r, err := c.RemoveNode(ctx, "n", "p")
	check(t, "RemoveNode", r, removed, err)
	for id, want := range map[node.ID]node.Answer{"n": node.Found, "absent": node.Absent, "unknown": node.Unknown} {
		answer, claims, err := c.GetProxies(ctx, id)
		check(t, "GetProxies' answer", answer, want, err)
		if want == node.Absent {
			check(t, "claims", len(claims), 0, nil)
			continue
		}
		wanted := someClaim
		wanted.Node = id
		check(t, "GetProxies' claims", claims, []node.Claim{wanted}, nil)
	}
	check(t, "RemoveProxy", nil, nil, c.RemoveProxy(ctx, "p", 12))
	for _, fp := range []ring.Fingerprint{0, 1} {
		v, err := c.View(ctx, fp)
		check(t, "View", v, info, err)
	}
	raw, err := c.tracker.GetView(ctx, &pb.GetViewRequest{})
	check(t, "fingerprint of the present view", raw.GetFingerprint(), uint64(placed.Fingerprint()), err)
	if _, err := c.View(ctx, 2); !errors.Is(err, node.ErrUnknownView) || status.Code(err) != codes.NotFound {
		t.Errorf("View of a strange fingerprint: got %v, want ErrUnknownView", err)
	}
	var seen []ring.Fingerprint
	err = c.WatchView(ctx, func(v node.ViewSums) error { seen = append(seen, v.Fingerprint); return nil })
	if !errors.Is(err, node.ErrClosed) {
		t.Errorf("WatchView: got %v, want ErrClosed", err)
	}
	check(t, "WatchView", seen, []ring.Fingerprint{0, 1, 2}, nil)
	reply, err := c.Store(ctx, request)
	check(t, "Store", reply, stored, err)
	check(t, "Forget", nil, nil, c.Forget(ctx, "p", floor))
	staying, err := c.Stay(ctx)
	check(t, "Stay", staying, node.Staying{Leaving: true, Grants: true}, err)
}

func TestInvalidRequests(t *testing.T) {
	_, addr := serve(t, &service{}) // nothing may get through
	c := dial(t, addr, Insecure())
	with := func(change func(*node.Claim)) node.Claim { c := someClaim; change(&c); return c }
	long := strings.Repeat("x", 256)
	add := func(c2 node.Claim) error { _, err := c.AddNode(t.Context(), c2); return err }
	remove := func(id node.ID, p node.ProxyID) error { _, err := c.RemoveNode(t.Context(), id, p); return err }
	get := func(id node.ID) error { _, _, err := c.GetProxies(t.Context(), id); return err }
	for name, test := range map[string]struct {
		err   error
		field string
	}{
		"no node":           {add(with(func(c *node.Claim) { c.Node = "" })), "node_id"},
		"long node":         {add(with(func(c *node.Claim) { c.Node = node.ID(long) })), "node_id"},
		"no proxy":          {add(with(func(c *node.Claim) { c.Proxy.ID = "" })), "proxy_id"},
		"long proxy":        {add(with(func(c *node.Claim) { c.Proxy.ID = node.ProxyID(long) })), "proxy_id"},
		"no port":           {add(with(func(c *node.Claim) { c.Proxy.Addr = "host" })), "proxy_addr"},
		"long cluster":      {add(with(func(c *node.Claim) { c.Proxy.Cluster = long })), "cluster_name"},
		"long zone":         {add(with(func(c *node.Claim) { c.Proxy.Zone = long })), "zone"},
		"negative age":      {add(with(func(c *node.Claim) { c.Age = -1 })), "age"},
		"remove no node":    {remove("", "p"), "node_id"},
		"remove long proxy": {remove("n", node.ProxyID(long)), "proxy_id"},
		"get no node":       {get(""), "node_id"},
		"remove no proxy":   {c.RemoveProxy(t.Context(), "", 0), "proxy_id"},
		"forget no proxy":   {c.Forget(t.Context(), "", node.Incarnation{}), "proxy_id"},
		"remove of all":     {c.Remove(t.Context(), "", "n"), "proxy_id"},
	} {
		invalid, ok := errors.AsType[*node.InvalidError](test.err)
		if !ok || invalid.Field != test.field {
			t.Errorf("%s: got %v, want an InvalidError for %s", name, test.err, test.field)
		}
	}
}

// TestInvalidUTF8 sends what protobuf refuses before anyone sees the message.
func TestInvalidUTF8(t *testing.T) {
	_, addr := serve(t, &service{find: func(_ context.Context, st node.FindStream) error {
		_, err := st.Recv()
		return err
	}})
	c := dial(t, addr, Insecure())
	var got pb.GetProxiesResponse
	bad := []byte{1<<3 | 2, 1, 0xff} // field 1, of length 1
	err := c.failed(c.conn.Invoke(t.Context(), pb.NodeTracker_GetProxies_FullMethodName, &bad, &got, grpc.ForceCodecV2(rawCodec{})))
	if invalid, ok := errors.AsType[*node.InvalidError](err); !ok || invalid.Field != "node_id" || !strings.Contains(invalid.Problem, "UTF-8") {
		t.Errorf("unary: got %v, want an InvalidError for node_id", err)
	}
	nested := []byte{1<<3 | 2, 5, 2<<3 | 2, 3, 1<<3 | 2, 1, 0xff} // hello.proxy.id
	field, _ := notUTF8((&pb.ProxyFrame{}).ProtoReflect().Descriptor(), nested)
	check(t, "nested field", field, "hello.proxy.id", nil)
	cut := []byte{1<<3 | 2, 100}
	st, err := c.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, pb.NodeTracker_Find_FullMethodName, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SendMsg(&cut); err != nil {
		t.Fatal(err)
	}
	if err := c.failed(st.RecvMsg(&got)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("stream: got %v, want InvalidArgument", err)
	}
}

func TestDirectory(t *testing.T) {
	svc := &service{
		addNode: func(c node.Claim) (node.Written, error) {
			if c.Node == "refused" {
				return node.Written{}, &node.OverloadError{What: "claims", After: time.Second}
			}
			return node.Written{Copies: 1, Replicas: 2, Counted: c.Node != "uncounted"}, nil
		},
		removeNode: func(id node.ID, _ node.ProxyID) (node.Removed, error) {
			switch id {
			case "short":
				return node.Removed{Copies: 1, Replicas: 2}, nil
			case "kept":
				return node.Removed{Kept: []node.ProxyID{"p"}}, nil
			case "session":
				return node.Removed{}, node.ErrHasSession
			}
			return node.Removed{Claims: 1, Copies: 2, Replicas: 2}, nil
		},
	}
	_, addr := serve(t, svc)
	c := dial(t, addr, Insecure())
	for name, test := range map[string]struct {
		ids     []node.ID
		is, not error
	}{
		"counted":              {[]node.ID{"a", "b", "c"}, nil, nil},
		"none":                 {nil, nil, nil},
		"uncounted":            {[]node.ID{"a", "uncounted", "c"}, node.ErrNotCounted, nil},
		"refused":              {[]node.ID{"a", "refused"}, errOverload, nil},
		"refused, not counted": {[]node.ID{"uncounted", "refused"}, errOverload, node.ErrNotCounted},
	} {
		var claims []node.Claim
		for _, id := range test.ids {
			claim := someClaim
			claim.Node = id
			claims = append(claims, claim)
		}
		checkError(t, "add "+name, c.Add(t.Context(), claims...), test.is, test.not)
	}
	for name, test := range map[string]struct {
		ids     []node.ID
		is, not error
	}{
		"all":     {[]node.ID{"a", "b"}, nil, nil},
		"short":   {[]node.ID{"a", "short"}, node.ErrNotRemoved, nil},
		"kept":    {[]node.ID{"kept"}, node.ErrNotRemoved, nil},
		"session": {[]node.ID{"short", "session"}, node.ErrHasSession, node.ErrNotRemoved},
	} {
		checkError(t, "remove "+name, c.Remove(t.Context(), "p", test.ids...), test.is, test.not)
	}
}

var errOverload = errors.New("an OverloadError")

func checkError(t *testing.T, what string, err, is, not error) {
	t.Helper()
	ok := errors.Is(err, is)
	if errors.Is(is, errOverload) {
		_, ok = errors.AsType[*node.OverloadError](err)
	}
	if !ok || not != nil && errors.Is(err, not) {
		t.Errorf("%s: got %v, want %v and not %v", what, err, is, not)
	}
}

func TestSession(t *testing.T) {
	welcome := &node.Welcome{Tracker: lease.Process{ID: "t-0", Boot: 1}, Term: lease.DefaultTerm,
		Params: ring.Params{Algorithm: 1, Shards: testShards, Replicas: 2}}
	counted := ring.FullShardSet(testShards)
	svc := &service{session: func(_ context.Context, st node.SessionStream) error {
		f, err := st.Recv()
		if err != nil || f.Hello == nil {
			return fmt.Errorf("got %+v, %v, want a Hello", f, err)
		}
		if err := st.Send(&node.TrackerFrame{Welcome: welcome, State: &node.State{Counted: counted}}); err != nil {
			return err
		}
		if f, err = st.Recv(); err != nil {
			return err
		}
		if diff := cmp.Diff(counted, f.Release.Shards); diff != "" {
			return errors.New(diff)
		}
		return node.ErrSuperseded
	}}
	_, addr := serve(t, svc)
	c := dial(t, addr, Insecure())
	hello := &node.ProxyFrame{Hello: &node.Hello{Proxy: someClaim.Proxy}}
	release := &node.ProxyFrame{Release: &node.Release{Seq: 1, Shards: counted}}

	st, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(hello); err != nil {
		t.Fatal(err)
	}
	f, err := st.Recv()
	check(t, "first frame", f, &node.TrackerFrame{Welcome: welcome, State: &node.State{Counted: counted}}, err)
	if err := st.Send(release); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); !errors.Is(err, node.ErrSuperseded) {
		t.Errorf("got %v, want ErrSuperseded", err)
	}
	if err := st.Send(release); !errors.Is(err, node.ErrUnavailable) {
		t.Errorf("sending on a stream that ended: got %v, want ErrUnavailable", err)
	}

	// A set of shards has no size before the Welcome.
	svc.session = func(_ context.Context, st node.SessionStream) error { _, err := st.Recv(); return err }
	if st, err = c.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := st.Send(release); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a Release before the Welcome: got %v, want InvalidArgument", err)
	}
}

func TestPeeringStreams(t *testing.T) {
	r := &random{newRand(t)}
	ask, word, frame, reply := r.ask(), r.word(), r.copyFrame(), r.copyReply()
	svc := &service{
		seat: func(_ context.Context, st node.SeatStream) error {
			got, err := st.Recv()
			check(t, "Ask", got, ask, err)
			return st.Send(word)
		},
		copies: func(_ context.Context, st node.CopyStream) error {
			got, err := st.Recv()
			check(t, "CopyFrame", got, frame, err)
			return st.Send(reply)
		},
	}
	_, addr := serve(t, svc)
	c := dial(t, addr, Insecure(), WithShards(testShards))
	seat, err := c.Seat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := seat.Send(ask); err != nil {
		t.Fatal(err)
	}
	gotWord, err := seat.Recv()
	check(t, "Word", gotWord, word, err)
	if _, err := seat.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: got %v, want io.EOF", err)
	}
	copies, err := c.Copies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := copies.Send(frame); err != nil {
		t.Fatal(err)
	}
	gotReply, err := copies.Recv()
	check(t, "CopyReply", gotReply, reply, err)

	if _, err := dial(t, addr, Insecure()).Copies(t.Context()); err == nil {
		t.Error("Copies without WithShards is no error")
	}
}

func TestPanicIsAnsweredInternal(t *testing.T) {
	var log lockedBuffer
	svc := &service{session: func(context.Context, node.SessionStream) error { panic("in a stream") }}
	_, addr := serve(t, svc, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	c := dial(t, addr, Insecure())
	if _, _, err := c.GetProxies(t.Context(), "n"); status.Code(err) != codes.Internal {
		t.Errorf("unary: got %v, want Internal", err)
	}
	st, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); status.Code(err) != codes.Internal {
		t.Errorf("stream: got %v, want Internal", err)
	}
	if got := log.String(); !strings.Contains(got, "in a stream") || strings.Count(got, "GetProxies") == 0 {
		t.Errorf("the log says %q", got)
	}
}

func TestHealthAndShutdown(t *testing.T) {
	var entered atomic.Bool
	s, addr := serve(t, &service{session: func(ctx context.Context, _ node.SessionStream) error {
		entered.Store(true)
		<-ctx.Done()
		return ctx.Err()
	}})
	c := dial(t, addr, Insecure())
	health := func(service string) grpc_health_v1.HealthCheckResponse_ServingStatus {
		r, err := grpc_health_v1.NewHealthClient(c.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Error(err)
		}
		return r.GetStatus()
	}
	for _, serving := range []bool{false, true, false} {
		if serving {
			s.SetServing(true)
		}
		for _, service := range []string{"", "trackerpool.v1.NodeTracker", "trackerpool.v1.Peering"} {
			if got := health(service) == grpc_health_v1.HealthCheckResponse_SERVING; got != serving {
				t.Errorf("health of %q is serving: %v, want %v", service, got, serving)
			}
		}
		s.SetServing(false)
	}

	// A stream that nobody ends must not keep the server.
	st, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&node.ProxyFrame{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the handler runs", entered.Load)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	s.Shutdown(ctx)
	if _, err := st.Recv(); !errors.Is(err, node.ErrUnavailable) {
		t.Errorf("a stream at shutdown: got %v, want ErrUnavailable", err)
	}
	if _, _, err := c.GetProxies(t.Context(), "n"); !errors.Is(err, node.ErrUnavailable) {
		t.Errorf("a call after shutdown: got %v, want ErrUnavailable", err)
	}
}

func TestClosedClient(t *testing.T) {
	_, addr := serve(t, &service{session: func(ctx context.Context, _ node.SessionStream) error { <-ctx.Done(); return ctx.Err() }})
	c := dial(t, addr, Insecure())
	st, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); !errors.Is(err, node.ErrClosed) {
		t.Errorf("an open stream: got %v, want ErrClosed", err)
	}
	if _, err := c.AddNode(t.Context(), someClaim); !errors.Is(err, node.ErrClosed) {
		t.Errorf("a call: got %v, want ErrClosed", err)
	}
	k, _ := node.ParseID("n")
	if _, err := c.Find(t.Context(), k, 0); !errors.Is(err, node.ErrClosed) {
		t.Errorf("Find: got %v, want ErrClosed", err)
	}
}

func TestDialWithoutCredentials(t *testing.T) {
	if _, err := Dial("a:1", nil); err == nil {
		t.Error("no credentials are no error, and would be plain text")
	}
}
