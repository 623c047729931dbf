package market

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// randomLeaf returns a condition whose constants are mostly those of a server,
// or next to them, so that borders are met exactly.
func randomLeaf(m *Market, rng *rand.Rand) search.Predicate {
	dims := m.Schema().Dimensions()
	d := dims[rng.IntN(len(dims))]
	if rng.IntN(12) == 0 {
		return search.Has{Dim: d.Name}
	}
	v := m.Value(rng.IntN(m.Len()), d.Name)
	ops := []search.Op{search.OpLess, search.OpLessEqual, search.OpGreater, search.OpGreaterEqual, search.OpEqual, search.OpNotEqual}
	switch d.Kind {
	case search.KindNumber:
		return randomNumber(d.Name, v, m, ops[rng.IntN(6)], rng)
	case search.KindVersion:
		if v.IsZero() || rng.IntN(4) == 0 {
			v = search.Text([]string{"6", "6.1", "6.1.0", "6.1.0-42", "24.4", "12.0.0"}[rng.IntN(6)])
		}
		if rng.IntN(3) == 0 {
			return search.In{Dim: d.Name, Values: []search.Value{v, search.Text("6.6.93.0")}}
		}
		return search.Compare{Dim: d.Name, Op: ops[rng.IntN(6)], Value: v}
	case search.KindText, search.KindEnum:
		if v.IsZero() {
			v = search.Text("arm64")
			if d.Kind == search.KindEnum {
				v = search.Text(d.Values[0])
			}
		}
		if rng.IntN(3) == 0 {
			values := []search.Value{v}
			if w := m.Value(rng.IntN(m.Len()), d.Name); !w.IsZero() {
				values = append(values, w)
			}
			return search.In{Dim: d.Name, Values: values}
		}
		return search.Compare{Dim: d.Name, Op: ops[4+rng.IntN(2)], Value: v}
	case search.KindSet:
		return search.Contains{Dim: d.Name, Member: []string{"wasi", "linux", "sev", "kvm", "qemu"}[rng.IntN(5)]}
	case search.KindPlace:
		return randomWithin(m, v, rng)
	default:
		return randomRTT(m, rng)
	}
}

func randomNumber(dim string, v search.Value, m *Market, op search.Op, rng *rand.Rand) search.Predicate {
	x, ok := v.Number()
	if !ok {
		x = float64(rng.IntN(5))
	}
	switch rng.IntN(6) {
	case 0:
		return search.Range{Dim: dim, Low: x, High: x * (1 + rng.Float64())}
	case 1:
		return search.Range{Dim: dim, Low: math.Inf(-1), High: x}
	case 2:
		y, _ := m.Value(rng.IntN(m.Len()), dim).Number()
		return search.In{Dim: dim, Values: []search.Value{search.Number(x), search.Number(y)}}
	case 3:
		x = math.Nextafter(x, math.Inf(1-2*rng.IntN(2)))
	default:
	}
	return search.Compare{Dim: dim, Op: op, Value: search.Number(x)}
}

func randomWithin(m *Market, v search.Value, rng *rand.Rand) search.Predicate {
	center, _ := v.Place()
	p := search.Within{Dim: search.DimPlace, Center: center, Km: math.Pow(2, rng.Float64()*15)}
	if other, ok := m.Value(rng.IntN(m.Len()), search.DimPlace).Place(); ok && rng.IntN(2) == 0 {
		p.Km = search.Distance(center, other) // exactly on the border
	}
	return p
}

func randomRTT(m *Market, rng *rand.Rand) search.Predicate {
	p := search.RTT{Dim: search.DimCoordinate, Most: time.Duration(rng.IntN(300)) * time.Millisecond}
	for range 1 + rng.IntN(3) {
		if c, ok := m.Value(rng.IntN(m.Len()), search.DimCoordinate).Coordinate(); ok {
			p.To = append(p.To, c)
		}
	}
	if len(p.To) == 0 {
		p.To = []dht.Coordinate{dht.NewCoordinate()}
	}
	if c, ok := m.Value(rng.IntN(m.Len()), search.DimCoordinate).Coordinate(); ok && rng.IntN(2) == 0 {
		p.Most = search.PredictRTT(c, p.To[0]) // exactly on the border
	}
	return p
}

