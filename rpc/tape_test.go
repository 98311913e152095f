package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// A tape stands between a client and a server of today. Without a release it notes what
// passes. With one it has the client hear what the release answered, or the server what it
// asked, and compares what comes back.
type tape struct {
	t       testing.TB
	r       *release
	answers bool // of the release; else its questions
	conn    grpc.ClientConnInterface
	heard   []exchange
	left    []exchange // of the release, in order
}

// messageOf is what a method takes or gives.
func messageOf(t testing.TB, method string, sent bool) protoreflect.MessageDescriptor {
	t.Helper()
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	for _, f := range []protoreflect.FileDescriptor{pb.File_rpc_trackerpb_trackerpool_proto, pb.File_rpc_trackerpb_operator_proto} {
		if s := f.Services().ByName(protoreflect.FullName(service).Name()); s != nil {
			m := s.Methods().ByName(protoreflect.Name(name))
			if m == nil {
				break
			}
			if sent {
				return m.Input()
			}
			return m.Output()
		}
	}
	t.Fatalf("there is no method %s any more", method)
	return nil
}

// next is the release's next message of a method in a direction.
func (p *tape) next(method string, sent bool) (wire []byte, ok bool) {
	for i, e := range p.left {
		if e.method == method && e.sent == sent {
			p.left = append(p.left[:i:i], p.left[i+1:]...)
			return e.wire, true
		}
	}
	return nil, false
}

// pass has a message go by. What the release said takes its place; what is said today is
// compared with it.
func (p *tape) pass(method string, sent bool, m proto.Message) error {
	p.t.Helper()
	if p.r == nil {
		p.heard = append(p.heard, exchange{method, sent, marshal(p.t, m)})
		return nil
	}
	wire, ok := p.next(method, sent)
	if !ok {
		return io.EOF // later releases may say more
	}
	if sent != p.answers {
		return proto.Unmarshal(wire, m)
	}
	name := m.ProtoReflect().Descriptor().FullName()
	if theirs, ours := p.r.parsed(p.t, name, wire), p.r.parsed(p.t, name, marshal(p.t, m)); !proto.Equal(theirs, ours) {
		p.t.Errorf("%s: %s of %s was %v, and is %v", p.r.name, name, method, theirs, ours)
	}
	return nil
}

func (p *tape) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if err := p.pass(method, true, args.(proto.Message)); err != nil {
		return err
	}
	if !p.answers {
		if err := p.conn.Invoke(ctx, method, args, reply, opts...); err != nil {
			return err
		}
	}
	return p.pass(method, false, reply.(proto.Message))
}

