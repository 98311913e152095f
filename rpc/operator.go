package rpc

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// maxPiece is how many bytes of a text one message of Debug has.
const maxPiece = 64 << 10

// WithOperator serves op too: the calls of those who run the pool.
func WithOperator(op node.Operator) ServerOption {
	return func(cfg *serverConfig) { cfg.operator = op }
}

// An operatorServer serves Operator.
type operatorServer struct {
	pb.UnimplementedOperatorServer
	op node.Operator
}

func (s *operatorServer) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	r, err := s.op.Report(ctx)
	if err != nil {
		return nil, encodeError(err)
	}
	return encodeReport(&r), nil
}

func (s *operatorServer) Proxies(ctx context.Context, m *pb.ProxiesRequest) (*pb.ProxiesResponse, error) {
	page, more, err := s.op.Proxies(ctx, node.ProxyID(m.GetAfter()), int(m.GetMost()))
	if err != nil {
		return nil, encodeError(err)
	}
	return &pb.ProxiesResponse{Proxies: convert(page, encodeProxyReport), More: more}, nil
}

func (s *operatorServer) Explain(ctx context.Context, m *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	d := &decoder{}
	id := d.nodeID(m.GetNodeId())
	if d.err != nil {
		return nil, encodeError(d.err)
	}
	e, err := s.op.Explain(ctx, id)
	if err != nil {
		return nil, encodeError(err)
	}
	return encodeExplanation(&e), nil
}

func (s *operatorServer) Drain(m *pb.DrainRequest, st grpc.ServerStreamingServer[pb.DrainProgress]) error {
	return encodeError(s.op.Drain(st.Context(), m.GetForce(), func(d node.DrainStep) error { return st.Send(encodeDrainStep(d)) }))
}

func (s *operatorServer) Debug(_ *pb.DebugRequest, st grpc.ServerStreamingServer[pb.DebugPart]) error {
	return encodeError(s.op.Debug(st.Context(), func(name string, piece []byte) error {
		for len(piece) > 0 {
			n := min(len(piece), maxPiece)
			if err := st.Send(&pb.DebugPart{Name: name, Data: piece[:n]}); err != nil {
				return err
			}
			piece = piece[n:]
		}
		return nil
	}))
}

var _ node.Operator = (*Client)(nil)

// Report asks what the tracker is, holds and waits for; see node.Operator.
func (c *Client) Report(ctx context.Context) (node.Report, error) {
	m, err := c.operator.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return node.Report{}, c.failed(err)
	}
	return decodeReport(m)
}

// Proxies asks for a page of the proxies that the tracker knows; see node.Operator.
func (c *Client) Proxies(ctx context.Context, after node.ProxyID, most int) ([]node.ProxyReport, bool, error) {
	m, err := c.operator.Proxies(ctx, &pb.ProxiesRequest{After: string(after), Most: uint32(max(0, min(most, node.MaxProxies)))})
	if err != nil {
		return nil, false, c.failed(err)
	}
	d := &decoder{}
	page, err := result(d, convert(m.GetProxies(), d.proxyReport))
	return page, m.GetMore(), err
}

// Explain asks for all that this one tracker has and says of a node; see
// node.Operator.
func (c *Client) Explain(ctx context.Context, id node.ID) (node.Explanation, error) {
	if err := checkNode(id, nil); err != nil {
		return node.Explanation{}, err
	}
	m, err := c.operator.Explain(ctx, &pb.ExplainRequest{NodeId: string(id)})
	if err != nil {
		return node.Explanation{}, c.failed(err)
	}
	return decodeExplanation(id, m)
}

// Drain has the tracker leave and exit, and calls tell until it does; see
// node.Operator.
func (c *Client) Drain(ctx context.Context, force bool, tell func(node.DrainStep) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := c.operator.Drain(ctx, &pb.DrainRequest{Force: force})
	if err != nil {
		return c.failed(err)
	}
	return receiveAll(st, c, func(m *pb.DrainProgress) error {
		step, err := decodeDrainStep(m)
		if err != nil {
			return err
		}
		return tell(step)
	})
}

// Debug asks for what a bug report needs; see node.Operator.
func (c *Client) Debug(ctx context.Context, part func(name string, piece []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := c.operator.Debug(ctx, &pb.DebugRequest{})
	if err != nil {
		return c.failed(err)
	}
	return receiveAll(st, c, func(m *pb.DebugPart) error { return part(m.GetName(), m.GetData()) })
}

// receiveAll takes what a tracker sends until it ends the stream in good order.
func receiveAll[M any](st grpc.ServerStreamingClient[M], c *Client, take func(*M) error) error {
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.failed(err)
		}
		if err := take(m); err != nil {
			return err
		}
	}
}

