package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// ErrBadResult is wrapped by errors of files that hold no result.
var ErrBadResult = errors.New("no result of a run")

// A number is a figure in JSON: six digits, null where there is none.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, round(float64(n)), 'f', -1, 64), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*n = number(math.NaN())
		return nil
	}
	x, err := strconv.ParseFloat(string(data), 64)
	if err != nil {
		return fmt.Errorf("%.40q is no number", data)
	}
	*n = number(x)
	return nil
}

// round keeps six digits, so that the last bits of another machine's
// arithmetic do not show.
func round(x float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 6, 64), 64) // of digits just written
	return r
}

// MarshalJSON implements json.Marshaler. What an algorithm gave that is no
// number is written as zero, so that the rest of a long run is not lost.
func (s Sample) MarshalJSON() ([]byte, error) {
	type fields Sample // without this method
	s.Recall, s.Estimated = finite(s.Recall), finite(s.Estimated)
	s.Low, s.High = finite(s.Low), finite(min(s.High, math.MaxFloat64))
	return json.Marshal(fields(s))
}

func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}

// object is the JSON of a run.
type object struct {
	Scenario    string                               `json:"scenario"`
	Description string                               `json:"description,omitempty"`
	Value       string                               `json:"value,omitempty"`
	Partial     bool                                 `json:"partial,omitempty"`
	Why         string                               `json:"why,omitempty"`
	Seed        uint64                               `json:"seed"`
	Seeds       []uint64                             `json:"seeds"`
	UnitMillis  number                               `json:"unit_ms"`
	UnitP99     number                               `json:"unit_p99_ms,omitempty"`
	Intervals   string                               `json:"intervals"`
	Order       []string                             `json:"order"` // of algorithms
	Classes     []string                             `json:"classes"`
	Algorithms  map[string]map[string]map[string]any `json:"algorithms"`
	Engine      engineObject                         `json:"engine"`
	Expect      []Check                              `json:"expect,omitempty"`
	Digest      string                               `json:"digest"` // of all but the engine's speed
	Runs        []Run                                `json:"runs,omitempty"`
}

type engineObject struct {
	Nodes        int     `json:"nodes"`
	Events       uint64  `json:"events"`
	Speed        *number `json:"events_per_second,omitempty"`
	BytesPerNode number  `json:"bytes_per_node"`
}

// Object returns what --json prints of a run: scenario, seed (the first of
// seeds), algorithms → class → figures, engine. Beside the figures stand their
// intervals, the number of queries, and, under "warm", the same of clients
// that asked before.
func (s *Summary) Object() any {
	o := s.object()
	speed := number(s.Engine.Speed)
	o.Engine.Speed = &speed
	return o
}

func (s *Summary) object() *object {
	o := &object{
		Scenario: s.Scenario, Description: s.Description, Value: s.Value, Partial: s.Partial, Why: s.Why, Seeds: s.Seeds,
		UnitMillis: number(s.UnitMillis), UnitP99: number(s.UnitP99Millis), Intervals: s.IntervalOf(), Algorithms: map[string]map[string]map[string]any{}, Digest: s.Digest,
		Engine: engineObject{Nodes: s.Engine.Nodes, Events: s.Engine.Events, BytesPerNode: number(s.Engine.BytesPerNode)},
	}
	if len(s.Seeds) > 0 {
		o.Seed = s.Seeds[0]
	}
	o.Expect = s.Checks
	seen := map[string]bool{}
	for _, r := range s.Rows {
		if o.Algorithms[r.Algorithm] == nil {
			o.Algorithms[r.Algorithm] = map[string]map[string]any{}
			o.Order = append(o.Order, r.Algorithm)
		}
		if !seen[r.Class] {
			seen[r.Class] = true
			o.Classes = append(o.Classes, r.Class)
		}
		figures := r.object()
		if !r.Warm {
			o.Algorithms[r.Algorithm][r.Class] = figures
		} else if cold := o.Algorithms[r.Algorithm][r.Class]; cold != nil {
			cold["warm"] = figures
		} else {
			o.Algorithms[r.Algorithm][r.Class] = map[string]any{"warm": figures}
		}
	}
	for _, name := range o.Order {
		if live := s.report.live(name); len(live) > 0 {
			o.Algorithms[name]["live"] = live
		}
	}
	return o
}

// live returns the figures of an algorithm in a network that changes: means
// over the seeds that have them.
func (r *Report) live(algorithm string) map[string]any {
	if r == nil {
		return nil
	}
	values, out := map[string][]float64{}, map[string]any{}
	for i := range r.Runs {
		if a := r.Runs[i].algorithm(algorithm); a != nil {
			for name, x := range a.Live {
				values[name] = append(values[name], x)
			}
		}
	}
	for name, xs := range values {
		out[name] = number(mean(xs).Value)
	}
	return out
}

