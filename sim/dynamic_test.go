package sim_test

import (
	"testing"
	"time"

	"github.com/xenoserver/xeno/sim"
	"github.com/xenoserver/xeno/sim/report"
	"github.com/xenoserver/xeno/sim/trial"
)

// changing returns a small scenario in which nodes come and go.
func changing(model string) sim.Scenario {
	s := sim.Default()
	s.Name, s.Algorithms = model, []string{"xeno", "central"}
	s.Network.Nodes, s.Market.Drift = 60, 1
	s.Queries.Count, s.Queries.Classes, s.Queries.Verify = 12, []string{trial.Broad, trial.Exhaustive}, true
	s.Queries.Interval = 5 * time.Second
	s.Churn.Model = model
	switch model {
	case sim.ChurnFailure, sim.ChurnPartition:
		s.Churn.Fail, s.Churn.At, s.Churn.Heal = 0.3, 20*time.Second, 40*time.Second
	case sim.ChurnTrace:
		s.Churn.Trace = []sim.Transition{{At: 0, Node: 1}, {At: 10 * time.Second, Node: 2, Up: true}, {At: 20 * time.Second, Node: 1, Up: true}}
	case sim.ChurnWeibull:
		s.Churn.Scale = 10 * time.Minute
	}
	return s
}

// TestDynamic runs every model of churn.
func TestDynamic(t *testing.T) {
	for _, model := range []string{sim.ChurnWeibull, sim.ChurnTrace, sim.ChurnFailure, sim.ChurnPartition} {
		t.Run(model, func(t *testing.T) {
			s := changing(model)
			r, err := sim.Run(t.Context(), &s, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range r.Runs[0].Algorithms {
				sum := 0.0
				for _, c := range a.Classes {
					if len(c.Samples) != s.Queries.Count {
						t.Errorf("%s: %d answers of %d", a.Name, len(c.Samples), s.Queries.Count)
					}
					for _, q := range c.Samples {
						sum += q.Recall
					}
				}
				mean := sum / float64(len(a.Classes)*s.Queries.Count)
				t.Logf("%s: recall %.4f, %.0f messages a refresh, %v", a.Name, mean, a.Refresh, a.Live)
				if a.Name != "xeno" {
					continue
				}
				// Half of a network that was cut in two knows few of the others' cells.
				if mean < 0.9 && model != sim.ChurnPartition || a.Refresh == 0 {
					t.Error("recall or refresh is too low")
				}
				if _, ok := a.Live[report.RecallAfter]; ok != (model == sim.ChurnFailure || model == sim.ChurnPartition) {
					t.Errorf("recall after a failure is there: %v", ok)
				}
			}
		})
	}
}
