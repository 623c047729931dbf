package sim

import (
	"fmt"
	"slices"
	"strings"
)

// Check looks for contradictions, after flags changed a scenario. The error
// wraps ErrBadScenario and names all of them.
func (s *Scenario) Check() error {
	var found mistakes
	found.add(s.checkHead())
	found.add(s.checkQueries())
	found.add(s.checkChurn())
	found.add(s.checkSweep())
	for _, e := range s.Expect {
		if err := s.checkExpectation(e); err != nil {
			found.add(s.errorAt("expect."+e.key(), "%v", err))
		}
	}
	return found.err()
}

func (s *Scenario) has(name string) bool {
	_, ok := s.given[name]
	return ok
}

func (s *Scenario) checkHead() error {
	var found mistakes
	if s.has("seed") && s.has("seeds") {
		found.add(s.errorAt("seed", "seed contradicts seeds: leave one out"))
	}
	if s.has("network.slow_by") && s.Network.Slow == 0 {
		found.add(s.errorAt("network.slow_by", "network.slow_by without slow nodes: give network.slow, the part of nodes that are slow"))
	}
	if s.Market.Owners > s.Network.Nodes {
		found.add(s.errorAt("market.owners", "market.owners is %d for %d nodes: give at most one for each", s.Market.Owners, s.Network.Nodes))
	}
	if s.Network.Latency == "" {
		found.add(s.errorAt("network.latency", `network.latency is empty: give %q or the path of a matrix`, Cities))
	}
	return found.err()
}

func (s *Scenario) checkQueries() error {
	q := s.Queries
	var found mistakes
	if q.Zipf > 0 && q.Pool == 0 && q.Requests == "" {
		found.add(s.errorAt("queries.zipf", "queries.zipf without popular queries: give queries.pool, how many different ones there are, or queries.requests"))
	}
	if q.Pool > 0 && q.Requests != "" {
		found.add(s.errorAt("queries.pool", "queries.pool contradicts queries.requests, which is the pool: leave one out"))
	}
	return found.err()
}

// churnKeysOf says which keys belong to a model, besides model itself.
func churnKeysOf(model string) []string {
	switch model {
	case ChurnWeibull:
		return []string{"churn.shape", "churn.scale", "churn.duration"}
	case ChurnTrace:
		return []string{"churn.trace", "churn.duration"}
	case ChurnFailure, ChurnPartition:
		return []string{"churn.fail", "churn.at", "churn.heal", "churn.duration"}
	default:
		return nil
	}
}

func (s *Scenario) checkChurn() error {
	c := s.Churn
	var found mistakes
	may := churnKeysOf(c.Model)
	for _, k := range churnKeys() {
		if k.name == "churn.model" || !s.has(k.name) || slices.Contains(may, k.name) {
			continue
		}
		remedy := "leave it out"
		for _, m := range []string{ChurnWeibull, ChurnTrace, ChurnFailure, ChurnPartition} {
			if slices.Contains(churnKeysOf(m), k.name) {
				remedy = fmt.Sprintf("leave it out, or set churn.model = %q", m)
				break
			}
		}
		found.add(s.errorAt(k.name, "%s does not belong to the churn model %q: %s", k.name, c.Model, remedy))
	}
	switch c.Model {
	case ChurnTrace:
		if c.TraceFile == "" {
			found.add(s.errorAt("churn.model", "churn model trace without a trace: give churn.trace, the path of a CSV"))
		}
		for _, t := range c.Trace {
			if int(t.Node) >= s.Network.Nodes {
				found.add(s.errorAt("churn.trace", "the trace has node %d, the network nodes 0 to %d: raise network.nodes or shorten the trace", t.Node, s.Network.Nodes-1))
				break
			}
		}
	case ChurnFailure, ChurnPartition:
		found.add(s.checkFailure())
	}
	return found.err()
}

func (s *Scenario) checkFailure() error {
	c := s.Churn
	var found mistakes
	if c.Fail == 0 {
		found.add(s.errorAt("churn.model", "churn model %s that concerns no node: give churn.fail, a part above 0", c.Model))
	}
	if c.Heal > 0 && c.Heal <= c.At {
		found.add(s.errorAt("churn.heal", "churn.heal at %s is not after churn.at, %s: both count from the first query", brief(c.Heal), brief(c.At)))
	}
	if last := max(c.At, c.Heal); c.Duration > 0 && c.Duration < last {
		found.add(s.errorAt("churn.duration", "churn.duration %s ends before %s: make it longer, or leave it out", brief(c.Duration), brief(last)))
	}
	return found.err()
}

// checkSweep looks whether a scenario is in order with each value.
func (s *Scenario) checkSweep() error {
	w := s.Sweep
	switch {
	case w.Parameter == "" && len(w.Values) == 0:
		return nil
	case w.Parameter == "":
		return s.errorAt("sweep.values", "sweep.values without sweep.parameter: give the key that takes them")
	case len(w.Values) == 0:
		return s.errorAt("sweep.parameter", "sweep.parameter without sweep.values: give a list of values")
	}
	k, ok := findKey(w.Parameter)
	table, _, _ := strings.Cut(w.Parameter, ".")
	if !ok || k.path || !slices.Contains([]string{"network", "market", "queries", "churn"}, table) || w.Parameter == "queries.classes" {
		return s.errorAt("sweep.parameter", "sweep.parameter is %q: give a key of [network], [market], [queries] or [churn] that is no path or list%s",
			w.Parameter, suggest(w.Parameter, keyNames()))
	}
	for i := range w.Values {
		p, err := s.point(i)
		if err != nil {
			return err
		}
		if err := p.Check(); err != nil {
			return s.errorAt("sweep.values", "with %s = %s: %v", w.Parameter, show(w.Values[i]), err)
		}
	}
	return nil
}
