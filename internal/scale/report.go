package scale

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A Point is one value of one curve.
type Point struct {
	Trackers int
	Value    float64
	Computed bool // from other measured values, and not measured itself
}

// A Series is one curve.
type Series struct {
	Name   string
	Points []Point // by rising Trackers
}

func (s *Series) add(trackers int, value float64, computed bool) {
	s.Points = append(s.Points, Point{trackers, value, computed})
}

// A Figure is curves of one unit.
type Figure struct {
	Name   string // of its file
	Title  string
	Unit   string
	Series []*Series
}

func (f *Figure) series(name string) *Series {
	for _, s := range f.Series {
		if s.Name == name {
			return s
		}
	}
	s := &Series{Name: name}
	f.Series = append(f.Series, s)
	return s
}

// A Report is all figures, and what else was measured.
type Report struct {
	Figures []*Figure
	Wire    Wire
	Stored  Stored
}

// figure returns the figure of a name; the first call says what it is.
func (r *Report) figure(name, title, unit string) *Figure {
	for _, f := range r.Figures {
		if f.Name == name {
			return f
		}
	}
	f := &Figure{Name: name, Title: title, Unit: unit}
	r.Figures = append(r.Figures, f)
	return f
}

// WriteCSV writes all points, one a row.
func (r *Report) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"figure", "series", "trackers", "value", "unit", "source"}}
	for _, f := range r.Figures {
		for _, s := range f.Series {
			for _, p := range s.Points {
				source := "measured"
				if p.Computed {
					source = "computed"
				}
				rows = append(rows, []string{f.Name, s.Name, strconv.Itoa(p.Trackers), strconv.FormatFloat(p.Value, 'g', 6, 64), f.Unit, source})
			}
		}
	}
	return c.WriteAll(rows)
}

// WriteTables writes a table of each figure in Markdown. Computed values are in
// italics.
func (r *Report) WriteTables(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "One exchange, both ends: ping %s, renewal %s, Ask and Word %s, confirm of copies %s of CPU. ",
		micros(r.Wire.Ping), micros(r.Wire.Renew), micros(r.Wire.Ask), micros(r.Wire.Copy))
	fmt.Fprintf(&b, "A proxy named adds %.0f B and %s to an Ask, %.0f B and %s to a Word; a straggler %.0f B to a Word; a claim sent again takes %.1f B. ",
		r.Wire.AskContact.Request, micros(r.Wire.AskContact), r.Wire.WordContact.Answer, micros(r.Wire.WordContact), r.Wire.Straggler.Answer, r.Wire.Claim.Request)
	fmt.Fprintf(&b, "A claim takes %.1f B in a table and %d ns to put there, a connection %.0f KiB at each end.\n", r.Stored.Bytes, r.Stored.CPU.Nanoseconds(), r.Wire.Connection/1024)
	for _, f := range r.Figures {
		f.table(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func micros(e Exchange) string { return fmt.Sprintf("%.1f µs", float64(e.CPU.Nanoseconds())/1000) }

func (f *Figure) table(b *strings.Builder) {
	var sizes []int
	for _, s := range f.Series {
		for _, p := range s.Points {
			if !slices.Contains(sizes, p.Trackers) {
				sizes = append(sizes, p.Trackers)
			}
		}
	}
	slices.Sort(sizes)
	fmt.Fprintf(b, "\n**%s**, %s\n\n| trackers |", f.Title, f.Unit)
	for _, s := range f.Series {
		fmt.Fprintf(b, " %s |", s.Name)
	}
	fmt.Fprintf(b, "\n|---:|%s\n", strings.Repeat("---:|", len(f.Series)))
	for _, n := range sizes {
		fmt.Fprintf(b, "| %d |", n)
		for _, s := range f.Series {
			i, ok := slices.BinarySearchFunc(s.Points, n, func(p Point, n int) int { return cmp.Compare(p.Trackers, n) })
			switch {
			case !ok:
				b.WriteString(" |")
			case s.Points[i].Computed:
				fmt.Fprintf(b, " *%s* |", short(s.Points[i].Value))
			default:
				fmt.Fprintf(b, " %s |", short(s.Points[i].Value))
			}
		}
		b.WriteByte('\n')
	}
}

// short is a value to three digits or so.
func short(v float64) string {
	digits := 0
	for x := v; x != 0 && x < 100 && digits < 4; x *= 10 {
		digits++
	}
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(v, 'f', digits, 64), ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction = strings.TrimRight(fraction, "0"); fraction != "" {
		whole += "." + fraction
	}
	return whole
}
