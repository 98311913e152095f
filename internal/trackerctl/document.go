package trackerctl

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"go.yaml.in/yaml/v3"
)

// formats are what --output takes.
var formats = []string{"table", "json", "yaml"}

// A document is what a command says. Its JSON is stable: fields come, and none goes or
// changes its meaning. Times are in seconds, fingerprints in hexadecimal digits.
type document interface {
	tables() []grid // for people
}

// A grid is a table, or lines where it has no header.
type grid struct {
	title  string
	header []string
	right  []int // columns of numbers, from 0
	rows   [][]cell
}

func (g *grid) add(cells ...cell) { g.rows = append(g.rows, cells) }

// addShort adds a row, and fills what it lacks with dashes.
func (g *grid) addShort(cells ...cell) {
	for len(cells) < len(g.header) {
		cells = append(cells, plain("-"))
	}
	g.add(cells...)
}

// tone is how a cell is to be taken.
type tone uint8

const (
	neutral tone = iota
	good
	warning
	bad
	faint
)

type cell struct {
	text string
	tone tone
}

func plain(s string) cell         { return cell{text: s} }
func number(n int) cell           { return cell{text: fmt.Sprint(n)} }
func toned(t tone, s string) cell { return cell{s, t} }

// mark is s where yes, and else nothing.
func mark(yes bool, s string) string {
	if yes {
		return s
	}
	return ""
}

func yesNo(yes bool) cell {
	if yes {
		return toned(good, "yes")
	}
	return toned(warning, "no")
}

// list joins texts for a cell; none is a dash.
func list[S ~string](items []S) string {
	if len(items) == 0 {
		return "-"
	}
	texts := make([]string, len(items))
	for i, s := range items {
		texts[i] = string(s)
	}
	return strings.Join(texts, ",")
}

// brief is a time for people.
func brief(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

func percent(f float64) string { return fmt.Sprintf("%.1f%%", 100*f) }

// write writes a document in the format that was asked for.
func (a *app) write(d document) error {
	switch a.format {
	case "json":
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(d)
	case "yaml":
		return writeYAML(a.stdout, d)
	}
	var b strings.Builder
	for i, g := range d.tables() {
		if i > 0 {
			b.WriteString("\n")
		}
		g.render(&b, a.colours)
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// writeYAML writes what JSON would have, in the same order: JSON is YAML.
func writeYAML(w io.Writer, d document) error {
	j, err := json.Marshal(d)
	if err != nil {
		return err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(j, &n); err != nil {
		return err
	}
	unquote(&n)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return err
	}
	return e.Close()
}

// unquote drops the style of JSON; what must be quoted, is quoted.
func unquote(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		unquote(c)
	}
}

func (g *grid) render(b *strings.Builder, colours bool) {
	if g.title != "" {
		b.WriteString(g.title + "\n")
	}
	if g.header == nil {
		for _, row := range g.rows {
			for i, c := range row {
				b.WriteString(mark(i > 0, "  ") + c.paint(colours))
			}
			b.WriteString("\n")
		}
		return
	}
	if len(g.rows) == 0 {
		b.WriteString("none\n")
		return
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleDefault)
	s := t.Style()
	s.Options = table.OptionsNoBordersAndSeparators
	s.Format.Header = text.FormatUpper
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	header := make(table.Row, len(g.header))
	for i, h := range g.header {
		header[i] = h
	}
	t.AppendHeader(header)
	for _, row := range g.rows {
		cells := make(table.Row, len(row))
		for i, c := range row {
			cells[i] = c.paint(colours)
		}
		t.AppendRow(cells)
	}
	var columns []table.ColumnConfig
	for _, i := range g.right {
		columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	for line := range strings.Lines(t.Render()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

// paint returns the cell's text, coloured where that is wanted. What comes from afar
// must not steer the terminal.
func (c cell) paint(colours bool) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, c.text)
	code := map[tone]string{good: "32", warning: "33", bad: "31", faint: "2"}[c.tone]
	if !colours || code == "" || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
