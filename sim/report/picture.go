package report

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A Picture is a drawing of curves.
type Picture struct {
	Name   string // of a file, without its ending: "latency-needle"
	Title  string
	Curves []string // as the legend names them
	plot   *plot.Plot
	legend plot.Legend // beside it
}

const (
	width  = 18 * vg.Centimeter
	height = 9.5 * vg.Centimeter
	beside = 3.2 * vg.Centimeter // of width, for the legend
	// maxPoints bounds a curve of a distribution: more than there are pixels.
	maxPoints = 400
	// servers is the axis of growth, always logarithmic.
	servers = "servers"
	// spread is from which ratio of the greatest to the least on an axis is
	// logarithmic.
	spread = 30
)

// A curve is what one algorithm has in a picture.
type curve struct {
	name      string
	warm      bool
	colour    color.Color
	first     bool // drawn broader
	points    plotter.XYs
	intervals []struct{ Low, High float64 } // of points, below and above; nil: none
	dots      bool
}

// palette is that of Okabe and Ito, which colour-blind people tell apart, and
// some more. An algorithm that ships has the same colour in every picture, the
// unit is grey; others take turns.
func palette(name string, i int) color.Color {
	colours := []color.RGBA{
		{0, 114, 178, 255},
		{213, 94, 0, 255},
		{0, 158, 115, 255},
		{204, 121, 167, 255},
		{230, 159, 0, 255},
		{86, 180, 233, 255},
		{101, 67, 33, 255},
		{40, 40, 40, 255},
		{150, 140, 30, 255},
	}
	if name == Plain {
		return color.Gray{130}
	}
	if known := slices.Index([]string{"xeno", "bloom", "walk", "pht", "kdtree", "cid", "crawl", "central", "central3"}, name); known >= 0 {
		i = known
	}
	return colours[i%len(colours)]
}

