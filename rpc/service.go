package rpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
	"github.com/trackerpool/trackerpool/timing"
)

// A trackerServer serves NodeTracker.
type trackerServer struct {
	pb.UnimplementedNodeTrackerServer
	svc     node.Service
	views   fingerprints
	batches *timing.Histogram // how long those of Find take
}

func (s *trackerServer) AddNode(ctx context.Context, m *pb.AddNodeRequest) (*pb.AddNodeResponse, error) {
	c, err := decodeClaim(m)
	if err == nil {
		err = own(ctx, access.Claim, string(c.Proxy.ID))
	}
	if err != nil {
		return nil, encodeError(err)
	}
	w, err := s.svc.AddNode(ctx, c)
	if err != nil {
		return nil, encodeError(err)
	}
	return &pb.AddNodeResponse{Copies: uint32(w.Copies), Replicas: uint32(w.Replicas), Counted: w.Counted}, nil
}

func (s *trackerServer) RemoveNode(ctx context.Context, m *pb.RemoveNodeRequest) (*pb.RemoveNodeResponse, error) {
	d := &decoder{}
	id, proxy := d.nodeID(m.GetNodeId()), node.ProxyID(m.GetProxyId())
	if proxy != "" {
		d.proxyID(m.GetProxyId())
	}
	if d.err == nil {
		d.err = own(ctx, access.Remove, string(proxy))
	}
	if d.err != nil {
		return nil, encodeError(d.err)
	}
	r, err := s.svc.RemoveNode(ctx, id, proxy)
	if err != nil {
		return nil, encodeError(err)
	}
	return &pb.RemoveNodeResponse{
		Removed:  uint32(r.Claims),
		Kept:     texts(r.Kept),
		Copies:   uint32(r.Copies),
		Replicas: uint32(r.Replicas),
	}, nil
}

func (s *trackerServer) GetProxies(ctx context.Context, m *pb.GetProxiesRequest) (*pb.GetProxiesResponse, error) {
	d := &decoder{}
	id := d.nodeID(m.GetNodeId())
	if d.err != nil {
		return nil, encodeError(d.err)
	}
	answer, claims, err := s.svc.GetProxies(ctx, id)
	if err != nil {
		return nil, encodeError(err)
	}
	return encodeClaims(answer, claims), nil
}

func (s *trackerServer) RemoveProxy(ctx context.Context, m *pb.RemoveProxyRequest) (*pb.RemoveProxyResponse, error) {
	err := checkProxyID(m.GetProxyId())
	if err == nil {
		err = own(ctx, access.Remove, m.GetProxyId())
	}
	if err != nil {
		return nil, encodeError(err)
	}
	if err := s.svc.RemoveProxy(ctx, node.ProxyID(m.GetProxyId()), m.GetIncarnation()); err != nil {
		return nil, encodeError(err)
	}
	return &pb.RemoveProxyResponse{}, nil
}

func (s *trackerServer) GetView(ctx context.Context, m *pb.GetViewRequest) (*pb.GetViewResponse, error) {
	fp := ring.Fingerprint(m.GetFingerprint())
	v, err := s.svc.View(ctx, fp)
	if err != nil {
		return nil, encodeError(err)
	}
	if fp == 0 {
		fp = s.views.of(v)
	}
	return encodeView(v, fp), nil
}

func (s *trackerServer) WatchView(_ *pb.WatchViewRequest, st grpc.ServerStreamingServer[pb.ViewSums]) error {
	return encodeError(s.svc.WatchView(st.Context(), func(v node.ViewSums) error { return st.Send(encodeViewSums(v)) }))
}

func (s *trackerServer) Session(st grpc.BidiStreamingServer[pb.ProxyFrame, pb.TrackerFrame]) error {
	c := sessionCodec{admit: hello(st.Context())}
	return encodeError(s.svc.Session(st.Context(), &stream[*node.ProxyFrame, *node.TrackerFrame, pb.ProxyFrame, pb.TrackerFrame]{
		wire:   incomingWire[pb.ProxyFrame, pb.TrackerFrame, *pb.ProxyFrame]{st},
		decode: c.decodeProxyFrame, encode: c.encodeTrackerFrame, failed: served(st.Context()),
	}))
}

