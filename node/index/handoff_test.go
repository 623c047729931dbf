package index_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
)

// TestHandOff lets two hosts join after the only publisher died: what they
// should hold they can have from the other holders alone.
func TestHandOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const old, young, ads = 8, 2, 30
		fabric := kadtest.NewFabric(nil)
		c := start(t, old, nil, kadtest.WithFabric(fabric))
		rng := rand.New(rand.NewPCG(5, 5))
		for i := range ads {
			if err := c.services[old-1].Advertise(sign(t, c.schema, rng, i, 1)); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, c.services[old-1:])
		kadtest.Kill(t, c.hosts[old-1])
		for i := range young {
			cfg := kadtest.Config(fabric, old+i, fabric.Addr())
			cfg.Bootstrap = c.hosts[i].Addrs()
			o := kadtest.Start(t, cfg)
			s, err := index.New(index.Config{Overlay: o, Schema: c.schema, Network: kadtest.Network, Vouch: owner})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			if err := o.Bootstrap(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Start()
			c.services = append(c.services, s)
		}
		time.Sleep(search.ReconcileNear * search.ReconcileAfter(0))
		// Every root is a leaf, which four of nine hosts hold.
		want := len(c.schema.Trees()) * ads * search.Replicas / (old + young - 1)
		for _, s := range c.services[old:] {
			if got := s.Stats().Holder.Leases; got < want/2 {
				t.Errorf("one that joined has %d leases, expected about %d", got, want)
			}
		}
		a, err := c.services[old].Search(t.Context(), search.Query{}, index.Options{Unverified: true})
		if err != nil || len(a.Results) != ads {
			t.Errorf("%d ads found, want %d; %v", len(a.Results), ads, err)
		}
	})
}
