package rpc

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/trackerpool/trackerpool/node"
)

// BenchmarkFind has many callers look up UUIDs over mutual TLS, client and server
// in this process: what it says is the cost of both.
func BenchmarkFind(b *testing.B) {
	files := makeFiles(b)
	serverCreds, err := ServerCredentials(files.server, nil)
	if err != nil {
		b.Fatal(err)
	}
	clientCreds, err := ClientCredentials(files.client, nil)
	if err != nil {
		b.Fatal(err)
	}
	s := newFindServer()
	keys := make([]node.Key, 10_000)
	for i := range keys {
		keys[i] = key(b, fmt.Sprintf("00000000-0000-4000-8000-%012x", i*7919))
		s.claims[keys[i]] = []node.Claim{{Node: keys[i].ID(), Proxy: someClaim.Proxy, Generation: 1, Age: 1}}
	}
	_, addr := serve(b, &service{find: s.serve}, WithServerCredentials(serverCreds))
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			c := dial(b, addr, clientCreds)
			if _, err := c.Find(context.Background(), keys[0], 1); err != nil {
				b.Fatal(err)
			}
			s.locked(func() { s.batches = nil })
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			done := make(chan error, callers)
			for range callers {
				go func() {
					for {
						i := int(next.Add(1))
						if i > b.N {
							done <- nil
							return
						}
						if _, err := c.Find(context.Background(), keys[i%len(keys)], 1); err != nil {
							done <- err
							return
						}
					}
				}()
			}
			for range callers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			s.locked(func() { b.ReportMetric(float64(b.N)/float64(max(1, len(s.batches))), "lookups/batch") })
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
		})
	}
}
