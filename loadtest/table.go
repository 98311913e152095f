package loadtest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// WriteTable writes the report for a person to read.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s nodes, %d proxies, %d trackers at the start, %d replicas, seed %d: %.1f s\n",
		grouped(int64(r.Nodes)), r.Proxies, r.Trackers, r.Replicas, r.Seed, r.Seconds)
	b.WriteString(r.phases().Render() + "\n")
	if r.Lookup.Count > 0 {
		l := r.Lookup
		fmt.Fprintf(&b, "the mix: offered %s operations/s, achieved %s; %s reconnects, %d not counted, %d not surely removed at once\n",
			grouped(int64(l.Offered)), grouped(int64(l.Achieved)), grouped(l.Reconnects), l.NotCounted, l.NotRemoved)
	}
	if len(r.Events) > 0 {
		if r.InProcess {
			b.WriteString("the trackers ran in this process: kill and restart are approximate\n")
		}
		b.WriteString(r.events().Render() + "\n")
	}
	if r.Quiet != nil {
		b.WriteString(r.faults())
	}
	if r.Memory.BytesPerClaim > 0 {
		fmt.Fprintf(&b, "memory: %.0f bytes a claim and copy; resident", r.Memory.BytesPerClaim)
		for _, id := range slices.Sorted(maps.Keys(r.Memory.RSS)) {
			fmt.Fprintf(&b, " %s %.0f MB", id, r.Memory.RSS[id])
		}
		b.WriteString("\n")
	}
	if r.Balance.MaxOverMean > 0 {
		fmt.Fprintf(&b, "balance: the fullest tracker has %.2f times the mean\n", r.Balance.MaxOverMean)
	}
	for _, m := range r.Mistakes {
		b.WriteString("  " + m + "\n")
	}
	for _, f := range r.Failures {
		b.WriteString("FAILED: " + f + "\n")
	}
	if r.Logs != "" {
		b.WriteString("the trackers' logs are in " + r.Logs + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) phases() table.Writer {
	t := newTable(table.Row{"phase", "count", "s", "per s", "p50 ms", "p99 ms", "failed", "UNKNOWN", "missing", "wrong"})
	if g := r.Register; g.Count > 0 {
		t.AppendRow(table.Row{fmt.Sprintf("register (calls of %d)", g.Batch), grouped(int64(g.Count)), seconds(g.Seconds), grouped(int64(g.PerSecond)), millis(g.P50), millis(g.P99), "", "", "", ""})
	}
	for i, p := range r.Verify.Passes {
		if i == 1 {
			r.appendMix(t)
		}
		t.AppendRow(table.Row{fmt.Sprintf("verify %d (half misses)", i+1), grouped(p.Checked + p.AbsentChecked), seconds(p.Seconds), grouped(int64(p.PerSecond)), millis(p.P50), millis(p.P99), p.counts.failed(), p.NotAbsent + p.counts.Unknown, p.Missing, p.Wrong})
	}
	if len(r.Verify.Passes) == 1 {
		r.appendMix(t)
	}
	return t
}

func (r *Report) appendMix(t table.Writer) {
	if l := r.Lookup; l.Count > 0 {
		t.AppendRow(table.Row{"mix: lookups", grouped(l.Count), seconds(l.Seconds), grouped(int64(l.PerSecond)), millis(l.P50), millis(l.P99), l.Failed, l.Unknown, l.counts.FalseAbsent, l.Wrong})
	}
}

func (r *Report) events() table.Writer {
	t := newTable(table.Row{"event", "at s", "moved", "ideal", "settled s", "ABSENT again s", "counted again s", "lookups", "p99 ms", "failed", "UNKNOWN", "wrong", "not counted"})
	for _, e := range r.Events {
		name := string(e.Kind) + " " + e.Target
		t.AppendRow(table.Row{name, seconds(e.At), percent(e.CopiesMoved), percent(e.Ideal), seconds(e.Settle), seconds(e.AbsentAgain), seconds(e.CountedAgain),
			grouped(e.Lookups), millis(e.P99), e.Failed, e.Unknown, e.Wrong, e.NotCounted})
	}
	return t
}

// newTable returns a table whose first column is text and whose others are numbers.
func newTable(header table.Row) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(header)
	columns := make([]table.ColumnConfig, len(header)-1)
	for i := range columns {
		columns[i] = table.ColumnConfig{Number: i + 2, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	t.SetColumnConfigs(columns)
	return t
}

func seconds(s float64) string { return fmt.Sprintf("%.2f", s) }
func millis(ms float64) string { return fmt.Sprintf("%.2f", ms) }
func percent(f float64) string { return fmt.Sprintf("%.1f%%", 100*f) }

// grouped writes a number with commas between thousands.
func grouped(n int64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
