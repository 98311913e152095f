package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/ring"
)

func (c *cluster) report(id ring.MemberID) Report {
	c.t.Helper()
	r, err := c.at(id).Report(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *cluster) explain(at ring.MemberID, id ID) Explanation {
	c.t.Helper()
	e, err := c.at(at).Explain(c.t.Context(), id)
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

// A report agrees with Status, and names the proxy that a joiner waits for.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		r := c.report("t-1")
		if r.Self.ID != "t-1" || !r.Ready || !r.Granting || r.Sums.Fingerprint != p.Fingerprint() || r.Params != p.Params() || r.Pool != "test" {
			t.Errorf("t-1: %+v", r)
		}
		if !r.Held.Equal(p.Held("t-1")) || !r.Open.Equal(r.Held) || !r.InForce.Equal(r.Held) || len(r.Holdups) > 0 {
			t.Errorf("t-1 holds %d shards, %d in force, %d open, held up by %v", r.Held.Len(), r.InForce.Len(), r.Open.Len(), r.Holdups)
		}
		for _, w := range r.Seats {
			if !w.Grants || w.View != p.Fingerprint() || w.Seat.Boot == 0 {
				t.Errorf("word of %s: %+v", w.Seat.ID, w)
			}
		}

		c.start("t-3")
		p = c.show("t-0", "t-1", "t-2", "t-3")
		x.connect("t-3")
		y.connect("t-3")
		x.follow(p)
		time.Sleep(time.Second)
		r = c.report("t-3")
		if len(r.Holdups) != 1 || r.Holdups[0].By != lease.HeldUpByProxy || r.Holdups[0].ID != "y" || !r.Holdups[0].Shards.Equal(p.Held("t-3")) {
			t.Errorf("t-3 waits for %+v, want y for all %d shards", r.Holdups, p.Held("t-3").Len())
		}
		if !r.InForce.Equal(p.Held("t-3")) || !r.Open.Empty() {
			t.Errorf("t-3: %d in force, %d open", r.InForce.Len(), r.Open.Len())
		}
		y.follow(p)
		eventually(t, time.Second, func() string {
			if r := c.report("t-3"); r.Open.Len() < r.Held.Len() {
				return fmt.Sprintf("%d of %d open: %v", r.Open.Len(), r.Held.Len(), r.Holdups)
			}
			return ""
		})
	})
}

func TestProxyPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, _ := settled(t, 2, "t-0", "t-1", "t-2")
		all, more, err := c.at("t-0").Proxies(t.Context(), "", 0)
		if err != nil || more || len(all) != 2 || all[0].Proxy.ID != "x" || all[1].Proxy.ID != "y" {
			t.Fatalf("all: %+v, %v, %v", all, more, err)
		}
		for _, r := range all {
			if !r.Session || r.Lease <= 0 || r.Lease > poolTerm || !r.WaitedFor || r.Ended || r.Counted != p.Held("t-0").Len() || r.Proxy.Addr == "" {
				t.Errorf("proxy %s: %+v", r.Proxy.ID, r)
			}
		}
		if n := all[0].Claims + all[1].Claims; n != uint64(c.at("t-0").table.Len()) {
			t.Errorf("%d claims, want %d", n, c.at("t-0").table.Len())
		}
		first, more, err := c.at("t-0").Proxies(t.Context(), "", 1)
		if err != nil || !more || len(first) != 1 {
			t.Errorf("a page of one: %+v, %v, %v", first, more, err)
		}
		second, more, err := c.at("t-0").Proxies(t.Context(), first[0].Proxy.ID, 1)
		if err != nil || more || len(second) != 1 || second[0].Proxy.ID != "y" {
			t.Errorf("the next page: %+v, %v, %v", second, more, err)
		}
		if err := c.at("t-0").RemoveProxy(t.Context(), "x", 0); err != nil {
			t.Fatal(err)
		}
		all, _, _ = c.at("t-0").Proxies(t.Context(), "", 0)
		if i := slices.IndexFunc(all, func(r ProxyReport) bool { return r.Proxy.ID == "x" }); i < 0 || !all[i].Ended || all[i].Session || all[i].WaitedFor {
			t.Errorf("after the removal of x: %+v", all)
		}
		_ = x
	})
}

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, x, _ := settled(t, 2, "t-0", "t-1", "t-2")
		id := nodesOf(1, anyShard)[0]
		sh := p.ShardOf(string(id))
		for _, at := range []ring.MemberID{"t-0", "t-1", "t-2"} {
			e := c.explain(at, id)
			holds := slices.Contains(p.List(sh), at)
			if e.Self.ID != at || e.Shard != sh || e.Hash != ring.Hash(string(id)) || !slices.Equal(e.List, p.List(sh)) || e.View.Fingerprint != p.Fingerprint() {
				t.Errorf("%s: %+v", at, e)
			}
			if e.InForce != holds || e.Open != holds || (e.Answer == Found) != holds || (len(e.Claims) == 1) != holds {
				t.Errorf("%s, which holds: %v: %+v", at, holds, e)
			}
			for _, cl := range e.Claims {
				if cl.Proxy.ID != "x" || cl.Node != id || !cl.Covered || !cl.Counted || !cl.Session || cl.Why != "" || cl.Left <= 0 || cl.Incarnation.IsZero() {
					t.Errorf("%s: claim %+v", at, cl)
				}
			}
		}
		at := p.List(sh)[0]
		if e := c.explain(at, "nowhere"); len(e.Claims) > 0 || e.Answer == Found {
			t.Errorf("a node that is nowhere: %+v", e)
		}
		x.close()
		eventually(t, 2*poolTerm, func() string {
			e := c.explain(at, id)
			if e.Answer != Unknown || len(e.Claims) != 1 || e.Claims[0].Covered || e.Claims[0].Counted || e.Claims[0].Why != "the lease of its proxy ran out" {
				return fmt.Sprintf("after the crash of its proxy: %+v", e)
			}
			return ""
		})
		if _, err := c.at(at).Explain(t.Context(), ""); err == nil {
			t.Error("an empty node ID is explained")
		}
	})
}

// Draining says the same as Drain waits for.
func TestDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		d := c.at("t-2").Draining()
		want := DrainStep{Left: d.Left, Shards: c.report("t-2").Held.Len(), Claims: c.at("t-2").table.Len()}
		if diff := cmp.Diff(want, d); diff != "" || !strings.Contains(d.Left, "still placed here") {
			t.Errorf("before: %+v\n%s", d, diff)
		}
		p := c.showMembers(c.member("t-0", ring.Serving), c.member("t-1", ring.Serving), c.member("t-2", ring.Leaving))
		x.follow(p)
		y.follow(p)
		eventually(t, 2*poolTerm, func() string { return c.at("t-2").Draining().Left })
	})
}
