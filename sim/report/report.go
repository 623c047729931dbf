// Package report holds what came of a simulation and shows it: one JSON object,
// tables for terminals and Markdown, CSV, pictures, and one self-contained HTML
// page. The same report gives the same bytes, whenever and wherever; only
// Engine.Speed depends on the machine, and only JSON has it.
package report

import (
	"math"
	"slices"
	"time"
)

// A Report is what came of a scenario: a run for each seed.
type Report struct {
	Scenario    string `json:"scenario"`
	Description string `json:"description,omitempty"`
	// Value is what the parameter of a sweep was: "network.nodes = 1000".
	Value string `json:"value,omitempty"`
	// Partial marks a run that did not come to its end, and Why says why.
	Partial bool   `json:"partial,omitempty"`
	Why     string `json:"why,omitempty"`
	Runs    []Run  `json:"runs"`
}

// A Run is one repetition. Those of a report have the same algorithms and
// classes in the same order, but the last where the report is partial.
type Run struct {
	Seed uint64 `json:"seed"`
	// Unit is the median latency of a plain lookup, the unit of latency factors.
	Unit time.Duration `json:"unit"`
	// UnitP99 is the 99th percentile of the same lookups; 0 in results of before
	// it was kept.
	UnitP99    time.Duration `json:"unit_p99,omitempty"`
	Engine     Engine        `json:"engine"`
	Algorithms []Algorithm   `json:"algorithms"`
}

// Engine is what the simulator itself did.
type Engine struct {
	Nodes        int     `json:"nodes"`
	Events       uint64  `json:"events"`
	Speed        float64 `json:"-"` // events a second of the machine's time; 0: not measured
	BytesPerNode float64 `json:"bytes_per_node"`
}

// An Algorithm is what came of one algorithm.
type Algorithm struct {
	Name string `json:"name"`
	// Refresh is how many messages a server sends in a minute to renew its advertisement.
	Refresh float64 `json:"messages_per_refresh"`
	// Live has figures of a network that changes, by the names below.
	Live    map[string]float64 `json:"live,omitempty"`
	Classes []Class            `json:"classes"`
}

// A Class is the queries of one class, by clients that never asked before or
// by those that did.
type Class struct {
	Name    string   `json:"name"`
	Warm    bool     `json:"warm,omitempty"`
	Samples []Sample `json:"samples"`
	Load    Load     `json:"load"`
}

// A Sample is one query.
type Sample struct {
	At        time.Duration `json:"at"`      // asked, in virtual time since the first query
	Latency   time.Duration `json:"latency"` // to the answer
	Requests  int           `json:"requests"`
	Recall    float64       `json:"recall"`    // 0 to 1, against the oracle; of counts, 1
	Estimated float64       `json:"estimated"` // how many match, says the answer
	Low       float64       `json:"low"`       // between which that lies, says the answer, where Bounded
	High      float64       `json:"high"`
	Bounded   bool          `json:"bounded,omitempty"`
	True      int           `json:"true"`     // and the oracle
	Complete  bool          `json:"complete"` // the answer says it is
}

// Load says how the messages of a class's queries fell on the nodes.
type Load struct {
	Messages uint64  `json:"messages"` // received in all
	Max      uint32  `json:"max"`      // by the hottest node
	MaxShare float64 `json:"max_share"`
	// Cumulated is the share of messages that the hottest nodes received, at
	// each of Parts.
	Cumulated []float64 `json:"cumulated"`
}

// Parts are the parts of all nodes, hottest first, at which Load.Cumulated
// says what they received.
func Parts() []float64 {
	return []float64{0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1}
}

// LoadOf summarises how many messages each node received in that many
// queries. The share of the hottest one is its messages a query, at most 1: a
// bound on the part of queries that it had a hand in.
func LoadOf(received []uint32, queries int) Load {
	sorted := slices.Clone(received)
	slices.SortFunc(sorted, func(a, b uint32) int { return int(int64(b) - int64(a)) })
	l := Load{Cumulated: make([]float64, len(Parts()))}
	for _, r := range sorted {
		l.Messages += uint64(r)
	}
	if l.Messages == 0 {
		return l
	}
	l.Max = sorted[0]
	l.MaxShare = min(1, float64(l.Max)/float64(max(1, queries)))
	var sum uint64
	next := 0
	for i, r := range sorted {
		sum += uint64(r)
		for next < len(l.Cumulated) && float64(i+1) >= Parts()[next]*float64(len(sorted)) {
			l.Cumulated[next] = float64(sum) / float64(l.Messages)
			next++
		}
	}
	return l
}

// Factor returns a latency as a multiple of the run's unit.
func (r *Run) Factor(latency time.Duration) float64 {
	if r.Unit <= 0 {
		return 0
	}
	return float64(latency) / float64(r.Unit)
}

// Tail returns a latency as a multiple of the plain lookup's 99th percentile,
// NaN where that is not known.
func (r *Run) Tail(latency time.Duration) float64 {
	if r.UnitP99 <= 0 {
		return math.NaN()
	}
	return float64(latency) / float64(r.UnitP99)
}

// class finds the samples of an algorithm and class in a run.
func (r *Run) class(algorithm, class string, warm bool) *Class {
	for i := range r.Algorithms {
		if a := &r.Algorithms[i]; a.Name == algorithm {
			for j := range a.Classes {
				if c := &a.Classes[j]; c.Name == class && c.Warm == warm {
					return c
				}
			}
		}
	}
	return nil
}

// algorithm finds an algorithm in a run.
func (r *Run) algorithm(name string) *Algorithm {
	for i := range r.Algorithms {
		if r.Algorithms[i].Name == name {
			return &r.Algorithms[i]
		}
	}
	return nil
}
