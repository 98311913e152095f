package rpc

import (
	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

func encodeAsk(a *lease.Ask) *pb.Ask {
	return &pb.Ask{
		From:     encodeProcess(a.From),
		SeatSets: a.SeatSets,
		Nonce:    int64(a.Nonce),
		SeatBoot: a.SeatBoot,
		Ack:      a.Ack,
		Contacts: convert(a.Contacts, encodeContact),
		Stalled:  texts(a.Stalled),
	}
}

func decodeAsk(m *pb.Ask) (*lease.Ask, error) {
	d := &decoder{}
	return result(d, &lease.Ask{
		From:     d.process(m.GetFrom()),
		SeatSets: m.GetSeatSets(),
		Nonce:    lease.Nonce(m.GetNonce()),
		SeatBoot: m.GetSeatBoot(),
		Ack:      m.GetAck(),
		Contacts: convert(m.GetContacts(), d.contact),
		Stalled:  convert(m.GetStalled(), d.proxyID),
	})
}

func encodeWord(w *lease.Word) *pb.Word {
	return &pb.Word{
		Seat:   encodeProcess(w.Seat),
		Seq:    w.Seq,
		Nonce:  int64(w.Nonce),
		Grants: w.Grants,
		View:   uint64(w.View),
		Older: convert(w.Older, func(o lease.Older) *pb.Older {
			return &pb.Older{View: uint64(o.View), Stragglers: convert(o.Stragglers, encodeProcess)}
		}),
		Full:     w.Full,
		Contacts: convert(w.Contacts, encodeContact),
	}
}

func decodeWord(m *pb.Word) (*lease.Word, error) {
	d := &decoder{}
	return result(d, &lease.Word{
		Seat:   d.process(m.GetSeat()),
		Seq:    m.GetSeq(),
		Nonce:  lease.Nonce(m.GetNonce()),
		Grants: m.GetGrants(),
		View:   ring.Fingerprint(m.GetView()),
		Older: convert(m.GetOlder(), func(o *pb.Older) lease.Older {
			return lease.Older{View: ring.Fingerprint(o.GetView()), Stragglers: convert(o.GetStragglers(), d.process)}
		}),
		Full:     m.GetFull(),
		Contacts: convert(m.GetContacts(), d.contact),
	})
}

func encodeContact(c lease.Contact) *pb.Contact {
	return &pb.Contact{
		ProxyId:      string(c.Proxy),
		Incarnation:  encodeIncarnation(c.Incarnation),
		AgeNs:        int64(c.Age),
		Claims:       c.Claims,
		Floor:        encodeIncarnation(c.Floor),
		Stalled:      c.Stalled,
		StalledAgeNs: int64(c.StalledAge),
		FloorAgeNs:   int64(c.FloorAge),
	}
}

func (d *decoder) contact(m *pb.Contact) lease.Contact {
	return lease.Contact{
		Proxy:       d.proxyID(m.GetProxyId()),
		Incarnation: decodeIncarnation(m.GetIncarnation()),
		Age:         d.age("age_ns", m.GetAgeNs()),
		Claims:      m.GetClaims(),
		Floor:       decodeIncarnation(m.GetFloor()),
		Stalled:     m.GetStalled(),
		StalledAge:  d.age("stalled_age_ns", m.GetStalledAgeNs()),
		FloorAge:    d.age("floor_age_ns", m.GetFloorAgeNs()),
	}
}

func encodeUnaryClaim(c node.UnaryClaim) *pb.UnaryClaim {
	return &pb.UnaryClaim{
		NodeId:     string(c.Node),
		Proxy:      encodeProxy(c.Proxy),
		Generation: c.Generation,
		AgeNs:      int64(c.Age),
		Version:    c.Version,
		LeftNs:     int64(c.Left),
		Gone:       c.Gone,
	}
}

// unaryClaim decodes a claim or its removal, which names a proxy without the rest.
func (d *decoder) unaryClaim(m *pb.UnaryClaim) node.UnaryClaim {
	c := node.UnaryClaim{
		Node:       d.nodeID(m.GetNodeId()),
		Generation: m.GetGeneration(),
		Age:        d.age("age_ns", m.GetAgeNs()),
		Version:    m.GetVersion(),
		Left:       d.left("left_ns", m.GetLeftNs()),
		Gone:       m.GetGone(),
	}
	if c.Gone && m.GetProxy().GetAddr() == "" {
		c.Proxy = decodeProxy(m.GetProxy())
		d.proxyID(string(c.Proxy.ID))
		return c
	}
	c.Proxy = d.proxy(m.GetProxy())
	return c
}

func encodeCopyFrame(f *node.CopyFrame) *pb.CopyFrame {
	return &pb.CopyFrame{
		Seq:     f.Seq,
		From:    encodeProcess(f.From),
		Claims:  convert(f.Claims, encodeUnaryClaim),
		Confirm: f.Confirm,
		Nonce:   int64(f.Nonce),
		View:    uint64(f.View),
		Sums:    encodeSums(f.Sums),
	}
}

func decodeCopyFrame(m *pb.CopyFrame) (*node.CopyFrame, error) {
	d := &decoder{}
	return result(d, &node.CopyFrame{
		Seq:     m.GetSeq(),
		From:    d.process(m.GetFrom()),
		Claims:  convert(m.GetClaims(), d.unaryClaim),
		Confirm: m.GetConfirm(),
		Nonce:   lease.Nonce(m.GetNonce()),
		View:    ring.Fingerprint(m.GetView()),
		Sums:    d.sums("sums", m.GetSums()),
	})
}

func encodeCopyReply(r *node.CopyReply) *pb.CopyReply {
	return &pb.CopyReply{
		Ack:    r.Ack,
		Nonce:  int64(r.Nonce),
		Claims: convert(r.Claims, encodeUnaryClaim),
		Want:   r.Want.Bytes(),
	}
}

// decodeCopyReply needs the pool's number of shards, which no frame of this
// stream says.
func decodeCopyReply(m *pb.CopyReply, shards int) (*node.CopyReply, error) {
	d := &decoder{shards: shards}
	return result(d, &node.CopyReply{
		Ack:    m.GetAck(),
		Nonce:  lease.Nonce(m.GetNonce()),
		Claims: convert(m.GetClaims(), d.unaryClaim),
		Want:   d.shardSet("want", m.GetWant()),
	})
}

func encodeStoreRequest(r node.StoreRequest) *pb.StoreRequest {
	return &pb.StoreRequest{ListSum: r.ListSum, Claim: encodeUnaryClaim(r.Claim)}
}

func decodeStoreRequest(m *pb.StoreRequest) (node.StoreRequest, error) {
	d := &decoder{}
	return result(d, node.StoreRequest{ListSum: m.GetListSum(), Claim: d.unaryClaim(m.GetClaim())})
}

func encodeStoreReply(r node.StoreReply) *pb.StoreReply {
	return &pb.StoreReply{Stored: r.Stored, Counted: r.Counted, Version: r.Version, ListSum: r.ListSum}
}

func decodeStoreReply(m *pb.StoreReply) node.StoreReply {
	return node.StoreReply{
		Stored:  m.GetStored(),
		Counted: m.GetCounted(),
		Version: m.GetVersion(),
		ListSum: m.GetListSum(),
	}
}

func encodeStaying(s node.Staying) *pb.StayReply {
	return &pb.StayReply{Leaving: s.Leaving, Grants: s.Grants}
}

func decodeStaying(m *pb.StayReply) node.Staying {
	return node.Staying{Leaving: m.GetLeaving(), Grants: m.GetGrants()}
}
