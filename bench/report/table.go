package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A table is one part of a report: the works that it shows, and its columns.
type table struct {
	name, title string
	works       []Work
	compared    figure // by which peers are compared, the less the better
	columns     []column
}

type column struct {
	head string
	show func(group) string
}

// spread shows the median of a figure and, where it was measured several times, the
// least and the most.
func spread(head string, f figure) column {
	return column{head, func(g group) string {
		v := g.values(f)
		switch {
		case v[len(v)-1] == 0:
			return "–"
		case len(v) == 1:
			return number(v[0])
		}
		return fmt.Sprintf("%s (%s–%s)", number(g.median(f)), number(v[0]), number(v[len(v)-1]))
	}}
}

func middle(head string, f figure) column {
	return column{head, func(g group) string {
		if m := g.median(f); m > 0 {
			return number(m)
		}
		return "–"
	}}
}

// number shows three digits.
func number(v float64) string {
	switch {
	case v >= 100:
		digits := []byte(strconv.FormatFloat(v, 'f', 0, 64))
		for i := 3; i < len(digits); i++ { // nothing is below the third digit but noise
			digits[i] = '0'
		}
		var b strings.Builder
		for i, d := range digits {
			if i > 0 && (len(digits)-i)%3 == 0 {
				b.WriteByte(',')
			}
			b.WriteByte(d)
		}
		return b.String()
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

var (
	peerName = column{"peer", func(g group) string { return g[0].Peer }}
	mode     = column{"how", func(g group) string { return g[0].Mode }}
	batch    = column{"batch", func(g group) string { return count(g[0].Batch) }}
	callers  = column{"callers", batch.show}
	nodes    = column{"nodes", func(g group) string { return number(float64(g[0].Nodes)) }}
	cpu      = spread("server CPU, µs a node", cpuMicros)
	rate     = spread("a second", perSecond)
	p50      = middle("p50, µs", func(r Result) float64 { return r.P50 })
	p99      = middle("p99, µs", func(r Result) float64 { return r.P99 })
	p999     = middle("p999, µs", func(r Result) float64 { return r.P999 })
	offered  = middle("offered a second", func(r Result) float64 { return r.Offered })
)

func count(n int) string {
	if n == 0 {
		return "–"
	}
	return strconv.Itoa(n)
}

func latencies(columns ...column) []column { return append(columns, p50, p99, p999) }

// tables returns all tables, in the order of the page.
func tables() []table {
	seconds := func(r Result) float64 { return r.Seconds }
	more := func(r Result) float64 { return ratio((r.Live-r.Base)*(1<<20), float64(r.Nodes)) }
	resident := func(r Result) float64 { return ratio(r.Resident*(1<<20), float64(r.Nodes)) }
	return []table{
		{"add", "Adds with a TTL or lease, at saturation", []Work{Add}, cpuMicros, latencies(peerName, mode, batch, cpu, rate)},
		{"add-rate", "Adds at a moderate rate", []Work{AddRate}, cpuMicros, latencies(peerName, mode, batch, offered, cpu)},
		{"lookup", "Lookups, uniform, at saturation", []Work{LookUniform}, cpuMicros, latencies(peerName, mode, batch, cpu, rate)},
		{"lookup-zipf", "Lookups, Zipf, at saturation", []Work{LookZipf}, cpuMicros, latencies(peerName, mode, batch, cpu, rate)},
		{"lookup-rate", "Lookups at a moderate rate", []Work{LookRate}, cpuMicros, latencies(peerName, mode, batch, offered, cpu)},
		{"callers", "Blocking callers in one client", []Work{Callers, Hold}, cpuMicros, latencies(peerName, mode, callers,
			spread("for, s", seconds), cpu, rate, middle("lookups a write", func(r Result) float64 { return r.Achieved }))},
		{"lone", "One caller with one lookup at a time", []Work{Lone}, func(r Result) float64 { return r.P50 }, latencies(peerName, mode, cpu, rate)},
		{"unary", "Unary AddNode, ten connections with five callers each, at saturation", []Work{Unary}, cpuMicros, latencies(peerName, mode, cpu, rate)},
		{"unary-rate", "Unary AddNode at a moderate rate", []Work{UnaryRate}, cpuMicros, latencies(peerName, mode, offered, cpu)},
		{"steady", "All nodes kept alive", []Work{Steady}, core, []column{peerName, mode, nodes, spread("for, s", seconds),
			{"server, % of a core", func(g group) string { return number(g.median(core)) }}}},
		{"return", "All ten proxies' claims again into an empty server", []Work{Return}, cpuMicros, []column{peerName, mode, nodes,
			spread("s", seconds), spread("server CPU, s", func(r Result) float64 { return r.CPU }), cpu}},
		{"memory", "Memory", []Work{Memory}, resident, []column{peerName, mode, nodes,
			spread("resident, MiB", func(r Result) float64 { return r.Resident }), spread("at the peak, MiB", func(r Result) float64 { return r.Peak }),
			spread("live heap, MiB", func(r Result) float64 { return r.Live }), spread("more than empty, bytes a node", more)}},
	}
}

// rows returns a table's cells, its heads first; nil where nothing of it was measured.
func (t table) rows(r *Report) [][]string {
	found := r.groups(t.works...)
	if len(found) == 0 {
		return nil
	}
	var head []string
	for _, c := range t.columns {
		head = append(head, c.head)
	}
	rows := [][]string{append(head, "times trackerpool")}
	for _, g := range found {
		var row []string
		for _, c := range t.columns {
			row = append(row, c.show(g))
		}
		rows = append(rows, append(row, t.versus(g, found)))
	}
	return rows
}

// ours is the peer that all are compared with.
const ours = "trackerpool"

// versus shows how many times as much as the tracker's best way with the same batch
// one of the groups takes. The least of the batch is bold.
func (t table) versus(g group, all []group) string {
	mine, base, least := g.median(t.compared), 0.0, 0.0
	for _, o := range all {
		m := o.median(t.compared)
		if m == 0 || o[0].Batch != g[0].Batch {
			continue
		}
		if o[0].Peer == ours && (base == 0 || m < base) {
			base = m
		}
		if least == 0 || m < least {
			least = m
		}
	}
	switch {
	case mine == 0 || base == 0:
		return "–"
	case mine == least:
		return "**" + number(mine/base) + "**"
	}
	return number(mine / base)
}

// WriteTables writes all tables as aligned text, which is Markdown too.
func (r *Report) WriteTables(w io.Writer) error {
	var b strings.Builder
	r.writeRun(&b)
	for _, t := range tables() {
		if rows := t.rows(r); rows != nil {
			fmt.Fprintf(&b, "\n%s\n\n", t.title)
			writeRows(&b, rows)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeRun writes how, where and with what was measured.
func (r *Report) writeRun(b *strings.Builder) {
	fmt.Fprintf(b, "`%s`, %s, %s. %s nodes, %d rounds, %.0f s.\n\n", r.Command, r.Began, strings.Join(r.Machine, ", "),
		number(float64(r.Nodes)), r.Rounds, r.Took)
	for _, name := range order {
		if v := r.Versions[name]; v != "" {
			fmt.Fprintf(b, "- %s: %s\n", name, v)
		}
	}
	for _, m := range r.Missing {
		fmt.Fprintf(b, "- %s\n", m)
	}
	var idle, load []float64
	for _, m := range r.Busy {
		idle, load = append(idle, 100*m.Idle), append(load, m.Load)
	}
	if len(idle) > 0 {
		fmt.Fprintf(b, "- before the turns the processors were idle for %.0f to %.0f %% of the time; load average %.2f to %.2f\n",
			slices.Min(idle), slices.Max(idle), slices.Min(load), slices.Max(load))
	}
}

func writeRows(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(b, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range widths {
				fmt.Fprintf(b, "|%s", strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
}
