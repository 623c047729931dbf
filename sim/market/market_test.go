package market

import (
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/latency"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func peerOf(i int) (id dht.PeerID) {
	rng := rand.NewPCG(uint64(i), 77)
	for k := 0; k < len(id); k += 8 {
		binary.BigEndian.PutUint64(id[k:], rng.Uint64())
	}
	return id
}

// testConfig places servers in the cities of the built-in latency model; one
// in fifty does not say where it is.
func testConfig(servers int) Config {
	cities := latency.NewCities(1)
	at := latency.Embed(cities, 100, newRand(2))
	chooser := latency.NewChooser(cities)
	site := func(i int) int { return chooser.Site(newRand(uint64(i))) }
	return Config{
		Servers: servers, Seed: 5, PeerOf: peerOf, Diurnal: 0.3, Hour: 9,
		PlaceOf: func(i int) (lat, lon float64, country, city string, ok bool) {
			lat, lon, country, city, _ = cities.Place(site(i))
			return lat, lon, country, city, i%50 != 7
		},
		CoordinateOf: func(i int) dht.Coordinate {
			return latency.At(at[site(i)], latency.Access{}.Draw(newRand(uint64(i)+1e9)))
		},
	}
}

func newMarket(t testing.TB, cfg Config) *Market {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAdsAreRight(t *testing.T) {
	m := newMarket(t, testConfig(3000))
	filled := make(map[string]int)
	for i := range m.Len() {
		ad := m.Ad(i)
		if ad.Ad.Attributes.Len() < 16 || ad.Ad.Server != peerOf(i) || ad.Ad.Seq != 1 {
			t.Fatalf("server %d: %+v", i, ad.Ad)
		}
		for name, v := range ad.Ad.Attributes.All() {
			filled[name]++
			if !m.Value(i, name).Equal(v) {
				t.Errorf("server %d: %s is %v in the ad, else %v", i, name, v, m.Value(i, name))
			}
			checkValue(t, m.Schema(), name, v)
		}
		for _, d := range m.Schema().Dimensions() {
			if _, ok := ad.Ad.Attribute(d.Name); !ok && !m.Value(i, d.Name).IsZero() {
				t.Errorf("server %d: %s is missing in the ad only", i, d.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(filled)) {
		t.Logf("%-14s %5.1f %%", name, float64(filled[name])/float64(m.Len())*100)
	}
	for _, name := range []string{
		"total_cpu", "free_cpu", "total_memory", "free_memory", "free_disk", "free_network", "free_gpu", "gpu_model", "gpu_memory", "price_hour",
		"price_cpu", "environments", "os", "kernel", "arch", "hypervisor", "country", "place", "coordinate", "owner", "reputation", "uptime", "load",
	} {
		if filled[name] < m.Len()/20 {
			t.Errorf("%s: %d of %d servers", name, filled[name], m.Len())
		}
	}
}

// checkValue asks the schema whether a query may name the value, which is the
// same as whether an ad may claim it.
func checkValue(t *testing.T, s *search.Schema, dim string, v search.Value) {
	t.Helper()
	var p search.Predicate = search.Compare{Dim: dim, Op: search.OpEqual, Value: v}
	if set, ok := v.Set(); ok {
		p = search.Contains{Dim: dim, Member: set[0]}
	} else if place, ok := v.Place(); ok {
		p = search.Within{Dim: dim, Center: place, Km: 1}
	} else if c, ok := v.Coordinate(); ok {
		p = search.RTT{Dim: dim, To: []dht.Coordinate{c}, Most: 1}
	}
	if err := s.Check(search.Query{Where: p}); err != nil {
		t.Errorf("%s: %v", dim, err)
	}
}

func TestMarketIsDeterministic(t *testing.T) {
	a, b := newMarket(t, testConfig(500)), newMarket(t, testConfig(800))
	for i := range a.Len() {
		for _, d := range a.Schema().Dimensions() {
			if d.Name != search.DimOwner && !a.Value(i, d.Name).Equal(b.Value(i, d.Name)) {
				t.Fatalf("server %d: %s is %v of 500, %v of 800", i, d.Name, a.Value(i, d.Name), b.Value(i, d.Name))
			}
		}
	}
	rng, again := newRand(1), newRand(1)
	b = newMarket(t, testConfig(500))
	for range 2000 {
		a.Drift(rng.IntN(500), rng)
		b.Drift(again.IntN(500), again)
	}
	for i := range a.Len() {
		if !a.Ad(i).Ad.Attributes.Equal(b.Ad(i).Ad.Attributes) {
			t.Fatalf("server %d drifted differently", i)
		}
	}
}

func TestDrift(t *testing.T) {
	m, rng := newMarket(t, testConfig(300)), newRand(3)
	for n := range 20_000 {
		i := n % m.Len()
		before := m.Seq(i)
		m.Drift(i, rng)
		if m.Seq(i) != before+1 || m.Ad(i).Ad.Seq != before+2 {
			t.Fatalf("server %d: sequence number %d after %d", i, m.Seq(i), before)
		}
		for _, pair := range [][2]string{
			{"free_cpu", "total_cpu"},
			{"free_memory", "total_memory"},
			{"free_disk", "total_disk"},
			{"free_network", "total_network"},
			{"free_gpu", "total_gpu"},
		} {
			free, ok := m.Value(i, pair[0]).Number()
			total, has := m.Value(i, pair[1]).Number()
			if ok != has || ok && !(free >= 0 && free <= total) {
				t.Fatalf("server %d: %s %v of %v", i, pair[0], free, total)
			}
		}
		if load, ok := m.Value(i, "load").Number(); !ok || !(load >= 0 && load <= 1) {
			t.Fatalf("server %d: load %v", i, load)
		}
	}
}

func TestDiurnal(t *testing.T) {
	mean := func(hour, amplitude float64) float64 {
		cfg := testConfig(3000)
		cfg.Hour, cfg.Diurnal = hour, amplitude
		cfg.PlaceOf = func(int) (lat, lon float64, country, city string, ok bool) { return 50, 0, "GB", "Here", true }
		m, sum := newMarket(t, cfg), 0.0
		for i := range m.Len() {
			load, _ := m.Value(i, "load").Number()
			sum += load / float64(m.Len())
		}
		return sum
	}
	day, night, flat := mean(15, 0.5), mean(3, 0.5), mean(15, 0)
	if !(night < 0.6*flat && day > 1.25*flat) {
		t.Errorf("mean load %.3f by day, %.3f by night, %.3f without the time of day", day, night, flat)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no servers":  func(c *Config) { c.Servers = 0 },
		"PeerOf":      func(c *Config) { c.PeerOf = nil },
		"Diurnal":     func(c *Config) { c.Diurnal = 2 },
		"Zipf":        func(c *Config) { c.Zipf = 9 },
		"owners":      func(c *Config) { c.Owners = -1 },
		"Hour":        func(c *Config) { c.Hour = -1 },
		"type 2":      func(c *Config) { c.Types = []MachineType{{CPU: 1, MemMiB: 1, USDPerHour: 1}, {CPU: 1, MemMiB: 1}} },
		"architectur": func(c *Config) { c.Types = []MachineType{{CPU: 1, MemMiB: 1, USDPerHour: 1, Arch: "z80"}} },
		"300 bytes": func(c *Config) {
			c.Types = []MachineType{{CPU: 1, MemMiB: 1, USDPerHour: 1, GPUs: 1, GPUName: strings.Repeat("x", 300)}}
		},
		"on Earth": func(c *Config) {
			c.PlaceOf = func(int) (float64, float64, string, string, bool) { return 99, 0, "", "", true }
		},
		"out of rang": func(c *Config) { c.CoordinateOf = func(int) dht.Coordinate { return dht.Coordinate{} } },
	} {
		cfg := testConfig(10)
		spoil(&cfg)
		_, err := New(cfg)
		if !errors.Is(err, ErrBadConfig) || name != "no servers" && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBytes(t *testing.T) {
	m := newMarket(t, testConfig(50_000))
	if got := float64(m.Bytes()) / 50_000; got > 300 {
		t.Errorf("%.0f bytes a server", got)
	} else {
		t.Logf("%.0f bytes a server", got)
	}
}
