package pool

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/lease"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// world is trackers that keep what they are told and check it, by one view that
// the test changes.
type world struct {
	t      *testing.T
	shards int
	term   lease.Term

	mu       sync.Mutex // guards the rest
	rand     *rand.Rand
	trackers map[ring.MemberID]*fake
	views    map[ring.Fingerprint]node.ViewInfo
	present  *ring.Placement
	window   uint32
	model    map[node.Key]claimed // what the client was told last
	version  uint64
}

// claimed is a claim or a removal, and when it was made.
type claimed struct {
	generation uint64
	gone       bool
	version    uint64
}

func newWorld(t *testing.T, seed uint64, shards int) *world {
	return &world{t: t, shards: shards, term: lease.DefaultTerm, rand: rand.New(rand.NewPCG(seed, 1)),
		trackers: map[ring.MemberID]*fake{}, views: map[ring.Fingerprint]node.ViewInfo{}, window: 2000, model: map[node.Key]claimed{}}
}

// setView makes these the members that are placed on; each is started where it is
// not running.
func (w *world) setView(ids ...ring.MemberID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var members []ring.Member
	for _, id := range ids {
		f := w.trackers[id]
		if f == nil {
			f = &fake{w: w, id: id, up: true, view: make(chan struct{}, 1)}
			f.restartLocked()
			w.trackers[id] = f
		}
		members = append(members, ring.Member{ID: id, Boot: f.boot, Addr: string(id), State: ring.Serving, Algorithm: 1, Replicas: ring.ReplicasOf(2)})
	}
	v, err := ring.NewView(members...)
	if err != nil {
		w.t.Fatal(err)
	}
	params := ring.Params{Algorithm: 1, Shards: w.shards, Replicas: 2}
	w.present, err = ring.Place(v, params)
	if err != nil {
		w.t.Fatal(err)
	}
	w.views[w.present.Fingerprint()] = node.ViewInfo{View: v, Params: params,
		Pool: node.Pool{Name: "test", Term: w.term, Seats: [][]ring.MemberID{{"a", "b", "c"}}}}
	for _, f := range w.trackers {
		select {
		case f.view <- struct{}{}:
		default:
		}
	}
}

func (w *world) sums() node.ViewSums {
	return node.ViewSums{Fingerprint: w.present.Fingerprint(), Sum: w.present.View().Sum()}
}

func (w *world) open(ctx context.Context, proxy node.ProxyID) *Client {
	w.t.Helper()
	cfg := Config{Trackers: []string{"a", "b", "c"}, CacheSize: -1, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	if proxy != "" {
		cfg.Proxy = node.Proxy{ID: proxy, Addr: "10.0.0.1:7000"}
	}
	return w.openWith(ctx, cfg)
}

func (w *world) openWith(ctx context.Context, cfg Config) *Client {
	w.t.Helper()
	c, err := open(ctx, cfg.withDefaults(), func(addr string) (conn, finder, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		f := w.trackers[ring.MemberID(addr)]
		if f == nil {
			return nil, nil, fmt.Errorf("no tracker at %s", addr)
		}
		return f, f, nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}
