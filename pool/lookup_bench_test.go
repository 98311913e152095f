package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// BenchmarkLookup has blocking callers of one client look nodes up past the cache,
// over mutual TLS, in trackers of processes of their own. client-ns/op and
// tracker-ns/op are CPU time.
func BenchmarkLookup(b *testing.B) {
	for _, trackers := range [][]ring.MemberID{{"a"}, {"a", "b", "c"}} {
		b.Run(fmt.Sprintf("trackers=%d", len(trackers)), func(b *testing.B) {
			l := newLookups(b, trackers...)
			for _, answer := range []node.Answer{node.Found, node.Absent} {
				for _, callers := range []int{1, 64, 256} {
					b.Run(fmt.Sprintf("%v/callers=%d", answer, callers), func(b *testing.B) {
						ctx, ids := context.Background(), l.ids[answer]
						l.measure(b, callers, func(i int) {
							if got, _, err := l.reader.Lookup(ctx, ids[i%len(ids)]); got != answer {
								b.Errorf("%v, %v; want %v", got, err, answer)
							}
						})
					})
				}
			}
		})
	}
}

// BenchmarkAdd has blocking callers of one client make claims likewise, and wait until
// they are counted.
func BenchmarkAdd(b *testing.B) {
	for _, trackers := range [][]ring.MemberID{{"a"}, {"a", "b", "c"}} {
		b.Run(fmt.Sprintf("trackers=%d", len(trackers)), func(b *testing.B) {
			l := newLookups(b, trackers...)
			made := 0
			for _, callers := range []int{1, 64, 256} {
				b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
					ctx, ids := context.Background(), nodeIDs(lookedUp + made + b.N)[lookedUp+made:]
					made += b.N
					l.measure(b, callers, func(i int) {
						if err := l.writer.Add(ctx, node.Claim{Node: ids[i]}); err != nil {
							b.Error(err)
						}
					})
				})
			}
		})
	}
}

// BenchmarkLookupMany has one caller look up 10,000 nodes at a time.
func BenchmarkLookupMany(b *testing.B) {
	for _, trackers := range [][]ring.MemberID{{"a"}, {"a", "b", "c"}} {
		b.Run(fmt.Sprintf("trackers=%d", len(trackers)), func(b *testing.B) {
			l := newLookups(b, trackers...)
			for _, answer := range []node.Answer{node.Found, node.Absent} {
				b.Run(answer.String(), func(b *testing.B) {
					const many = 10_000
					ids := l.ids[answer]
					begun := l.begin(b)
					for i := 0; i < b.N; i += many {
						at := i % (len(ids) - many + 1)
						l.reader.LookupMany(context.Background(), ids[at:at+min(many, b.N-i)], func(i int, got node.Answer, _ []node.Claim, err error) {
							if got != answer {
								b.Errorf("%v, %v; want %v", got, err, answer)
							}
						})
					}
					begun.end(b)
				})
			}
		})
	}
}

// lookedUp is how many nodes have claims that are looked up.
const lookedUp = 100_000

// lookups is a pool of processes with claims in it, the proxy that made them, and a
// reader.
type lookups struct {
	*processes
	ids    map[node.Answer][]node.ID
	writer *pool.Client
	reader *pool.Client

	mu    sync.Mutex // guards conns
	conns []*rpc.Client
}

func newLookups(b *testing.B, trackers ...ring.MemberID) *lookups {
	b.Helper()
	l := &lookups{processes: startProcesses(b, trackers...), ids: map[node.Answer][]node.ID{}}
	l.writer = l.open(pool.Config{Proxy: node.Proxy{ID: "p1", Addr: "127.0.0.1:7000"}}, func(*rpc.Client) {})
	claims := make([]node.Claim, lookedUp)
	for i := range claims {
		claims[i].Node = nodeID(i)
	}
	l.ids[node.Found], l.ids[node.Absent] = nodeIDs(lookedUp), nodeIDs(2 * lookedUp)[lookedUp:]
	ctx := within(b, 60*time.Second)
	if err := l.writer.Add(ctx, claims...); err != nil && !errors.Is(err, node.ErrNotCounted) {
		b.Fatal(err)
	}
	if err := l.writer.Settled(ctx); err != nil {
		b.Fatal(err)
	}
	l.reader = l.open(pool.Config{CacheSize: -1}, func(c *rpc.Client) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = append(l.conns, c)
	})
	for _, answer := range []node.Answer{node.Found, node.Absent} {
		for got := node.Unknown; got != answer; {
			got, _, _ = l.reader.Lookup(ctx, l.ids[answer][0])
			if ctx.Err() != nil {
				b.Fatalf("the pool says %v, want %v", got, answer)
			}
		}
	}
	return l
}

// measure calls do b.N times, from so many goroutines.
func (l *lookups) measure(b *testing.B, callers int, do func(i int)) {
	took := make([][]time.Duration, callers)
	for i := range took {
		took[i] = make([]time.Duration, 0, b.N/callers+b.N/8+16)
	}
	begun := l.begin(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				start := time.Now()
				do(i)
				took[c] = append(took[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	begun.end(b)
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1e3, "p99-µs")
}

// usage is what had been used when a measurement began.
type usage struct {
	*lookups
	trackers, client time.Duration
	frames, asks     uint64
}

func (l *lookups) begin(b *testing.B) usage {
	u := usage{lookups: l, trackers: l.cpu(), client: cpuTime()}
	u.frames, u.asks = l.sent()
	b.ReportAllocs()
	b.ResetTimer()
	return u
}

func (u usage) end(b *testing.B) {
	b.StopTimer()
	n := float64(b.N)
	frames, asks := u.sent()
	b.ReportMetric(float64((cpuTime()-u.client).Nanoseconds())/n, "client-ns/op")
	b.ReportMetric(float64((u.cpu()-u.trackers).Nanoseconds())/n, "tracker-ns/op")
	b.ReportMetric(n/b.Elapsed().Seconds(), "ops/s")
	if frames > u.frames {
		b.ReportMetric(float64(asks-u.asks)/float64(frames-u.frames), "lookups/message")
	}
}

// sent is how many messages the reader has sent, and how many lookups in them.
func (l *lookups) sent() (frames, asks uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		f, a := c.Finder().Sent()
		frames, asks = frames+f, asks+a
	}
	return frames, asks
}
