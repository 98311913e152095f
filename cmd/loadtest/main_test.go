package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trackerpool/trackerpool/internal/buildinfo"
	"github.com/trackerpool/trackerpool/loadtest"
)

func TestRunWritesItsReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr strings.Builder
	err := run(t.Context(), []string{"--in-process", "--nodes", "300", "--proxies", "2", "--duration", "0s", "--count-wait", "5s", "--json", file}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r loadtest.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if r.Verify.Checked != 300 || r.Verify.Missing != 0 || r.Verify.Wrong != 0 || r.Trackers != 3 {
		t.Errorf("the report: %s", text)
	}
	for out, wants := range map[string][]string{
		stdout.String(): {"register", "verify 1", "BenchmarkRegister"},
		stderr.String(): {"start trackers", "verify"},
	} {
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("the output lacks %q:\n%s", want, out)
			}
		}
	}
}

// The commands say in one form what they were built from.
func TestVersion(t *testing.T) {
	var stdout, stderr strings.Builder
	err := run(t.Context(), []string{"--version"}, &stdout, &stderr)
	if want := buildinfo.Read().Line("loadtest") + "\n"; err != nil || stdout.String() != want || stderr.String() != "" {
		t.Errorf("%v, %q, %q; want %q", err, stdout.String(), stderr.String(), want)
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // part of the error
	}{
		{[]string{"--nodes", "0"}, "nodes 0"},
		{[]string{"--events", "leave"}, "event leave"},
		{[]string{"--events", "flood"}, "flood"},
		{[]string{"--no-such-flag"}, "no-such-flag"},
		{[]string{"argument"}, "argument"},
		{[]string{"--faults", "roll"}, "--chaos"},
		{[]string{"--chaos", "--faults", "flood"}, "flood"},
		{[]string{"--chaos", "--events", "join"}, "--events"},
		{[]string{"--docker"}, "docker"},
	} {
		var out strings.Builder
		if err := run(t.Context(), tt.args, &out, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want an error with %q", tt.args, err, tt.want)
		}
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"--help"}, &out, &out); err != nil || !strings.Contains(out.String(), "--events") {
		t.Errorf("--help: %v\n%s", err, out.String())
	}
}