func (s *trackerServer) Find(st grpc.BidiStreamingServer[pb.FindRequest, pb.FindReply]) error {
	return encodeError(s.svc.Find(st.Context(), &timedFind{took: s.batches, FindStream: &stream[*node.FindRequest, *node.FindReply, pb.FindRequest, pb.FindReply]{
		wire:   incomingWire[pb.FindRequest, pb.FindReply, *pb.FindRequest]{st},
		decode: decodeFindRequest, encode: encodeFindReply, failed: served(st.Context()),
	}}))
}

// A peeringServer serves Peering.
type peeringServer struct {
	pb.UnimplementedPeeringServer
	svc node.Service
}

func (s *peeringServer) Seat(st grpc.BidiStreamingServer[pb.Ask, pb.Word]) error {
	return encodeError(s.svc.Seat(st.Context(), &stream[*lease.Ask, *lease.Word, pb.Ask, pb.Word]{
		wire:   incomingWire[pb.Ask, pb.Word, *pb.Ask]{st},
		decode: spokenBy(st.Context(), decodeAsk, func(a *lease.Ask) ring.MemberID { return a.From.ID }),
		encode: encodeWord, failed: served(st.Context()),
	}))
}

func (s *peeringServer) Copies(st grpc.BidiStreamingServer[pb.CopyFrame, pb.CopyReply]) error {
	return encodeError(s.svc.Copies(st.Context(), &stream[*node.CopyFrame, *node.CopyReply, pb.CopyFrame, pb.CopyReply]{
		wire:   incomingWire[pb.CopyFrame, pb.CopyReply, *pb.CopyFrame]{st},
		decode: spokenBy(st.Context(), decodeCopyFrame, func(f *node.CopyFrame) ring.MemberID { return f.From.ID }),
		encode: encodeCopyReply, failed: served(st.Context()),
	}))
}

func (s *peeringServer) Store(ctx context.Context, m *pb.StoreRequest) (*pb.StoreReply, error) {
	r, err := decodeStoreRequest(m)
	if err != nil {
		return nil, encodeError(err)
	}
	reply, err := s.svc.Store(ctx, r)
	if err != nil {
		return nil, encodeError(err)
	}
	return encodeStoreReply(reply), nil
}

func (s *peeringServer) Forget(ctx context.Context, m *pb.ForgetRequest) (*pb.ForgetReply, error) {
	if err := checkProxyID(m.GetProxyId()); err != nil {
		return nil, encodeError(err)
	}
	if err := s.svc.Forget(ctx, node.ProxyID(m.GetProxyId()), decodeIncarnation(m.GetFloor())); err != nil {
		return nil, encodeError(err)
	}
	return &pb.ForgetReply{}, nil
}

func (s *peeringServer) Stay(ctx context.Context, _ *pb.StayRequest) (*pb.StayReply, error) {
	r, err := s.svc.Stay(ctx)
	if err != nil {
		return nil, encodeError(err)
	}
	return encodeStaying(r), nil
}

// hello returns what looks at the Hello of a session: it must be the caller's own.
func hello(ctx context.Context) func(*node.Hello) error {
	return func(h *node.Hello) error {
		who, _, _ := callerOf(ctx)
		h.By = who.From
		return own(ctx, access.Claim, string(h.Proxy.ID))
	}
}

// spokenBy has what decode decodes be of the tracker that sends it.
func spokenBy[PI, In any](ctx context.Context, decode func(*PI) (In, error), from func(In) ring.MemberID) func(*PI) (In, error) {
	return func(m *PI) (In, error) {
		in, err := decode(m)
		if err == nil {
			err = own(ctx, access.Peer, string(from(in)))
		}
		return in, err
	}
}

// fingerprints keeps the fingerprint of the view that was asked for last, since
// it takes a placement to compute one. It is safe for concurrent use.
type fingerprints struct {
	mu   sync.Mutex // guards the last view's
	last fingerprintKey
	fp   ring.Fingerprint
}

type fingerprintKey struct {
	sum    uint64
	params ring.Params
}

// of returns 0 for a view that places nothing.
func (f *fingerprints) of(v node.ViewInfo) ring.Fingerprint {
	f.mu.Lock()
	defer f.mu.Unlock() // also while it computes: the others would compute the same
	key := fingerprintKey{v.View.Sum(), v.Params}
	if f.last == key {
		return f.fp
	}
	f.last, f.fp = key, 0
	if p, err := ring.Place(v.View, v.Params); err == nil {
		f.fp = p.Fingerprint()
	}
	return f.fp
}
