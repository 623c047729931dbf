package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xenoserver/xeno/sim/rival"
	"github.com/xenoserver/xeno/sim/trial"
)

// A Scenario says what is simulated, and what is asked. Load and Parse make
// one that is in order; Check looks at one that was changed since. The keys of
// the file, with units and defaults, are those of Keys.
type Scenario struct {
	Name        string
	Description string
	// Seeds are of one repetition each; the confidence intervals are over them.
	Seeds      []uint64
	Algorithms []string
	Network    Network
	Market     Market
	Queries    Queries
	Churn      Churn
	Sweep      Sweep // without Parameter: there is none
	Expect     []Expectation
	// Clock tells the time since some moment, for the speed of the engine and
	// Progress.Elapsed; nil: both are zero. No other figure depends on it.
	Clock func() time.Duration

	given map[string]any   // what the file says, by key
	pos   map[string]place // where it says so
	file  string           // for errors
	dir   string           // that paths begin at
}

// Network describes the overlay.
type Network struct {
	Nodes int
	// Latency is Cities or the path of a matrix.
	Latency string
	// Jitter is the standard deviation of the logarithm of a message's delay.
	Jitter float64
	// Loss is the part of messages that are lost, each way.
	Loss float64
	// Unreachable is the part of nodes in routing tables that never answer.
	Unreachable float64
	// Slow is the part of nodes whose link adds SlowBy to every round trip.
	Slow   float64
	SlowBy time.Duration
	// Timeout is when a request has failed.
	Timeout time.Duration
	// Maintained keeps routing tables in memory instead of deriving them.
	Maintained bool
	// Handshakes lets first contacts wait for their connections.
	Handshakes bool
	// Leaf is how many ads a leaf cell of Xeno holds; 0 means production's. Fewer
	// let the index of a small network have as many levels as that of a large one.
	Leaf int
}

// Cities is the latency model that is built in.
const Cities = "cities"

// Market describes what servers offer.
type Market struct {
	// Types is the path of a CSV of machine types; empty: built in.
	Types string
	// Zipf is the exponent of how popular the types are.
	Zipf float64
	// PriceNoise is the standard deviation of the logarithm of a price.
	PriceNoise float64
	// Diurnal is how much of a server's load follows its day, 0 to 1.
	Diurnal float64
	// Drift is how often a server's dynamic attributes change, a minute.
	Drift float64
	// Owners is how many there are; zero: one for four servers.
	Owners int
}

// Queries describes what is asked.
type Queries struct {
	// Count is the number of queries of each class.
	Count   int
	Classes []string
	// Requests is the path of a CSV of requests; empty: generated.
	Requests string
	// Zipf is the exponent of how popular the queries of the pool are.
	Zipf float64
	// Pool is how many different queries a class has; zero: all differ.
	Pool int
	// Warm measures clients that asked before, too.
	Warm bool
	// Verify asks every result's server for its advertisement as of now.
	Verify bool
	// Budget is after how many messages Xeno ends a query; 0 means production's.
	Budget int
	Limit  int
	// Interval is the mean virtual time between two queries.
	Interval time.Duration
	// Events bounds what one algorithm does for one class, in events: who takes
	// more is asked no further queries. Zero: no bound.
	Events int
}

// Churn describes who comes and goes.
type Churn struct {
	Model string // one of the Churn constants
	// Shape and Scale are of the Weibull distribution of sessions.
	Shape float64
	Scale time.Duration
	// Trace is what happens, in order of time, as TraceFile has it.
	Trace     []Transition
	TraceFile string
	// Fail is the part of nodes that die, or are cut off.
	Fail float64
	// At is when, and Heal when they are back; zero: never.
	At, Heal time.Duration
	// Duration is how long churn goes on; zero: until the last answer.
	Duration time.Duration
}

// Models of churn.
const (
	ChurnNone      = "none"
	ChurnWeibull   = "weibull"
	ChurnTrace     = "trace"
	ChurnFailure   = "failure"
	ChurnPartition = "partition"
)

