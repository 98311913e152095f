package prototype

import (
	"context"
	"testing"
	"time"

	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

func TestExpiryIsPerProxy(t *testing.T) {
	ctx := context.Background()
	tr := New(time.Hour)
	add := func(node, proxy string) {
		if _, err := tr.AddNode(ctx, &pb.AddNodeRequest{NodeId: node, ProxyId: proxy, ProxyAddr: proxy + ":1"}); err != nil {
			t.Fatal(err)
		}
	}
	found := func(node string) int {
		r, err := tr.GetProxies(ctx, &pb.GetProxiesRequest{NodeId: node})
		if err != nil {
			t.Fatal(err)
		}
		return len(r.GetProxies())
	}
	add("n1", "p1")
	add("n1", "p1")
	add("n1", "p2")
	add("n2", "p2")
	if got := found("n1"); got != 2 {
		t.Errorf("n1 has %d proxies, want 2", got)
	}
	tr.proxies["p2"].expires = time.Now().Add(-time.Second)
	if got := found("n1"); got != 1 {
		t.Errorf("with p2 expired n1 has %d proxies, want 1", got)
	}
	tr.expire(time.Now())
	if got := tr.Len(); got != 1 {
		t.Errorf("after the expiry of p2 there are %d nodes, want 1", got)
	}
}
