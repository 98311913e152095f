package trackercmd_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/trackerpool/trackerpool/node"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// later adds to a message a field that no release has yet.
func later[M proto.Message](m M) M {
	field := protowire.AppendString(protowire.AppendTag(nil, 1001, protowire.BytesType), "of a later release")
	m.ProtoReflect().SetUnknown(field)
	return m
}

// A tracker process meets clients, proxies and trackers of a later release: what these
// add to messages is skipped, and what they ask that it does not know is refused clearly,
// as docs/protocol.md has it. No other version is at hand to do so.
func TestLaterPeers(t *testing.T) {
	p := start(t, flags("t-0", "--new-pool")...)
	p.ready()
	conn, err := grpc.NewClient("passthrough:///"+p.addr("listen_addr"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	tracker, peering := pb.NewNodeTrackerClient(conn), pb.NewPeeringClient(conn)

	t.Run("calls", func(t *testing.T) {
		eventually(t, func() error { // the pool is about to open
			_, err := tracker.AddNode(ctx, later(&pb.AddNodeRequest{NodeId: "n-1", ProxyId: "p-unary", ProxyAddr: "192.0.2.1:3022"}))
			return err
		})
		r, err := tracker.GetProxies(ctx, later(&pb.GetProxiesRequest{NodeId: "n-1"}))
		if err != nil || r.GetAnswer() != pb.Answer_FOUND || r.GetProxies()[0].GetId() != "p-unary" {
			t.Errorf("GetProxies: %v, %v", r, err)
		}
		err = conn.Invoke(ctx, "/trackerpool.v1.NodeTracker/Later", &emptypb.Empty{}, &emptypb.Empty{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("a call that is not known here: %v, want UNIMPLEMENTED", err)
		}
	})
	t.Run("a session", func(t *testing.T) {
		s := openSession(ctx, t, tracker, "p-1")
		// A kind of frame that is not known says no more than that the proxy is alive.
		s.send(later(&pb.ProxyFrame{}))
		ops := node.AppendAdd(nil, key(t, "n-2"), 1, 0)
		s.send(&pb.ProxyFrame{Said: &pb.ProxyFrame_Batch{Batch: later(&pb.Batch{Seq: 1, Ops: ops})}})
		s.await("its Batch is stored", func(f *pb.TrackerFrame) bool { return f.GetAck() >= 1 })
	})
	t.Run("a record of another form", func(t *testing.T) {
		s := openSession(ctx, t, tracker, "p-2")
		ops := node.AppendAdd(nil, key(t, "n-3"), 1, 0)
		ops[0] |= 1 << 6 // a flag that is not known: how long the record is cannot be known either
		s.send(&pb.ProxyFrame{Said: &pb.ProxyFrame_Batch{Batch: &pb.Batch{Seq: 1, Ops: ops}}})
		end := s.await("the session ends", func(f *pb.TrackerFrame) bool { return f.GetEnd() != nil }).GetEnd()
		if end.GetReason() != pb.EndReason_END_REASON_BAD_INPUT || !strings.Contains(end.GetDetail(), "flag") {
			t.Errorf("it ended with %v", end)
		}
	})
	t.Run("lookups", func(t *testing.T) {
		find, err := tracker.Find(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := find.Send(later(&pb.FindRequest{Frame: 1, Ids: node.AppendID(nil, key(t, "n-1"))})); err != nil {
			t.Fatal(err)
		}
		for {
			r, err := find.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r.GetFrame() == 1 {
				if len(r.GetAnswers()) == 0 || node.Answer(r.GetAnswers()[0]&3) != node.Found {
					t.Errorf("answered %v", r)
				}
				return
			}
		}
	})
	t.Run("a tracker", func(t *testing.T) {
		view, err := tracker.GetView(ctx, later(&pb.GetViewRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		seat, err := peering.Seat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := seat.Send(later(&pb.Ask{From: later(&pb.Process{Id: "t-9", Boot: 1}), Nonce: 7})); err != nil {
			t.Fatal(err)
		}
		w, err := seat.Recv()
		if err != nil || w.GetNonce() != 7 || w.GetSeat().GetId() != "t-0" {
			t.Errorf("its Ask is answered by %v, %v; the view is %v", w, err, view)
		}
		stay, err := peering.Stay(ctx, later(&pb.StayRequest{}))
		if err != nil || stay.GetLeaving() || !stay.GetGrants() {
			t.Errorf("Stay: %v, %v", stay, err)
		}
	})
}

func key(t *testing.T, id node.ID) node.Key {
	t.Helper()
	k, err := node.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A laterSession is that of a proxy of a later release. It says every half a second that
// it is alive: on a slow machine it would else be taken for dead.
type laterSession struct {
	t      *testing.T
	stream pb.NodeTracker_SessionClient

	mu sync.Mutex // held to send: one at a time
}

// openSession says Hello, and waits for the Welcome.
func openSession(ctx context.Context, t *testing.T, c pb.NodeTrackerClient, id string) *laterSession {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.Session(ctx)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s := &laterSession{t: t, stream: stream}
	s.send(later(&pb.ProxyFrame{Said: &pb.ProxyFrame_Hello{Hello: later(&pb.Hello{
		Proxy: later(&pb.Proxy{Id: id, Addr: "192.0.2.2:3022"}), Incarnation: later(&pb.Incarnation{Number: 1, Random: 1}), HasClaims: true,
	})}}))
	var alive sync.WaitGroup
	alive.Go(func() {
		for tick := time.NewTicker(500 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				s.mu.Lock()
				_ = stream.Send(&pb.ProxyFrame{}) // await says why the session ended
				s.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { cancel(); alive.Wait() })
	s.await("the Welcome", func(f *pb.TrackerFrame) bool { return f.GetWelcome() != nil })
	return s
}

func (s *laterSession) send(f *pb.ProxyFrame) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stream.Send(f); err != nil {
		s.t.Fatal(err)
	}
}

// await waits for a frame.
func (s *laterSession) await(what string, is func(*pb.TrackerFrame) bool) *pb.TrackerFrame {
	s.t.Helper()
	for {
		f, err := s.stream.Recv()
		if err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
		if is(f) {
			return f
		}
	}
}
