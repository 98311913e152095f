package prototype

import (
	"context"
	"sync"
	"time"

	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// A Tracker keeps nodes in a map. Run forgets those whose proxies are silent. It is
// safe for concurrent use.
type Tracker struct {
	pb.UnimplementedNodeTrackerServer
	keepAlive time.Duration

	mu      sync.Mutex // guards all below
	nodes   map[string][]*proxy
	proxies map[string]*proxy
}

type proxy struct {
	id, addr string
	expires  time.Time
}

// New returns an empty tracker, which forgets a proxy with all its nodes when it has
// added none for so long.
func New(keepAlive time.Duration) *Tracker {
	return &Tracker{keepAlive: keepAlive, nodes: make(map[string][]*proxy), proxies: make(map[string]*proxy)}
}

// AddNode is NodeTrackerServer's.
func (t *Tracker) AddNode(_ context.Context, r *pb.AddNodeRequest) (*pb.AddNodeResponse, error) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.proxies[r.GetProxyId()]
	if p == nil {
		p = &proxy{id: r.GetProxyId()}
		t.proxies[p.id] = p
	}
	p.addr, p.expires = r.GetProxyAddr(), now.Add(t.keepAlive)
	list := t.nodes[r.GetNodeId()]
	for _, have := range list {
		if have == p {
			return &pb.AddNodeResponse{Copies: 1, Replicas: 1}, nil
		}
	}
	t.nodes[r.GetNodeId()] = append(list, p)
	return &pb.AddNodeResponse{Copies: 1, Replicas: 1}, nil
}

// GetProxies is NodeTrackerServer's.
func (t *Tracker) GetProxies(_ context.Context, r *pb.GetProxiesRequest) (*pb.GetProxiesResponse, error) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	resp := &pb.GetProxiesResponse{Answer: pb.Answer_ABSENT}
	for _, p := range t.nodes[r.GetNodeId()] {
		if now.Before(p.expires) {
			resp.Answer = pb.Answer_FOUND
			resp.Proxies = append(resp.Proxies, &pb.ProxyClaim{Id: p.id, Addr: p.addr})
		}
	}
	return resp, nil
}

// Run drops what has expired, until ctx ends.
func (t *Tracker) Run(ctx context.Context) {
	tick := time.NewTicker(t.keepAlive)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			t.expire(now)
		case <-ctx.Done():
			return
		}
	}
}

func (t *Tracker) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	expired := false
	for id, p := range t.proxies {
		if !now.Before(p.expires) {
			delete(t.proxies, id)
			expired = true
		}
	}
	if !expired {
		return
	}
	for id, list := range t.nodes {
		var kept []*proxy
		for _, p := range list {
			if now.Before(p.expires) {
				kept = append(kept, p)
			}
		}
		if len(kept) > 0 {
			t.nodes[id] = kept
		} else {
			delete(t.nodes, id)
		}
	}
}

// Len returns how many nodes there are.
func (t *Tracker) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.nodes)
}
