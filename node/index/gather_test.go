package index_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
)

// TestGather has so many servers that tables gather the ads below them, changes
// what is for sale, and compares answers with brute force.
func TestGather(t *testing.T) { synctest.Test(t, testGather) }

func testGather(t *testing.T) {
	hosts, servers, rounds := 16, 40, 15
	if testing.Short() { // the race detector takes ten times as long
		hosts, rounds = 10, 5
	}
	c := start(t, hosts, func(_ int, cfg *index.Config) { cfg.LeafAds = 8 })
	rng := rand.New(rand.NewPCG(6, 6))
	var ads []*search.Signed
	for i := range servers {
		ads = append(ads, sign(t, c.schema, rng, i, 1))
		if err := c.services[i%hosts].Advertise(ads[i]); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, c.services)
	time.Sleep(9 * time.Minute) // until no cell is young
	for round := range rounds {
		q := search.Query{
			Where:   search.Compare{Dim: "free_cpu", Op: search.OpGreaterEqual, Value: search.Number(float64(round % 10))},
			OrderBy: "price_hour", Limit: 5,
		}
		a, err := c.services[rng.IntN(hosts)].Search(t.Context(), q, index.Options{Unverified: true})
		if err != nil {
			t.Fatal(err)
		}
		compare(t, c.schema, q, a, ads)
		time.Sleep(20 * time.Second)
		if round%5 == 4 {
			i := rng.IntN(servers)
			ads[i] = sign(t, c.schema, rng, i, ads[i].Ad.Seq+1)
			if err := c.services[i%hosts].Advertise(ads[i]); err != nil {
				t.Fatal(err)
			}
			settle(t, c.services)
			time.Sleep(10 * time.Second) // until those who gather have it
		}
	}
	var gathering, feeding int
	var summed uint64
	for _, s := range c.services {
		st := s.Stats().Holder
		gathering, feeding, summed = gathering+st.Gathering, feeding+st.Feeding, summed+st.Summed
	}
	t.Logf("%d tables have the ads below, told by %d; %d answers were for all of them", gathering, feeding, summed)
	if gathering < 20 || feeding < gathering || summed < uint64(rounds)/2 {
		t.Error("want at least 20 tables, told by as many, and answers for all")
	}
}