func (p *tape) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &tapedStream{p: p, method: method}
	if !p.answers {
		var err error
		if s.ClientStream, err = p.conn.NewStream(ctx, desc, method, opts...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// A tapedStream is one whose server alone says more than one thing.
type tapedStream struct {
	grpc.ClientStream // nil where the release answers
	p                 *tape
	method            string
}

func (s *tapedStream) SendMsg(m any) error {
	if err := s.p.pass(s.method, true, m.(proto.Message)); err != nil || s.p.answers {
		return err
	}
	return s.ClientStream.SendMsg(m)
}

func (s *tapedStream) RecvMsg(m any) error {
	if !s.p.answers {
		if err := s.ClientStream.RecvMsg(m); err != nil {
			return err
		}
	}
	return s.p.pass(s.method, false, m.(proto.Message))
}

func (s *tapedStream) CloseSend() error {
	if s.p.answers {
		return nil
	}
	return s.ClientStream.CloseSend()
}

// converse makes each call whose messages are not made by a codec of allMessages, and
// checks on both sides what it is about.
func (p *tape) converse(release []exchange) {
	t := p.t
	p.left = append([]exchange(nil), release...)
	view := fixedView()
	proxies := fixedMessages()["ProxyReport"].(node.ProxyReport)
	explanation := *fixedMessages()["Explanation"].(*node.Explanation)
	written, removed := node.Written{Copies: 1, Replicas: 2, Counted: true}, node.Removed{Claims: 1, Kept: []node.ProxyID{"proxy-2"}, Copies: 2, Replicas: 3}
	heard := func(what string, got, want any) { t.Helper(); check(t, "the server hears "+what, got, want, nil) }
	svc := &service{
		addNode: func(c node.Claim) (node.Written, error) { heard("AddNode", c, fixedClaim); return written, nil },
		removeNode: func(id node.ID, p node.ProxyID) (node.Removed, error) {
			heard("RemoveNode", string(id)+" "+string(p), "node-1 proxy-1")
			return removed, nil
		},
		getProxies: func(id node.ID) (node.Answer, []node.Claim, error) {
			c := fixedClaim
			c.Node = id
			return map[node.ID]node.Answer{"node-1": node.Found, "node-2": node.Unknown}[id], []node.Claim{c}, nil
		},
		removeProxy: func(p node.ProxyID, n uint64) error {
			heard("RemoveProxy", []any{p, n}, []any{node.ProxyID("proxy-1"), uint64(12)})
			return nil
		},
		view: func(fp ring.Fingerprint) (node.ViewInfo, error) {
			heard("GetView", fp, ring.Fingerprint(0x33))
			return view, nil
		},
		watchView: func(_ context.Context, changed func(node.ViewSums) error) error { return changed(fixedViewSums) },
		store: func(r node.StoreRequest) (node.StoreReply, error) {
			heard("Store", r, fixedMessages()["StoreRequest"])
			return fixedMessages()["StoreReply"].(node.StoreReply), nil
		},
		forget: func(p node.ProxyID, f node.Incarnation) error {
			heard("Forget", []any{p, f}, []any{node.ProxyID("proxy-1"), fixedIncarnation})
			return nil
		},
		stay: func() (node.Staying, error) { return node.Staying{Leaving: true, Grants: true}, nil },
	}
	op := &operator{
		report: func() (node.Report, error) { return *fixedReport(), nil },
		proxies: func(after node.ProxyID, most int) ([]node.ProxyReport, bool, error) {
			heard("Proxies", []any{after, most}, []any{node.ProxyID("proxy-0"), 20})
			return []node.ProxyReport{proxies}, true, nil
		},
		explain: func(id node.ID) (node.Explanation, error) { heard("Explain", id, explained); return explanation, nil },
		drain: func(force bool, tell func(node.DrainStep) error) error {
			heard("Drain", force, true)
			return tell(fixedStep)
		},
		debug: func(part func(string, []byte) error) error { return part("version.txt", []byte("tracker v0.1.0\n")) },
	}
	_, addr := serve(t, svc, WithOperator(op))
	c := dial(t, addr, Insecure())
	p.conn = c.conn
	c.tracker, c.peering, c.operator = pb.NewNodeTrackerClient(p), pb.NewPeeringClient(p), pb.NewOperatorClient(p)
	ctx := t.Context()
	told := func(what string, got, want any, err error) {
		t.Helper()
		check(t, "the client is told by "+what, got, want, err)
	}

	w, err := c.AddNode(ctx, fixedClaim)
	told("AddNode", w, written, err)
	r, err := c.RemoveNode(ctx, "node-1", "proxy-1")
	told("RemoveNode", r, removed, err)
	a, claims, err := c.GetProxies(ctx, "node-1")
	told("GetProxies", []any{a, claims}, []any{node.Found, []node.Claim{fixedClaim}}, err)
	hint := fixedClaim
	hint.Node = "node-2"
	a, claims, err = c.GetProxies(ctx, "node-2")
	told("GetProxies", []any{a, claims}, []any{node.Unknown, []node.Claim{hint}}, err)
	told("RemoveProxy", nil, nil, c.RemoveProxy(ctx, "proxy-1", 12))
	v, err := c.View(ctx, 0x33)
	told("GetView", v, view, err)
	var sums []node.ViewSums
	_ = c.WatchView(ctx, func(s node.ViewSums) error { sums = append(sums, s); return nil }) // its end is always an error
	told("WatchView", sums, []node.ViewSums{fixedViewSums}, nil)
	stored, err := c.Store(ctx, fixedMessages()["StoreRequest"].(node.StoreRequest))
	told("Store", stored, fixedMessages()["StoreReply"], err)
	told("Forget", nil, nil, c.Forget(ctx, "proxy-1", fixedIncarnation))
	report, err := c.Report(ctx)
	told("Status", &report, fixedReport(), err)
	page, more, err := c.Proxies(ctx, "proxy-0", 20)
	told("Proxies", []any{page, more}, []any{[]node.ProxyReport{proxies}, true}, err)
	e, err := c.Explain(ctx, explained)
	told("Explain", e, explanation, err)
	var steps []node.DrainStep
	err = c.Drain(ctx, true, func(s node.DrainStep) error { steps = append(steps, s); return nil })
	told("Drain", steps, []node.DrainStep{fixedStep}, orEnd(err))
	var texts string
	err = c.Debug(ctx, func(name string, piece []byte) error { texts += name + ": " + string(piece); return nil })
	told("Debug", texts, "version.txt: tracker v0.1.0\n", orEnd(err))
	staying, err := c.Stay(ctx)
	told("Stay", staying, node.Staying{Leaving: true, Grants: true}, err)
	if len(p.left) > 0 {
		t.Errorf("%s said what nobody asks or answers any more: %v", p.r.name, p.left)
	}
}

// orEnd leaves out the end of a stream.
func orEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
