package loadtest

import (
	"fmt"
	"io"
	"runtime"
)

// A Report is what a run measured. Durations have their unit in the name of the JSON
// field; latencies count from the intended start of a call.
type Report struct {
	Nodes     int      `json:"nodes"`
	Proxies   int      `json:"proxies"`
	Trackers  int      `json:"trackers"` // at the start
	Replicas  int      `json:"replicas"` // in use
	Seed      uint64   `json:"seed"`
	InProcess bool     `json:"in_process,omitempty"`
	Seconds   float64  `json:"seconds"`
	Register  Register `json:"register"`
	Lookup    Lookup   `json:"lookup"` // of the mix
	Events    []Event  `json:"events"`

	// Quiet is how lookups went before the first of Faults.
	Quiet  *Quiet        `json:"quiet,omitempty"`
	Faults []FaultReport `json:"faults,omitempty"`
	// Relayed says that all connections passed this process once more, so that the
	// latencies are its own as much as the pool's.
	Relayed bool `json:"relayed,omitempty"`

	Verify  Verify  `json:"verify"`
	Memory  Memory  `json:"memory"`
	Balance Balance `json:"balance"`

	// Failures say why the run failed; none if it did not.
	Failures []string `json:"failures"`
	// Mistakes are the first of the answers and calls that went wrong.
	Mistakes []string `json:"mistakes,omitempty"`
	// Logs is where the logs of the trackers are, if they were kept.
	Logs string `json:"logs,omitempty"`
}

// Register is how the nodes were registered.
type Register struct {
	Count          int     `json:"count"`
	Seconds        float64 `json:"seconds"` // until every call of Add had returned
	PerSecond      float64 `json:"per_second"`
	Batch          int     `json:"batch"`  // claims in a call
	P50            float64 `json:"p50_ms"` // of a call
	P99            float64 `json:"p99_ms"`
	SettledSeconds float64 `json:"settled_seconds"` // until every claim was at all its holders and counted
	NotCounted     int64   `json:"not_counted"`     // calls

	late int64
}

// Lookup is what became of the mix. Count, the latencies and Unknown are of lookups
// of nodes that exist.
type Lookup struct {
	Count      int64   `json:"count"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"per_second"`
	Offered    float64 `json:"offered_per_second"` // operations of all kinds
	Achieved   float64 `json:"achieved_per_second"`
	P50        float64 `json:"p50_ms"`
	P90        float64 `json:"p90_ms"`
	P99        float64 `json:"p99_ms"`
	P999       float64 `json:"p999_ms"`
	Max        float64 `json:"max_ms"`
	Failed     int64   `json:"failed"` // calls of any kind
	Unknown    int64   `json:"unknown"`
	Wrong      int64   `json:"wrong"`
	Misses     int64   `json:"misses"`
	Reconnects int64   `json:"reconnects"`
	Skipped    int64   `json:"reconnects_skipped"` // too many were under way
	NotCounted int64   `json:"not_counted"`
	NotRemoved int64   `json:"not_removed"`
	Excused    int64   `json:"excused"` // not found, while the node's proxy was down

	counts counts
}

// Event is what one event did. Its counts are of the mix, from its begin until it
// had settled.
type Event struct {
	Kind         Kind    `json:"kind"`
	Target       string  `json:"target,omitempty"` // the tracker, or the proxy
	At           float64 `json:"at_s"`             // since the run began
	CopiesMoved  float64 `json:"copies_moved_fraction"`
	Ideal        float64 `json:"ideal_fraction"`
	Settle       float64 `json:"settle_s"`
	Lookups      int64   `json:"lookups"`
	Failed       int64   `json:"failed"`
	Unknown      int64   `json:"unknown"`
	Wrong        int64   `json:"wrong"`
	NotCounted   int64   `json:"not_counted"`
	NotRemoved   int64   `json:"not_removed"`
	P99          float64 `json:"p99_ms"`
	AbsentAgain  float64 `json:"absent_again_s"`  // misses ABSENT in all shards; 0: never otherwise
	CountedAgain float64 `json:"counted_again_s"` // new claims count in all shards; 0: never otherwise
	Excused      int64   `json:"excused,omitempty"`
}

// Verify is what became of looking up every node, over all passes.
type Verify struct {
	Checked   int64  `json:"checked"`
	Missing   int64  `json:"missing"`
	Wrong     int64  `json:"wrong"`
	NotAbsent int64  `json:"not_absent"` // nodes that do not exist, and for which the answer was UNKNOWN
	Passes    []Pass `json:"passes"`
}

