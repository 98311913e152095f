package node

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/ring"
)

// Bad input ends the session by name, harms nobody else's claims, and the next session
// of the same life goes on with right sums.
func TestBadInput(t *testing.T) {
	shard := shardOf("a")
	elsewhere := nodesOf(1, func(s ring.Shard) bool { return s != shard })[0]
	many := nodesOf(MaxChunk+1, anyShard)
	wrong := ring.NewShardSet(1 << 16)
	wrong.Add(poolShards)
	key := func(id ID) Key { return mustKey(t, string(id)) }
	chunk := func(head Chunk, ids ...ID) Chunks {
		p := AppendChunk(nil, head)
		for _, id := range ids {
			p = AppendChunkAdd(p, key(id), 1, 0)
		}
		return p
	}
	batch := func(seq uint64, ops Ops) *ProxyFrame { return &ProxyFrame{Batch: &Batch{Seq: seq, Ops: ops}} }
	replace := func(c Chunks) *ProxyFrame { return &ProxyFrame{Replace: &Replace{Seq: 3, Chunks: c}} }
	for _, tt := range []struct {
		name, detail string
		f            *ProxyFrame // number 3 of a session
	}{
		{"seq gap", `seq "4"`, batch(4, opsOf(t, "b"))},
		{"seq again", `seq "2"`, batch(2, opsOf(t, "b"))},
		{"seq 0", `seq "0"`, batch(0, nil)},
		{"Renew out of turn", `seq "9"`, &ProxyFrame{Renew: &Renew{Seq: 9}}},
		{"Release out of turn", `seq "9"`, &ProxyFrame{Release: &Release{Seq: 9}}},
		{"second Hello", "hello", &ProxyFrame{Hello: &Hello{Proxy: testProxy("x"), Incarnation: incarnationOf(9, 9)}}},
		{"foreign nonce", "nonce", &ProxyFrame{Renew: &Renew{Seq: 3, Nonce: 1}}},
		{"nonce to come", "nonce", &ProxyFrame{Renew: &Renew{Seq: 3, Nonce: 1 << 62}}},
		{"ops cut off", "ops[1]", batch(3, append(opsOf(t, "b"), 0))},
		{"ops of unknown flags", "ops[0]", batch(3, Ops{0x80})},
		{"too many ops", fmt.Sprintf("ops[%d]", MaxChunk), batch(3, opsOf(t, many...))},
		{"empty ID", "ops[0]", batch(3, Ops{0, 1})},
		{"unknown shard", "chunks[0]", replace(chunk(Chunk{Shard: poolShards, First: true, Last: true}))},
		{"claim of another shard", fmt.Sprintf("chunks %q", elsewhere), replace(chunk(Chunk{Shard: shard, First: true, Last: true, Claims: 1}, elsewhere))},
		{"no first section", "chunks", replace(chunk(Chunk{Shard: shard, Last: true, Claims: 1}, "a"))},
		{"fewer claims than said", "chunks[1]", replace(chunk(Chunk{Shard: shard, First: true, Last: true, Claims: 2}, "a"))},
		{"too many claims", "chunks[0]", replace(chunk(Chunk{Shard: shard, First: true, Claims: MaxChunk + 1}))},
		{"release of an unknown shard", "shards", &ProxyFrame{Release: &Release{Seq: 3, Shards: wrong}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, "t-0")
				c.awaitOpen(time.Second, "t-0")
				y := c.newClient("y", c.at("t-0").snap.Load().Placement, "t-0")
				y.add(1, nodesOf(200, anyShard)...)
				y.add(1, "a", "b")
				y.settle(time.Second)
				owner := c.session("t-0", "y").life.owner
				before := c.at("t-0").table.Sums(owner)

				x := c.hello("t-0", "x", 1, 1)
				x.add("a", elsewhere)
				x.renew()
				x.await("counting", func() bool { return x.acked == x.seq && x.state.Counted.Has(shard) })
				x.send(tt.f)
				if end := x.over(EndBadInput); !strings.Contains(end.Detail, tt.detail) {
					t.Errorf("got %q, want %q in it", end.Detail, tt.detail)
				}
				if diff := cmp.Diff(before, c.at("t-0").table.Sums(owner)); diff != "" {
					t.Errorf("another proxy's sums (-before +after):\n%s", diff)
				}
				if what := y.unsettled(); what != "" {
					t.Error(what)
				}
				x = c.hello("t-0", "x", 1, 1)
				x.renew()
				x.await("counting", func() bool { return x.acked == x.seq && x.state.Counted.Has(shard) })
				if x.differs != nil {
					t.Error("the sums after it are wrong")
				}
			})
		})
	}
}

// What is no session is refused before it begins.
func TestBadHello(t *testing.T) {
	proxy := testProxy("x")
	for _, tt := range []struct {
		name, detail string
		f            *ProxyFrame
	}{
		{"none", "hello", &ProxyFrame{}},
		{"another frame", "hello", &ProxyFrame{Batch: &Batch{Seq: 1}}},
		{"another pool", "pool", &ProxyFrame{Hello: &Hello{Pool: "other", Proxy: proxy, Incarnation: incarnationOf(1, 1)}}},
		{"no number", "incarnation", &ProxyFrame{Hello: &Hello{Proxy: proxy, Incarnation: incarnationOf(0, 1)}}},
		{"no random", "incarnation", &ProxyFrame{Hello: &Hello{Proxy: proxy, Incarnation: incarnationOf(1, 0)}}},
		{"no proxy", "proxy_id", &ProxyFrame{Hello: &Hello{Incarnation: incarnationOf(1, 1)}}},
		{"no address", "proxy_addr", &ProxyFrame{Hello: &Hello{Proxy: Proxy{ID: "x"}, Incarnation: incarnationOf(1, 1)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, "t-0")
				c.awaitOpen(time.Second, "t-0")
				s := c.openSession("t-0", "x")
				s.send(tt.f)
				if end := s.over(EndBadInput); !strings.Contains(end.Detail, tt.detail) {
					t.Errorf("got %q, want %q in it", end.Detail, tt.detail)
				}
				if st := c.at("t-0").Status(); st.Proxies != 0 || st.Sessions != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}
