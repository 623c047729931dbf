package honestytest_test

import (
	"testing"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

// An outcome is what came of a script.
type outcome struct {
	name     string
	nearest  [][]nearest // by wave and place in it
	findings [][]finding
	served   float64 // requests that were answered while a lookup ran, in the mean
}

// simulate carries the script out in the simulator, where clients remember
// what they saw as daemons do.
func simulate(t *testing.T, name string, w trial.World, s script) *outcome {
	t.Helper()
	cells, err := xeno.NewIndex(t.Context(), w, 0)
	if err != nil {
		t.Fatal(err)
	}
	algorithm := xeno.New(cells, xeno.Options{Warm: true})
	out := &outcome{name: name}
	served := 0
	for _, wave := range s.lookups {
		results := make([]nearest, len(wave))
		for i, l := range wave {
			var requests int
			results[i], requests = simulateLookup(t, w.Net, l)
			served += requests
		}
		out.nearest = append(out.nearest, results)
	}
	out.served = float64(served) / (waves * hosts)
	for _, wave := range s.queries {
		results := make([]finding, len(wave))
		for i, q := range wave {
			f := &results[i]
			algorithm.Start(trial.Task{Class: q.class, Client: network.NodeID(q.client), Query: q.query}, nil, func(o trial.Outcome) {
				*f = finding{complete: o.Complete, matches: int(o.Estimated), requests: o.Requests, took: o.Latency}
				for _, id := range o.Servers {
					f.servers = append(f.servers, int(id))
				}
			})
		}
		pass(t, w.Net, apart)
		out.findings = append(out.findings, results)
	}
	return out
}

// simulateLookup runs one lookup by itself, and counts the requests that were
// answered before it ended.
func simulateLookup(t *testing.T, net *network.Network, l lookup) (out nearest, served int) {
	t.Helper()
	over, begin := false, net.Now()
	net.ResetLoads()
	net.Lookup(network.NodeID(l.client), l.key.Position(), search.Replicas, func(found []network.NodeID, _ int) {
		over, out.took = true, net.Now()-begin
		for _, id := range found {
			out.hosts = append(out.hosts, int(id))
		}
	})
	if err := net.RunWhile(t.Context(), func() bool { return !over }); err != nil || !over {
		t.Fatalf("the lookup does not end: %v", err)
	}
	for _, n := range net.Loads() {
		served += int(n)
	}
	pass(t, net, time.Second) // what it did not wait for
	return out, served
}

// pass lets virtual time pass.
func pass(t *testing.T, net *network.Network, d time.Duration) {
	t.Helper()
	if err := net.Run(t.Context(), net.Now()+d); err != nil {
		t.Fatal(err)
	}
}
