package search

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkAsk asks a holder for a full leaf: ten results in order, with a
// condition on each of three dimensions, and the most that a stranger may make it
// evaluate.
func BenchmarkAsk(b *testing.B) {
	s := DefaultSchema()
	rng := rand.New(rand.NewPCG(1, 1))
	var copied Copy
	copied.Cell, copied.Born = Root("price_hour"), testNow
	for range LeafAds {
		ad := randomAd(rng, testNow)
		copied.Leases = append(copied.Leases, Lease{Ad: ad, From: ad.Ad.Server, Until: testNow.Add(time.Hour)})
	}
	h := NewHolder(s, HolderConfig{MaxPerPublisher: 1 << 20})
	h.Step(testNow, Restore{Copy: copied})
	most := make(Or, 0, maxNodes-1)
	for i := range maxNodes - 1 {
		most = append(most, Compare{"name", OpEqual, Text(fmt.Sprint("nobody-", i))})
	}
	for name, where := range map[string]Predicate{
		"usual": And{Compare{"free_cpu", OpGreaterEqual, Number(2)}, Compare{"arch", OpEqual, Text("amd64")}, Compare{"price_hour", OpLess, Number(1)}},
		"most":  most,
	} {
		q := CellQuery{Cell: copied.Cell, Query: Query{Where: where, OrderBy: "price_hour", Limit: 10}}
		if err := s.Check(q.Query); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				reply, ok := h.Step(testNow, AskCell{Query: q})[0].(CellReply)
				if !ok || reply.Total != LeafAds {
					b.Fatalf("%d ads were looked at, want %d", reply.Total, LeafAds)
				}
			}
		})
	}
}
