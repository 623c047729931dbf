package search

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// TestTurn: conditions that seem to have nothing to do with each other promise
// matches everywhere in a tree that does not sort by them. Where the first leaf
// has none, another tree is taken.
func TestTurn(t *testing.T) {
	for name, matched := range map[string]uint32{"as promised": 400, "none": 0} {
		s, root := turning(t)
		now := time.Unix(1_800_000_000, 0)
		s.Step(now, Start{})
		s.tree = DimServer
		s.Step(now, Answered{Cell: root.cell, From: root.contacts[0].ID, Reply: serverRoot(s)})
		leaf := CellID{Tree: DimServer, Prefix: root.cell.Prefix.Child(14)}
		v := s.visits[leaf]
		if v == nil || len(v.asks) == 0 {
			t.Fatalf("%s: the leaf was not asked for", name)
		}
		for from := range v.asks {
			s.Step(now, Answered{Cell: leaf, From: from, Reply: &CellReply{Known: true, Gathered: true, Age: time.Hour, Total: 12_000, Matched: matched}})
		}
		if turned := s.tree != DimServer; turned != (matched == 0) {
			t.Errorf("%s: tree %s", name, s.tree)
		}
	}
}

// turning returns a query without order that will do with any ten of its
// matches, and the root of a tree for it.
func turning(t *testing.T) (*Seeker, *visit) {
	t.Helper()
	sample := drawn(1_000_000, func(i int) map[string]Value {
		arch := "amd64"
		if i%2 == 1 {
			arch = "arm64"
		}
		return map[string]Value{"arch": Text(arch), "free_memory": Number(float64(i+1) * gib), "price_hour": Number(0.01 * float64(i+1))}
	})
	q := Query{Limit: 10, Where: And{
		Compare{Dim: "arch", Op: OpEqual, Value: Text("amd64")},
		Compare{Dim: "free_memory", Op: OpGreaterEqual, Value: Number(63 * gib)},
		Compare{Dim: "price_hour", Op: OpLessEqual, Value: Number(0.02)},
	}}
	s, err := NewSeeker(DefaultSchema(), q, SeekerConfig{Sample: sample, Replicas: 1, InFlight: 1})
	if err != nil {
		t.Fatal(err)
	}
	root := s.visit(Root(DimServer))
	root.meet([]dht.Contact{{ID: randomID(rand.New(rand.NewPCG(2, 2)))}}, nil)
	return s, root
}

// serverRoot is what the root says: 16 leaves, each like all of the sample.
func serverRoot(s *Seeker) *CellReply {
	r := &CellReply{Known: true, Inner: true, Age: time.Hour, Total: 64}
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range 16 {
		m := s.schema.NewSummary()
		for _, ad := range s.cfg.Sample.Ads {
			s.schema.add(&m, ad.Ad)
		}
		m.Count = 12_000
		r.Children = append(r.Children, Child{Index: 14 + i, Summary: m, Holders: []dht.Contact{{ID: randomID(rng)}}})
	}
	return r
}
