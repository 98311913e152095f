package rpc

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// A sessionCodec translates the frames of one session. The number of shards,
// which sets of shards are sized by, is what the Welcome said, on either side: it
// is written by the one goroutine that sends or receives Welcomes.
type sessionCodec struct {
	shards atomic.Int32
	admit  func(*node.Hello) error // of a server: says By, and whether the caller may say that
}

func (c *sessionCodec) decoder() *decoder { return &decoder{shards: int(c.shards.Load())} }

func (c *sessionCodec) encodeProxyFrame(f *node.ProxyFrame) *pb.ProxyFrame {
	switch {
	case f.Hello != nil:
		return &pb.ProxyFrame{Said: &pb.ProxyFrame_Hello{Hello: &pb.Hello{
			PoolName:    f.Hello.Pool,
			Proxy:       encodeProxy(f.Hello.Proxy),
			Incarnation: encodeIncarnation(f.Hello.Incarnation),
			HasClaims:   f.Hello.HasClaims,
		}}}
	case f.Batch != nil:
		return &pb.ProxyFrame{Said: &pb.ProxyFrame_Batch{Batch: &pb.Batch{Seq: f.Batch.Seq, Ops: f.Batch.Ops}}}
	case f.Replace != nil:
		return &pb.ProxyFrame{Said: &pb.ProxyFrame_Replace{Replace: &pb.Replace{Seq: f.Replace.Seq, Chunks: f.Replace.Chunks}}}
	case f.Renew != nil:
		return &pb.ProxyFrame{Said: &pb.ProxyFrame_Renew{Renew: &pb.Renew{
			Seq:       f.Renew.Seq,
			Nonce:     int64(f.Renew.Nonce),
			HasClaims: f.Renew.HasClaims,
			Sum:       &pb.ClaimSum{Count: f.Renew.Sum.Count, Sum: f.Renew.Sum.Sum},
			View:      uint64(f.Renew.View),
		}}}
	case f.Release != nil:
		return &pb.ProxyFrame{Said: &pb.ProxyFrame_Release{Release: &pb.Release{Seq: f.Release.Seq, Shards: f.Release.Shards.Bytes()}}}
	case f.Dropped != nil:
		return &pb.ProxyFrame{Said: &pb.ProxyFrame_Dropped{Dropped: &pb.Dropped{Token: f.Dropped.Token, Kept: texts(f.Dropped.Kept)}}}
	case f.Goodbye:
		return &pb.ProxyFrame{Said: &pb.ProxyFrame_Goodbye{Goodbye: true}}
	}
	return &pb.ProxyFrame{}
}

func (c *sessionCodec) decodeProxyFrame(m *pb.ProxyFrame) (*node.ProxyFrame, error) {
	f, d := &node.ProxyFrame{}, c.decoder()
	switch said := m.GetSaid().(type) {
	case *pb.ProxyFrame_Hello:
		f.Hello = &node.Hello{
			Pool:        said.Hello.GetPoolName(),
			Proxy:       d.proxy(said.Hello.GetProxy()),
			Incarnation: decodeIncarnation(said.Hello.GetIncarnation()),
			HasClaims:   said.Hello.GetHasClaims(),
		}
		if d.err == nil && c.admit != nil {
			d.err = c.admit(f.Hello)
		}
	case *pb.ProxyFrame_Batch:
		f.Batch = &node.Batch{Seq: said.Batch.GetSeq(), Ops: d.packed("ops", said.Batch.GetOps(), maxOps)}
	case *pb.ProxyFrame_Replace:
		f.Replace = &node.Replace{Seq: said.Replace.GetSeq(), Chunks: d.packed("chunks", said.Replace.GetChunks(), maxChunks)}
	case *pb.ProxyFrame_Renew:
		f.Renew = &node.Renew{
			Seq:       said.Renew.GetSeq(),
			Nonce:     lease.Nonce(said.Renew.GetNonce()),
			HasClaims: said.Renew.GetHasClaims(),
			Sum:       node.Sum{Count: said.Renew.GetSum().GetCount(), Sum: said.Renew.GetSum().GetSum()},
			View:      ring.Fingerprint(said.Renew.GetView()),
		}
	case *pb.ProxyFrame_Release:
		f.Release = &node.Release{Seq: said.Release.GetSeq(), Shards: d.shardSet("shards", said.Release.GetShards())}
	case *pb.ProxyFrame_Dropped:
		f.Dropped = &node.Dropped{Token: said.Dropped.GetToken(), Kept: d.nodeIDs("kept", said.Dropped.GetKept())}
	case *pb.ProxyFrame_Goodbye:
		f.Goodbye = said.Goodbye
	}
	return result(d, f)
}