func randomPredicate(m *Market, rng *rand.Rand, depth int) search.Predicate {
	if depth == 0 || rng.IntN(3) == 0 {
		return randomLeaf(m, rng)
	}
	members := make([]search.Predicate, rng.IntN(4))
	for k := range members {
		members[k] = randomPredicate(m, rng, depth-1)
	}
	switch n := rng.IntN(5); {
	case n < 2:
		return search.And(members)
	case n < 4 || len(members) == 0:
		return search.Or(members)
	default:
		return search.Not{Of: members[0]}
	}
}

// variants are markets with all, few and no places and coordinates.
func variants(t *testing.T) []*Market {
	full := testConfig(400)
	bare := testConfig(100)
	bare.PlaceOf, bare.CoordinateOf = nil, nil
	return []*Market{newMarket(t, full), newMarket(t, bare)}
}

func TestMatcherAgreesWithSchema(t *testing.T) {
	rng := newRand(9)
	for n, m := range variants(t) {
		ads := make([]*search.Signed, m.Len())
		for i := range ads {
			ads[i] = m.Ad(i)
		}
		matched, cases := 0, 0
		for range 4000 {
			p := randomPredicate(m, rng, 3)
			if err := m.Schema().Check(search.Query{Where: p}); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			matches := m.Matcher(p)
			for range 40 {
				i := rng.IntN(m.Len())
				cases++
				want := m.Schema().Matches(p, ads[i].Ad)
				if got := matches(i); got != want {
					t.Fatalf("market %d, server %d, %s: matches %v, the schema says %v", n, i, p, got, want)
				}
				if got, want := m.compile(p).verdict(i), m.Schema().Eval(p, ads[i].Ad); got != want {
					t.Fatalf("market %d, server %d, %s: comes out as %v, the schema says %v", n, i, p, got, want)
				}
				if want {
					matched++
				}
			}
		}
		if matched < cases/20 || matched > cases*19/20 {
			t.Errorf("%d of %d cases matched: the test tells nothing", matched, cases)
		}
	}
}

func TestMatcherOfNothing(t *testing.T) {
	m := variants(t)[0]
	if m.Count(nil) != m.Len() || m.Count(search.And{}) != m.Len() || m.Count(search.Or{}) != 0 {
		t.Error("nil and the empty conjunction hold everywhere, the empty disjunction nowhere")
	}
}

func TestSelectAgreesWithSchema(t *testing.T) {
	rng := newRand(10)
	for n, m := range variants(t) {
		ads := make([]*search.Signed, m.Len())
		number := make(map[dht.PeerID]int)
		for i := range ads {
			ads[i] = m.Ad(i)
			number[ads[i].Ad.Server] = i
		}
		orders := []string{"", "price_hour", "free_memory", "free_gpu", "reputation", "kernel", "os_version", "total_cpu", search.DimCoordinate}
		for range 1000 {
			q := search.Query{
				OrderBy: orders[rng.IntN(len(orders))], Desc: rng.IntN(3) == 0, Limit: []int{0, 1, 3, 10, 50, 1000}[rng.IntN(6)],
			}
			if rng.IntN(4) > 0 {
				q.Where = randomPredicate(m, rng, 1)
			}
			if q.OrderBy == search.DimCoordinate {
				origin := dht.NewCoordinate()
				origin.Vec[rng.IntN(len(origin.Vec))] = rng.NormFloat64() / 20
				q.Origin = &origin
			}
			if err := m.Schema().Check(q); err != nil {
				t.Fatal(err)
			}
			want := []int{}
			for _, ad := range m.Schema().Select(q, ads) {
				want = append(want, number[ad.Ad.Server])
			}
			if got := m.Select(q); !slices.Equal(got, want) {
				t.Fatalf("market %d, %v by %s desc %v limit %d:\ngot  %v\nwant %v", n, q.Where, q.OrderBy, q.Desc, q.Limit, got, want)
			}
		}
	}
}

func TestVersions(t *testing.T) {
	order := []string{"5.15", "6.1", "6.1.0-42", "6.1.1", "6.2", "6.10", "10", "10rc1"}
	for i, a := range order {
		for j, b := range order {
			if got, want := versionOf(a).compare(versionOf(b)) < 0, i < j; got != want {
				t.Errorf("%s < %s is %v", a, b, got)
			}
		}
	}
	if versionOf("6.1").compare(versionOf("6.1.0.0")) != 0 {
		t.Error("a missing part is 0")
	}
}
