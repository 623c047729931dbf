package search

import (
	"math"
	"math/rand/v2"
	"slices"
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

// TestScout: where the best tree by the sample is long, the root of the order's
// own tree is asked first. The cheapest of the sample do not match; if the root
// says that some do, few cells of its tree will do.
func TestScout(t *testing.T) {
	for name, want := range map[string]string{"cheap ones match": "price_hour", "no answer": "uptime"} {
		s, reply := scouting(t)
		now := time.Unix(1_800_000_000, 0)
		s.Step(now, Start{})
		order := s.visits[Root("price_hour")]
		if s.tree != "" || order == nil {
			t.Fatalf("%s: tree %q was taken before the order's root was asked", name, s.tree)
		}
		from := dht.Contact{ID: randomID(rand.New(rand.NewPCG(4, 4)))}
		effects := s.Step(now, Located{Cell: order.cell, Holders: []dht.Contact{from}})
		if !slices.ContainsFunc(effects, func(e SeekerEffect) bool { a, ok := e.(Ask); return ok && a.Query.Cell == order.cell }) {
			t.Fatalf("%s: the order's root was not asked", name)
		}
		if name == "no answer" {
			s.Step(now.Add(time.Minute), SeekerTick{})
		} else {
			s.Step(now, Answered{Cell: order.cell, From: from.ID, Reply: reply})
		}
		if s.tree != want {
			t.Errorf("%s: tree %q, want %q", name, s.tree, want)
		}
	}
}

// scouting returns a query for the ten cheapest that are up for long, which are
// dear by the sample, of a client who knows the tree of uptimes; and what the root
// of prices says: they are not.
func scouting(t *testing.T) (s *Seeker, prices *CellReply) {
	t.Helper()
	const long = 10_000_000.0
	schema := DefaultSchema()
	rng := rand.New(rand.NewPCG(5, 5))
	server := func(i int, up bool) map[string]Value {
		uptime := 100.0
		if up {
			uptime = 2 * long
		}
		return map[string]Value{"price_hour": Number(0.001 * math.Pow(1.15, float64(i))), "uptime": Number(uptime)}
	}
	table := func(server func(i int) map[string]Value) (list []Child) {
		for c := range 16 {
			m := schema.NewSummary()
			for i := 4 * c; i < 4*c+4; i++ {
				schema.add(&m, &Ad{Server: randomID(rng), Seq: 1, Attributes: AttributesOf(server(i))})
			}
			m.Count = 1_000_000 / 16
			list = append(list, Child{Index: 14 + c, Summary: m, Holders: []dht.Contact{{ID: randomID(rng)}}})
		}
		return list
	}
	q := Query{Limit: 10, OrderBy: "price_hour", Where: Compare{Dim: "uptime", Op: OpGreaterEqual, Value: Number(long)}}
	s, err := NewSeeker(schema, q, SeekerConfig{
		Sample: drawn(1_000_000, func(i int) map[string]Value { return server(i, i >= 40) }),
		Known: map[CellID]Glimpse{Root("uptime"): {
			Cell: Root("uptime"), Holders: []dht.Contact{{ID: randomID(rng)}},
			Children: table(func(i int) map[string]Value { return server(i*25%64, i >= 40) }),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, &CellReply{
		Known: true, Inner: true, Age: time.Hour, Total: 64,
		Children: table(func(i int) map[string]Value { return server(i, i < 40) }),
	}
}

// TestNearer: cells that may have something nearer than everything found are
// read, however few of them the sample promises.
func TestNearer(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	at := func(seconds float64) Value {
		var c dht.Coordinate
		c.Vec[0] = seconds
		return CoordinateAt(c)
	}
	q := Query{Limit: 1, OrderBy: DimCoordinate, Origin: &dht.Coordinate{}}
	s, err := NewSeeker(DefaultSchema(), q, SeekerConfig{Sample: drawn(1_000_000, func(i int) map[string]Value {
		return map[string]Value{DimCoordinate: at(float64(i) / 100)}
	})})
	if err != nil {
		t.Fatal(err)
	}
	s.outline = s.schema.outline(q, s.cfg.Sample)
	s.tree = DimCoordinate
	root := s.visit(Root(DimCoordinate))
	root.known = true
	for slot := range 16 {
		v := s.visit(CellID{Tree: DimCoordinate, Prefix: root.cell.Prefix.Child(14 + slot)})
		v.summary.Count, v.bound = 1000, 0.01
	}
	tree, _ := s.schema.Tree(DimCoordinate)
	before, _ := s.left(tree)
	s.consider(&Signed{Ad: &Ad{Server: randomID(rng), Seq: 1, Attributes: AttributesOf(map[string]Value{DimCoordinate: at(0.05)})}})
	if after, _ := s.left(tree); after != 16 || before > 8 {
		t.Errorf("%.1f reads left, and %.1f when 50 ms are the nearest and 16 cells may have 10 ms", before, after)
	}
}