func (c *sessionCodec) encodeTrackerFrame(f *node.TrackerFrame) *pb.TrackerFrame {
	m := &pb.TrackerFrame{Ack: f.Ack, Credits: f.Credits, Nonce: int64(f.Nonce)}
	if w := f.Welcome; w != nil {
		c.shards.Store(int32(w.Params.Shards))
		m.Welcome = &pb.Welcome{
			Tracker:     encodeProcess(w.Tracker),
			PoolName:    w.Pool,
			TermNs:      int64(w.Term),
			Params:      encodeParams(w.Params),
			Incarnation: encodeIncarnation(w.Incarnation),
			Credits:     w.Credits,
			Sums:        encodeSums(w.Sums),
		}
	}
	if f.View != nil {
		m.View = encodeViewSums(*f.View)
	}
	if s := f.State; s != nil {
		m.State = &pb.State{
			View:    uint64(s.View),
			Counted: s.Counted.Bytes(),
			Why: convert(s.Why, func(u node.Uncounted) *pb.Uncounted {
				return &pb.Uncounted{Why: pb.Why(u.Why), Shards: u.Shards.Bytes()}
			}),
			Known: s.Known,
		}
	}
	if f.Differ != nil {
		m.Differ = &pb.Differ{Seq: f.Differ.Seq, Sums: encodeSums(f.Differ.Sums)}
	}
	if f.Drop != nil {
		m.Drop = &pb.Drop{Token: f.Drop.Token, NodeIds: texts(f.Drop.IDs), Why: f.Drop.Why}
	}
	if f.End != nil {
		m.End = &pb.End{Reason: pb.EndReason(f.End.Reason), Known: encodeIncarnation(f.End.Known), Detail: f.End.Detail}
	}
	return m
}

func (c *sessionCodec) decodeTrackerFrame(m *pb.TrackerFrame) (*node.TrackerFrame, error) {
	d := c.decoder()
	f := &node.TrackerFrame{Ack: m.GetAck(), Credits: m.GetCredits(), Nonce: lease.Nonce(m.GetNonce())}
	if w := m.GetWelcome(); w != nil {
		params := d.params(w.GetParams())
		d.shards = params.Shards
		f.Welcome = &node.Welcome{
			Tracker:     d.process(w.GetTracker()),
			Pool:        w.GetPoolName(),
			Term:        d.term(w.GetTermNs()),
			Params:      params,
			Incarnation: decodeIncarnation(w.GetIncarnation()),
			Credits:     w.GetCredits(),
			Sums:        d.sums("sums", w.GetSums()),
		}
		if d.err == nil {
			c.shards.Store(int32(params.Shards))
		}
	}
	if v := m.GetView(); v != nil {
		sums := decodeViewSums(v)
		f.View = &sums
	}
	if s := m.GetState(); s != nil {
		f.State = d.state(s)
	}
	if m.GetDiffer() != nil {
		f.Differ = &node.Differ{Seq: m.GetDiffer().GetSeq(), Sums: d.sums("sums", m.GetDiffer().GetSums())}
	}
	if m.GetDrop() != nil {
		f.Drop = &node.Drop{Token: m.GetDrop().GetToken(), IDs: d.nodeIDs("node_ids", m.GetDrop().GetNodeIds()), Why: m.GetDrop().GetWhy()}
	}
	if e := m.GetEnd(); e != nil {
		f.End = &node.End{Reason: enum8[node.EndReason](int32(e.GetReason())), Known: decodeIncarnation(e.GetKnown()), Detail: e.GetDetail()}
	}
	return result(d, f)
}

func (d *decoder) state(m *pb.State) *node.State {
	if n := len(m.GetWhy()); n > maxReasons {
		d.fail("why", strconv.Itoa(n), "reasons are too many; the most is %d", maxReasons)
		return nil
	}
	return &node.State{
		View:    ring.Fingerprint(m.GetView()),
		Counted: d.shardSet("counted", m.GetCounted()),
		Why: convert(m.GetWhy(), func(u *pb.Uncounted) node.Uncounted {
			return node.Uncounted{Why: enum8[node.Why](int32(u.GetWhy())), Shards: d.shardSet("why.shards", u.GetShards())}
		}),
		Known: m.GetKnown(),
	}
}

// term decodes a pool's term. A day is more than any pool can use.
func (d *decoder) term(ns int64) lease.Term {
	const most = 24 * time.Hour
	if ns <= 0 || ns > int64(most) {
		d.fail("term", time.Duration(ns).String(), "is out of range; give more than 0 and at most %v", most)
	}
	return lease.Term(ns)
}

// enum8 decodes a number that a newer release may have added to: one that is not
// known here stays what it is, and one that does not fit becomes unspecified.
func enum8[E ~uint8](n int32) E {
	if n < 0 || n > math.MaxUint8 {
		return 0
	}
	return E(n)
}
