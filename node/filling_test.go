package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFillingTells(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	f := filling{told: true}
	p, q := partial{}, partial{unary: true}

	p.add(at(0), 5, 50)
	f.part(at(1), "early", &p) // nobody waits
	f.note(at(2), 3, 7)
	p.add(at(3), 10, 100)
	p.add(at(4), 20, 200)
	f.note(at(4), 8, 7)
	q.add(at(5), 2, 0)
	f.part(at(6), "t-1", &q)
	f.part(at(6), "t-1", &q) // a confirm that nothing came before
	f.note(at(7), 1, 7)
	f.part(at(8), "p-1", &p)
	f.note(at(9), 0, 8)
	f.note(at(10), 0, 8)

	want := []endedFilling{{at: at(9), Filling: Filling{View: 8, Shards: 8, Took: 7 * time.Second, Parts: []FillingPart{
		{From: "t-1", Unary: true, Claims: 2, Took: time.Second, Before: 3 * time.Second},
		{From: "p-1", Claims: 30, Bytes: 300, Took: 5 * time.Second, Before: time.Second},
	}}}}
	if diff := cmp.Diff(want, f.over, cmp.AllowUnexported(endedFilling{})); diff != "" {
		t.Errorf("fillings (-want +got):\n%s", diff)
	}
	if f.times != 1 || f.took != 7*time.Second {
		t.Errorf("%d fillings of %v, want one of 7 s", f.times, f.took)
	}
	if p != (partial{}) || q != (partial{unary: true}) {
		t.Errorf("left of the parts: %+v, %+v", p, q)
	}
}

// However many proxies fill a tracker, and however often, what waits to be told is
// bounded.
func TestFillingKeepsTheLastParts(t *testing.T) {
	now := time.Unix(1000, 0)
	f := filling{told: true}
	for range maxFillings + 3 {
		f.note(now, 1, 1)
		for i := range maxParts + 10 {
			p := partial{}
			p.add(now, 1, 1)
			f.part(now, fmt.Sprint(i), &p)
		}
		f.note(now, 0, 1)
	}
	if len(f.over) != maxFillings {
		t.Errorf("%d fillings wait, want %d", len(f.over), maxFillings)
	}
	for _, over := range f.over {
		first, last := over.Parts[0].From, over.Parts[len(over.Parts)-1].From
		if len(over.Parts) != maxParts || over.More != 10 || first != "10" || last != fmt.Sprint(maxParts+9) {
			t.Errorf("%d parts, %s to %s, and %d more", len(over.Parts), first, last, over.More)
		}
	}
}

// Where nobody is told nothing is kept.
func TestFillingUntold(t *testing.T) {
	now := time.Unix(1000, 0)
	var f filling
	var p partial
	if n := testing.AllocsPerRun(100, func() {
		f.note(now, 1, 1)
		f.part(now, "p", &p)
		f.note(now, 0, 1)
	}); n != 0 || f.over != nil || f.parts != nil {
		t.Errorf("%v allocations, %d fillings and %d parts are kept", n, len(f.over), len(f.parts))
	}
}

// A tracker that joins tells what each proxy and each tracker brought, and that its
// filling is over when its shards are open.
func TestJoinTellsItsFilling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, x, y := settled(t, 2, "t-0", "t-1", "t-2")
		unary := 0
		for _, n := range nodesOf(400, anyShard)[330:] { // which the proxies have not
			if _, err := c.at("t-0").AddNode(t.Context(), Claim{Node: n, Proxy: testProxy("z")}); err != nil {
				t.Fatal(err)
			}
		}
		told := make(chan Filling, maxFillings)
		c.config.Filled = func(f Filling) { told <- f }
		began := time.Now()
		c.start("t-3")
		c.config.Filled = nil
		x.connect("t-3")
		y.connect("t-3")
		next := c.show("t-0", "t-1", "t-2", "t-3")
		x.follow(next)
		y.follow(next)
		c.awaitOpen(time.Second, "t-3")
		f := <-told
		if held := next.Held("t-3").Len(); f.Shards != held || f.View != next.Fingerprint() || f.Took <= 0 || f.Took > time.Since(began) || f.Ago < 0 {
			t.Errorf("filling %+v, want one of %d shards and view %v, in the last %v", f, held, next.Fingerprint(), time.Since(began))
		}
		from := map[string]int{}
		for _, p := range f.Parts {
			if p.Unary != (p.From[0] == 't') || p.Unary != (p.Bytes == 0) || p.Claims <= 0 || p.Took < 0 || p.Before < 0 || p.Took+p.Before > f.Took {
				t.Errorf("part %+v of a filling of %v", p, f.Took)
			}
			from[p.From] += p.Claims
			if p.Unary {
				unary += p.Claims
			}
		}
		ofProxies := 0
		for _, n := range nodesOf(320, anyShard) {
			if next.Held("t-3").Has(shardOf(n)) {
				ofProxies++
			}
		}
		if got := from["x"] + from["y"]; got != ofProxies || from["x"] == 0 || from["y"] == 0 {
			t.Errorf("proxies brought %v claims, want %d in all", from, ofProxies)
		}
		if unary == 0 {
			t.Errorf("no tracker brought unary claims: %+v", f.Parts)
		}
	})
}
