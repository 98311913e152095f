package pool

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// prompt is a tracker that answers at once, with what was made before.
type prompt struct {
	*fake
	result node.FindResult
	asks   chan *rpc.Ask // as many as a batch has
}

func (p *prompt) Ask(asks ...*rpc.Ask) error {
	for _, a := range asks {
		p.asks <- a
	}
	return nil
}

func (p *prompt) answer() {
	for a := range p.asks {
		a.Result = p.result
		a.Done()
	}
}

// A lookup allocates nothing but what its answer takes, which is the finder's; one for
// which all holders are asked does not either.
func TestLookupAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector a sync.Pool forgets at random")
	}
	var mu sync.Mutex
	w := newWorld(t, 1, 64)
	w.setView("a", "b", "c")
	for _, answer := range []node.Answer{node.Found, node.Absent} {
		result := node.FindResult{Answer: answer, View: w.sums().Fingerprint}
		if answer == node.Found {
			result.Claims = []node.Claim{{Node: "n", Proxy: node.Proxy{ID: "p"}}}
		}
		cfg := Config{Trackers: []string{"a"}, CacheSize: -1, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
		var trackers []*prompt
		c, err := open(t.Context(), cfg.withDefaults(), func(addr string) (conn, finder, error) {
			f := w.trackers[ring.MemberID(addr)]
			p := &prompt{f, result, make(chan *rpc.Ask, 2*batchAtOnce)}
			go p.answer()
			mu.Lock()
			defer mu.Unlock()
			trackers = append(trackers, p)
			return f, p, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		const id = node.ID("00000000-0000-4000-8000-000000000001")
		if n := testing.AllocsPerRun(1000, func() {
			if got, _, err := c.Lookup(t.Context(), id); got != answer || err != nil {
				t.Fatalf("%v, %v; want %v", got, err, answer)
			}
		}); n > 1 {
			t.Errorf("%v: a lookup allocates %v times, want at most once", answer, n)
		}
		ids := make([]node.ID, 1000)
		for i := range ids {
			ids[i] = id
		}
		if n := testing.AllocsPerRun(20, func() {
			c.LookupMany(t.Context(), ids, func(_ int, got node.Answer, _ []node.Claim, err error) {
				if got != answer || err != nil {
					t.Fatalf("%v, %v; want %v", got, err, answer)
				}
			})
		}); n > 1000 {
			t.Errorf("%v: a thousand lookups allocate %v times", answer, n)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for _, p := range trackers {
			close(p.asks)
		}
	}
}

// A lookup that the cache answers takes its claims at most.
func TestCachedLookupAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector a sync.Pool forgets at random")
	}
	w := newWorld(t, 1, 64)
	w.setView("a", "b", "c")
	result := node.FindResult{Answer: node.Found, View: w.sums().Fingerprint, Claims: []node.Claim{{Node: "n", Proxy: node.Proxy{ID: "p"}}}}
	p := &prompt{nil, result, make(chan *rpc.Ask, 2*batchAtOnce)}
	go p.answer()
	defer close(p.asks)
	cfg := Config{Trackers: []string{"a"}, CacheFound: time.Hour, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	c, err := open(t.Context(), cfg.withDefaults(), func(addr string) (conn, finder, error) {
		f := w.trackers[ring.MemberID(addr)]
		return f, &prompt{f, result, p.asks}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const id = node.ID("00000000-0000-4000-8000-000000000001")
	look := func() {
		if got, claims, err := c.Lookup(t.Context(), id); got != node.Found || len(claims) != 1 || err != nil {
			t.Fatalf("%v, %v, %v", got, claims, err)
		}
	}
	look()
	if n := testing.AllocsPerRun(1000, look); n > 2 {
		t.Errorf("a lookup that the cache answers allocates %v times, want at most twice", n)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// Claims that many callers make together take no allocation each: what there is, is of
// the frames that they go in, and of the tracker, which is in this process.
func TestAddAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector a sync.Pool forgets at random")
	}
	const callers, each = 256, 20
	w := newWorld(t, 1, 64)
	w.setView("a")
	c := w.open(t.Context(), "p")
	var ids [callers][]node.ID
	for i := range ids {
		for j := range 3 * each { // there are two runs
			ids[i] = append(ids[i], node.ID(fmt.Sprintf("00000000-0000-4000-8000-%06d%06d", i, j)))
		}
	}
	from := 0
	n := testing.AllocsPerRun(1, func() {
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() {
				for _, id := range ids[i][from : from+each] {
					if err := c.Add(t.Context(), node.Claim{Node: id}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		from += each
	})
	if n /= callers * each; n >= 1 {
		t.Errorf("a claim takes %.1f allocations, want less than one", n)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
