package pool_test

import (
	"slices"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
)

// Of proxies that claim one node readers are told all, the higher generation first,
// then the younger connection; by one holder's word as by all holders' merged. One
// that closes says goodbye: its claims are gone at once.
func TestCompetingProxies(t *testing.T) {
	p := startTrackers(t, "a", "b", "c")
	reader := p.open(pool.Config{CacheSize: -1})
	ctx := within(t, 60*time.Second)
	proxies := map[node.ProxyID]*pool.Client{}
	for _, claim := range []struct {
		by         node.ProxyID
		generation uint64
		age        time.Duration
	}{{"old", 1, time.Hour}, {"young", 1, time.Minute}, {"none", 0, 0}, {"high", 7, 24 * time.Hour}} {
		proxies[claim.by] = p.proxy(claim.by)
		if err := proxies[claim.by].Add(ctx, node.Claim{Node: "n", Generation: claim.generation, Age: claim.age}); err != nil {
			t.Fatal(err)
		}
	}
	order := func(want ...node.ProxyID) {
		t.Helper()
		soon := within(t, 15*time.Second) // on a busy machine a session may end and come back
		for _, from := range []string{"one holder", "all holders"} {
			for {
				if from == "all holders" {
					reader.Invalidate("n")
				}
				answer, claims, err := reader.Lookup(soon, "n")
				var got []node.ProxyID
				for _, c := range claims {
					got = append(got, c.Proxy.ID)
				}
				if answer == node.Found && slices.Equal(got, want) {
					break
				}
				if soon.Err() != nil {
					t.Fatalf("from %s: %v %v, %v; want %v", from, answer, got, err, want)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	order("high", "young", "old", "none")
	if err := proxies["none"].Add(ctx, node.Claim{Node: "n", Generation: 8}); err != nil {
		t.Fatal(err)
	}
	order("none", "high", "young", "old")
	if err := proxies["high"].Remove(ctx, "", "n"); err != nil {
		t.Fatal(err)
	}
	order("none", "young", "old")

	for _, id := range []node.ProxyID{"none", "young"} {
		if err := proxies[id].Close(); err != nil {
			t.Fatal(err)
		}
	}
	order("old")
	if err := proxies["old"].Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	wantAnswer(t, reader, "n", node.Absent)
	if d, silent := time.Since(began), lease.DefaultTerm.Forgotten()-lease.DefaultTerm.Renewal(); d > silent {
		t.Errorf("ABSENT %v after the last goodbye; without one it is after %v", d, silent)
	}
}