// A Sweep is one parameter that takes several values, a run each.
type Sweep struct {
	Parameter string // "network.nodes"
	Values    []any  // as TOML has them: int64, float64, string, bool
}

// Algorithms returns the names of all algorithms, in the order of tables.
func Algorithms() []string {
	return append([]string{algorithmXeno}, rival.Names()...)
}

// Default returns a scenario with every default, and no name.
func Default() Scenario {
	return Scenario{
		Seeds:      []uint64{1},
		Algorithms: Algorithms(),
		Network:    Network{Nodes: 1000, Latency: Cities, Jitter: 0.05, SlowBy: 200 * time.Millisecond, Timeout: 2 * time.Second},
		Market:     Market{Zipf: 1, PriceNoise: 0.2},
		Queries:    Queries{Count: 100, Classes: trial.Classes(), Limit: 10, Interval: time.Second},
		Churn:      Churn{Model: ChurnNone, Shape: 0.61, Scale: 219 * time.Minute},
		given:      map[string]any{},
		pos:        map[string]place{},
	}
}

// Set gives a key, such as "network.nodes", another value, of the types that
// TOML has. The scenario is unchanged where that is an error. Contradictions
// between keys are found by Check.
func (s *Scenario) Set(name string, value any) error {
	k, ok := findKey(name)
	if !ok {
		return fmt.Errorf("unknown key %s%s", name, suggest(name, keyNames()))
	}
	if err := k.set(s, value); err != nil {
		return fmt.Errorf("%s is %s: %w", name, show(value), err)
	}
	s.given = maps.Clone(s.given)
	s.given[name] = value
	return nil
}

// Override is Set for a flag of the command line; paths begin at the current
// directory. What the scenario expects of algorithms and classes that are left
// out goes, and all of it where another size or setting makes other figures.
func (s *Scenario) Override(name string, value any) error {
	if err := s.Set(name, value); err != nil {
		return err
	}
	if k, _ := findKey(name); k.path {
		if err := s.locate(k, value.(string), "."); err != nil { // Set saw a text
			return err
		}
	}
	switch name {
	case "seed", "seeds":
		s.given = maps.Clone(s.given)
		delete(s.given, map[string]string{"seed": "seeds", "seeds": "seed"}[name])
	case "algorithms", "queries.classes":
		s.Hold(s.Expect)
	default:
		s.Expect = nil
	}
	return nil
}

// Hold sets the expectations: those of expect whose algorithms and classes run.
func (s *Scenario) Hold(expect []Expectation) {
	s.Expect = slices.DeleteFunc(slices.Clone(expect), func(e Expectation) bool {
		return e.Algorithm != "" && (!slices.Contains(s.Algorithms, e.Algorithm) || !slices.Contains(s.Queries.Classes, e.Class)) ||
			e.Warm && !s.Queries.Warm
	})
}

// Points returns the scenarios of the sweep, one for each value, or the error
// that Check returns for one of them. Their names are that of the whole.
func (s *Scenario) Points() ([]Scenario, error) {
	points := make([]Scenario, 0, len(s.Sweep.Values))
	for i := range s.Sweep.Values {
		p, err := s.point(i)
		if err == nil {
			err = p.Check()
		}
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

// point returns the scenario of one value of the sweep, unchecked. What it
// expects of the sweep as a whole is left out.
func (s *Scenario) point(i int) (Scenario, error) {
	p := *s
	p.Sweep = Sweep{}
	p.Expect = slices.DeleteFunc(slices.Clone(s.Expect), func(e Expectation) bool { return e.Sweep })
	if err := p.Set(s.Sweep.Parameter, s.Sweep.Values[i]); err != nil {
		return p, s.errorAt("sweep.values", "%v", err)
	}
	return p, nil
}

// show prints a value of TOML for people.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = show(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		return "a table"
	default:
		return fmt.Sprint(v)
	}
}
