package loadtest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseFault(t *testing.T) {
	for _, docker := range []bool{false, true} {
		all := AllFaults(10*time.Second, docker)
		var again []Fault
		for _, f := range all {
			g, err := ParseFault(f.String())
			if err != nil {
				t.Errorf("%v: %v", f, err)
			}
			again = append(again, g)
		}
		if diff := cmp.Diff(all, again); diff != "" {
			t.Errorf("faults as text and back (-want +got):\n%s", diff)
		}
		c := Config{Nodes: 1, Proxies: 2, Replicas: 1, Docker: docker, Start: StartProcess("tracker"), Faults: all}
		if err := c.Validate(); err != nil {
			t.Errorf("all faults, docker %v: %v", docker, err)
		}
	}
}

func TestBadFaults(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"flood", "choose of"},
		{"roll:t-1:1s", "all trackers"},
		{"crash", "TRACKER:DURATION"},
		{"crash:t-1", "TRACKER:DURATION"},
		{"crash:t-1:soon", "soon"},
		{"crash:t-9:1s", "t-9"},
		{"crash:t-1:-1s", "duration"},
		{"isolate:t-1:1s", "containers"},
	} {
		f, err := ParseFault(tt.text)
		if err == nil {
			err = Config{Nodes: 1, Proxies: 2, Replicas: 1, Start: StartProcess("tracker"), Faults: []Fault{f}}.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.text, err, tt.want)
		}
	}
	one := []Fault{{Kind: CrashAll}}
	for name, c := range map[string]Config{
		"with events":    {Start: StartProcess("tracker"), Faults: one, Events: []Kind{RestartProxy}},
		"in process":     {Start: StartProcess("tracker"), Faults: one, InProcess: true},
		"foreign":        {Trackers: []string{"192.0.2.1:1"}, Faults: one},
		"docker, relays": {Docker: true, Faults: []Fault{{CutProxies, "t-1", time.Second}}},
		"docker alone":   {Docker: true},
	} {
		c.Nodes, c.Proxies, c.Replicas = 1, 2, 1
		if c.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestViolations(t *testing.T) {
	quiet := &Quiet{P99: 2}
	for _, tt := range []struct {
		name     string
		fault    FaultReport
		nodes    int
		replicas int
		want     string // part of the only violation; empty for none
	}{
		{"nothing", FaultReport{Lookups: 9, NotCounted: 3}, 10, 2, ""},
		{"wrong", FaultReport{Wrong: 1}, 10, 2, "1 wrong"},
		{"wrong with all down", FaultReport{Wrong: 1, all: true, Resync: &Resync{}}, 10, 2, "1 wrong"},
		{"unknown", FaultReport{Unknown: 2}, 10, 2, "2 were UNKNOWN"},
		{"failed", FaultReport{Failed: 2}, 10, 2, "2 lookups"},
		{"missed", FaultReport{Missed: 2}, 10, 2, "not found at once"},
		{"other", FaultReport{OtherFailed: 2}, 10, 2, "2 other calls"},
		{"one copy", FaultReport{Unknown: 2, Failed: 1, Missed: 3}, 10, 1, ""},
		{"all down", FaultReport{Unknown: 2, Failed: 1, Missed: 3, all: true, Resync: &Resync{Found: 9.9, P99: 9.9}}, 1_000_000, 2, ""},
		{"found late", FaultReport{all: true, Resync: &Resync{Found: 10.1}}, 10, 2, "10.1 s"},
		{"slow", FaultReport{all: true, Resync: &Resync{P99: 10}}, 1_000_000, 2, "p99 was 10.00 ms"},
		{"slow with few nodes", FaultReport{all: true, Resync: &Resync{P99: 10}}, 999_999, 2, ""},
	} {
		got := tt.fault.violations(&Report{Nodes: tt.nodes, Replicas: tt.replicas, Quiet: quiet})
		switch {
		case tt.want == "" && len(got) > 0:
			t.Errorf("%s: got %q, want none", tt.name, got)
		case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
			t.Errorf("%s: got %q, want one with %q", tt.name, got, tt.want)
		}
	}
}

// TestFaultsAreNotCountedTwice holds that what happened during a fault is judged by
// the fault's rules alone.
func TestFaultsAreNotCountedTwice(t *testing.T) {
	during := counts{Lookups: 10, Failed: 3, Unknown: 4, MissesFailed: 2}
	r := Report{Replicas: 2, Lookup: Lookup{Unknown: 4, counts: counts{Lookups: 20, Failed: 3, Unknown: 4}},
		Faults: []FaultReport{{all: true, Resync: &Resync{}, Failed: 3, Unknown: 4, counts: during}}}
	if got := r.failures(counts{MissesFailed: 2}); len(got) > 0 {
		t.Errorf("got %q, want none", got)
	}
	r.Lookup.Unknown++
	if got := r.failures(counts{MissesFailed: 3}); len(got) != 2 {
		t.Errorf("one call failed and one lookup was UNKNOWN outside of the fault: got %q", got)
	}
}

func TestWindows(t *testing.T) {
	start := time.Unix(0, 0)
	first := &window{from: start}
	second := &window{from: start.Add(time.Second), before: first}
	for at, want := range map[time.Duration]*window{-1: first, 0: first, time.Second - 1: first, time.Second: second, time.Hour: second} {
		if got := second.of(start.Add(at)); got != want {
			t.Errorf("at %v: in the window from %v, want that from %v", at, got.from, want.from)
		}
	}
	if (*window)(nil).of(start) != nil {
		t.Error("without a window there is one")
	}
}
