package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trackerpool/trackerpool/ring"
)

// limitedCluster is one tracker of a new pool, with limits.
func limitedCluster(t *testing.T, limit func(*Config)) *cluster {
	t.Helper()
	c := seatedCluster(t, 1, "t-0")
	c.config.NewPool = true
	limit(&c.config)
	c.start("t-0")
	c.show("t-0")
	c.awaitOpen(time.Second, "t-0")
	return c
}

func wantOverload(t *testing.T, what string, err error) {
	t.Helper()
	if overload, ok := errors.AsType[*OverloadError](err); !ok || overload.After <= 0 {
		t.Errorf("%s: got %v, want an OverloadError that says when to come back", what, err)
	}
}

// refused waits until a session has ended for lack of room.
func (s *script) refused(what string) {
	s.t.Helper()
	s.await(what, func() bool { return s.err != nil })
	wantOverload(s.t, what, s.err)
}

// A proxy may have so many claims and not one more, whether it adds them or gives
// shards anew; what is refused is not there, and what was there stays.
func TestMostClaimsOfOneProxy(t *testing.T) {
	const most = 10
	nodes := nodesOf(most+1, anyShard)
	shard := shardOf(nodes[most])
	same := nodesOf(most+1, func(s ring.Shard) bool { return s == shard })
	last := nodes[most]
	for name, exceed := range map[string]func(s *script){
		"a batch":     func(s *script) { s.add(last) },
		"a section":   func(s *script) { s.section(shard, true, true, append(nodesIn(shard, nodes[:most]), last)...) },
		"open shards": func(s *script) { s.section(shard, true, false, same...) },
	} {
		synctest.Test(t, func(t *testing.T) {
			c := limitedCluster(t, func(cfg *Config) { cfg.MaxClaims = most })
			s := c.hello("t-0", "p", 1, 1)
			s.add(nodes[:most]...)
			s.renew()
			s.stored()
			s.send(&ProxyFrame{Batch: &Batch{Seq: s.next(), Ops: opsOf(t, nodes[0])}}) // it is there
			s.remove(nodes[1])
			s.add(nodes[1])
			s.stored()
			exceed(s)
			s.refused(name)
			if r := c.look("t-0", last); r.Answer == Found || len(r.Claims) > 0 {
				t.Errorf("%s: what was refused is there: %+v", name, r)
			}
			for _, n := range nodes[:most] {
				if r := c.look("t-0", n); r.Answer != Found {
					t.Errorf("%s: %s is %v after the refusal", name, n, r.Answer)
				}
			}
			if again := c.hello("t-0", "p", 1, 1); again.sum.Count != most {
				t.Errorf("%s: the next session finds %d claims, want %d", name, again.sum.Count, most)
			}
		})
	}
}

// nodesIn are the nodes of a shard.
func nodesIn(shard ring.Shard, nodes []ID) []ID {
	var in []ID
	for _, n := range nodes {
		if shardOf(n) == shard {
			in = append(in, n)
		}
	}
	return in
}

// Above the ceiling the proxy with the most claims is slowed down, and what is new is
// told to come back; renewals, lookups and other proxies go on. Below it again all is
// as before.
func TestCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodesOf(4000, anyShard)
		table := NewTable(poolShards)
		for _, n := range nodes {
			k := mustKey(t, string(n))
			table.Put(k.Hash(), k, 1, Value{})
		}
		c := limitedCluster(t, func(cfg *Config) { cfg.MaxBytes = table.Bytes() * 15 / 16 }) // two tables differ by a percent or two
		p, q := c.hello("t-0", "p", 1, 1), c.hello("t-0", "q", 1, 1)
		q.add("q-node")
		q.renew()
		q.stored()
		for len(nodes) > 0 {
			p.add(nodes[:500]...)
			nodes = nodes[500:]
		}
		p.renew()
		p.stored()
		p.await("its credits", func() bool { return p.credits == tightCredits })
		ackedSoon := func(s *script) bool {
			began := time.Now()
			s.stored()
			return time.Since(began) < tightAck/2
		}
		for i := range 3 {
			q.add(ID(fmt.Sprintf("q-%d", i)))
			if !ackedSoon(q) {
				t.Error("another proxy's Ack is late")
			}
		}
		p.add("first") // its Ack may come at once
		p.stored()
		p.add("second")
		if ackedSoon(p) {
			t.Error("the greedy proxy's Ack is not late")
		}
		began := time.Now()
		p.renew()
		eventually(t, time.Second, func() string { return c.unlessFound("second") })
		if time.Since(began) > 100*time.Millisecond {
			t.Error("a renewal waits")
		}
		_, err := c.begin(t.Context(), "t-0", "r", 1)
		wantOverload(t, "a proxy that is not here", err)
		_, err = c.at("t-0").AddNode(t.Context(), Claim{Node: "u", Proxy: testProxy("z")})
		wantOverload(t, "a new unary claim", err)

		p.stored()
		p.send(&ProxyFrame{Goodbye: true})
		eventually(t, 10*time.Second, func() string {
			if c.at("t-0").short.Load() != nil {
				return "still above the ceiling"
			}
			return ""
		})
		if _, err := c.at("t-0").AddNode(t.Context(), Claim{Node: "u", Proxy: testProxy("z")}); err != nil {
			t.Errorf("below the ceiling: %v", err)
		}
		c.hello("t-0", "r", 1, 1)
	})
}

// unlessFound says what a node is, if it is not found.
func (c *cluster) unlessFound(id ID) string {
	if r := c.look("t-0", id); r.Answer != Found {
		return fmt.Sprintf("%s is %v", id, r.Answer)
	}
	return ""
}

