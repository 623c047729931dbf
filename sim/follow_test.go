package sim_test

import (
	"testing"

	"github.com/xenoserver/xeno/sim"
	"github.com/xenoserver/xeno/sim/trial"
)

// TestFollowLive follows a query while nodes come and go: it is the very one of
// a run, message by message.
func TestFollowLive(t *testing.T) {
	s := changing(sim.ChurnWeibull)
	r, err := sim.Run(t.Context(), &s, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, name := range s.Algorithms {
		for _, n := range []int{1, s.Queries.Count} {
			f, err := sim.Follow(t.Context(), &s, name, trial.Exhaustive, n)
			if err != nil {
				t.Fatal(err)
			}
			want := r.Runs[0].Algorithms[k].Classes[1].Samples[n-1]
			if f.Took != want.Latency || f.Outcome.Requests != want.Requests || f.Recall != want.Recall || f.Matches != want.True {
				t.Errorf("%s, query %d: %s, %d requests, recall %g of %d; in the run %s, %d, %g of %d", name, n,
					f.Took, f.Outcome.Requests, f.Recall, f.Matches, want.Latency, want.Requests, want.Recall, want.True)
			}
			if len(f.Hops) == 0 || f.Text == "" {
				t.Errorf("%s, query %d: %d hops of %q", name, n, len(f.Hops), f.Text)
			}
		}
	}
}
