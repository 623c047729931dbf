package index_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
)

// owner vouches for everybody.
func owner(dht.PeerID, []byte) (string, error) { return "owner", nil }

// A cluster is some hosts with their search services.
type cluster struct {
	hosts    []*kad.Overlay
	services []*index.Service
	schema   *search.Schema
}

// start runs n hosts with services that renew every minute.
func start(t testing.TB, n int, change func(i int, cfg *index.Config), opts ...kadtest.Option) *cluster {
	t.Helper()
	c := &cluster{schema: search.DefaultSchema()}
	var mu sync.Mutex
	opts = append(opts, kadtest.WithSetup(func(i int, o *kad.Overlay) {
		cfg := index.Config{Overlay: o, Schema: c.schema, Network: kadtest.Network, Vouch: owner, Renew: time.Minute, MaxPerPublisher: 1 << 20}
		if change != nil {
			change(i, &cfg)
		}
		s, err := index.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		c.services = append(c.services, s)
		t.Cleanup(func() { _ = s.Close() })
	}))
	c.hosts = kadtest.Cluster(t, n, opts...)
	for _, s := range c.services {
		s.Start()
	}
	return c
}

// serverKey is the key of a synthetic server.
func serverKey(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "server %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

// sign returns a random ad of a synthetic server.
func sign(t testing.TB, schema *search.Schema, rng *rand.Rand, server int, seq uint64) *search.Signed {
	t.Helper()
	key := serverKey(server)
	now := time.Now()
	ad := &search.Ad{
		Network: kadtest.Network, Server: dht.PeerIDFromKey(key.Public().(ed25519.PublicKey)), Addrs: []string{"/ip4/192.0.2.1/udp/1/quic-v1"},
		Seq: seq, Issued: now.Unix(), Expires: now.Add(time.Hour).Unix(), Attributes: search.AttributesOf(attributes(rng)),
	}
	signed, err := schema.Sign(ad, key, "owner")
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func attributes(rng *rand.Rand) map[string]search.Value {
	const gib = 1 << 30
	size := math.Pow(2, float64(rng.IntN(8)))
	free := float64(rng.IntN(int(size)*4+1)) / 4
	var at dht.Coordinate
	for i := range at.Vec {
		at.Vec[i] = rng.NormFloat64() * 0.04
	}
	a := map[string]search.Value{
		"total_cpu":    search.Number(size),
		"free_cpu":     search.Number(free),
		"free_memory":  search.Number(math.Floor(free * 2 * gib * rng.Float64())),
		"free_disk":    search.Number(float64(rng.IntN(2000)) * gib),
		"price_hour":   search.Number(math.Floor(size*(1+rng.Float64())*1e7) / 1e9),
		"environments": search.Set([]string{"wasi", "linux", "bsd"}[:1+rng.IntN(3)]...),
		"arch":         search.Text([]string{"amd64", "amd64", "arm64"}[rng.IntN(3)]),
		"kernel":       search.Text([]string{"5.15.0", "6.1.0-42-amd64", "6.12.9"}[rng.IntN(3)]),
		"country":      search.Text([]string{"DE", "FR", "US", "JP"}[rng.IntN(4)]),
		"place":        search.PlaceAt(rng.Float64()*140-70, rng.Float64()*360-180),
		"coordinate":   search.CoordinateAt(at),
		"reputation":   search.Number(rng.Float64()),
	}
	if rng.IntN(4) == 0 {
		a["free_gpu"] = search.Number(float64(rng.IntN(9)))
	}
	if rng.IntN(20) == 0 {
		delete(a, "price_hour")
	}
	return a
}

func leaf(rng *rand.Rand) search.Predicate {
	ops := []search.Op{search.OpLess, search.OpLessEqual, search.OpGreater, search.OpGreaterEqual}
	op := ops[rng.IntN(len(ops))]
	switch rng.IntN(9) {
	case 0:
		return search.Compare{Dim: "free_cpu", Op: op, Value: search.Number(float64(rng.IntN(64)))}
	case 1:
		return search.Compare{Dim: "free_memory", Op: op, Value: search.Number(math.Pow(2, rng.Float64()*8) * (1 << 29))}
	case 2:
		return search.Compare{Dim: "price_hour", Op: op, Value: search.Number(math.Pow(2, rng.Float64()*9) / 100)}
	case 3:
		low := rng.Float64()
		return search.Range{Dim: "reputation", Low: low, High: low + rng.Float64()*0.3}
	case 4:
		return search.Compare{Dim: "kernel", Op: op, Value: search.Text("6.1")}
	case 5:
		return search.In{Dim: "country", Values: []search.Value{search.Text("DE"), search.Text("FR")}}
	case 6:
		return search.Contains{Dim: "environments", Member: []string{"linux", "bsd"}[rng.IntN(2)]}
	case 7:
		return search.Within{Dim: "place", Center: search.Place{Lat: rng.Float64()*140 - 70, Lon: rng.Float64()*360 - 180}, Km: 5000 * rng.Float64()}
	default:
		return search.RTT{Dim: "coordinate", To: []dht.Coordinate{{}}, Most: time.Duration(rng.IntN(250)) * time.Millisecond}
	}
}

func query(rng *rand.Rand) search.Query {
	var where search.And
	for range 1 + rng.IntN(3) {
		p := leaf(rng)
		switch rng.IntN(4) {
		case 0:
			p = search.Or{p, leaf(rng)}
		case 1:
			p = search.Not{Of: p}
		}
		where = append(where, p)
	}
	q := search.Query{Where: where, Desc: rng.IntN(2) == 0}
	q.OrderBy = []string{"", "price_hour", "free_memory", "reputation", "coordinate"}[rng.IntN(5)]
	q.Limit = []int{0, 1, 10, 10, 50}[rng.IntN(5)]
	if q.OrderBy == "coordinate" {
		q.Origin = &dht.Coordinate{}
	}
	return q
}

// compare fails the test unless the answer equals the oracle's.
func compare(t *testing.T, schema *search.Schema, q search.Query, got *search.Answer, ads []*search.Signed) {
	t.Helper()
	all := q
	all.Limit = 0
	want := schema.Select(all, ads)
	n := len(want)
	if q.Limit > 0 {
		n = min(n, q.Limit)
	}
	if !got.Complete || len(got.Results) != n {
		t.Fatalf("%d results, want %d; complete %v (%s), tree %s\n%v order by %q limit %d", len(got.Results), n,
			got.Complete, got.Incomplete, got.Tree, q.Where, q.OrderBy, q.Limit)
	}
	for i, r := range got.Results {
		at := slices.IndexFunc(want, func(ad *search.Signed) bool { return ad.Ad.Server == r.Signed.Ad.Server })
		if at < 0 || want[at].Ad.Seq != r.Signed.Ad.Seq || q.OrderBy != "" && at != i {
			t.Fatalf("result %d is result %d of the oracle\n%v order by %q", i, at, q.Where, q.OrderBy)
		}
	}
}

// settle waits until the ads of all services are where they belong.
func settle(t testing.TB, services []*index.Service) {
	t.Helper()
	for _, s := range services {
		if err := s.InPlace(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEarlyPublisher publishes an ad while the network has two hosts, of whom
// few remain the closest to anything when twelve have joined.
func TestEarlyPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ad *search.Signed
		rng := rand.New(rand.NewPCG(3, 3))
		c := &cluster{schema: search.DefaultSchema()}
		c.hosts = kadtest.Cluster(t, 14, kadtest.WithSetup(func(i int, o *kad.Overlay) {
			s, err := index.New(index.Config{Overlay: o, Schema: c.schema, Network: kadtest.Network, Vouch: owner})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			c.services = append(c.services, s)
			s.Start()
			if i != 1 {
				return
			}
			if err := o.Bootstrap(t.Context()); err != nil {
				t.Fatal(err)
			}
			ad = sign(t, c.schema, rng, 1, 1)
			if err := s.Advertise(ad); err != nil {
				t.Fatal(err)
			}
			settle(t, c.services[1:])
		}))
		time.Sleep(10 * time.Second)
		for i, s := range c.services {
			for _, q := range []search.Query{{}, {Where: search.Has{Dim: "free_cpu"}, OrderBy: "free_cpu", Limit: 10}} {
				a, err := s.Search(t.Context(), q, index.Options{Unverified: true})
				if err != nil || len(a.Results) != 1 {
					t.Errorf("host %d finds %d ads, want 1; %v", i, len(a.Results), err)
				}
			}
		}
	})
}

// TestOracle compares 200 random queries over 500 random ads on 20 real hosts
// with brute force: at rest, and after a third of the hosts was killed and
// leases were renewed.
// It runs under virtual time, so that a busy machine looks like a fast network
// and not like a dead one.
func TestOracle(t *testing.T) {
	synctest.Test(t, testOracle)
}

func testOracle(t *testing.T) {
	const hosts, servers, queries = 20, 500, 200
	c := start(t, hosts, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	var ads []*search.Signed
	for i := range servers {
		ad := sign(t, c.schema, rng, i, 1)
		ads = append(ads, ad)
		// The last third of the hosts, which will die, publish nothing.
		if err := c.services[i%(hosts-hosts/3)].Advertise(ad); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	settle(t, c.services[:hosts-hosts/3])
	t.Logf("settled after %s", time.Since(begin))
	check := func() {
		requests := 0
		for i := range queries {
			q := query(rng)
			found := make(map[dht.PeerID]bool)
			a, err := c.services[i%(hosts-hosts/3)].Search(t.Context(), q, index.Options{
				Unverified: true, Found: func(r search.Result) { found[r.Signed.Ad.Server] = true },
			})
			if err != nil {
				t.Fatal(err)
			}
			if q.Limit == 0 && len(found) != len(a.Results) || q.Limit > 0 && len(found) > 0 {
				t.Errorf("told of %d servers, %d results, limit %d", len(found), len(a.Results), q.Limit)
			}
			compare(t, c.schema, q, a, ads)
			requests += a.Requests
		}
		t.Logf("%.1f requests a query", float64(requests)/queries)
	}
	check()
	for i := hosts - hosts/3; i < hosts; i++ {
		if err := c.hosts[i].Close(); err != nil {
			t.Error(err)
		}
	}
	// Every server publishes another ad; the summaries that pointed to the
	// dead have run out after one and a half times their life.
	deaths := time.Now()
	for i, old := range ads {
		ads[i] = sign(t, c.schema, rng, i, old.Ad.Seq+1)
		if err := c.services[i%(hosts-hosts/3)].Advertise(ads[i]); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, c.services[:hosts-hosts/3])
	t.Logf("settled %s after the deaths", time.Since(deaths))
	time.Sleep(4 * time.Minute)
	check()
	for i := range queries / 4 {
		q := query(rng)
		a, err := c.services[i%(hosts-hosts/3)].Count(t.Context(), q.Where, index.CountOptions{Error: 1e-6})
		if err != nil {
			t.Fatal(err)
		}
		if want := float64(len(c.schema.Select(search.Query{Where: q.Where}, ads))); a.Matches.Count != want || !a.Complete {
			t.Errorf("%v: %+v, complete %v (%s), want %g", q.Where, a.Matches, a.Complete, a.Incomplete, want)
		}
	}
}
