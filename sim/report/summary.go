package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Names of figures of a class, as JSON has them.
const (
	FactorP50     = "latency_factor_p50"
	FactorP99     = "latency_factor_p99"
	TailP99       = "latency_p99_by_unit_p99" // the p99 in units of the plain lookup's p99
	MillisP50     = "latency_ms_p50"
	MillisP99     = "latency_ms_p99"
	RequestsP50   = "requests_p50"
	RequestsP99   = "requests_p99"
	RequestsMean  = "requests_mean"
	Recall        = "recall"
	EstimateError = "estimate_error_p50" // of how many match, as a part of how many do
	EstimateWorst = "estimate_error_p99"
	Coverage      = "estimate_coverage" // part of answers whose bounds have the truth between them
	Complete      = "complete"          // part of answers that say so
	LoadMaxShare  = "load_max_share"
	Refresh       = "messages_per_refresh"
)

// Names of figures of an algorithm in a network that changes.
const (
	SearchableP50  = "publish_to_searchable_s_p50" // from an offer to the first question that finds it
	SearchableP99  = "publish_to_searchable_s_p99"
	Suppressed     = "changes_suppressed"         // of those that matter to no summary, told to no cell above a leaf
	HolderMessages = "holder_messages_per_minute" // of a node as a holder: summaries, copies for mirrors and for those who gather, comparing
	DeadReturned   = "dead_returned"              // part of the servers in answers that are gone
	RecallBefore   = "recall_before"              // the failure
	RecallAfter    = "recall_after"               // in the half minute after it
	RecallSettled  = "recall_settled"             // from two minutes after it
)

// Figures returns the names of a class's figures, in the order of tables.
func Figures() []string {
	return []string{
		FactorP50, FactorP99, TailP99, MillisP50, MillisP99, RequestsP50, RequestsP99, RequestsMean,
		Recall, EstimateError, EstimateWorst, Coverage, Complete, LoadMaxShare, Refresh,
	}
}

// EngineFigures returns the names of the engine's figures.
func EngineFigures() []string {
	return []string{"nodes", "events", "events_per_second", "bytes_per_node"}
}

// Plain is the algorithm that is the unit L. It finds one key and no servers,
// so it is never the best.
const Plain = "kademlia"

// A Row is the figures of an algorithm in a class.
type Row struct {
	Algorithm, Class string
	Warm             bool
	Queries          int // over all seeds
	Figures          map[string]Estimate
}

// label names an algorithm, asked by cold or warm clients, for people.
func label(algorithm string, warm bool) string {
	if warm {
		return algorithm + ", warm"
	}
	return algorithm
}

// A Summary is a report without its samples.
type Summary struct {
	Scenario, Description, Value string
	Partial                      bool
	Why                          string
	Seeds                        []uint64
	UnitMillis, UnitP99Millis    float64 // UnitP99Millis is 0 where it is not known
	Engine                       Engine
	Rows                         []Row // by class, then cold before warm, then algorithm
	Digest                       string
	Checks                       []Check // what was expected; nobody but the caller fills it

	report *Report // that it is of; nil: read without samples
}

// A Window is a part of the virtual time of a class, from its first question.
type Window struct{ From, To time.Duration }

// CutWindow divides "recall@30s-2m" into a figure and the window of the
// questions that it is over; false where there is no window. The error says
// how to write one.
func CutWindow(figure string) (name string, w Window, ok bool, err error) {
	name, text, ok := strings.Cut(figure, "@")
	if !ok {
		return name, w, false, nil
	}
	from, to, _ := strings.Cut(text, "-")
	var errFrom, errTo error
	w.From, errFrom = time.ParseDuration(from)
	w.To, errTo = time.ParseDuration(to)
	if errFrom != nil || errTo != nil || w.From < 0 || w.To <= w.From {
		return name, w, true, fmt.Errorf("%q is no window of time: write as in recall@30s-2m", text)
	}
	return name, w, true, nil
}

