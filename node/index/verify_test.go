package index_test

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
)

// servers runs hosts that are XenoServers of so many free CPUs, which may
// change by cpus[i].
func servers(t *testing.T, n int) (c *cluster, cpus []atomic.Int64) {
	cpus = make([]atomic.Int64, n)
	seqs := make([]atomic.Uint64, n)
	c = start(t, n, func(i int, cfg *index.Config) {
		cpus[i].Store(int64(i + 1))
		cfg.Ad = func() (*search.Signed, error) {
			now := time.Now()
			return cfg.Schema.Sign(&search.Ad{
				Network: kadtest.Network, Server: kadtest.PeerID(i), Addrs: cfg.Overlay.Contact().Addrs, Seq: seqs[i].Add(1),
				Issued: now.Unix(), Expires: now.Add(10 * time.Minute).Unix(),
				Attributes: search.AttributesOf(map[string]search.Value{"free_cpu": search.Number(float64(cpus[i].Load()))}),
			}, kadtest.Key(i), "owner")
		}
	})
	settle(t, c.services)
	return c, cpus
}

// TestVerify asks servers before they are returned: what changed since it was
// published counts, and who is gone is left out, with the reason.
func TestVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, cpus := servers(t, 8)
		q := search.Query{Where: search.Compare{Dim: "free_cpu", Op: search.OpGreaterEqual, Value: search.Number(5)}, OrderBy: "free_cpu"}
		time.Sleep(time.Second)                       // of virtual time: a current ad is that fresh
		cpus[7].Store(1)                              // busy since, and has told nobody
		if err := c.services[6].Close(); err != nil { // withdraws
			t.Error(err)
		}
		if err := c.hosts[5].Close(); err != nil { // dies
			t.Error(err)
		}
		a, err := c.services[0].Search(t.Context(), q, index.Options{Explain: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Results) != 1 || a.Results[0].Signed.Ad.Server != kadtest.PeerID(4) || !a.Results[0].Verified {
			t.Errorf("results %+v, want host 4 alone, verified", a.Results)
		}
		why := make(map[dht.PeerID]search.Excluded)
		for _, e := range a.Excluded {
			why[e.Server] = e
		}
		if e := why[kadtest.PeerID(7)]; len(e.Fails) != 1 || e.Fails[0].String() != "free_cpu >= 5" {
			t.Errorf("host 7: %+v, want that it fails free_cpu >= 5", e)
		}
		if e := why[kadtest.PeerID(5)]; !e.Gone {
			t.Errorf("host 5: %+v, want that it is gone", e)
		}
		if e := why[kadtest.PeerID(0)]; len(e.Fails) != 1 {
			t.Errorf("host 0: %+v, want that it fails the condition", e)
		}
		if len(a.Conditions) != 1 || a.Conditions[0].Count < 4 {
			t.Errorf("conditions %+v, want that free_cpu >= 5 excluded at least 4", a.Conditions)
		}
	})
}

// TestChanged publishes a change at once, where others find it.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, cpus := servers(t, 5)
		cpus[3].Store(1000)
		time.Sleep(time.Second) // of virtual time, since the first ad
		c.services[3].Changed()
		begin := time.Now()
		q := search.Query{Where: search.Compare{Dim: "free_cpu", Op: search.OpGreater, Value: search.Number(500)}}
		for {
			a, err := c.services[0].Search(t.Context(), q, index.Options{Unverified: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Results) == 1 {
				break
			}
			if time.Since(begin) > time.Second {
				t.Fatal("the change is not searchable after a second")
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// TestLookup finds the ad of a server by its identity.
func TestLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := servers(t, 6)
		ad, err := c.services[0].Lookup(t.Context(), kadtest.PeerID(4))
		if err != nil || ad.Ad.Server != kadtest.PeerID(4) {
			t.Errorf("%+v, %v", ad, err)
		}
		rng := rand.New(rand.NewPCG(9, 9))
		nobody := sign(t, c.schema, rng, 1, 1).Ad.Server
		if _, err := c.services[0].Lookup(t.Context(), nobody); !errors.Is(err, index.ErrNotFound) {
			t.Errorf("look up nobody: %v", err)
		}
	})
}

// TestBadQuery refuses what the schema cannot answer, and ends in time.
func TestBadQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := servers(t, 2)
		for name, q := range map[string]search.Query{
			"dimension": {Where: search.Has{Dim: "nonsense"}},
			"order":     {OrderBy: "country"},
			"limit":     {Limit: -1},
		} {
			if _, err := c.services[0].Search(t.Context(), q, index.Options{}); !errors.Is(err, search.ErrBadQuery) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := c.services[0].Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.services[0].Search(t.Context(), search.Query{}, index.Options{}); !errors.Is(err, index.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
