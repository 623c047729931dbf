package index_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/internal/testenv"
	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
)

// benchHosts is how many hosts the benchmarks run, on loopback.
const benchHosts = 20

// advertised returns a cluster in which 500 synthetic servers are advertised.
func advertised(b *testing.B, rng *rand.Rand) (*cluster, []*search.Signed) {
	b.Helper()
	c := start(b, benchHosts, nil, kadtest.WithLoopback())
	var ads []*search.Signed
	for i := range 500 {
		ad := sign(b, c.schema, rng, i, 1)
		ads = append(ads, ad)
		if err := c.services[i%benchHosts].Advertise(ad); err != nil {
			b.Fatal(err)
		}
	}
	settle(b, c.services)
	return c, ads
}

// ask measures random queries, from one host after the other.
func (c *cluster) ask(b *testing.B, rng *rand.Rand, limit int, opts index.Options) {
	b.Helper()
	var took []time.Duration
	requests := 0
	for i := 0; b.Loop(); i++ {
		q := query(rng)
		q.Limit = limit
		begin := time.Now()
		a, err := c.services[i%benchHosts].Search(b.Context(), q, opts)
		took = append(took, time.Since(begin))
		if err != nil || !a.Complete {
			b.Fatalf("%+v, %v", a, err)
		}
		requests += a.Requests
	}
	testenv.ReportLatencies(b, took)
	b.ReportMetric(float64(requests)/float64(len(took)), "requests/op")
}

// BenchmarkSearch measures random queries on 20 hosts: for ten and for all of
// those that match among 500 ads, as their holders keep them; and for ten of
// 20 XenoServers that run, each confirming its ad itself.
func BenchmarkSearch(b *testing.B) {
	b.Run("ten", func(b *testing.B) {
		rng := rand.New(rand.NewPCG(1, 1))
		c, _ := advertised(b, rng)
		c.ask(b, rng, 10, index.Options{Unverified: true})
	})
	b.Run("all", func(b *testing.B) {
		rng := rand.New(rand.NewPCG(1, 1))
		c, _ := advertised(b, rng)
		c.ask(b, rng, 0, index.Options{Unverified: true})
	})
	b.Run("verified", func(b *testing.B) {
		rng := rand.New(rand.NewPCG(1, 1))
		ads := make([]*search.Signed, benchHosts)
		c := start(b, benchHosts, func(i int, cfg *index.Config) {
			now := time.Now()
			var err error
			ads[i], err = cfg.Schema.Sign(&search.Ad{
				Network: kadtest.Network, Server: kadtest.PeerID(i), Addrs: cfg.Overlay.Contact().Addrs, Seq: 1,
				Issued: now.Unix(), Expires: now.Add(time.Hour).Unix(), Attributes: search.AttributesOf(attributes(rng)),
			}, kadtest.Key(i), "owner")
			if err != nil {
				b.Fatal(err)
			}
			cfg.Ad = func() (*search.Signed, error) { return ads[i], nil }
		}, kadtest.WithLoopback())
		settle(b, c.services)
		c.ask(b, rng, 10, index.Options{})
	})
}

// BenchmarkPublishToSearchable measures from Advertise at one host to the first
// answer with the ad at another, which asks every 2 ms by a dimension whose
// value changed; among 500 ads on 20 hosts. It tells new servers from those
// that replace an ad.
func BenchmarkPublishToSearchable(b *testing.B) {
	for _, kind := range []string{"new", "changed"} {
		b.Run(kind, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(2, 2))
			c, ads := advertised(b, rng)
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				server, seq := len(ads)+i, uint64(1)
				if kind == "changed" {
					server, seq = i%len(ads), uint64(2+i/len(ads)) //nolint:gosec // small
				}
				ad := sign(b, c.schema, rng, server, seq)
				disk, _ := ad.Ad.Attribute("free_disk")
				is := search.Compare{Dim: "free_disk", Op: search.OpEqual, Value: disk}
				from, at := c.services[server%benchHosts], c.services[(server+1+i%(benchHosts-1))%benchHosts]
				begin := time.Now()
				if err := from.Advertise(ad); err != nil {
					b.Fatal(err)
				}
				for !finds(b, at, search.Query{Where: is}, ad.Ad.Server, seq) {
					time.Sleep(2 * time.Millisecond)
				}
				took = append(took, time.Since(begin))
			}
			testenv.ReportLatencies(b, took)
		})
	}
}

// finds tells whether an answer holds an ad of a server.
func finds(b *testing.B, s *index.Service, q search.Query, server dht.PeerID, seq uint64) bool {
	b.Helper()
	a, err := s.Search(b.Context(), q, index.Options{Unverified: true})
	if err != nil {
		b.Fatal(err)
	}
	return slices.ContainsFunc(a.Results, func(r search.Result) bool { return r.Signed.Ad.Server == server && r.Signed.Ad.Seq == seq })
}
