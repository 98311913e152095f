package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A Result is one measurement of one round. What was not measured is 0.
type Result struct {
	Work  Work   `json:"work"`
	Peer  string `json:"peer"`
	Mode  string `json:"mode,omitempty"`  // in which way the peer does the work
	Batch int    `json:"batch,omitempty"` // nodes of one call, or blocking callers
	Round int    `json:"round"`

	Nodes   int64   `json:"nodes,omitempty"` // that were added, looked up or kept
	Seconds float64 `json:"seconds,omitempty"`
	Offered float64 `json:"offered,omitempty"` // nodes a second; 0 at saturation
	CPU     float64 `json:"cpu,omitempty"`     // seconds of the server

	P50  float64 `json:"p50,omitempty"` // of a call, in microseconds
	P99  float64 `json:"p99,omitempty"`
	P999 float64 `json:"p999,omitempty"`

	Achieved float64 `json:"achieved,omitempty"` // nodes per write of a shared client
	Resident float64 `json:"resident,omitempty"` // MiB
	Peak     float64 `json:"peak,omitempty"`     // MiB
	Live     float64 `json:"live,omitempty"`     // MiB of the heap
	Base     float64 `json:"base,omitempty"`     // MiB of the heap before there were nodes
}

// A Work is what is measured.
type Work string

// The works.
const (
	Add         Work = "add"
	AddRate     Work = "add-rate"
	LookUniform Work = "lookup"
	LookZipf    Work = "lookup-zipf"
	LookRate    Work = "lookup-rate"
	Callers     Work = "callers"
	Hold        Work = "callers-held"
	Lone        Work = "lone"
	Unary       Work = "unary-add"
	UnaryRate   Work = "unary-add-rate"
	Steady      Work = "steady"
	Return      Work = "return"
	Memory      Work = "memory"
)

// A Busy is how busy the machine was before a peer's turn.
type Busy struct {
	Round int     `json:"round"`
	Peer  string  `json:"peer"`
	Load  float64 `json:"load"` // the average over a minute
	Idle  float64 `json:"idle"` // the share of the time in which the processors were idle, 0 to 1
}

// A Report is a whole comparison.
type Report struct {
	Began    string            `json:"began"`
	Machine  []string          `json:"machine"`
	Command  string            `json:"command"`
	Nodes    int               `json:"nodes"`
	Rounds   int               `json:"rounds"`
	Versions map[string]string `json:"versions"`
	Missing  []string          `json:"missing,omitempty"` // peers that were left out, and why
	Busy     []Busy            `json:"busy"`
	Results  []Result          `json:"results"`
	Took     float64           `json:"took"` // seconds
}

// Write writes the report as JSON.
func (r *Report) Write(name string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o666)
}

// Read returns a report that was written.
func Read(name string) (*Report, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// A figure is one number of a result.
type figure func(Result) float64

func perSecond(r Result) float64 { return ratio(float64(r.Nodes), r.Seconds) }

// cpuMicros is what a node costs the server, in microseconds: seconds per million.
func cpuMicros(r Result) float64 { return ratio(r.CPU*1e6, float64(r.Nodes)) }

// core is the share of one processor that the server used, in percent.
func core(r Result) float64 { return ratio(100*r.CPU, r.Seconds) }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// A group is the results of all rounds of the same work, peer, mode and batch.
type group []Result

// groups returns those of some works, in the order in which their first results came,
// but by batch first.
func (r *Report) groups(works ...Work) []group {
	var all []group
	for _, res := range r.Results {
		if !slices.Contains(works, res.Work) {
			continue
		}
		i := slices.IndexFunc(all, func(g group) bool { return g[0].same(res) })
		if i < 0 {
			all = append(all, group{res})
			continue
		}
		all[i] = append(all[i], res)
	}
	slices.SortStableFunc(all, func(a, b group) int {
		return cmp.Or(cmp.Compare(a[0].Batch, b[0].Batch), cmp.Compare(rank(a[0].Peer), rank(b[0].Peer)))
	})
	return all
}

// order is in which the tables have the peers.
var order = []string{"trackerpool", "redis", "valkey", "memcached", "etcd", "olric", "prototype"}

func rank(peer string) int {
	return slices.IndexFunc(order, func(o string) bool { return strings.HasPrefix(peer, o) })
}

func (r Result) same(o Result) bool {
	return r.Work == o.Work && r.Peer == o.Peer && r.Mode == o.Mode && r.Batch == o.Batch
}

// values returns a figure of all rounds, ascending.
func (g group) values(f figure) []float64 {
	all := make([]float64, len(g))
	for i, r := range g {
		all[i] = f(r)
	}
	slices.Sort(all)
	return all
}

// median returns the median of a figure.
func (g group) median(f figure) float64 {
	v := g.values(f)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
