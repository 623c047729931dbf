package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/trial"
)

// A Key is one key of a scenario, for people who write one.
type Key struct {
	Name    string // with its table: "network.nodes"
	Kind    string // what its value is, with bounds
	Default string // as it is written in the file
	Meaning string // with unit
}

// Keys returns every key in the order of a file, but those of [expect].
func Keys() []Key {
	s := Default()
	out := make([]Key, 0, len(keys()))
	for _, k := range keys() {
		out = append(out, Key{Name: k.name, Kind: k.kind, Default: k.get(&s), Meaning: k.meaning})
	}
	return out
}

// A key is how one key is read and written.
type key struct {
	name, meaning string
	value
}

// A value reads and shows one field of a scenario.
type value struct {
	kind string
	set  func(s *Scenario, v any) error // error: what to write instead
	get  func(s *Scenario) string
	path bool // names a file
}

// keys lists all but those of [expect]. Two keys may set one field.
func keys() []key {
	return slices.Concat(headKeys(), networkKeys(), marketKeys(), queryKeys(), churnKeys(), []key{
		{"sweep.parameter", "the key that takes the values below, one run each, in `xeno-sim sweep`", text(func(s *Scenario) *string { return &s.Sweep.Parameter }, 100)},
		{"sweep.values", "its values", value{kind: "list of values", set: setSweep, get: func(*Scenario) string { return "[]" }}},
	})
}

func headKeys() []key {
	return []key{
		{"name", "what tables call it; the file's name otherwise", text(func(s *Scenario) *string { return &s.Name }, 60)},
		{"description", "what it shows", text(func(s *Scenario) *string { return &s.Description }, 2000)},
		{"seed", "of everything random; instead of seeds", value{kind: "integer ≥ 0", set: setSeed, get: func(*Scenario) string { return "" }}},
		{"seeds", "one repetition each; confidence intervals are over them", value{kind: "list of integers ≥ 0", set: setSeeds, get: func(*Scenario) string { return "[1]" }}},
		{"algorithms", "what is compared", list(func(s *Scenario) *[]string { return &s.Algorithms }, Algorithms())},
	}
}

func networkKeys() []key {
	return []key{
		{"network.nodes", "participants, each of which is a server of the market, too", integer(func(s *Scenario) *int { return &s.Network.Nodes }, 2, maxNodes)},
		{"network.latency", "`cities`, or the path of a matrix: a row of milliseconds a line", file(func(s *Scenario) *string { return &s.Network.Latency })},
		{"network.jitter", "standard deviation of the logarithm of each message's delay", number(func(s *Scenario) *float64 { return &s.Network.Jitter }, 0, 2)},
		{"network.loss", "part of messages that are lost, each way", number(func(s *Scenario) *float64 { return &s.Network.Loss }, 0, 0.9)},
		{"network.unreachable", "part of nodes that stand in routing tables and never answer", number(func(s *Scenario) *float64 { return &s.Network.Unreachable }, 0, 0.9)},
		{"network.slow", "part of nodes with a slow link", number(func(s *Scenario) *float64 { return &s.Network.Slow }, 0, 1)},
		{"network.slow_by", "what a slow link adds to a round trip", duration(func(s *Scenario) *time.Duration { return &s.Network.SlowBy }, time.Millisecond, 500*time.Millisecond)},
		{"network.timeout", "when a request without an answer has failed", duration(func(s *Scenario) *time.Duration { return &s.Network.Timeout }, 10*time.Millisecond, 10*time.Minute)},
		{"network.handshakes", "whether a first contact takes three round trips instead of one", flag(func(s *Scenario) *bool { return &s.Network.Handshakes })},
		{"network.tables", "routing tables: `derived` from the seed when asked for, or `maintained` in memory, and repaired, as Kademlia does", choice(
			func(s *Scenario, v string) { s.Network.Maintained = v == "maintained" },
			func(s *Scenario) string {
				return map[bool]string{false: "derived", true: "maintained"}[s.Network.Maintained]
			}, "derived", "maintained")},
		{"network.leaf", "ads that a leaf cell of Xeno holds; 0: production's 1,024", integer(func(s *Scenario) *int { return &s.Network.Leaf }, 0, search.LeafAds)},
	}
}

func marketKeys() []key {
	return []key{
		{"market.types", "path of a CSV of machine types; empty: built in", file(func(s *Scenario) *string { return &s.Market.Types })},
		{"market.zipf", "exponent of how popular the types are; 0: all alike", number(func(s *Scenario) *float64 { return &s.Market.Zipf }, 0, 3)},
		{"market.price_noise", "standard deviation of the logarithm of prices around their type's", number(func(s *Scenario) *float64 { return &s.Market.PriceNoise }, 0, 2)},
		{"market.diurnal", "how much of a server's load follows the hour of its place", number(func(s *Scenario) *float64 { return &s.Market.Diurnal }, 0, 1)},
		{"market.drift", "changes of dynamic attributes, per server and minute", number(func(s *Scenario) *float64 { return &s.Market.Drift }, 0, 60)},
		{"market.owners", "how many owners the servers have; 0: one for four servers", integer(func(s *Scenario) *int { return &s.Market.Owners }, 0, maxNodes)},
	}
}