func (r Row) object() map[string]any {
	intervals := map[string][2]number{}
	out := map[string]any{"queries": r.Queries, "interval": intervals}
	for _, name := range Figures() {
		e := r.Figures[name]
		out[name] = number(e.Value)
		if e.HasInterval() {
			intervals[name] = [2]number{number(e.Low), number(e.High)}
		}
	}
	return out
}

// WriteJSON writes the object and every sample, from which Read restores the
// report. The speed of the engine is left out, so that the same run writes the
// same bytes.
func (r *Report) WriteJSON(w io.Writer) error {
	o := r.Summarise().object()
	o.Runs = r.Runs
	enc := json.NewEncoder(w)
	return enc.Encode(o)
}

// Digest is a SHA-256 over everything but the speed of the engine: equal for
// equal runs.
func (r *Report) Digest() string {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(r); err != nil {
		return "" // NaN among the figures of load or engine
	}
	return hex.EncodeToString(h.Sum(nil))
}

// maxResultBytes bounds a file that is read: two hundred bytes for each of
// five million samples.
const maxResultBytes = 1 << 30

// Read reads what WriteJSON or --json wrote. The report is nil where the file
// has no samples. The error wraps ErrBadResult, or is that of r.
func Read(r io.Reader, name string) (*Summary, *Report, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxResultBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", name, err)
	}
	var o object
	switch err := json.Unmarshal(data, &o); {
	case len(data) > maxResultBytes:
		return nil, nil, fmt.Errorf("%w: %s has more than %d MiB", ErrBadResult, name, maxResultBytes>>20)
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %s: %w: give what xeno-sim run wrote with --out or --json", ErrBadResult, name, err)
	case o.Scenario == "" || o.Algorithms == nil:
		return nil, nil, fmt.Errorf("%w: %s has no scenario and algorithms: give what xeno-sim run wrote with --out or --json", ErrBadResult, name)
	}
	if len(o.Runs) == 0 {
		s, err := o.summary()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", ErrBadResult, name, err)
		}
		return s, nil, nil
	}
	report := &Report{Scenario: o.Scenario, Description: o.Description, Value: o.Value, Partial: o.Partial, Why: o.Why, Runs: o.Runs}
	if err := report.check(); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrBadResult, name, err)
	}
	return report.Summarise(), report, nil
}

// check refuses samples that no run has.
func (r *Report) check() error {
	for _, run := range r.Runs {
		for _, a := range run.Algorithms {
			for _, c := range a.Classes {
				if n := len(c.Load.Cumulated); n != 0 && n != len(Parts()) {
					return fmt.Errorf("%s %s: %d parts of the load, expected %d", a.Name, c.Name, n, len(Parts()))
				}
				for _, s := range c.Samples {
					if s.Latency < 0 || s.Requests < 0 || s.True < 0 {
						return fmt.Errorf("%s %s: a negative sample", a.Name, c.Name)
					}
				}
			}
		}
	}
	return nil
}

// summary restores what an object without samples says.
func (o *object) summary() (*Summary, error) {
	s := &Summary{
		Scenario: o.Scenario, Description: o.Description, Value: o.Value, Partial: o.Partial, Why: o.Why, Seeds: o.Seeds,
		UnitMillis: float64(o.UnitMillis), UnitP99Millis: float64(o.UnitP99), Digest: o.Digest, Checks: o.Expect,
		Engine: Engine{Nodes: o.Engine.Nodes, Events: o.Engine.Events, BytesPerNode: float64(o.Engine.BytesPerNode)},
	}
	if len(s.Seeds) == 0 {
		s.Seeds = []uint64{o.Seed}
	}
	for _, class := range o.Classes {
		for _, warm := range []bool{false, true} {
			for _, algorithm := range o.Order {
				figures := o.Algorithms[algorithm][class]
				if warm {
					figures, _ = figures["warm"].(map[string]any)
				}
				if figures == nil || figures[FactorP50] == nil && figures[RequestsP50] == nil {
					continue
				}
				s.Rows = append(s.Rows, restore(algorithm, class, warm, figures))
			}
		}
	}
	if len(s.Rows) == 0 {
		return nil, errors.New("no algorithm has figures of a class")
	}
	return s, nil
}

// restore reads the figures of one class.
func restore(algorithm, class string, warm bool, figures map[string]any) Row {
	row := Row{Algorithm: algorithm, Class: class, Warm: warm, Figures: map[string]Estimate{}}
	if n, ok := figures["queries"].(float64); ok {
		row.Queries = int(n)
	}
	intervals, _ := figures["interval"].(map[string]any)
	for _, name := range Figures() {
		e := bare(math.NaN())
		if x, ok := figures[name].(float64); ok {
			e.Value = x
		}
		if ends, ok := intervals[name].([]any); ok && len(ends) == 2 {
			low, okLow := ends[0].(float64)
			high, okHigh := ends[1].(float64)
			if okLow && okHigh {
				e.Low, e.High = low, high
			}
		}
		row.Figures[name] = e
	}
	return row
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
