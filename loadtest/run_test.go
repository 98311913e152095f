package loadtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
	"github.com/trackerpool/trackerpool/loadtest"
)

// TestRun runs everything once, small and with a short term, against a real pool in
// this process.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some terms")
	}
	cfg := loadtest.Config{
		Start:     loadtest.StartInProcess(trackercmd.Run, trackercmd.ErrKilled),
		InProcess: true,
		Nodes:     2000, Proxies: 3, Replicas: 2, Rate: 500, Seed: 1,
		Term:      3 * time.Second,
		CountWait: 5 * time.Second, // a busy machine is no fault of the pool
		Duration:  time.Second,
		Events:    []loadtest.Kind{loadtest.Join, loadtest.Leave, loadtest.RestartProxy},
	}
	r, err := loadtest.Run(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v; logs in %s", err, r.Logs)
	}
	for _, f := range r.Failures {
		t.Error(f)
	}
	for _, m := range r.Mistakes {
		t.Log(m)
	}
	if r.Register.Count != cfg.Nodes || r.Trackers != 3 || r.Replicas != 2 {
		t.Errorf("registered %d nodes at %d trackers with %d replicas, want %d at 3 with 2", r.Register.Count, r.Trackers, r.Replicas, cfg.Nodes)
	}
	if got, want := r.Verify.Checked, int64(2*cfg.Nodes); got != want {
		t.Errorf("verified %d nodes in both passes, want %d", got, want)
	}
	if r.Lookup.Count == 0 || r.Lookup.Reconnects == 0 || r.Lookup.Misses == 0 {
		t.Errorf("the mix lacks a kind of operation: %+v", r.Lookup)
	}
	if len(r.Events) != len(cfg.Events) {
		t.Fatalf("%d events were played, want %d", len(r.Events), len(cfg.Events))
	}
	for i, want := range []struct{ ideal, least, most float64 }{{0.25, 0.2, 0.3}, {0.25, 0.2, 0.3}, {0, 0, 0}} {
		e := r.Events[i]
		if e.Kind != cfg.Events[i] || e.Ideal != want.ideal || e.CopiesMoved < want.least || e.CopiesMoved > want.most {
			t.Errorf("%s moved %.3f, ideally %.3f; want %+v", e.Kind, e.CopiesMoved, e.Ideal, want)
		}
		if e.Settle <= 0 || e.Lookups == 0 {
			t.Errorf("%s settled after %v s, with %d lookups meanwhile", e.Kind, e.Settle, e.Lookups)
		}
	}
}

func TestRunIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cfg := loadtest.Config{
		Start:     loadtest.StartInProcess(trackercmd.Run, trackercmd.ErrKilled),
		InProcess: true,
		Nodes:     100, Proxies: 2, Replicas: 1, Duration: time.Hour,
		Progress: interrupter{cancel},
	}
	if _, err := loadtest.Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// An interrupter ends a run once the mix has begun.
type interrupter struct{ cancel context.CancelFunc }

func (i interrupter) Phase(name string, _ int) {
	if name == "mix" {
		i.cancel()
	}
}
func (interrupter) Add(int)     {}
func (interrupter) Note(string) {}
func (interrupter) End()        {}

func TestRunRefusesABadConfig(t *testing.T) {
	if _, err := loadtest.Run(t.Context(), loadtest.Config{}); err == nil {
		t.Error("a run without nodes was carried out")
	}
}
