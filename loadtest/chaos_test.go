package loadtest_test

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trackerpool/trackerpool/loadtest"
)

// TestChaos does some quick faults to trackers that are processes, with a short term.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some terms")
	}
	if runtime.GOOS != "linux" {
		t.Skip("processes are frozen on Linux alone")
	}
	cfg := loadtest.Config{
		Start: loadtest.StartProcess(os.Args[0], "tracker"),
		Nodes: 2000, Proxies: 3, Replicas: 2, Rate: 500, Seed: 1,
		Term:      2 * time.Second,
		CountWait: 5 * time.Second, // a busy machine is no fault of the pool
		QuietTime: 500 * time.Millisecond,
		Faults: []loadtest.Fault{
			{Kind: loadtest.HangProxies, Target: "t-1", For: 500 * time.Millisecond},
			{Kind: loadtest.Crash, Target: "t-3"},
			{Kind: loadtest.CrashAll},
		},
	}
	r, err := loadtest.Run(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v; logs in %s", err, r.Logs)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var text strings.Builder
			if err := r.WriteTable(&text); err != nil {
				t.Error(err)
			}
			t.Log("\n" + text.String())
		} else if r.Logs != "" {
			_ = os.RemoveAll(r.Logs)
		}
	})
	for _, f := range r.Failures {
		t.Error(f)
	}
	var got []string
	for _, f := range r.Faults {
		got = append(got, f.Fault)
		if f.Lookups == 0 || f.Healed <= 0 {
			t.Errorf("%s healed after %v s, with %d lookups meanwhile", f.Fault, f.Healed, f.Lookups)
		}
	}
	if want := []string{"hang-proxies:t-1:500ms", "crash:t-3:0s", "crash-all"}; !slices.Equal(got, want) {
		t.Fatalf("did %q, want %q", got, want)
	}
	if last := r.Faults[2]; last.Resync == nil || last.FoundAgain == 0 || last.AbsentAgain < 2*cfg.Term.Seconds() {
		t.Errorf("after all trackers were lost misses were ABSENT in %v s, before seats may grant, or the loss was not noticed: %+v", last.AbsentAgain, last.Resync)
	}
}