// Who sends more than it has credits for, and a frame, is sent away.
func TestCreditsAreEnforced(t *testing.T) {
	const credits = 100
	synctest.Test(t, func(t *testing.T) {
		c := limitedCluster(t, func(cfg *Config) { cfg.Credits = credits })
		s := c.hello("t-0", "p", 1, 1)
		s.add("first")
		s.stored()
		c.at("t-0").short.Store(&shortage{greedy: s.life(c)}) // so that no Ack comes
		nodes := nodesOf(credits+MaxChunk+1, anyShard)
		s.add(nodes[:MaxChunk]...)
		s.add(nodes[MaxChunk : MaxChunk+credits]...)
		s.stored() // late, but it comes
		s.add(nodes[:MaxChunk]...)
		s.add(nodes[:credits+1]...)
		s.refused("one claim more")
	})
}

// life is the session's at t-0.
func (s *script) life(c *cluster) *life {
	x := c.at("t-0")
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.proxies["p"]
}

func TestMostWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limitedCluster(t, func(cfg *Config) { cfg.MaxWatches = 3 })
		watch := func(ids ...ID) (end func() error) {
			ctx, cancel := context.WithCancel(t.Context())
			stream, err := openPipe(ctx, c.wire("reader", "t-0"), c.host("t-0"), func(ctx context.Context, t *Tracker, s FindStream) error { return t.Find(ctx, s) })
			if err != nil {
				t.Fatal(err)
			}
			q := &FindRequest{}
			for _, id := range ids {
				q.Watch = AppendID(q.Watch, mustKey(t, string(id)))
			}
			if err := stream.Send(q); err != nil {
				t.Fatal(err)
			}
			return func() error {
				defer cancel()
				for told := 0; ; { // until what is watched was told, or the stream is over
					r, err := stream.Recv()
					if err != nil {
						return err
					}
					if told += r.Watched.Count(); told == len(ids) {
						return nil
					}
				}
			}
		}
		first := watch("a", "b")
		if err := watch("c")(); err != nil {
			t.Errorf("the third: %v", err)
		}
		synctest.Wait()
		if err := watch("c")(); err != nil {
			t.Errorf("the third again, after the stream was over: %v", err)
		}
		synctest.Wait()
		wantOverload(t, "a fourth", watch("c", "d")())
		if err := first(); err != nil {
			t.Errorf("a stream that has its watches: %v", err)
		}
		synctest.Wait()
		if n := c.at("t-0").watches.Load(); n != 0 {
			t.Errorf("%d watches are counted when all streams are over", n)
		}
	})
}

func TestMostHops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limitedCluster(t, func(cfg *Config) { cfg.MaxHops = 1 })
		x := c.at("t-0")
		claim := Claim{Node: "n", Proxy: testProxy("p")}
		if _, err := x.AddNode(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
		done, err := x.hop() // a call that is under way
		if err != nil {
			t.Fatal(err)
		}
		_, err = x.AddNode(t.Context(), claim)
		wantOverload(t, "AddNode", err)
		_, err = x.RemoveNode(t.Context(), "n", "p")
		wantOverload(t, "RemoveNode", err)
		_, _, err = x.GetProxies(t.Context(), "elsewhere")
		wantOverload(t, "GetProxies that is a miss", err)
		if answer, _, err := x.GetProxies(t.Context(), "n"); err != nil || answer != Found {
			t.Errorf("GetProxies of what is here: %v, %v", answer, err)
		}
		done()
		if _, err := x.RemoveNode(t.Context(), "n", "p"); err != nil {
			t.Errorf("after that call: %v", err)
		}
	})
}

func TestMostClaimsOfOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limitedCluster(t, func(cfg *Config) { cfg.MaxClaimsPerNode = 2 })
		x := c.at("t-0")
		add := func(node ID, proxy string) error {
			_, err := x.AddNode(t.Context(), Claim{Node: node, Proxy: testProxy(proxy)})
			return err
		}
		for range 2 { // the second time they are renewed
			for _, proxy := range []string{"a", "b"} {
				if err := add("n", proxy); err != nil {
					t.Errorf("%s: %v", proxy, err)
				}
			}
		}
		wantOverload(t, "a third proxy", add("n", "c"))
		if err := add("m", "c"); err != nil {
			t.Errorf("another node: %v", err)
		}

		for i, proxy := range []string{"x", "z", "y"} { // in sessions; the best are told
			s := c.hello("t-0", proxy, 1, 1)
			s.send(&ProxyFrame{Batch: &Batch{Seq: s.next(), Ops: AppendAdd(nil, mustKey(t, "s"), uint64(i+1), 0)}})
			s.sum.AddClaim(mustKey(t, "s").Hash(), uint64(i+1))
			s.renew()
			s.stored()
		}
		r := c.look("t-0", "s")
		if len(r.Claims) != 2 || r.Claims[0].Proxy.ID != "y" || r.Claims[1].Proxy.ID != "z" {
			t.Errorf("of three claims are told %+v, want those of y and z", r.Claims)
		}
	})
}

// A stream without a Hello is closed, so that it keeps nobody out.
func TestStreamsWithoutHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limitedCluster(t, func(cfg *Config) { cfg.MaxSessions = 1 })
		stream, err := openPipe(t.Context(), c.wire("mute", "t-0"), c.host("t-0"), func(ctx context.Context, t *Tracker, s SessionStream) error { return t.Session(ctx, s) })
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, err = c.begin(t.Context(), "t-0", "p", 1)
		wantOverload(t, "while it is open", err)
		began := time.Now()
		_, err = stream.Recv()
		if _, ok := errors.AsType[*InvalidError](err); !ok || time.Since(began) > helloTime {
			t.Errorf("it ends after %v with %v, want an InvalidError within %v", time.Since(began), err, helloTime)
		}
		c.hello("t-0", "p", 1, 1)
	})
}
