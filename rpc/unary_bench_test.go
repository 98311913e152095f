package rpc

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/node"
)

// BenchmarkUnary has 50 callers on ten connections look nodes up by unary calls, over
// mutual TLS and with identities, client and server in this process. The service
// answers at once: what is measured is everything around it.
func BenchmarkUnary(b *testing.B) {
	ca := newSecured(b)
	claims := []node.Claim{{Node: "n", Proxy: someClaim.Proxy, Generation: 1, Age: 1}}
	_, addr := serve(b, &service{getProxies: func(node.ID) (node.Answer, []node.Claim, error) { return node.Found, claims, nil }},
		WithServerCredentials(ca.server(b, "t-0")), WithIdentities(ca.identities))
	var conns []*Client
	for i := range 10 {
		c := dial(b, addr, ca.client(b, access.Proxy, fmt.Sprint("p-", i)))
		if _, _, err := c.GetProxies(context.Background(), "n"); err != nil {
			b.Fatal(err)
		}
		conns = append(conns, c)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for int(next.Add(1)) <= b.N {
				if _, _, err := conns[i%len(conns)].GetProxies(context.Background(), "n"); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
