package loadtest

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// What a pool promises after all its trackers were lost at once. The latency is
// judged with many nodes alone: with few it is that of a handful of lookups; and
// only without relays, which share the clients' processors and hold megabytes that
// a lookup waits behind.
const (
	foundWithin   = 10.0 // seconds from when the trackers are up
	slowerAtMost  = 5.0  // times the quiet p99
	promisedNodes = 1_000_000
)

// Quiet is how lookups of nodes that exist went without a fault.
type Quiet struct {
	Seconds   float64 `json:"seconds"`
	Lookups   int64   `json:"lookups"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
}

// FaultReport is what one fault did. Its counts are from its begin until it had
// healed; lookups are those of nodes that exist. Seconds count from its begin.
type FaultReport struct {
	Fault        string  `json:"fault"`
	At           float64 `json:"at_s"`     // since the run began
	Lasted       float64 `json:"lasted_s"` // until its cause was over
	Lookups      int64   `json:"lookups"`
	Failed       int64   `json:"failed"`
	Unknown      int64   `json:"unknown"`
	Wrong        int64   `json:"wrong"` // false ABSENT included; also of nodes that do not exist
	OtherFailed  int64   `json:"other_failed"`
	NotCounted   int64   `json:"not_counted"`
	NotRemoved   int64   `json:"not_removed"`
	P99          float64 `json:"p99_ms"`
	Missed       int     `json:"missed"`          // nodes that were not found at once when all were looked up after the cause was over
	FoundAgain   float64 `json:"found_again_s"`   // every node; 0: never otherwise
	AbsentAgain  float64 `json:"absent_again_s"`  // misses ABSENT in all shards; 0: never otherwise
	CountedAgain float64 `json:"counted_again_s"` // new claims count in all shards; 0: never otherwise
	Healed       float64 `json:"healed_s"`        // all that, and every tracker ready

	Resync *Resync `json:"resync,omitempty"` // after CrashAll

	counts counts
	all    bool // trackers at once
}

// Resync is how claims came back after all trackers were lost. Seconds count from
// when all trackers were up; lookups are those meant to start between that and the
// time at which all claims were stored again.
type Resync struct {
	Stored  float64 `json:"stored_s"`
	Found   float64 `json:"found_s"` // when a look at every node, begun at Stored, had found all
	Lookups int64   `json:"lookups"`
	Unknown int64   `json:"unknown"`
	Failed  int64   `json:"failed"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
}

// violations returns which promises were broken during a fault.
func (f FaultReport) violations(r *Report) []string {
	var all []string
	say := func(format string, args ...any) {
		all = append(all, "fault "+f.Fault+": "+fmt.Sprintf(format, args...))
	}
	if f.Wrong > 0 {
		say("%d wrong answers", f.Wrong)
	}
	switch {
	case !f.all && r.Replicas > 1:
		if f.Failed+f.Unknown > 0 {
			say("%d lookups of nodes that exist failed and %d were UNKNOWN, although a holder was left", f.Failed, f.Unknown)
		}
		if f.Missed > 0 {
			say("%d nodes were not found at once, although a holder was left", f.Missed)
		}
		if f.OtherFailed > 0 {
			say("%d other calls ended in an error", f.OtherFailed)
		}
	case f.Resync != nil:
		if f.Resync.Found > foundWithin {
			say("all nodes were found %.1f s after the trackers were up, promised are %.0f s", f.Resync.Found, foundWithin)
		}
		if r.Nodes >= promisedNodes && !r.Relayed && r.Quiet != nil && f.Resync.P99 >= slowerAtMost*r.Quiet.P99 {
			say("lookup p99 was %.2f ms while claims came back, quiet %.2f ms: promised are less than %.0f times", f.Resync.P99, r.Quiet.P99, slowerAtMost)
		}
	}
	return all
}

// faults writes what faults did for a person to read.
func (r *Report) faults() string {
	var b strings.Builder
	fmt.Fprintf(&b, "quiet: %s lookups/s, p50 %s ms, p99 %s ms\n", grouped(int64(r.Quiet.PerSecond)), millis(r.Quiet.P50), millis(r.Quiet.P99))
	t := newTable(table.Row{"fault", "at s", "lasted s", "lookups", "p99 ms", "failed", "UNKNOWN", "wrong", "found again s", "ABSENT again s", "counted again s", "healed s"})
	for _, f := range r.Faults {
		t.AppendRow(table.Row{f.Fault, tenths(f.At), tenths(f.Lasted), grouped(f.Lookups), millis(f.P99), f.Failed, f.Unknown, f.Wrong,
			tenths(f.FoundAgain), tenths(f.AbsentAgain), tenths(f.CountedAgain), tenths(f.Healed)})
	}
	b.WriteString(t.Render() + "\n(seconds from the begin of a fault; 0: not interrupted)\n")
	for _, f := range r.Faults {
		if s := f.Resync; s != nil {
			fmt.Fprintf(&b, "%s: once the trackers were up, all claims were stored after %.2f s, all nodes found after %.2f s; meanwhile %s lookups, p50 %s ms, p99 %s ms (%.1f times quiet), %s UNKNOWN, %s failed\n",
				f.Fault, s.Stored, s.Found, grouped(s.Lookups), millis(s.P50), millis(s.P99), s.P99/max(r.Quiet.P99, 0.001), grouped(s.Unknown), grouped(s.Failed))
		}
	}
	return b.String()
}

func tenths(s float64) string { return fmt.Sprintf("%.1f", s) }
