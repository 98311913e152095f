package scale

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	chartWidth  = 18 * vg.Centimeter
	chartHeight = 11 * vg.Centimeter
)

// palette is Okabe and Ito's, which most people can tell apart.
func palette(i int) color.Color {
	colors := []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {86, 180, 233, 255}, {230, 159, 0, 255}, {0, 0, 0, 255}}
	return colors[i%len(colors)]
}

// WriteSVG draws the figure on logarithmic axes: points that were measured are
// full, those that were computed hollow. Values of 0 are left out.
func (f *Figure) WriteSVG(w io.Writer) error {
	p := plot.New()
	p.Title.Text = f.Title
	p.X.Label.Text, p.Y.Label.Text = "trackers", f.Unit
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = decades{}, decades{}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(2)
	for _, style := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		style.Variant = "Sans"
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	for i, s := range f.Series {
		if err := s.draw(p, palette(i)); err != nil {
			return fmt.Errorf("draw %s of figure %s: %w", s.Name, f.Name, err)
		}
	}
	if math.IsInf(p.X.Min, 0) { // nothing is drawn
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, 10, 1, 10
	}
	p.X.Min, p.X.Max = p.X.Min/1.1, p.X.Max*1.1
	p.Y.Min, p.Y.Max = p.Y.Min/1.5, p.Y.Max*math.Pow(p.Y.Max/p.Y.Min, 0.07*float64(len(f.Series)))*1.5 // room for the legend
	c := vgsvg.New(chartWidth, chartHeight)
	page := draw.New(c)
	page.FillPolygon(color.White, []vg.Point{page.Min, {X: page.Max.X, Y: page.Min.Y}, page.Max, {X: page.Min.X, Y: page.Max.Y}})
	p.Draw(draw.Crop(page, vg.Points(6), -vg.Points(16), vg.Points(6), -vg.Points(6)))
	_, err := c.WriteTo(w)
	return err
}

func (s *Series) draw(p *plot.Plot, c color.Color) error {
	var all, measured, computed plotter.XYs
	for _, pt := range s.Points {
		if pt.Value <= 0 {
			continue
		}
		at := plotter.XY{X: float64(pt.Trackers), Y: pt.Value}
		all = append(all, at)
		if pt.Computed {
			computed = append(computed, at)
		} else {
			measured = append(measured, at)
		}
	}
	if len(all) == 0 {
		return nil
	}
	line, err := plotter.NewLine(all)
	if err != nil {
		return err
	}
	line.Color, line.Width = c, vg.Points(1.5)
	legend := []plot.Thumbnailer{line}
	p.Add(line)
	for _, marks := range []struct {
		at    plotter.XYs
		shape draw.GlyphDrawer
	}{{measured, draw.CircleGlyph{}}, {computed, draw.RingGlyph{}}} {
		if len(marks.at) == 0 {
			continue
		}
		dots, err := plotter.NewScatter(marks.at)
		if err != nil {
			return err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(3), Shape: marks.shape}
		p.Add(dots)
		if len(legend) == 1 {
			legend = append(legend, dots)
		}
	}
	p.Legend.Add(s.Name, legend...)
	return nil
}

// decades ticks at 1, 2 and 5 times powers of ten, all of them labelled where the
// axis is short, else the powers alone.
type decades struct{}

// Ticks is plot.Ticker's.
func (decades) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	long := high/low > 5000
	for e := math.Floor(math.Log10(low)); e <= math.Log10(high); e++ {
		for _, m := range []float64{1, 2, 3, 5} {
			v := m * math.Pow(10, e)
			if v < low || v > high {
				continue
			}
			t := plot.Tick{Value: v}
			if m == 1 || !long {
				t.Label = tickLabel(v)
			}
			ticks = append(ticks, t)
		}
	}
	return ticks
}

func tickLabel(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= 0.999*unit.size {
			return strconv.FormatFloat(v/unit.size, 'g', 3, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
