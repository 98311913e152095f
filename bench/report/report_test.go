package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func some() *Report {
	r := &Report{Command: "benchpeers", Machine: []string{"a machine"}, Nodes: 1000, Rounds: 3, Versions: map[string]string{"redis": "7"},
		Missing: []string{"olric was left out"}, Busy: []Busy{{Round: 1, Peer: "redis", Load: 1, Idle: .5}}}
	for round, cpu := range []float64{3, 1, 2} {
		r.Results = append(r.Results,
			Result{Work: Add, Peer: "redis", Mode: "SET", Batch: 64, Round: round + 1, Nodes: 1_000_000, Seconds: 2, CPU: cpu, P50: 10},
			Result{Work: Add, Peer: "trackerpool", Mode: "Batch", Batch: 64, Round: round + 1, Nodes: 1_000_000, Seconds: 1, CPU: cpu / 10})
	}
	return r
}

func TestTablesHaveMediansAndSpread(t *testing.T) {
	var b strings.Builder
	if err := some().WriteTables(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"2.00 (1.00–3.00)", "500,000 (500,000–500,000)", "0.20 (0.10–0.30)", "olric was left out", "50 to 50 %"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	if strings.Index(text, "| trackerpool") > strings.Index(text, "| redis") {
		t.Error("the tables do not have the peers in their order")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.456: "0.46", 12.34: "12.3", 123.4: "123", 1_234_567: "1,230,000", 99_999: "99,900"} {
		if got := number(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}

func TestPageKeepsWhatPeopleWrote(t *testing.T) {
	var page strings.Builder
	page.WriteString("Before.\n<!-- run -->\nold\n<!-- end -->\n")
	for _, tb := range tables() {
		page.WriteString("About " + tb.name + ".\n<!-- " + tb.name + " -->\nold\n<!-- end -->\n")
	}
	name := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(name, []byte(page.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again, it must find its own lines
		if err := some().WritePage(name); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text); strings.Contains(got, "old\n") || !strings.HasPrefix(got, "Before.\n") ||
		!strings.Contains(got, "About memory.\n") || strings.Count(got, "2.00 (1.00–3.00)") != 1 {
		t.Errorf("the page is:\n%s", got)
	}
	for _, p := range plots() {
		svg, err := os.ReadFile(filepath.Join(strings.TrimSuffix(name, ".md"), p.name+".svg"))
		if err != nil || !strings.Contains(string(svg), "<svg") {
			t.Errorf("plot %s: %.20q, %v", p.name, svg, err)
		}
	}
	if err := os.WriteFile(name, []byte("<!-- run -->\n<!-- end -->\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := some().WritePage(name); err == nil {
		t.Error("a page without places for the tables is taken")
	}
}