// within returns the report with the questions of a window alone.
func (r *Report) within(w Window) *Report {
	out := *r
	out.Runs = nil
	for _, run := range r.Runs {
		algorithms := run.Algorithms
		run.Algorithms = nil
		for _, a := range algorithms {
			classes := a.Classes
			a.Classes = nil
			for _, c := range classes {
				samples := c.Samples
				c.Samples = nil
				for _, s := range samples {
					if s.At >= w.From && s.At < w.To {
						c.Samples = append(c.Samples, s)
					}
				}
				a.Classes = append(a.Classes, c)
			}
			run.Algorithms = append(run.Algorithms, a)
		}
		out.Runs = append(out.Runs, run)
	}
	return &out
}

// IntervalOf says what the intervals are.
func (s *Summary) IntervalOf() string {
	if len(s.Seeds) > 1 {
		return "Means over seeds with 95 % confidence intervals (Student's t)."
	}
	return "One seed; 95 % confidence intervals over its queries: of percentiles by order statistics, of means Student's t."
}

// Summarise computes every figure. With several seeds a figure is the mean of
// those of the seeds; those that did not come to their end count where they
// have samples.
func (r *Report) Summarise() *Summary {
	s := &Summary{
		Scenario: r.Scenario, Description: r.Description, Value: r.Value, Partial: r.Partial, Why: r.Why, Digest: r.Digest(),
		report: r,
	}
	var units, tails []float64
	for i := range r.Runs {
		run := &r.Runs[i]
		s.Seeds = append(s.Seeds, run.Seed)
		units, tails = append(units, millis(run.Unit)), append(tails, millis(run.UnitP99))
		s.Engine.Nodes = max(s.Engine.Nodes, run.Engine.Nodes)
		s.Engine.Events += run.Engine.Events
		s.Engine.BytesPerNode = max(s.Engine.BytesPerNode, run.Engine.BytesPerNode)
		s.Engine.Speed += run.Engine.Speed / float64(len(r.Runs))
	}
	s.UnitMillis, s.UnitP99Millis = mean(units).Value, mean(tails).Value
	for _, k := range r.kinds() {
		for _, a := range r.names() {
			if row, ok := r.row(a, k.class, k.warm); ok {
				s.Rows = append(s.Rows, row)
			}
		}
	}
	return s
}

// A kind is a class of queries, by cold or warm clients.
type kind struct {
	class string
	warm  bool
}

// kinds returns all that the report has, in the order of the first algorithm
// that has them, warm after cold.
func (r *Report) kinds() []kind {
	var classes []string
	warm := map[string]bool{}
	for _, run := range r.Runs {
		for _, a := range run.Algorithms {
			for _, c := range a.Classes {
				if !slices.Contains(classes, c.Name) {
					classes = append(classes, c.Name)
				}
				warm[c.Name] = warm[c.Name] || c.Warm
			}
		}
	}
	var out []kind
	for _, c := range classes {
		out = append(out, kind{c, false})
		if warm[c] {
			out = append(out, kind{c, true})
		}
	}
	return out
}

// names returns the algorithms in the order of the report.
func (r *Report) names() []string {
	var out []string
	for _, run := range r.Runs {
		for _, a := range run.Algorithms {
			if !slices.Contains(out, a.Name) {
				out = append(out, a.Name)
			}
		}
	}
	return out
}

// row computes the figures of an algorithm and class over all seeds; false
// where no query was answered.
func (r *Report) row(algorithm, class string, warm bool) (Row, bool) {
	row := Row{Algorithm: algorithm, Class: class, Warm: warm, Figures: map[string]Estimate{}}
	var each []map[string]Estimate
	for i := range r.Runs {
		run := &r.Runs[i]
		c := run.class(algorithm, class, warm)
		if c == nil || len(c.Samples) == 0 {
			continue
		}
		row.Queries += len(c.Samples)
		each = append(each, run.figures(c, run.algorithm(algorithm).Refresh))
	}
	switch len(each) {
	case 0:
		return row, false
	case 1:
		row.Figures = each[0]
		return row, true
	}
	for _, name := range Figures() {
		var values []float64
		for _, figures := range each {
			if x := figures[name].Value; !math.IsNaN(x) {
				values = append(values, x)
			}
		}
		row.Figures[name] = mean(values)
	}
	return row, true
}

