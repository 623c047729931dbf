package sim

import (
	"fmt"
	"math"

	"github.com/xenoserver/xeno/sim/report"
)

// Verify compares what came of a run, or of every value of a sweep in turn,
// with what the scenario expects.
func (s *Scenario) Verify(all ...*report.Summary) []report.Check {
	var out []report.Check
	if len(all) == 0 {
		return nil
	}
	for _, e := range s.Expect {
		if e.Sweep {
			if len(all) > 1 {
				first, last := e.figure(all[0]), e.figure(all[len(all)-1])
				out = append(out, e.check("", last/first))
			}
			continue
		}
		for _, r := range all {
			prefix := ""
			if r.Value != "" {
				prefix = r.Value + ": "
			}
			out = append(out, e.check(prefix, e.figure(r)))
		}
	}
	return out
}

func (e Expectation) figure(s *report.Summary) float64 {
	return s.Figure(e.Algorithm, e.Class, e.Warm, e.Figure).Value
}

func (e Expectation) check(prefix string, got float64) report.Check {
	if math.IsInf(got, 0) {
		got = math.NaN()
	}
	return report.Check{Text: prefix + e.String(), Got: got, OK: e.Holds(got)}
}

// Title says which value a point of the sweep has: "network.nodes = 1000".
func (s *Scenario) Title(i int) string {
	return fmt.Sprintf("%s = %s", s.Sweep.Parameter, show(s.Sweep.Values[i]))
}
