package report

import (
	"encoding/csv"
	"io"
	"math"
	"strconv"
)

// WriteSamples writes every query as a line of CSV, with a header. Times are
// milliseconds.
func (r *Report) WriteSamples(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{ // Flush keeps the error
		"seed", "algorithm", "class", "warm", "at_ms", "latency_ms", "latency_factor", "requests", "recall", "estimated", "low", "high", "true", "complete",
	})
	for i := range r.Runs {
		run := &r.Runs[i]
		for _, a := range run.Algorithms {
			for _, c := range a.Classes {
				for _, s := range c.Samples {
					_ = out.Write([]string{
						strconv.FormatUint(run.Seed, 10), a.Name, c.Name, strconv.FormatBool(c.Warm), plain(millis(s.At)), plain(millis(s.Latency)),
						plain(run.Factor(s.Latency)), strconv.Itoa(s.Requests), plain(s.Recall), plain(s.Estimated), s.bound(s.Low), s.bound(s.High), strconv.Itoa(s.True),
						strconv.FormatBool(s.Complete),
					})
				}
			}
		}
	}
	out.Flush()
	return out.Error()
}

// bound prints one of the bounds, nothing where there is none.
func (s Sample) bound(x float64) string {
	if !s.Bounded || math.IsInf(x, 0) {
		return ""
	}
	return plain(x)
}

// WriteSummaries writes every figure of several reports as a line of CSV with
// its interval, with a header. Cells are empty where there is none.
func WriteSummaries(w io.Writer, all []*Summary) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"scenario", "value", "nodes", "seeds", "algorithm", "class", "warm", "queries", "figure", "mean", "low", "high"})
	for _, s := range all {
		for _, r := range s.Rows {
			for _, name := range Figures() {
				e := r.Figures[name]
				_ = out.Write([]string{
					s.Scenario, s.Value, strconv.Itoa(s.Engine.Nodes), strconv.Itoa(len(s.Seeds)), r.Algorithm, r.Class, strconv.FormatBool(r.Warm),
					strconv.Itoa(r.Queries), name, plain(e.Value), plain(e.Low), plain(e.High),
				})
			}
		}
	}
	out.Flush()
	return out.Error()
}

// plain prints six digits without an exponent, nothing for NaN.
func plain(x float64) string {
	if math.IsNaN(x) {
		return ""
	}
	return strconv.FormatFloat(round(x), 'f', -1, 64)
}
