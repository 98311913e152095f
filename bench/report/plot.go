package report

import (
	"fmt"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A bars is a plot of one figure: a group of bars for each batch, a bar for each peer.
// It has the name of the table above which it stands.
type bars struct {
	name, title, unit string
	works             []Work
	figure            figure
	batches           []int
	label             string // of the batches
	skip              func(Result) bool
}

func plots() []bars {
	// etcd is so far off that beside it all others look the same.
	tall := func(r Result) bool { return r.Peer == "etcd" }
	return []bars{
		{"add", "Adds: processor time of the server", "µs a node", []Work{Add}, cpuMicros, []int{16, 64, 256}, "batch of %d", tall},
		{"lookup", "Lookups: processor time of the server", "µs a node", []Work{LookUniform}, cpuMicros, []int{16, 64, 256}, "batch of %d", tall},
		{"lookup-rate", "Lookups at a moderate rate: p99 of a batch", "µs", []Work{LookRate}, func(r Result) float64 { return r.P99 }, []int{64}, "batch of %d", tall},
		{"memory", "Memory, all nodes loaded", "bytes resident a node", []Work{Memory},
			func(r Result) float64 { return ratio(r.Resident*(1<<20), float64(r.Nodes)) }, []int{0}, "", func(r Result) bool { return tall(r) || r.Mode != "loaded" }},
	}
}

const (
	plotWidth  = 18 * vg.Centimeter
	plotHeight = 9 * vg.Centimeter
)

// palette is Okabe and Ito's, which most people can tell apart.
var palette = []color.RGBA{
	{0, 114, 178, 255}, {213, 94, 0, 255}, {230, 159, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {86, 180, 233, 255}, {90, 90, 90, 255},
}

// write draws the plot. Of a peer with several ways to do the work it takes the
// cheapest.
func (b bars) write(r *Report, name string) error {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = b.title, b.unit
	p.Legend.Top = true
	for _, style := range []*font.Font{&p.Title.TextStyle.Font, &p.Y.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		style.Variant = "Sans"
	}
	least := b.least(r)
	shown := make([]string, 0, len(order))
	for _, peer := range order {
		if least[peer] != nil {
			shown = append(shown, peer)
		}
	}
	width := vg.Points(360 / float64(max(1, len(shown)*len(b.batches))+len(b.batches)))
	for i, peer := range shown {
		chart, err := plotter.NewBarChart(least[peer], width)
		if err != nil {
			return fmt.Errorf("draw %s: %w", b.name, err)
		}
		chart.Color, chart.LineStyle.Width = palette[rank(peer)], 0
		chart.Offset = width * vg.Length(float64(i)-float64(len(shown)-1)/2)
		p.Add(chart)
		p.Legend.Add(peer, chart)
	}
	labels := make([]string, len(b.batches))
	for i, batch := range b.batches {
		if b.label != "" {
			labels[i] = fmt.Sprintf(b.label, batch)
		}
	}
	p.NominalX(labels...)
	p.Y.Min = 0
	if len(shown) > 0 {
		p.Y.Max *= 1.15
	}
	c := vgsvg.New(plotWidth, plotHeight)
	page := draw.New(c)
	page.FillPolygon(color.White, []vg.Point{page.Min, {X: page.Max.X, Y: page.Min.Y}, page.Max, {X: page.Min.X, Y: page.Max.Y}})
	p.Draw(draw.Crop(page, vg.Points(6), -vg.Points(6), vg.Points(6), -vg.Points(6)))
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := c.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

// least returns by peer the least median for each batch.
func (b bars) least(r *Report) map[string]plotter.Values {
	values := make(map[string]plotter.Values)
	for _, g := range r.groups(b.works...) {
		for i, batch := range b.batches {
			m := g.median(b.figure)
			if g[0].Batch != batch || m == 0 || b.skip(g[0]) {
				continue
			}
			v := values[g[0].Peer]
			if v == nil {
				v = make(plotter.Values, len(b.batches))
				values[g[0].Peer] = v
			}
			if v[i] == 0 || m < v[i] {
				v[i] = m
			}
		}
	}
	return values
}