// figures computes those of one run.
func (r *Run) figures(c *Class, refresh float64) map[string]Estimate {
	var factors, tails, latencies, requests, recalls, errs, covered, complete []float64
	for _, s := range c.Samples {
		factors = append(factors, r.Factor(s.Latency))
		if tail := r.Tail(s.Latency); !math.IsNaN(tail) {
			tails = append(tails, tail)
		}
		latencies = append(latencies, millis(s.Latency))
		requests = append(requests, float64(s.Requests))
		recalls = append(recalls, s.Recall)
		errs = append(errs, math.Abs(s.Estimated-float64(s.True))/float64(max(1, s.True)))
		if s.Bounded {
			covered = append(covered, part(s.Low <= float64(s.True) && float64(s.True) <= s.High))
		}
		complete = append(complete, part(s.Complete))
	}
	for _, values := range [][]float64{factors, tails, latencies, requests, errs} {
		slices.Sort(values)
	}
	return map[string]Estimate{
		FactorP50: percentile(factors, 0.5), FactorP99: percentile(factors, 0.99), TailP99: percentile(tails, 0.99),
		MillisP50: percentile(latencies, 0.5), MillisP99: percentile(latencies, 0.99),
		RequestsP50: percentile(requests, 0.5), RequestsP99: percentile(requests, 0.99), RequestsMean: mean(requests),
		Recall: mean(recalls), EstimateError: percentile(errs, 0.5), EstimateWorst: percentile(errs, 0.99), Coverage: mean(covered),
		Complete:     mean(complete),
		LoadMaxShare: bare(c.Load.MaxShare), Refresh: bare(refresh),
	}
}

func part(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Figure finds one figure; algorithm is empty for those of the engine. A window
// may follow it, as in "recall@30s-2m", where the summary has samples. It is
// NaN where there is none.
func (s *Summary) Figure(algorithm, class string, warm bool, name string) Estimate {
	if algorithm == "" {
		switch name {
		case "nodes":
			return bare(float64(s.Engine.Nodes))
		case "events":
			return bare(float64(s.Engine.Events))
		case "events_per_second":
			return bare(s.Engine.Speed)
		case "bytes_per_node":
			return bare(s.Engine.BytesPerNode)
		}
	}
	if name, w, ok, err := CutWindow(name); ok {
		if err != nil || s.report == nil {
			return bare(math.NaN())
		}
		if row, ok := s.report.within(w).row(algorithm, class, warm); ok {
			return row.Figures[name]
		}
		return bare(math.NaN())
	}
	for _, r := range s.Rows {
		if r.Algorithm == algorithm && r.Class == class && r.Warm == warm {
			if e, ok := r.Figures[name]; ok {
				return e
			}
		}
	}
	return bare(math.NaN())
}

// best returns the best value of a figure among the rows of one class: the
// greatest recall, or the least of what costs among those that find as much as
// the best within a hundredth. It is false where nobody competes, or all are
// alike.
func best(rows []Row, figure string) (float64, bool) {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.Algorithm == Plain })
	most, alike := math.Inf(-1), true
	for _, r := range rows {
		most = math.Max(most, r.Figures[Recall].Value)
		alike = alike && r.Figures[figure].Value == rows[0].Figures[figure].Value
	}
	if figure == Recall {
		return most, !alike
	}
	least := math.Inf(1)
	for _, r := range rows {
		if r.Figures[Recall].Value >= most-0.01 {
			least = math.Min(least, r.Figures[figure].Value)
		}
	}
	return least, !alike
}
