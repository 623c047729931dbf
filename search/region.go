package search

import (
	"math"
	"math/bits"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A region is where the coordinates of a range may lie: the bands of each axis
// that are in use, or one of its balls.
type region struct {
	axes   []uint64 // occupancy of each
	ball   *Ball    // nil: all of the bands
	height float64  // the least, in seconds
}

// box returns where the coordinates of dimension i lie as far as occupancy says.
func (s *Schema) box(i int, m Summary) region {
	lowest := bits.TrailingZeros64(m.Occupancy[i] | 1<<(heightBands-1))
	return region{axes: m.Occupancy[s.axes[i]:][:dht.CoordinateDims], height: heightLeast(lowest)}
}

// near tells whether a range may have a coordinate in dimension i that satisfies
// p: the box must reach, and one of the balls if there are any.
func (s *Schema) near(p Predicate, i int, m Summary) bool {
	rtt, ok := p.(RTT)
	if !ok {
		return true
	}
	r := s.box(i, m)
	if !r.near(rtt) {
		return false
	}
	told := false
	for b := range m.Balls {
		if r.ball = &m.Balls[b]; int(r.ball.Dim) != i {
			continue
		}
		if told = true; r.near(rtt) {
			return true
		}
	}
	return !told
}

// near tells whether a coordinate in the region may satisfy p.
func (r region) near(p RTT) bool {
	for i := range p.To {
		if r.leastRTT(&p.To[i]) > p.Most.Seconds()+1e-9 {
			return false
		}
	}
	if len(p.To) < 2 {
		return true
	}
	from := &p.To[0]
	return r.leastBeside(from, p.To, p.Most) <= p.Most.Seconds()+1e-9-r.height-from.Height
}

// leastRTT bounds the round trip time in seconds from a coordinate to those in
// the region from below.
func (r region) leastRTT(to *dht.Coordinate) float64 {
	return max(0, r.gap(&to.Vec)+r.height+to.Height-1e-9)
}

// leastBeside bounds the distance in seconds, without heights, from a coordinate
// to those in the region from below that several hosts are near to; of the
// hosts, those at the coordinate are left out. If such a one is r[j] from the
// j-th of k-1 at most, and m is the mean of these and the coordinate, then the
// sum of the squares of all k distances is k times that of its distance from m,
// and those of theirs (Huygens and Steiner).
func (r region) leastBeside(from *dht.Coordinate, hosts []dht.Coordinate, within time.Duration) float64 {
	k, mean := 1.0, from.Vec
	for i := range hosts {
		if hosts[i] == *from {
			continue
		}
		k++
		for axis, x := range hosts[i].Vec {
			mean[axis] += x
		}
	}
	for axis := range mean {
		mean[axis] /= k
	}
	gap := r.gap(&mean)
	squares, rest := k*gap*gap+square(&from.Vec, &mean), 0.0
	for i := range hosts {
		if hosts[i] == *from {
			continue
		}
		squares += square(&hosts[i].Vec, &mean)
		most := max(0, within.Seconds()+1e-8-r.height-hosts[i].Height)
		rest += most * most
	}
	// What rounding may lose grows with what was summed up.
	return math.Sqrt(max(0, squares-rest-1e-12-1e-14*squares))
}

// square returns the square of the distance of two points.
func square(a, b *[dht.CoordinateDims]float64) (sum float64) {
	for axis := range a {
		d := a[axis] - b[axis]
		sum += d * d
	}
	return sum
}

// gap returns how far a point is from the region, in seconds.
func (r region) gap(x *[dht.CoordinateDims]float64) float64 {
	if r.ball != nil {
		return r.ball.gap(x)
	}
	sum := 0.0
	for axis, set := range r.axes {
		gap := axisGap(set, x[axis])
		sum += gap * gap
	}
	return math.Sqrt(sum)
}

// axisGap is how far x is from the nearest occupied band of an axis; the
// outermost bands reach to infinity.
func axisGap(set uint64, x float64) float64 {
	const width = 2 * coordinateSpan / 64
	at := coordinateBand(x, 64)
	least := math.Inf(1)
	if up := set >> at; up != 0 {
		n := bits.TrailingZeros64(up)
		if n == 0 {
			return 0
		}
		least = -coordinateSpan + width*float64(at+n) - x
	}
	if down := set << (63 - at); down != 0 {
		least = min(least, x-(-coordinateSpan+width*float64(at-bits.LeadingZeros64(down)+1)))
	}
	if math.IsInf(least, 1) {
		return 0 // of ads without a coordinate
	}
	return max(0, least)
}
