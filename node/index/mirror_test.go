package index_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
)

// TestMirrors asks one tree so much that its cells get mirrors, changes what is
// for sale meanwhile, and compares the answers with brute force.
func TestMirrors(t *testing.T) { synctest.Test(t, testMirrors) }

func testMirrors(t *testing.T) {
	const hosts, servers, rounds, each = 20, 60, 200, 5
	c := start(t, hosts, nil)
	rng := rand.New(rand.NewPCG(5, 5))
	var ads []*search.Signed
	for i := range servers {
		ads = append(ads, sign(t, c.schema, rng, i, 1))
		if err := c.services[i%hosts].Advertise(ads[i]); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, c.services)
	time.Sleep(8 * time.Minute) // until no cell is young
	q := search.Query{Where: search.Has{Dim: "price_hour"}, OrderBy: "price_hour", Limit: 5}
	for round := range rounds {
		var wg sync.WaitGroup
		for range each {
			s := c.services[rng.IntN(hosts)]
			wg.Go(func() {
				a, err := s.Search(t.Context(), q, index.Options{Unverified: true})
				if err != nil {
					t.Error(err)
					return
				}
				compare(t, c.schema, q, a, ads)
			})
		}
		wg.Wait()
		time.Sleep(500 * time.Millisecond)
		if round%40 == 39 {
			i := rng.IntN(servers)
			ads[i] = sign(t, c.schema, rng, i, ads[i].Ad.Seq+1)
			if err := c.services[i%hosts].Advertise(ads[i]); err != nil {
				t.Fatal(err)
			}
			settle(t, c.services)
			time.Sleep(3 * time.Second) // until mirrors have it
		}
	}
	var mirrors, replicas int
	var reflected, asked uint64
	for _, s := range c.services {
		st := s.Stats().Holder
		mirrors, replicas = mirrors+st.Mirrors, replicas+st.Replicas
		reflected, asked = reflected+st.Reflected, asked+st.Asked
	}
	t.Logf("%d mirrors, %d of %d asks are theirs", mirrors, reflected, asked)
	if mirrors == 0 || replicas == 0 || reflected < asked/10 {
		t.Errorf("%d mirrors, %d replicas answered %d of %d asks", mirrors, replicas, reflected, asked)
	}
	time.Sleep(time.Minute)
	for _, s := range c.services {
		if st := s.Stats().Holder; st.Replicas > 0 || st.Mirrors > 0 {
			t.Errorf("%d mirrors and %d replicas are left when nobody asks", st.Mirrors, st.Replicas)
		}
	}
}
