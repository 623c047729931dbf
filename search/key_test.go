package search

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/xenoserver/xeno/dht"
)

// TestBoxes: a cell of places, or of network coordinates, is a box: each bit of
// its prefix halves it along one axis after the other.
func TestBoxes(t *testing.T) {
	s := DefaultSchema()
	rng := rand.New(rand.NewPCG(8, 8))
	for _, c := range []struct {
		dim   string
		value func(at []float64) Value
		axes  int
	}{
		{DimPlace, func(at []float64) Value { return PlaceAt(180*at[0]-90, 360*at[1]-180) }, 2},
		{DimCoordinate, func(at []float64) Value {
			var c dht.Coordinate
			for i := range c.Vec {
				x := 2*at[i] - 1
				c.Vec[i] = axisMiddle * x / (1 - math.Abs(x))
			}
			return CoordinateAt(c)
		}, dht.CoordinateDims},
	} {
		const ads, level = 10_000, 12
		tree, _ := s.Tree(c.dim)
		outside := 0
		for range ads {
			at := make([]float64, c.axes)
			for i := range at {
				at[i] = rng.Float64()
			}
			ad := &Ad{Server: randomID(rng), Attributes: AttributesOf(map[string]Value{c.dim: c.value(at)})}
			key := s.KeyOf(tree, &Signed{Ad: ad, hash: HashOf(ad.Server)})
			low, width := make([]float64, c.axes), make([]float64, c.axes)
			for i := range level {
				axis := i % c.axes
				width[axis]++
				low[axis] += float64(key.bits(i, 1)) * math.Ldexp(1, -int(width[axis]))
			}
			for i, x := range at {
				if x < low[i]-1e-9 || x > low[i]+math.Ldexp(1, -int(width[i]))+1e-9 {
					outside++
					break
				}
			}
		}
		if outside > 0 {
			t.Errorf("%s: %d of %d lie outside of their cells' boxes", c.dim, outside, ads)
		}
	}
}