// lasting leaves out a time of zero.
func lasting(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// lasts decodes a time that is not below zero.
func (d *decoder) lasts(field string, m *durationpb.Duration) time.Duration {
	return d.age(field, int64(m.AsDuration()))
}

func encodeReport(r *node.Report) *pb.StatusResponse {
	m := &pb.StatusResponse{
		Tracker: encodeProcess(r.Self), PoolName: r.Pool, Version: text(r.Version), Up: lasting(r.Up),
		View: encodeViewSums(r.Sums), Ready: r.Ready, NotReady: text(r.Why),
		CutOff: r.CutOff, Selfish: r.Selfish, Leaving: r.Leaving,
		Seat: r.Seat, Granting: r.Granting, Silence: lasting(r.Silence),
		Seats: convert(r.Seats, encodeSeatWord),
		Held:  r.Held.Bytes(), InForce: r.InForce.Bytes(), Open: r.Open.Bytes(),
		Holdups: convert(r.Holdups, encodeHoldup), MoreHoldups: uint32(r.More),
		Claims: uint64(r.Claims), UnaryClaims: uint64(r.UnaryClaims),
		Sessions: uint32(r.Sessions), Proxies: uint32(r.Proxies), Restored: uint32(r.Restored),
		Stalled: texts(r.Marked), GossipKeys: convert(r.Keys, text),
		Counts: &pb.Counts{Sessions: r.Began, ClaimChanges: r.Changes, SumMismatches: r.Differs, Refused: r.Refused,
			Found: r.Lookups[node.Found], Absent: r.Lookups[node.Absent], Unknown: r.Lookups[node.Unknown]},
	}
	if r.Params != (ring.Params{}) {
		m.Params = encodeParams(r.Params)
	}
	return m
}

func decodeReport(m *pb.StatusResponse) (node.Report, error) {
	d, counts := &decoder{}, m.GetCounts()
	r := node.Report{
		Self: d.process(m.GetTracker()), Pool: m.GetPoolName(), Version: m.GetVersion(), Up: d.lasts("up", m.GetUp()),
		Sums: decodeViewSums(m.GetView()), Leaving: m.GetLeaving(), More: int(m.GetMoreHoldups()),
		Marked: convert(m.GetStalled(), d.proxyID), Keys: m.GetGossipKeys(),
		Began: counts.GetSessions(), Changes: counts.GetClaimChanges(), Differs: counts.GetSumMismatches(), Refused: counts.GetRefused(),
		Lookups: map[node.Answer]uint64{node.Found: counts.GetFound(), node.Absent: counts.GetAbsent(), node.Unknown: counts.GetUnknown()},
	}
	if m.GetParams() != nil {
		r.Params = d.params(m.GetParams())
	}
	d.shards = r.Params.Shards
	if d.shards > 0 {
		r.Held, r.InForce, r.Open = d.shardSet("held", m.GetHeld()), d.shardSet("in_force", m.GetInForce()), d.shardSet("open", m.GetOpen())
		r.Holdups = convert(m.GetHoldups(), d.holdup)
	}
	r.Seats = convert(m.GetSeats(), d.seatWord)
	r.Status = node.Status{
		Seat: m.GetSeat(), Granting: m.GetGranting(), Silence: d.lasts("silence", m.GetSilence()), CutOff: m.GetCutOff(), Selfish: m.GetSelfish(),
		Stalled: len(r.Marked), Ready: m.GetReady(), Why: m.GetNotReady(),
		Claims: int(m.GetClaims()), UnaryClaims: int(m.GetUnaryClaims()),
		Sessions: int(m.GetSessions()), Proxies: int(m.GetProxies()), Restored: int(m.GetRestored()),
		View: r.Sums.Fingerprint,
	}
	r.Shards.Held, r.Shards.InForce, r.Shards.Open = r.Held.Len(), r.InForce.Len(), r.Open.Len()
	return result(d, r)
}

func encodeSeatWord(w lease.SeatWord) *pb.SeatWord {
	return &pb.SeatWord{Seat: encodeProcess(w.Seat), Grants: w.Grants, View: uint64(w.View), Heard: lasting(w.Heard), Left: lasting(w.Left)}
}

func (d *decoder) seatWord(m *pb.SeatWord) lease.SeatWord {
	return lease.SeatWord{Seat: d.process(m.GetSeat()), Grants: m.GetGrants(), View: ring.Fingerprint(m.GetView()),
		Heard: d.lasts("heard", m.GetHeard()), Left: d.lasts("left", m.GetLeft())}
}

func encodeHoldup(h lease.Holdup) *pb.Holdup {
	return &pb.Holdup{By: pb.HolderUp(h.By), Id: text(h.ID), Why: text(h.Why), Shards: h.Shards.Bytes()}
}

// holdup decodes one; where the number of shards is not known they are left out.
func (d *decoder) holdup(m *pb.Holdup) lease.Holdup {
	h := lease.Holdup{By: lease.HolderUp(m.GetBy()), ID: m.GetId(), Why: m.GetWhy()}
	if m.GetBy() < 0 || m.GetBy() > pb.HolderUp_HOLDER_UP_TRACKER {
		d.fail("by", strconv.Itoa(int(m.GetBy())), "is not known here; upgrade this process")
	}
	if d.shards > 0 {
		h.Shards = d.shardSet("shards", m.GetShards())
	}
	return h
}

func encodeProxyReport(r node.ProxyReport) *pb.ProxyStatus {
	return &pb.ProxyStatus{Proxy: encodeProxy(r.Proxy), Incarnation: encodeIncarnation(r.Incarnation), Session: r.Session, Claims: r.Claims,
		Lease: lasting(r.Lease), Heard: lasting(r.Heard), Stalled: r.Stalled, WaitedFor: r.WaitedFor,
		Ended: r.Ended, Restored: r.Restored, Counted: uint32(r.Counted)}
}

func (d *decoder) proxyReport(m *pb.ProxyStatus) node.ProxyReport {
	return node.ProxyReport{Proxy: decodeProxy(m.GetProxy()), Incarnation: decodeIncarnation(m.GetIncarnation()),
		Session: m.GetSession(), Claims: m.GetClaims(),
		Lease: d.lasts("lease", m.GetLease()), Heard: d.lasts("heard", m.GetHeard()), Stalled: m.GetStalled(), WaitedFor: m.GetWaitedFor(),
		Ended: m.GetEnded(), Restored: m.GetRestored(), Counted: int(m.GetCounted())}
}

func encodeExplanation(e *node.Explanation) *pb.ExplainResponse {
	return &pb.ExplainResponse{
		Tracker: encodeProcess(e.Self), View: encodeViewSums(e.View), Hash: e.Hash, Shard: uint32(e.Shard), List: texts(e.List),
		InForce: e.InForce, Open: e.Open, Holdups: convert(e.Holdups, encodeHoldup), Answer: pb.Answer(e.Answer),
		Claims: convert(e.Claims, func(c node.ExplainedClaim) *pb.ExplainedClaim {
			return &pb.ExplainedClaim{Proxy: encodeProxy(c.Proxy), Incarnation: encodeIncarnation(c.Incarnation),
				Generation: c.Generation, Age: lasting(c.Age), Unary: c.Unary, Covered: c.Covered, Left: lasting(c.Left), Session: c.Session, Counted: c.Counted, Why: text(c.Why)}
		}),
	}
}

func decodeExplanation(id node.ID, m *pb.ExplainResponse) (node.Explanation, error) {
	d := &decoder{}
	e := node.Explanation{
		Self: d.process(m.GetTracker()), View: decodeViewSums(m.GetView()), Hash: m.GetHash(), Shard: d.shard("shard", m.GetShard()),
		List: convert(m.GetList(), d.memberID), InForce: m.GetInForce(), Open: m.GetOpen(), Holdups: convert(m.GetHoldups(), d.holdup),
		Answer: node.Unknown,
		Claims: convert(m.GetClaims(), func(c *pb.ExplainedClaim) node.ExplainedClaim {
			return node.ExplainedClaim{
				Claim:       node.Claim{Node: id, Proxy: decodeProxy(c.GetProxy()), Generation: c.GetGeneration(), Age: d.lasts("age", c.GetAge())},
				Incarnation: decodeIncarnation(c.GetIncarnation()), Unary: c.GetUnary(),
				Covered: c.GetCovered(), Left: d.lasts("left", c.GetLeft()), Session: c.GetSession(), Counted: c.GetCounted(), Why: c.GetWhy(),
			}
		}),
	}
	switch m.GetAnswer() {
	case pb.Answer_FOUND:
		e.Answer = node.Found
	case pb.Answer_ABSENT:
		e.Answer = node.Absent
	}
	return result(d, e)
}

func encodeDrainStep(s node.DrainStep) *pb.DrainProgress {
	return &pb.DrainProgress{Left: text(s.Left), Shards: uint32(s.Shards), Claims: uint64(s.Claims),
		Elapsed: lasting(s.Elapsed), Deadline: lasting(s.Deadline), Done: s.Done}
}

func decodeDrainStep(m *pb.DrainProgress) (node.DrainStep, error) {
	d := &decoder{}
	return result(d, node.DrainStep{Left: m.GetLeft(), Shards: int(m.GetShards()), Claims: int(m.GetClaims()),
		Elapsed: d.lasts("elapsed", m.GetElapsed()), Deadline: d.lasts("deadline", m.GetDeadline()), Done: m.GetDone()})
}
