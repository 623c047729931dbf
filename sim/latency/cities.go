package latency

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/xenoserver/xeno/search"
)

// The fitted model of Cities. Light takes 1 ms for 200 km of fibre, so a round
// trip takes 1 ms for 100 km of great circle; cables take detours and routers
// queue. The constants are fitted so that two random users of the world, access
// links included, are 140 ms apart at the median, 290 ms at the 90th percentile
// and 420 ms at the 99th, where published measurements lie: between PlanetLab
// hosts 135, 291 and 413 ms (Zhu et al., Network latency estimation for
// personal devices, ToN 2017), between the servers of WonderNetwork 143, 290
// and 442 ms (2018).
const (
	kmPerMilli = 100.0 // great circle there and back at two thirds of the speed of light
	inflation  = 1.75
	baseMillis = 2.0  // leaving one city's network and entering the other's
	citySigma  = 0.12 // of the logarithm of the detour, for each of the two cities
	pairSigma  = 0.15 // the same for the pair
)

// Cities is a model of the world for those who have no matrix: a site for each
// of 152 big cities, weighted by their Internet users, round trip times by
// distance with a detour that is drawn for each pair. It is immutable and may
// be used at once.
type Cities struct {
	cities []city
	rtt    []time.Duration // row by row, symmetric
}

// NewCities returns the model whose detours are drawn from seed: the same seed
// gives the same times.
func NewCities(seed uint64) *Cities {
	c := &Cities{cities: world}
	n := len(c.cities)
	c.rtt = make([]time.Duration, n*n)
	rng := rand.New(rand.NewPCG(seed, 0x6c6174656e6379))
	detour := make([]float64, n)
	for a, from := range c.cities {
		c.rtt[a*n+a] = Within
		detour[a] = citySigma * rng.NormFloat64()
		for b := range a {
			to := c.cities[b]
			km := search.Distance(search.Place{Lat: from.lat, Lon: from.lon}, search.Place{Lat: to.lat, Lon: to.lon})
			ms := baseMillis + km/kmPerMilli*max(1, inflation*math.Exp(detour[a]+detour[b]+pairSigma*rng.NormFloat64()))
			rtt := time.Duration(ms * float64(time.Millisecond))
			c.rtt[a*n+b], c.rtt[b*n+a] = rtt, rtt
		}
	}
	return c
}

// Sites returns how many cities there are.
func (c *Cities) Sites() int { return len(c.cities) }

// RTT returns the round trip time between two cities; Within for a == b.
// RTT(a, b) == RTT(b, a), and it is never less than light in fibre needs.
func (c *Cities) RTT(a, b int) time.Duration { return c.rtt[a*len(c.cities)+b] }

// Weight returns the millions of Internet users around a city.
func (c *Cities) Weight(site int) float64 { return c.cities[site].weight }

// Place returns where a city is: degrees, ISO 3166 code, name. ok is true.
func (c *Cities) Place(site int) (lat, lon float64, country, city string, ok bool) {
	at := c.cities[site]
	return at.lat, at.lon, at.country, at.name, true
}