// Pictures draws the distributions of latency factor and requests, and of the
// load on nodes, for each class; and recall over time where not all was found.
func (r *Report) Pictures() ([]Picture, error) {
	var out []Picture
	var classes []string
	for _, k := range r.kinds() {
		if !slices.Contains(classes, k.class) {
			classes = append(classes, k.class)
		}
	}
	for _, class := range classes {
		for _, draw := range []func(string) (Picture, error){r.latencyPicture, r.requestsPicture, r.loadPicture, r.recallPicture} {
			p, err := draw(class)
			if err != nil {
				return nil, err
			}
			if len(p.Curves) > 0 {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

func (r *Report) latencyPicture(class string) (Picture, error) {
	return drawing("latency-"+class, class+": latency", "latency, in plain lookups (L)", "part of queries",
		r.distributions(class, func(run *Run, s Sample) float64 { return run.Factor(s.Latency) }))
}

func (r *Report) requestsPicture(class string) (Picture, error) {
	return drawing("requests-"+class, class+": requests", "requests of a query", "part of queries",
		r.distributions(class, func(_ *Run, s Sample) float64 { return float64(s.Requests) }))
}

// distributions returns, for each algorithm, the part of queries up to each
// value, over all seeds.
func (r *Report) distributions(class string, value func(*Run, Sample) float64) []curve {
	var out []curve
	for i, name := range r.names() {
		for _, warm := range []bool{false, true} {
			var values []float64
			for j := range r.Runs {
				if c := r.Runs[j].class(name, class, warm); c != nil {
					for _, s := range c.Samples {
						values = append(values, value(&r.Runs[j], s))
					}
				}
			}
			if len(values) > 0 {
				out = append(out, curve{name: label(name, warm), warm: warm, colour: palette(name, i), first: i == 0, points: steps(values)})
			}
		}
	}
	return out
}

// steps is the empirical distribution, thinned to what can be seen.
func steps(values []float64) plotter.XYs {
	slices.Sort(values)
	n := len(values)
	points := plotter.XYs{{X: values[0], Y: 0}}
	every := max(1, n/maxPoints)
	for i, v := range values {
		last := i == n-1
		if !last && (values[i+1] == v || i%every != 0) {
			continue
		}
		points = append(points, plotter.XY{X: v, Y: points[len(points)-1].Y}, plotter.XY{X: v, Y: float64(i+1) / float64(n)})
	}
	return points
}

// loadPicture draws how much of all messages the hottest nodes received.
func (r *Report) loadPicture(class string) (Picture, error) {
	var curves []curve
	for i, name := range r.names() {
		for _, warm := range []bool{false, true} {
			sum, runs := make([]float64, len(Parts())), 0.0
			for j := range r.Runs {
				if c := r.Runs[j].class(name, class, warm); c != nil && c.Load.Messages > 0 && len(c.Load.Cumulated) == len(sum) {
					runs++
					for k, x := range c.Load.Cumulated {
						sum[k] += x
					}
				}
			}
			if runs == 0 {
				continue
			}
			c := curve{name: label(name, warm), warm: warm, colour: palette(name, i), first: i == 0, dots: true}
			for k, part := range Parts() {
				c.points = append(c.points, plotter.XY{X: 100 * part, Y: sum[k] / runs})
			}
			curves = append(curves, c)
		}
	}
	return drawing("load-"+class, class+": load", "hottest nodes, % of all", "part of messages that they received", curves)
}

// moments is how many parts of the time a picture of recall has.
const moments = 24

// recallPicture draws how much was found of what was asked in each part of the
// time; nothing where always all was found.
func (r *Report) recallPicture(class string) (Picture, error) {
	var last time.Duration
	missed := false
	for i := range r.Runs {
		for _, name := range r.names() {
			for _, warm := range []bool{false, true} {
				if c := r.Runs[i].class(name, class, warm); c != nil && name != Plain {
					for _, s := range c.Samples {
						last, missed = max(last, s.At), missed || s.Recall < 1
					}
				}
			}
		}
	}
	var curves []curve
	for i, name := range r.names() {
		for _, warm := range []bool{false, true} {
			if c := r.recallCurve(name, class, warm, i, last); missed && name != Plain && len(c.points) > 0 {
				curves = append(curves, c)
			}
		}
	}
	return drawing("recall-"+class, class+": recall", "virtual time of the question, s", "mean recall", curves)
}

func (r *Report) recallCurve(name, class string, warm bool, i int, last time.Duration) curve {
	c := curve{name: label(name, warm), warm: warm, colour: palette(name, i), first: i == 0, dots: true}
	var sum, count [moments]float64
	for j := range r.Runs {
		if of := r.Runs[j].class(name, class, warm); of != nil {
			for _, s := range of.Samples {
				k := int(min(moments-1, moments*s.At/max(1, last)))
				sum[k], count[k] = sum[k]+finite(s.Recall), count[k]+1
			}
		}
	}
	for k := range moments {
		if count[k] > 0 {
			c.points = append(c.points, plotter.XY{X: last.Seconds() * (float64(k) + 0.5) / moments, Y: sum[k] / count[k]})
		}
	}
	return c
}

// Growth draws how figures of each class change over the reports of a sweep:
// over the number of nodes where that changes, else over the sweep's values in
// their order.
func Growth(all []*Summary) ([]Picture, error) {
	var out []Picture
	var classes []string
	for _, s := range all {
		for _, r := range s.Rows {
			if !slices.Contains(classes, r.Class) {
				classes = append(classes, r.Class)
			}
		}
	}
	x, axis := positionsOf(all)
	for _, class := range classes {
		for _, f := range []struct{ figure, name, axis string }{
			{FactorP50, "latency", "latency p50, in plain lookups (L)"},
			{RequestsP50, "requests", "requests p50"},
			{Recall, "recall", "recall"},
		} {
			p, err := drawing("growth-"+f.name+"-"+class, class+": "+f.name, axis, f.axis, growth(all, x, class, f.figure))
			if err != nil {
				return nil, err
			}
			if len(p.Curves) > 0 {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// positionsOf returns where each report stands on the horizontal axis.
func positionsOf(all []*Summary) (x []float64, axis string) {
	differ := false
	for i, s := range all {
		x = append(x, float64(s.Engine.Nodes))
		differ = differ || i > 0 && s.Engine.Nodes != all[0].Engine.Nodes
	}
	if differ {
		return x, servers
	}
	axis = "run"
	for i, s := range all {
		x[i] = float64(i + 1)
		if name, value, ok := strings.Cut(s.Value, " = "); ok {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				x[i], axis = v, name
			}
		}
	}
	return x, axis
}

func growth(all []*Summary, x []float64, class, figure string) []curve {
	var out []curve
	for i, name := range algorithmsOf(all) {
		for _, warm := range []bool{false, true} {
			c := curve{name: label(name, warm), warm: warm, colour: palette(name, i), first: i == 0, dots: true}
			for j, s := range all {
				e := s.Figure(name, class, warm, figure)
				if math.IsNaN(e.Value) {
					continue
				}
				c.points = append(c.points, plotter.XY{X: x[j], Y: e.Value})
				ends := struct{ Low, High float64 }{}
				if e.HasInterval() {
					ends.Low, ends.High = e.Value-e.Low, e.High-e.Value
				}
				c.intervals = append(c.intervals, ends)
			}
			if len(c.points) > 0 {
				out = append(out, c)
			}
		}
	}
	return out
}

// algorithmsOf returns all algorithms of some summaries, in their order.
func algorithmsOf(all []*Summary) []string {
	var out []string
	for _, s := range all {
		for _, r := range s.Rows {
			if !slices.Contains(out, r.Algorithm) {
				out = append(out, r.Algorithm)
			}
		}
	}
	return out
}

// drawing makes a picture of curves.
func drawing(name, title, x, y string, curves []curve) (Picture, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	sans := func(f *font.Font, size vg.Length) { f.Variant, f.Size = "Sans", size }
	sans(&p.Title.TextStyle.Font, 12)
	sans(&p.X.Label.TextStyle.Font, 10)
	sans(&p.Y.Label.TextStyle.Font, 10)
	sans(&p.X.Tick.Label.Font, 9)
	sans(&p.Y.Tick.Label.Font, 9)
	p.Title.Padding = 6
	scale(&p.X, curves, func(at plotter.XY) float64 { return at.X })
	if p.Y.Min = 0; curves != nil && curves[0].intervals != nil {
		scale(&p.Y, curves, func(at plotter.XY) float64 { return at.Y })
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	pic := Picture{Name: name, Title: title, plot: p, legend: plot.NewLegend()}
	sans(&pic.legend.TextStyle.Font, 9)
	pic.legend.Top, pic.legend.Left, pic.legend.YOffs, pic.legend.ThumbnailWidth = true, true, -20, 22
	for _, c := range curves {
		if err := c.addTo(p, &pic.legend); err != nil {
			return pic, fmt.Errorf("draw %s: %w", name, err)
		}
		pic.Curves = append(pic.Curves, c.name)
	}
	return pic, nil
}

// scale makes an axis logarithmic where positive values are far apart. Zero
// then stands at its lower end.
func scale(axis *plot.Axis, curves []curve, of func(plotter.XY) float64) {
	least, most := math.Inf(1), 0.0
	for _, c := range curves {
		for _, at := range c.points {
			if v := of(at); v > 0 {
				least, most = min(least, v), max(most, v)
			}
		}
	}
	axis.Min = 0
	if most > spread*least || axis.Label.Text == servers && most > least {
		axis.Scale, axis.Tick.Marker = plot.LogScale{}, logTicks{}
		axis.Min = least
	}
}

// logTicks labels powers of ten: 100, 1k, 1M.
type logTicks struct{}

// Ticks implements plot.Ticker.
func (logTicks) Ticks(least, most float64) []plot.Tick {
	ticks := slices.DeleteFunc(plot.LogTicks{Prec: -1}.Ticks(least, most), func(t plot.Tick) bool {
		return t.Value < least*(1-1e-9) || t.Value > most*(1+1e-9)
	})
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = short(ticks[i].Value)
		}
	}
	return ticks
}

// short prints a round number.
func short(x float64) string {
	switch {
	case x >= 1e6:
		return strconv.FormatFloat(round(x/1e6), 'f', -1, 64) + "M"
	case x >= 1e3:
		return strconv.FormatFloat(round(x/1e3), 'f', -1, 64) + "k"
	default:
		return strconv.FormatFloat(round(x), 'f', -1, 64)
	}
}

// addTo draws a curve.
func (c curve) addTo(p *plot.Plot, legend *plot.Legend) error {
	points := slices.Clone(c.points)
	_, logX := p.X.Scale.(plot.LogScale)
	_, logY := p.Y.Scale.(plot.LogScale)
	for i := range points {
		if logX {
			points[i].X = max(points[i].X, p.X.Min)
		}
		if logY {
			points[i].Y = max(points[i].Y, p.Y.Min)
		}
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = c.colour, 1.4
	if c.first {
		line.Width = 2.2
	}
	if c.warm {
		line.Dashes = []vg.Length{5, 3}
	}
	p.Add(line)
	legend.Add(c.name, line)
	if c.dots {
		dots, err := plotter.NewScatter(points)
		if err != nil {
			return err
		}
		dots.Shape, dots.Color, dots.Radius = draw.CircleGlyph{}, c.colour, 2
		p.Add(dots)
	}
	if c.intervals != nil && !logY {
		bars, err := plotter.NewYErrorBars(barred{points, c.intervals})
		if err != nil {
			return err
		}
		bars.Color, bars.CapWidth = c.colour, 4
		p.Add(bars)
	}
	return nil
}

// barred gives points their intervals.
type barred struct {
	plotter.XYs
	ends []struct{ Low, High float64 }
}

// YError implements plotter.YErrorer.
func (b barred) YError(i int) (low, high float64) { return b.ends[i].Low, b.ends[i].High }

func (p Picture) draw(c draw.Canvas) {
	c.SetColor(color.White)
	c.Fill(c.Path())
	p.plot.Draw(draw.Crop(c, 4, -beside, 4, -4))
	p.legend.Draw(draw.Crop(c, width-beside+8, 0, 0, 0))
}

// WriteSVG writes the picture as SVG, with text as text.
func (p Picture) WriteSVG(w io.Writer) error {
	c := vgsvg.New(width, height)
	p.draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	// The drawer's font, or what looks like it.
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arimo,Helvetica,Arial,sans-serif;")))
	return err
}

// WritePNG writes the picture as PNG, 1,400 pixels wide.
func (p Picture) WritePNG(w io.Writer) error {
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(200))}
	p.draw(draw.New(c))
	_, err := c.WriteTo(w)
	return err
}
