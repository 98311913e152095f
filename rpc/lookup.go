package rpc

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// maxListSums is how many lookups or watched nodes one reply may speak of.
const maxListSums = max(node.MaxFind, node.MaxWatches)

func encodeFindRequest(r *node.FindRequest) *pb.FindRequest {
	return &pb.FindRequest{Frame: r.Frame, View: uint64(r.View), Ids: r.IDs, Watch: r.Watch, Unwatch: r.Unwatch}
}

func decodeFindRequest(m *pb.FindRequest) (*node.FindRequest, error) {
	d := &decoder{}
	return result(d, &node.FindRequest{
		Frame:   m.GetFrame(),
		View:    ring.Fingerprint(m.GetView()),
		IDs:     d.packed("ids", m.GetIds(), maxIDs),
		Watch:   d.packed("watch", m.GetWatch(), maxIDs),
		Unwatch: d.packed("unwatch", m.GetUnwatch(), maxIDs),
	})
}

func encodeFindReply(r *node.FindReply) *pb.FindReply {
	return &pb.FindReply{
		Frame:    r.Frame,
		View:     uint64(r.View),
		Reset_:   r.Reset,
		Proxies:  convert(r.Proxies, encodeProxy),
		Answers:  r.Answers,
		ListSums: r.ListSums,
		Watched:  r.Watched,
	}
}

func decodeFindReply(m *pb.FindReply) (*node.FindReply, error) {
	d := &decoder{}
	if n := len(m.GetListSums()); n > maxListSums {
		d.fail("list_sums", strconv.Itoa(n), "sums are too many; the most is %d", maxListSums)
	}
	return result(d, &node.FindReply{
		Frame:    m.GetFrame(),
		View:     ring.Fingerprint(m.GetView()),
		Reset:    m.GetReset_(),
		Proxies:  convert(m.GetProxies(), decodeProxy),
		Answers:  m.GetAnswers(),
		ListSums: m.GetListSums(),
		Watched:  d.packed("watched", m.GetWatched(), maxIDs),
	})
}

func encodeClaims(a node.Answer, claims []node.Claim) *pb.GetProxiesResponse {
	m := &pb.GetProxiesResponse{Answer: pb.Answer(a)}
	proxies := convert(claims, func(c node.Claim) *pb.ProxyClaim {
		return &pb.ProxyClaim{
			Id:          string(c.Proxy.ID),
			Addr:        c.Proxy.Addr,
			ClusterName: c.Proxy.Cluster,
			Generation:  c.Generation,
			Age:         durationpb.New(c.Age),
			Zone:        c.Proxy.Zone,
		}
	})
	if a == node.Unknown {
		m.Hints = proxies
	} else {
		m.Proxies = proxies
	}
	return m
}

// decodeClaims reads an answer for id. One that is not known here is UNKNOWN.
func decodeClaims(id node.ID, m *pb.GetProxiesResponse) (node.Answer, []node.Claim) {
	a, proxies := node.Unknown, m.GetHints()
	switch m.GetAnswer() {
	case pb.Answer_FOUND:
		a, proxies = node.Found, m.GetProxies()
	case pb.Answer_ABSENT:
		a, proxies = node.Absent, nil
	}
	return a, convert(proxies, func(p *pb.ProxyClaim) node.Claim {
		return node.Claim{
			Node:       id,
			Proxy:      node.Proxy{ID: node.ProxyID(p.GetId()), Addr: p.GetAddr(), Cluster: p.GetClusterName(), Zone: p.GetZone()},
			Generation: p.GetGeneration(),
			Age:        p.GetAge().AsDuration(),
		}
	})
}

func encodeClaim(c node.Claim) *pb.AddNodeRequest {
	return &pb.AddNodeRequest{
		NodeId:      string(c.Node),
		ProxyId:     string(c.Proxy.ID),
		ProxyAddr:   c.Proxy.Addr,
		ClusterName: c.Proxy.Cluster,
		Generation:  c.Generation,
		Zone:        c.Proxy.Zone,
		Age:         encodeAge(c.Age),
	}
}

func encodeAge(age time.Duration) *durationpb.Duration {
	if age == 0 {
		return nil
	}
	return durationpb.New(age)
}

func decodeClaim(m *pb.AddNodeRequest) (node.Claim, error) {
	d := &decoder{}
	c := node.Claim{
		Node:       d.nodeID(m.GetNodeId()),
		Proxy:      node.Proxy{ID: node.ProxyID(m.GetProxyId()), Addr: m.GetProxyAddr(), Cluster: m.GetClusterName(), Zone: m.GetZone()},
		Generation: m.GetGeneration(),
		Age:        d.age("age", int64(m.GetAge().AsDuration())),
	}
	d.keep(node.CheckProxy(c.Proxy))
	return result(d, c)
}
