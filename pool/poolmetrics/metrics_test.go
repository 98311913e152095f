package poolmetrics_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/trackerpool/trackerpool/internal/clock"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/pool"
	"github.com/trackerpool/trackerpool/pool/poolmetrics"
	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// startTracker runs a pool of one, and returns its address.
func startTracker(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	self := ring.Member{ID: "t-0", Boot: 1, Addr: l.Addr().String(), State: ring.Serving, Algorithm: ring.Algorithm, Replicas: ring.ReplicasOf(1)}
	tracker, err := node.New(self, node.Config{Pool: node.Pool{Name: "p", Seats: [][]ring.MemberID{{"t-0"}}}, NewPool: true, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	v, err := ring.NewView(self)
	if err != nil {
		t.Fatal(err)
	}
	views := make(chan ring.View, 1)
	views <- v
	s := rpc.NewServer(tracker)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := tracker.Run(ctx, views); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); s.Stop(); wg.Wait() })
	return l.Addr().String()
}

func TestMetrics(t *testing.T) {
	m := poolmetrics.New()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(m); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := pool.Open(ctx, pool.Config{Trackers: []string{startTracker(t)}, Proxy: node.Proxy{ID: "x", Addr: "h:1"}, Metrics: m, CacheSize: -1, CountWait: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m.Of(c.Stats)
	if err := c.Add(ctx, node.Claim{Node: "a"}); err != nil && !errors.Is(err, node.ErrNotCounted) {
		t.Fatal(err)
	}
	if err := c.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 400 { // of which some 25 are timed, and none with a chance of 1 in 10^11
		if _, _, err := c.Lookup(ctx, node.ID(fmt.Sprint("n-", i))); err != nil {
			t.Fatal(err)
		}
	}
	got := gather(t, r)
	for name, want := range map[string]float64{
		"pool_claims": 1, "pool_sessions": 1, "pool_trackers": 1, "pool_queued": 0,
		"pool_add_duration_seconds": 1, "pool_remove_duration_seconds": 0, "pool_differs_total": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (exported: %v), want %v", name, v, ok, want)
		}
	}
	if n := got["pool_lookup_duration_seconds"]; n == 0 || n > 200 {
		t.Errorf("%v of 400 lookups were timed, want some 25", n)
	}
	problems, err := testutil.CollectAndLint(m)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// gather returns values by name: of histograms how many were observed.
func gather(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		switch m := f.Metric[0]; f.GetType() {
		case dto.MetricType_GAUGE:
			values[f.GetName()] = m.GetGauge().GetValue()
		case dto.MetricType_COUNTER:
			values[f.GetName()] = m.GetCounter().GetValue()
		case dto.MetricType_HISTOGRAM:
			values[f.GetName()] = float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// TestAllNames: each name that pool tells is exported under some name.
func TestAllNames(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../metrics.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := poolmetrics.New()
	m.Of(func() pool.Stats { return pool.Stats{} })
	r := prometheus.NewRegistry()
	r.MustRegister(m)
	have := gather(t, r)
	names := 0
	ast.Inspect(f, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING || !strings.HasPrefix(lit.Value, `"pool_`) {
			return true
		}
		name, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		names++
		for _, suffix := range []string{"", "_total", "_duration_seconds"} {
			if _, ok := have[name+suffix]; ok {
				return true
			}
		}
		t.Errorf("pool tells %s, and it is not exported", name)
		return true
	})
	if names < 10 {
		t.Errorf("only %d names were found in pool/metrics.go", names)
	}
}
