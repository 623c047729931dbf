package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A difference is one figure in two results.
type difference struct{ A, B Estimate }

// ratio is B over A; NaN where either is missing or A is zero.
func (d difference) ratio() float64 {
	if d.A.Value == 0 {
		return math.NaN()
	}
	return d.B.Value / d.A.Value
}

// apart tells whether both have intervals and these do not overlap.
func (d difference) apart() bool {
	return d.A.HasInterval() && d.B.HasInterval() && (d.A.High < d.B.Low || d.B.High < d.A.Low)
}

// An Agreement is the test of Kolmogorov and Smirnov of one distribution in
// two reports.
type Agreement struct {
	Algorithm string  `json:"algorithm"`
	Class     string  `json:"class"`
	Warm      bool    `json:"warm,omitempty"`
	What      string  `json:"of"` // "latency" in milliseconds, "requests"
	D         float64 `json:"d"`
	P         float64 `json:"p"` // small: they differ
}

// String shows the test.
func (a Agreement) String() string {
	return fmt.Sprintf("%s %s, %s: d = %.3f, p = %.3g", a.Algorithm, label(a.Class, a.Warm), a.What, a.D, a.P)
}

// Agreements tests every distribution that two reports have in common, over
// all seeds.
func Agreements(a, b *Report) []Agreement {
	var out []Agreement
	for _, k := range a.kinds() {
		for _, name := range a.names() {
			latencyA, requestsA := a.values(name, k)
			latencyB, requestsB := b.values(name, k)
			if len(latencyA) == 0 || len(latencyB) == 0 {
				continue
			}
			of := func(what string, x, y []float64) {
				d, p := KS(x, y)
				out = append(out, Agreement{Algorithm: name, Class: k.class, Warm: k.warm, What: what, D: d, P: p})
			}
			of("latency", latencyA, latencyB)
			of("requests", requestsA, requestsB)
		}
	}
	return out
}

// values returns the latencies, in milliseconds, and requests of a class.
func (r *Report) values(algorithm string, k kind) (latency, requests []float64) {
	for i := range r.Runs {
		if c := r.Runs[i].class(algorithm, k.class, k.warm); c != nil {
			for _, s := range c.Samples {
				latency, requests = append(latency, millis(s.Latency)), append(requests, float64(s.Requests))
			}
		}
	}
	return latency, requests
}

// compared are the figures that a comparison shows.
func compared() []string {
	return []string{FactorP50, FactorP99, RequestsP50, RequestsP99, Recall, LoadMaxShare, Refresh}
}

// WriteComparison writes results side by side: for each class a table with a
// line for each algorithm and figure, and how far every other result is from
// the first. names are what the results are called, as many as results.
func WriteComparison(w io.Writer, names []string, all []*Summary) error {
	if len(all) < 2 || len(names) != len(all) {
		return fmt.Errorf("%w: give two results or more to compare", ErrBadResult)
	}
	var b strings.Builder
	for i, s := range all {
		fmt.Fprintf(&b, "%s = %s\n    %s\n", letter(i), names[i], strings.ReplaceAll(s.headline(), "\n", "\n    "))
		if i > 0 && s.Digest != "" && s.Digest == all[0].Digest {
			fmt.Fprintf(&b, "    equal to A in everything but the speed of the machine\n")
		}
	}
	var tables []Table
	for _, s := range all { // every class that any of them has
		for _, r := range s.Rows {
			title := label(r.Class, r.Warm)
			if !slices.ContainsFunc(tables, func(t Table) bool { return t.Title == title }) {
				tables = append(tables, comparison(title, r.Class, r.Warm, all))
			}
		}
	}
	for _, t := range tables {
		b.WriteString("\n" + t.Text())
	}
	b.WriteString("\n* the 95 % confidence intervals do not overlap.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func letter(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return strconv.Itoa(i + 1)
}

// comparison makes the table of one class.
func comparison(title, class string, warm bool, all []*Summary) Table {
	t := Table{Title: title, Head: []string{"algorithm", "figure", "A"}}
	for i := 1; i < len(all); i++ {
		t.Head = append(t.Head, letter(i), letter(i)+" to A")
	}
	for _, name := range algorithmsOf(all) {
		for _, figure := range compared() {
			row := []cell{{text: name}, {text: figure}, {text: exactlyShort(all[0].Figure(name, class, warm, figure).Value)}}
			found := row[2].text != "-"
			for i := 1; i < len(all); i++ {
				d := difference{all[0].Figure(name, class, warm, figure), all[i].Figure(name, class, warm, figure)}
				row = append(row, cell{text: exactlyShort(d.B.Value)}, cell{text: change(d), best: d.apart()})
				found = found || !math.IsNaN(d.B.Value)
			}
			if found {
				t.Rows = append(t.Rows, row)
			}
		}
	}
	return t
}

// exactlyShort shows four digits.
func exactlyShort(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

// change shows how far B is from A.
func change(d difference) string {
	ratio := d.ratio()
	switch {
	case math.IsNaN(ratio):
		return "-"
	case d.A.Value == d.B.Value:
		return "="
	case ratio >= 2:
		return "×" + digits(ratio)
	default:
		return fmt.Sprintf("%+.1f %%", 100*(ratio-1))
	}
}
