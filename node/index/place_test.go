package index_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/search/placement"
)

// oracle runs a placement over ads at hand.
func oracle(t *testing.T, schema *search.Schema, spec placement.Spec, ads []*search.Signed) placement.Arrangement {
	t.Helper()
	machine, err := placement.New(schema, spec)
	if err != nil {
		t.Fatal(err)
	}
	inputs := []placement.Input{placement.Start{}}
	for len(inputs) > 0 {
		in := inputs[0]
		inputs = inputs[1:]
		for _, e := range machine.Step(time.Now(), in) {
			switch e := e.(type) {
			case placement.Want:
				found := schema.Select(e.Query, ads)
				inputs = append(inputs, placement.Found{ID: e.ID, Ads: found, Complete: len(found) < e.Query.Limit})
			case placement.Think:
				inputs = append(inputs, placement.Proceed{})
			case placement.Verify:
			case placement.Arranged:
				return e.Arrangement
			}
		}
	}
	t.Fatal("the placement has no end")
	return placement.Arrangement{}
}

// TestPlace places machines over ten hosts, and compares with the same over all
// ads at hand.
func TestPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, 10, nil)
		rng := rand.New(rand.NewPCG(4, 4))
		var ads []*search.Signed
		for i := range 200 {
			ad := sign(t, c.schema, rng, i, 1)
			ads = append(ads, ad)
			if err := c.services[i%10].Advertise(ad); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, c.services)
		spec := placement.Spec{
			Groups: []placement.Group{
				{Name: "web", Count: 2, Query: search.Query{Where: search.Compare{Dim: "free_cpu", Op: search.OpGreaterEqual, Value: search.Number(2)}}},
				{Name: "db", Count: 1},
			},
			Near:   []placement.NearRule{{Most: 150 * time.Millisecond}},
			Spread: []placement.SpreadRule{{By: "country", Most: 1}},
			Effort: 0.5,
		}
		for round := range 6 {
			spec.Minimise = []placement.Goal{placement.GoalPrice, placement.GoalLatency}[round%2]
			spec.Near[0].Most = time.Duration(100+50*(round/2)) * time.Millisecond
			got, err := c.services[round].Place(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			want := oracle(t, c.schema, spec, ads)
			if len(got.Unmet) != len(want.Unmet) || got.Cost != want.Cost || len(got.Machines) != 3 || got.Requests == 0 {
				t.Errorf("%s, near %s: cost %g, want %g; unmet %v, want %v; %d requests", spec.Minimise, spec.Near[0].Most,
					got.Cost, want.Cost, got.Unmet, want.Unmet, got.Requests)
			}
			t.Logf("%s near %s: cost %g, %d queries, %d requests", spec.Minimise, spec.Near[0].Most, got.Cost, got.Queries, got.Requests)
		}

		spec.Verify = true // nobody is behind these ads
		got, err := c.services[0].Place(t.Context(), spec)
		if err != nil || len(got.Unmet) != 1 || !strings.Contains(got.Unmet[0].Rule, "confirms") {
			t.Errorf("servers that are not there confirm: %+v, %v", got, err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if got, err := c.services[0].Place(over, spec); err != nil || len(got.Unmet) == 0 {
			t.Errorf("placed in no time: %+v, %v", got, err)
		}
		if _, err := c.services[0].Place(t.Context(), placement.Spec{}); !errors.Is(err, search.ErrBadQuery) {
			t.Errorf("without groups: %v", err)
		}
		if err := c.services[9].Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.services[9].Place(t.Context(), spec); !errors.Is(err, index.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}
