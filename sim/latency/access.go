package latency

import (
	"math"
	"math/rand/v2"
	"sort"
	"time"
)

// An Access describes last miles: what a node's own link adds to each of its
// round trips, there and back together. It is log-normal, as access links are
// measured: most are short, few are long.
type Access struct {
	Median time.Duration // zero: 3 ms, servers in houses and offices with fibre as well as in data centres
	Sigma  float64       // of the logarithm; zero: 0.8, so that one in a hundred has more than 19 ms
}

// withDefaults returns a with its zeros replaced.
func (a Access) withDefaults() Access {
	if a.Median == 0 {
		a.Median = 3 * time.Millisecond
	}
	if a.Sigma == 0 {
		a.Sigma = 0.8
	}
	return a
}

// Draw returns the access link of one node, at most two seconds.
func (a Access) Draw(rng *rand.Rand) time.Duration {
	a = a.withDefaults()
	seconds := a.Median.Seconds() * math.Exp(a.Sigma*rng.NormFloat64())
	return time.Duration(min(seconds, maxAccess.Seconds()) * float64(time.Second))
}

// Weighted is a model that says how many nodes are at each site.
type Weighted interface {
	Sites() int
	Weight(site int) float64
}

// A Chooser draws sites by weight. It is immutable.
type Chooser struct{ until []float64 } // running sum of the weights

// NewChooser returns a chooser of the sites of m, of which at least one must
// have a weight.
func NewChooser(m Weighted) *Chooser {
	c := &Chooser{until: make([]float64, m.Sites())}
	sum := 0.0
	for i := range c.until {
		sum += m.Weight(i)
		c.until[i] = sum
	}
	return c
}

// Site returns a random site, each as often as its weight says.
func (c *Chooser) Site(rng *rand.Rand) int {
	x := rng.Float64() * c.until[len(c.until)-1]
	return sort.Search(len(c.until)-1, func(i int) bool { return x < c.until[i] })
}
