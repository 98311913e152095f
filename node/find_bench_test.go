package node

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

// BenchmarkFindReply is a tracker's part of a lookup, all but the network, in a table
// of a million claims of a hundred proxies.
func BenchmarkFindReply(b *testing.B) {
	keys := benchKeys(1_000_000, true)
	f, t := benchFinder(b, 100)
	for i, k := range keys {
		t.table.Put(k.Hash(), k, Owner(1+i%100), Value{Stamp: uint32(i)})
	}
	for _, batch := range []int{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			var requests []*FindRequest
			for from := 0; from+batch <= len(keys); from += batch {
				q := &FindRequest{Frame: 1}
				for _, k := range keys[from : from+batch] {
					q.IDs = AppendID(q.IDs, k)
				}
				requests = append(requests, q)
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime()
			for i := 0; i < b.N; i += batch {
				if _, err := f.reply(requests[i/batch%len(requests)]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what this process has used: on a busy machine it says more than the
// time that has passed.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchFinder is the tracker's side of a Find stream, with a table of its own and so
// many proxies whose leases hold.
func benchFinder(tb testing.TB, proxies int) (*finder, *Tracker) {
	tb.Helper()
	t, err := New(ring.Member{ID: "a", Boot: 1, Addr: "a:1", State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(1)},
		Config{Now: time.Now, Pool: Pool{Name: "test", Seats: [][]ring.MemberID{{"a"}}}, Dial: func(ring.Member) (Peer, error) { return nil, ErrUnavailable }})
	if err != nil {
		tb.Fatal(err)
	}
	all := ring.NewShardSet(t.cfg.Shards)
	for s := range t.cfg.Shards {
		all.Add(ring.Shard(s))
	}
	for i := range proxies {
		v := &life{id: ProxyID(fmt.Sprint("p", i)), incarnation: lease.Incarnation{Number: 1, Random: 1}}
		v.proxy.Store(&Proxy{ID: v.id, Addr: "10.0.0.1:7000"})
		v.lease.Store(&coverage{until: t.cfg.Now().Add(time.Hour).UnixNano(), shards: all})
		t.lives.add(v)
	}
	return newFinder(t), t
}
