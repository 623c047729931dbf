package sim

import (
	"context"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

// heatQueries is how many queries tell what cells are asked for much.
const heatQueries = 1000

// heatRounds is how often mirrors are recruited anew: who has mirrors to ask hears
// other answers first, and may then read other cells, which holders would notice.
const heatRounds = 2

// heat gives cells the mirrors that they have where queries like those of a
// class come at the scenario's interval for long, from many clients or, if there
// are any, from these. A network at rest has no past in which it could have
// recruited them.
func (r *repetition) heat(ctx context.Context, x *xeno.Xeno, class string, clients []network.NodeID) error {
	interval := r.scenario.Queries.Interval
	r.index.Heat()
	queries := r.queries[class][:min(heatQueries, len(r.queries[class]))]
	if interval.Seconds()*search.AsksPerCopy >= 1 {
		queries = nil // a query asks a holder about once: none needs a mirror
	}
	rng := stream(r.seed, streamHeat)
	for round := 0; round < heatRounds; {
		r.index.Count()
		r.world.Net.ResetLoads()
		for i, q := range queries {
			client := r.client(rng.IntN)
			if len(clients) > 0 {
				client = clients[i%len(clients)]
			}
			if _, _, err := r.one(ctx, x, trial.Task{Class: class, Client: client, Query: q, Count: class == trial.Count}); err != nil {
				return err
			}
		}
		if !r.index.Divide(len(queries), interval) { // true for a level of tables at a time
			r.index.Recruit(len(queries), interval)
			round++
		}
		x.Forget()
	}
	return nil
}
