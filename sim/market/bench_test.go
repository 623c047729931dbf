package market

import (
	"sync"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// million is the market of the benchmarks.
var million = sync.OnceValues(func() (*Market, error) { return New(testConfig(1_000_000)) })

func benchmarkMarket(b *testing.B) *Market {
	b.Helper()
	m, err := million()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(m.Bytes())/float64(m.Len()), "B/server")
	return m
}

func benchmarkQueries(m *Market) map[string]search.Query {
	number := func(dim string, op search.Op, x float64) search.Predicate {
		return search.Compare{Dim: dim, Op: op, Value: search.Number(x)}
	}
	var origin dht.Coordinate
	for i := 0; origin == (dht.Coordinate{}); i++ {
		origin, _ = m.Value(i, search.DimCoordinate).Coordinate()
	}
	broad := search.And{
		number("free_cpu", search.OpGreaterEqual, 2), number("free_memory", search.OpGreaterEqual, 2*gib),
		search.Contains{Dim: "environments", Member: "linux"},
		number("reputation", search.OpGreater, 0.5),
	}
	near := search.And{
		search.RTT{Dim: search.DimCoordinate, To: []dht.Coordinate{origin}, Most: 50 * time.Millisecond},
		search.Within{Dim: search.DimPlace, Center: search.Place{Lat: 50, Lon: 8}, Km: 2000},
		number("free_cpu", search.OpGreaterEqual, 1),
		search.Compare{Dim: "arch", Op: search.OpEqual, Value: search.Text("amd64")},
	}
	return map[string]search.Query{
		"any":     {Where: broad, Limit: 10},
		"price":   {Where: broad, OrderBy: "price_hour", Limit: 10},
		"latency": {Where: broad, OrderBy: search.DimCoordinate, Origin: &origin, Limit: 10},
		"near":    {Where: near, OrderBy: search.DimCoordinate, Origin: &origin, Limit: 10},
	}
}

func BenchmarkSelect(b *testing.B) {
	m := benchmarkMarket(b)
	queries := benchmarkQueries(m)
	for _, name := range []string{"any", "price", "latency", "near"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m.Select(queries[name])
			}
		})
	}
}

func BenchmarkCount(b *testing.B) {
	m := benchmarkMarket(b)
	q := benchmarkQueries(m)["any"]
	b.Logf("%d match", m.Count(q.Where))
	for b.Loop() {
		m.Count(q.Where)
	}
}

// BenchmarkCondition asks one condition of a million servers; the metric is
// for one server.
func BenchmarkCondition(b *testing.B) {
	m := benchmarkMarket(b)
	near := benchmarkQueries(m)["near"].Where.(search.And)
	for _, c := range []struct {
		name string
		p    search.Predicate
	}{
		{"number", search.Compare{Dim: "free_cpu", Op: search.OpGreaterEqual, Value: search.Number(4)}},
		{"text", search.Compare{Dim: "country", Op: search.OpEqual, Value: search.Text("US")}},
		{"owner", search.Compare{Dim: "owner", Op: search.OpEqual, Value: search.Text("owner-7")}},
		{"set", search.Contains{Dim: "environments", Member: "linux"}},
		{"version", search.Compare{Dim: "kernel", Op: search.OpGreaterEqual, Value: search.Text("6.1")}},
		{"rtt", near[0]},
		{"within", near[1]},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				m.Count(c.p)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(m.Len()), "ns/server")
		})
	}
}

func BenchmarkAd(b *testing.B) {
	m := benchmarkMarket(b)
	i := 0
	for b.Loop() {
		m.Ad(i % m.Len())
		i++
	}
}

func BenchmarkNew(b *testing.B) {
	cfg := testConfig(100_000)
	for b.Loop() {
		newMarket(b, cfg)
	}
}

func BenchmarkQueries(b *testing.B) {
	m := benchmarkMarket(b)
	for _, class := range Classes() {
		b.Run(class, func(b *testing.B) {
			rng := newRand(3)
			for b.Loop() {
				if _, err := m.Queries(b.Context(), class, 2, Asking{}, rng); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
