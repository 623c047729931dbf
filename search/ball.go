package search

import (
	"math"
	"slices"

	"github.com/xenoserver/xeno/dht"
)

// A Ball is a part of the space of the coordinates of one dimension. Its numbers
// count half a band of an axis, 1.25 ms.
type Ball struct {
	Dim    uint8  // of the schema
	Radius uint16 // MaxUint16: without end
	Center [dht.CoordinateDims]int16
}

// ballUnit is what the numbers of a ball count, in seconds.
const ballUnit = coordinateSpan / 64

// ballOf returns the ball of an ad: the one around the cube that its bands make,
// of which there is no outermost as in occupancy. Coordinates are within half a
// minute, 24,000 units.
func ballOf(dim int, c dht.Coordinate) Ball {
	b := Ball{Dim: uint8(dim), Radius: uint16(math.Ceil(math.Sqrt(dht.CoordinateDims)))} //nolint:gosec // below maxDimensions
	for axis, x := range c.Vec {
		at := 2*math.Floor(x/(2*ballUnit)) + 1
		b.Center[axis] = int16(max(math.MinInt16, min(at, math.MaxInt16)))
	}
	return b
}

// Enclose returns balls that hold all of two lists, at most MaxBalls of each
// dimension: the first list itself if that holds the second. That must be so
// short already. It writes to neither.
func Enclose(balls, more []Ball) []Ball {
	var room [2*MaxBalls + 1]Ball
	list, own := balls, false
	for i := range more {
		if held(list, &more[i]) {
			continue
		}
		if !own {
			list, own = append(room[:0], balls...), true
		}
		list = widen(list, more[i])
	}
	if !own {
		return balls
	}
	return slices.Clone(list)
}

// widen adds a ball that none of the list holds. If they become too many, the
// two that fit into the smallest one make way for that.
func widen(list []Ball, b Ball) []Ball {
	kept, same := list[:0], 1
	for i := range list {
		if b.holds(&list[i]) {
			continue
		}
		if list[i].Dim == b.Dim {
			same++
		}
		kept = append(kept, list[i])
	}
	list = append(kept, b)
	if same <= MaxBalls {
		return list
	}
	i, j := nearest(list, b.Dim)
	around := list[i].around(&list[j])
	list = slices.Delete(slices.Delete(list, j, j+1), i, i+1)
	if held(list, &around) {
		return list
	}
	return widen(list, around)
}

// nearest returns which two of the balls of a dimension fit into the smallest
// one, the first of them first.
func nearest(list []Ball, dim uint8) (first, second int) {
	least := math.Inf(1)
	for j := range list {
		for i := range j {
			if list[i].Dim != dim || list[j].Dim != dim {
				continue
			}
			width := math.Sqrt(float64(list[i].square(&list[j]))) + float64(list[i].Radius) + float64(list[j].Radius)
			if width < least {
				first, second, least = i, j, width
			}
		}
	}
	return first, second
}

// held tells whether one of a list holds a ball.
func held(list []Ball, b *Ball) bool {
	for i := range list {
		if list[i].holds(b) {
			return true
		}
	}
	return false
}

// holds tells whether all of c lies in b.
func (b *Ball) holds(c *Ball) bool {
	if b.Dim != c.Dim || b.Radius < c.Radius {
		return false
	}
	r := int64(b.Radius) - int64(c.Radius)
	return b.endless() || b.square(c) <= r*r
}

func (b *Ball) endless() bool { return b.Radius == math.MaxUint16 }

// around returns the smallest ball that holds two. All rounding is towards a
// larger one.
func (b *Ball) around(c *Ball) Ball {
	if b.holds(c) {
		return *b
	}
	if c.holds(b) {
		return *c
	}
	apart := math.Sqrt(float64(b.square(c)))
	m := Ball{Dim: b.Dim}
	part := (apart + float64(c.Radius) - float64(b.Radius)) / (2 * apart)
	for axis := range m.Center {
		from, to := float64(b.Center[axis]), float64(c.Center[axis])
		m.Center[axis] = int16(math.Round(from + part*(to-from)))
	}
	radius := max(m.reach(b), m.reach(c))
	m.Radius = uint16(min(radius, math.MaxUint16)) //nolint:gosec // not negative
	return m
}

// reach returns the radius with which b holds c.
func (b *Ball) reach(c *Ball) int64 {
	square := b.square(c)
	apart := int64(math.Sqrt(float64(square)))
	for apart*apart < square {
		apart++
	}
	return apart + int64(c.Radius)
}

// square returns the square of the distance of two centres.
func (b *Ball) square(c *Ball) (sum int64) {
	for axis := range b.Center {
		d := int64(b.Center[axis]) - int64(c.Center[axis])
		sum += d * d
	}
	return sum
}

// gap returns how far a point is from the ball, in seconds.
func (b *Ball) gap(x *[dht.CoordinateDims]float64) float64 {
	if b.endless() {
		return 0
	}
	sum := 0.0
	for axis := range x {
		d := x[axis] - float64(b.Center[axis])*ballUnit
		sum += d * d
	}
	return max(0, math.Sqrt(sum)-float64(b.Radius)*ballUnit)
}
