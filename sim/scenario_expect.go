package sim

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/xenoserver/xeno/sim/report"
	"github.com/xenoserver/xeno/sim/trial"
)

// An Expectation is a bound on one figure of a report. Its key is
// "xeno.needle.requests_p50", "xeno.needle.warm.requests_p50" for clients that
// asked before, "engine.bytes_per_node", or any of them after "sweep.": then
// it bounds the ratio of the last value of the sweep to the first. A window of
// virtual time may follow the figure: "xeno.broad.recall@30s-2m".
type Expectation struct {
	Sweep     bool
	Algorithm string // empty: of the engine
	Class     string
	Warm      bool
	Figure    string
	Op        string // <, <=, >, >= or ==
	Bound     float64
}

// key is what the file calls it.
func (e Expectation) key() string {
	parts := []string{"engine", e.Figure}
	if e.Algorithm != "" {
		parts = []string{e.Algorithm, e.Class, e.Figure}
		if e.Warm {
			parts = []string{e.Algorithm, e.Class, "warm", e.Figure}
		}
	}
	if e.Sweep {
		parts = append([]string{"sweep"}, parts...)
	}
	return strings.Join(parts, ".")
}

// String is the expectation as the file has it: "xeno.needle.recall >= 1".
func (e Expectation) String() string {
	return fmt.Sprintf("%s %s %s", e.key(), e.Op, strconv.FormatFloat(e.Bound, 'g', -1, 64))
}

// Holds tells whether a figure is as expected. NaN never is.
func (e Expectation) Holds(x float64) bool {
	switch e.Op {
	case "<":
		return x < e.Bound
	case "<=":
		return x <= e.Bound
	case ">":
		return x > e.Bound
	case ">=":
		return x >= e.Bound
	default:
		return x == e.Bound
	}
}

// parseExpectation reads one line of [expect].
func parseExpectation(name string, v any) (e Expectation, err error) {
	rest := name
	rest, e.Sweep = strings.CutPrefix(rest, "sweep.")
	parts := strings.Split(rest, ".")
	switch {
	case len(parts) == 2 && parts[0] == "engine":
		e.Figure = parts[1]
	case len(parts) == 3:
		e.Algorithm, e.Class, e.Figure = parts[0], parts[1], parts[2]
	case len(parts) == 4 && parts[2] == "warm":
		e.Algorithm, e.Class, e.Warm, e.Figure = parts[0], parts[1], true, parts[3]
	default:
		return e, fmt.Errorf(`%q names no figure: write "algorithm.class.figure", "algorithm.class.warm.figure" or "engine.figure"`, name)
	}
	text, _ := v.(string)
	fields := strings.Fields(text)
	if len(fields) != 2 || !slices.Contains([]string{"<", "<=", ">", ">=", "=="}, fields[0]) {
		return e, fmt.Errorf(`%s is expected to be %s: give a text with a comparison and a number, such as "<= 40"`, name, show(v))
	}
	e.Op = fields[0]
	e.Bound, err = strconv.ParseFloat(fields[1], 64)
	if err != nil || math.IsNaN(e.Bound) || math.IsInf(e.Bound, 0) {
		return e, fmt.Errorf(`%s is compared with %q, which is no number: write as in "<= 40"`, name, fields[1])
	}
	return e, nil
}

// checkExpectation looks whether the run will have such a figure.
func (s *Scenario) checkExpectation(e Expectation) error {
	known := report.Figures()
	figure, _, windowed, err := report.CutWindow(e.Figure)
	if e.Algorithm == "" {
		known, figure, err = report.EngineFigures(), e.Figure, nil
	}
	switch {
	case e.Sweep && s.Sweep.Parameter == "":
		return fmt.Errorf("%s is about a sweep: add [sweep], or leave out %q", e.key(), "sweep.")
	case e.Algorithm != "" && !slices.Contains(Algorithms(), e.Algorithm):
		return fmt.Errorf("%s: no algorithm is called %q%s", e.key(), e.Algorithm, suggest(e.Algorithm, s.Algorithms))
	case e.Algorithm != "" && !slices.Contains(trial.Classes(), e.Class):
		return fmt.Errorf("%s: no class is called %q%s", e.key(), e.Class, suggest(e.Class, trial.Classes()))
	case e.Algorithm != "" && !slices.Contains(s.Algorithms, e.Algorithm):
		return fmt.Errorf("%s: the algorithm does not run: add %q to algorithms, which are %s", e.key(), e.Algorithm, strings.Join(s.Algorithms, ", "))
	case e.Algorithm != "" && !slices.Contains(s.Queries.Classes, e.Class):
		return fmt.Errorf("%s: the class is not asked: add %q to queries.classes, which are %s", e.key(), e.Class, strings.Join(s.Queries.Classes, ", "))
	case err != nil:
		return fmt.Errorf("%s: %w", e.key(), err)
	case !slices.Contains(known, figure):
		return fmt.Errorf("%s: no figure is called %q%s: there are %s", e.key(), figure, suggest(figure, known), strings.Join(known, ", "))
	case windowed && (figure == report.LoadMaxShare || figure == report.Refresh):
		return fmt.Errorf("%s: %s is of the whole time: leave %q and what follows out", e.key(), figure, "@")
	case e.Warm && !s.Queries.Warm:
		return fmt.Errorf("%s: warm clients are not measured: set queries.warm = true", e.key())
	}
	return nil
}
