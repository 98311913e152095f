package loadtest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name   string
		report Report
		probes counts
		want   string // part of the only failure; empty for none
	}{
		{"nothing", Report{Replicas: 2}, counts{Lookups: 5, Misses: 5, MissesUnknown: 3, NotCounted: 2, NotRemoved: 1, Excused: 4}, ""},
		{"false absent in the mix", Report{Lookup: Lookup{counts: counts{FalseAbsent: 2}}}, counts{}, "2 lookups of nodes that exist were answered ABSENT"},
		{"stale", Report{Lookup: Lookup{counts: counts{Stale: 1}}}, counts{}, "had left"},
		{"wrong in a pass", Report{Verify: Verify{Passes: []Pass{{counts: counts{WrongProxy: 1}}}}}, counts{}, "never was"},
		{"missing", Report{Verify: Verify{Missing: 1}}, counts{}, "not found"},
		{"not absent", Report{Verify: Verify{NotAbsent: 1}}, counts{}, "not ABSENT"},
		{"failed", Report{Lookup: Lookup{counts: counts{WritesFailed: 1, Failed: 1, MissesFailed: 1}}}, counts{}, "3 calls ended in an error"},
		{"late registration", Report{Register: Register{late: 1}}, counts{Late: 1}, "2 calls were not counted"},
		{"unknown", Report{Replicas: 2, Lookup: Lookup{Unknown: 3}}, counts{}, "3 lookups of nodes that exist were answered UNKNOWN"},
		{"unknown with one copy", Report{Replicas: 1, Lookup: Lookup{Unknown: 3}}, counts{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.report.failures(tt.probes)
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want none", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one with %q", got, tt.want)
			}
		})
	}
}

// TestJSONFields pins the names that readers of the report rely on.
func TestJSONFields(t *testing.T) {
	text, err := json.Marshal(Report{Events: []Event{{}}, Memory: Memory{RSS: map[string]float64{"t-0": 1}}})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for path, fields := range map[string][]string{
		"":         {"nodes", "proxies", "trackers", "replicas", "register", "lookup", "events", "verify", "memory", "balance", "failures"},
		"register": {"count", "seconds", "per_second", "p50_ms", "p99_ms"},
		"lookup":   {"count", "seconds", "per_second", "p50_ms", "p99_ms", "offered_per_second", "achieved_per_second"},
		"events": {"kind", "at_s", "copies_moved_fraction", "ideal_fraction", "settle_s", "lookups", "failed", "unknown", "wrong", "not_counted",
			"p99_ms", "absent_again_s", "counted_again_s"},
		"verify":  {"checked", "missing", "wrong"},
		"memory":  {"bytes_per_claim", "rss_mb"},
		"balance": {"max_over_mean"},
	} {
		object := got
		if path != "" {
			switch v := got[path].(type) {
			case map[string]any:
				object = v
			case []any:
				object = v[0].(map[string]any)
			}
		}
		for _, f := range fields {
			if _, ok := object[f]; !ok {
				t.Errorf("the report has no field %s.%s", path, f)
			}
		}
	}
}

func TestWriteBenchmarks(t *testing.T) {
	r := Report{Register: Register{Count: 1000, Seconds: 0.5, P50: 1.5, P99: 3}}
	var b strings.Builder
	if err := r.WriteBenchmarks(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	fields := strings.Split(lines[len(lines)-1], "\t")
	want := []string{"1000", "500000.0 ns/op", "2000 ops/s", "1.500 p50-ms", "3.000 p99-ms"}
	if diff := cmp.Diff(want, fields[1:]); diff != "" || !strings.HasPrefix(fields[0], "BenchmarkRegister-") {
		t.Errorf("%s (-want +got):\n%s", fields[0], diff)
	}
}

func TestWriteTable(t *testing.T) {
	r := Report{
		Nodes: 1_000_000, Trackers: 3, Replicas: 2,
		Register: Register{Count: 1_000_000, Seconds: 4},
		Lookup:   Lookup{Count: 5},
		Events:   []Event{{Kind: Join, Target: "t-3", CopiesMoved: 0.251, Ideal: 0.25}},
		Verify:   Verify{Passes: []Pass{{Checked: 1_000_000}, {Checked: 1_000_000}}},
		Failures: []string{"the reason"},
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1,000,000", "register", "verify 1", "mix", "verify 2", "join t-3", "25.1%", "FAILED: the reason"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -999: "-999", -1000: "-1,000", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestTally(t *testing.T) {
	tally := newTally()
	for i, v := range []verdict{right, unknown, falseAbsent, stale, wrong, right} {
		tally.lookup(uint64(i), v, time.Duration(i+1)*time.Millisecond)
	}
	tally.note(3, counts{Misses: 2, WritesFailed: 1})
	got, h := tally.sum()
	want := counts{Lookups: 6, Unknown: 1, FalseAbsent: 1, Stale: 1, WrongProxy: 1, Misses: 2, WritesFailed: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if got := milliseconds(h, 100); got < 5.99 || got > 6.01 {
		t.Errorf("the longest took %v ms, want 6", got)
	}
}