func queryKeys() []key {
	return []key{
		{"queries.count", "queries of each class", integer(func(s *Scenario) *int { return &s.Queries.Count }, 1, maxQueries)},
		{"queries.classes", "which classes are asked", list(func(s *Scenario) *[]string { return &s.Queries.Classes }, trial.Classes())},
		{"queries.requests", "path of a CSV of requests; empty: generated", file(func(s *Scenario) *string { return &s.Queries.Requests })},
		{"queries.zipf", "exponent of how popular the queries of the pool, or the requests, are; 0: all alike", number(func(s *Scenario) *float64 { return &s.Queries.Zipf }, 0, 3)},
		{"queries.pool", "how many different queries a class has; 0: all differ", integer(func(s *Scenario) *int { return &s.Queries.Pool }, 0, maxQueries)},
		{"queries.warm", "measure clients that asked before, too", flag(func(s *Scenario) *bool { return &s.Queries.Warm })},
		{"queries.verify", "ask the server of every result for its advertisement as of now", flag(func(s *Scenario) *bool { return &s.Queries.Verify })},
		{"queries.budget", "messages after which Xeno ends a query; 0: production's 2,000", integer(func(s *Scenario) *int { return &s.Queries.Budget }, 0, maxBudget)},
		{"queries.limit", "results wanted where not all are", integer(func(s *Scenario) *int { return &s.Queries.Limit }, 1, 1000)},
		{"queries.interval", "mean virtual time between two queries", duration(func(s *Scenario) *time.Duration { return &s.Queries.Interval }, time.Millisecond, time.Hour)},
		{"queries.events", "events after which an algorithm is asked no more queries of a class, at rest; 0: no bound", integer(func(s *Scenario) *int { return &s.Queries.Events }, 0, maxEvents)},
	}
}

func churnKeys() []key {
	return []key{
		{"churn.model", "`none`; `weibull` sessions; a `trace`; a sudden `failure`; a `partition`", choice(
			func(s *Scenario, v string) { s.Churn.Model = v }, func(s *Scenario) string { return s.Churn.Model },
			ChurnNone, ChurnWeibull, ChurnTrace, ChurnFailure, ChurnPartition)},
		{"churn.shape", "of the Weibull distribution of sessions", number(func(s *Scenario) *float64 { return &s.Churn.Shape }, 0.1, 10)},
		{"churn.scale", "of the same; the defaults end half of the sessions within 2 h", duration(func(s *Scenario) *time.Duration { return &s.Churn.Scale }, time.Second, 10_000*time.Hour)},
		{"churn.trace", "path of a CSV of lines `seconds,node,up` or `seconds,node,down`", file(func(s *Scenario) *string { return &s.Churn.TraceFile })},
		{"churn.fail", "part of nodes that die at once, or are cut off", number(func(s *Scenario) *float64 { return &s.Churn.Fail }, 0, 0.95)},
		{"churn.at", "when, from the first query", duration(func(s *Scenario) *time.Duration { return &s.Churn.At }, 0, 1000*time.Hour)},
		{"churn.heal", "when they are back, from the first query; 0: never", duration(func(s *Scenario) *time.Duration { return &s.Churn.Heal }, 0, 1000*time.Hour)},
		{"churn.duration", "how long churn goes on, from the first query; 0: until the last answer", duration(func(s *Scenario) *time.Duration { return &s.Churn.Duration }, 0, 1000*time.Hour)},
	}
}

func keyNames() []string {
	var names []string
	for _, k := range keys() {
		names = append(names, k.name)
	}
	return names
}

func findKey(name string) (key, bool) {
	for _, k := range keys() {
		if k.name == name {
			return k, true
		}
	}
	return key{}, false
}

func integer(field func(*Scenario) *int, low, high int) value {
	return value{
		kind: fmt.Sprintf("integer, %d to %d", low, high),
		set: func(s *Scenario, v any) error {
			n, ok := v.(int64)
			if !ok || n < int64(low) || n > int64(high) {
				return fmt.Errorf("give an integer from %d to %d", low, high)
			}
			*field(s) = int(n)
			return nil
		},
		get: func(s *Scenario) string { return fmt.Sprint(*field(s)) },
	}
}