// Pass is one pass over all nodes, and as many that do not exist.
type Pass struct {
	Checked       int64   `json:"checked"`
	Missing       int64   `json:"missing"` // ABSENT, UNKNOWN or an error
	Wrong         int64   `json:"wrong"`   // another proxy; or a node that does not exist was found
	AbsentChecked int64   `json:"absent_checked"`
	NotAbsent     int64   `json:"not_absent"`
	Seconds       float64 `json:"seconds"`
	PerSecond     float64 `json:"per_second"` // lookups of both kinds
	P50           float64 `json:"p50_ms"`
	P99           float64 `json:"p99_ms"`

	counts counts
}

// Memory is of the trackers that the run started as processes.
type Memory struct {
	BytesPerClaim float64            `json:"bytes_per_claim"` // what registering added to the resident memory, for each claim at each of its holders
	RSS           map[string]float64 `json:"rss_mb"`          // by tracker: the most that was seen
}

// Balance is how even the copies lie on the trackers at the end.
type Balance struct {
	MaxOverMean float64 `json:"max_over_mean"`
}

func (v *Verify) add(p Pass) {
	v.Checked += p.Checked
	v.Missing += p.Missing
	v.Wrong += p.Wrong
	v.NotAbsent += p.NotAbsent
	v.Passes = append(v.Passes, p)
}

// failures returns why a run failed, by its counts: those of the mix, the passes and
// the probes.
func (r *Report) failures(probes counts) []string {
	total := r.Lookup.counts
	total.add(probes)
	inFaults := counts{}
	var all []string
	for _, f := range r.Faults {
		inFaults.add(f.counts)
		all = append(all, f.violations(r)...)
	}
	total.sub(inFaults)
	for _, p := range r.Verify.Passes {
		total.add(p.counts)
	}
	for _, f := range []struct {
		count int64
		what  string
	}{
		{total.FalseAbsent, "lookups of nodes that exist were answered ABSENT"},
		{total.Stale, "lookups were answered with a proxy that the node had left for sure"},
		{total.WrongProxy, "lookups were answered with a proxy where the node never was"},
		{r.Verify.Missing, "nodes were not found when all were looked up"},
		{r.Verify.NotAbsent, "nodes that do not exist were not ABSENT when all were looked up"},
		{total.failed(), "calls ended in an error"},
		{total.Late + r.Register.late, "calls were not counted, or not surely removed, although the last event was long ago"},
	} {
		if f.count > 0 {
			all = append(all, fmt.Sprintf("%d %s", f.count, f.what))
		}
	}
	// With one copy a node cannot be found while its only holder is away; with more,
	// one is always left.
	if unknown := r.Lookup.Unknown - inFaults.Unknown; r.Replicas > 1 && unknown > 0 {
		all = append(all, fmt.Sprintf("%d lookups of nodes that exist were answered UNKNOWN, although a holder was left", unknown))
	}
	return all
}

// WriteBenchmarks writes the figures in the format of Go benchmarks, for benchstat.
func (r *Report) WriteBenchmarks(w io.Writer) error {
	b := &benchmarks{w: w}
	b.printf("goos: %s\ngoarch: %s\npkg: github.com/trackerpool/trackerpool/loadtest\n", runtime.GOOS, runtime.GOARCH)
	b.line("Register", int64(r.Register.Count), r.Register.Seconds, r.Register.P50, r.Register.P99)
	for i, p := range r.Verify.Passes {
		b.line(fmt.Sprintf("Verify/pass=%d", i+1), p.Checked+p.AbsentChecked, p.Seconds, p.P50, p.P99)
	}
	if r.Lookup.Count > 0 {
		b.line("Lookup", r.Lookup.Count, r.Lookup.Seconds, r.Lookup.P50, r.Lookup.P99)
	}
	for i, e := range r.Events {
		b.printf("BenchmarkEvent/%d-%s-%d\t1\t%.0f ns/op\t%.3f absent-again-s\t%.3f counted-again-s\t%.3f p99-ms\n",
			i+1, e.Kind, runtime.GOMAXPROCS(0), e.Settle*1e9, e.AbsentAgain, e.CountedAgain, e.P99)
	}
	if r.Memory.BytesPerClaim > 0 {
		b.printf("BenchmarkMemory-%d\t%d\t%.1f B/claim\n", runtime.GOMAXPROCS(0), r.Nodes, r.Memory.BytesPerClaim)
	}
	return b.err
}

type benchmarks struct {
	w   io.Writer
	err error
}

func (b *benchmarks) printf(format string, args ...any) {
	if b.err == nil {
		_, b.err = fmt.Fprintf(b.w, format, args...)
	}
}

func (b *benchmarks) line(name string, n int64, seconds, p50, p99 float64) {
	b.printf("Benchmark%s-%d\t%d\t%.1f ns/op\t%.0f ops/s\t%.3f p50-ms\t%.3f p99-ms\n",
		name, runtime.GOMAXPROCS(0), n, seconds*1e9/float64(n), float64(n)/seconds, p50, p99)
}