func number(field func(*Scenario) *float64, low, high float64) value {
	return value{
		kind: fmt.Sprintf("number, %g to %g", low, high),
		set: func(s *Scenario, v any) error {
			x := math.NaN()
			switch v := v.(type) {
			case int64:
				x = float64(v)
			case float64:
				x = v
			}
			if !(x >= low && x <= high) {
				return fmt.Errorf("give a number from %g to %g", low, high)
			}
			*field(s) = x
			return nil
		},
		get: func(s *Scenario) string { return fmt.Sprint(*field(s)) },
	}
}

func duration(field func(*Scenario) *time.Duration, low, high time.Duration) value {
	return value{
		kind: fmt.Sprintf("duration, %s to %s", brief(low), brief(high)),
		set: func(s *Scenario, v any) error {
			text, ok := v.(string)
			d, err := time.ParseDuration(text)
			if !ok || err != nil || d < low || d > high {
				return fmt.Errorf(`give a duration from "%s" to "%s", in quotes and with its unit: ms, s, m, h`, brief(low), brief(high))
			}
			*field(s) = d
			return nil
		},
		get: func(s *Scenario) string { return fmt.Sprintf("%q", brief(*field(s))) },
	}
}

// brief prints a duration without the zeros at its end.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func text(field func(*Scenario) *string, most int) value {
	return value{
		kind: "text",
		set: func(s *Scenario, v any) error {
			t, ok := v.(string)
			if !ok || len(t) > most {
				return fmt.Errorf("give a text in quotes of at most %d bytes", most)
			}
			*field(s) = t
			return nil
		},
		get: func(s *Scenario) string { return fmt.Sprintf("%q", *field(s)) },
	}
}

func file(field func(*Scenario) *string) value {
	v := text(field, 4096)
	v.kind, v.path = "path", true
	return v
}

func flag(field func(*Scenario) *bool) value {
	return value{
		kind: "true or false",
		set: func(s *Scenario, v any) error {
			b, ok := v.(bool)
			if !ok {
				return errors.New("give true or false, without quotes")
			}
			*field(s) = b
			return nil
		},
		get: func(s *Scenario) string { return fmt.Sprint(*field(s)) },
	}
}

func choice(set func(*Scenario, string), get func(*Scenario) string, of ...string) value {
	return value{
		kind: "text",
		set: func(s *Scenario, v any) error {
			t, ok := v.(string)
			if !ok || !slices.Contains(of, t) {
				return fmt.Errorf(`give one of "%s"`, strings.Join(of, `", "`))
			}
			set(s, t)
			return nil
		},
		get: func(s *Scenario) string { return fmt.Sprintf("%q", get(s)) },
	}
}

func list(field func(*Scenario) *[]string, of []string) value {
	return value{
		kind: "list of texts",
		set: func(s *Scenario, v any) error {
			all, ok := v.([]any)
			if !ok || len(all) == 0 {
				return fmt.Errorf(`give a list of some of "%s"`, strings.Join(of, `", "`))
			}
			var out []string
			for _, e := range all {
				name, ok := e.(string)
				switch {
				case !ok || !slices.Contains(of, name):
					return fmt.Errorf(`%s is none of "%s"%s`, show(e), strings.Join(of, `", "`), suggest(name, of))
				case slices.Contains(out, name):
					return fmt.Errorf("%q is there twice: leave one out", name)
				}
				out = append(out, name)
			}
			*field(s) = out
			return nil
		},
		get: func(s *Scenario) string { return "all: " + strings.Join(*field(s), ", ") },
	}
}

func setSeed(s *Scenario, v any) error {
	n, ok := v.(int64)
	if !ok || n < 0 {
		return errors.New("give an integer that is not negative")
	}
	s.Seeds = []uint64{uint64(n)}
	return nil
}

func setSeeds(s *Scenario, v any) error {
	all, ok := v.([]any)
	if !ok || len(all) == 0 || len(all) > maxSeeds {
		return fmt.Errorf("give a list of 1 to %d integers", maxSeeds)
	}
	var out []uint64
	for _, e := range all {
		n, ok := e.(int64)
		switch {
		case !ok || n < 0:
			return fmt.Errorf("%s is no integer that is not negative", show(e))
		case slices.Contains(out, uint64(n)):
			return fmt.Errorf("%d is there twice: a repetition needs a seed of its own", n)
		}
		out = append(out, uint64(n))
	}
	s.Seeds = out
	return nil
}

func setSweep(s *Scenario, v any) error {
	all, ok := v.([]any)
	if !ok || len(all) < 2 || len(all) > maxSweep {
		return fmt.Errorf("give a list of 2 to %d values", maxSweep)
	}
	for i, e := range all {
		if slices.ContainsFunc(all[:i], func(o any) bool { return show(o) == show(e) }) {
			return fmt.Errorf("%s is there twice: leave one out", show(e))
		}
	}
	s.Sweep.Values = all
	return nil
}
