package search

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/xenoserver/xeno/dht"
)

// fraction maps a value to 0 ≤ f < 1, keeping the order where the dimension
// has one. It uses only operations that every machine rounds alike, so that
// all participants agree on keys and occupancy to the bit.
func (d Dimension) fraction(v Value) float64 {
	switch d.Kind {
	case KindNumber:
		return d.numberFraction(v.num)
	case KindVersion:
		return versionFraction(v.text())
	case KindEnum:
		return clamp(float64(slices.Index(d.Values, v.text())) / float64(len(d.Values)))
	case KindSet:
		return float64(bits.Reverse64(foldBits(d.setBits(v.set())))>>(64-singleBits)) / (1 << singleBits)
	case KindPlace:
		at := v.place()
		return interleave(placeBand(at.Lat, 90, placeFine), placeBand(at.Lon, 180, placeFine))
	case KindCoordinate:
		return interleaveAxes(*v.coord())
	default:
		return hashFraction(v.text())
	}
}

// below1 is the greatest number below 1.
var below1 = math.Nextafter(1, 0)

func clamp(f float64) float64 { return max(0, min(f, below1)) }

func (d Dimension) numberFraction(x float64) float64 {
	x = max(d.Min, min(x, d.Max))
	if d.Scale == ScaleLog {
		low := pieceLog(d.Min)
		return clamp((pieceLog(x) - low) / (pieceLog(d.Max) - low))
	}
	return clamp((x - d.Min) / (d.Max - d.Min))
}

// pieceLog is a base-2 logarithm that is exact at powers of two and linear
// between them: continuous, increasing, and free of rounding that differs.
func pieceLog(x float64) float64 {
	m, e := math.Frexp(x)
	return float64(e-1) + float64(2*m-1)
}

// versionFraction gives each first part below 48 one bucket and divides it by
// the second part; later first parts share buckets by their magnitude.
func versionFraction(s string) float64 {
	v, ok := parseVersion(s)
	if !ok {
		return 0
	}
	major, minor := v.parts[0], uint64(0)
	if major >= 48 {
		return float64(min(48+bits.Len64(major)-6, 63)) / 64
	}
	if len(v.parts) > 1 {
		minor = min(v.parts[1], 63)
	}
	return float64(major*64+minor) / 4096
}

// setBits maps a set to 32 bits for the members that the dimension names and
// 32 for the others, by hash.
func (d Dimension) setBits(set []string) (b uint64) {
	for _, m := range set {
		b |= d.memberBit(m)
	}
	return b
}

func (d Dimension) memberBit(m string) uint64 {
	if i := slices.Index(d.Values, m); i >= 0 && i < 32 {
		return 1 << i
	}
	return 1 << (32 + int(hashFraction(m)*32))
}

// foldBits folds 64 bits to singleBits, so that sets with different members
// mostly get different keys. The first members are its lowest bits, which come
// first in a key.
func foldBits(b uint64) uint64 {
	var f uint64
	for ; b != 0; b >>= singleBits {
		f ^= b & (1<<singleBits - 1)
	}
	return f
}

func hashFraction(s string) float64 {
	sum := sha256.Sum256([]byte(s))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

const (
	// placeFine is how many bands a plane's axis has in keys: of 0.7 degrees of
	// latitude.
	placeFine = 256
	// placeBands is how many bands of latitude, and of longitude, occupancy
	// maps have.
	placeBands = 32
	// axisFine is how many bands of each axis of a coordinate a key has, and
	// axisMiddle how many seconds from the origin the middle one of them on either
	// side ends.
	axisFine, axisMiddle = 8, 0.02
	// heightBands is how many bands of its height an occupancy map has: below
	// 1 ms, 2 ms, 4 ms and so on, the last without end.
	heightBands = 8
	// coordinateSpan is where the outermost bands of a network coordinate
	// begin on either side, in seconds; they reach to infinity.
	coordinateSpan = 0.08
)

// placeBand returns in which of n bands from -most to most degrees x lies.
func placeBand(x, most float64, n int) int {
	return max(0, min(int((x+most)/(2*most)*float64(n)), n-1))
}

// coordinateBand returns in which of n bands x seconds lies.
func coordinateBand(x float64, n int) int {
	return placeBand(max(-coordinateSpan, min(x, coordinateSpan)), coordinateSpan, n)
}

// interleave returns the fraction whose bits are those of y and x in turn.
func interleave(y, x int) float64 {
	z := 0
	for bit := placeFine / 2; bit > 0; bit /= 2 {
		z <<= 2
		if y&bit != 0 {
			z |= 2
		}
		if x&bit != 0 {
			z |= 1
		}
	}
	return float64(z) / (placeFine * placeFine)
}

// interleaveAxes returns the fraction whose bits are those of the axes of a
// coordinate in turn.
func interleaveAxes(c dht.Coordinate) float64 {
	z := 0
	for bit := axisFine / 2; bit > 0; bit /= 2 {
		for axis := range c.Vec {
			z <<= 1
			if axisBand(c.Vec[axis])&bit != 0 {
				z |= 1
			}
		}
	}
	return float64(z) / (1 << 24)
}

// axisBand returns in which band of an axis x seconds lies, as a key has them:
// near the origin, where most servers are, they are narrow, and the outermost
// are without end. Equal ones would have most servers in two of them.
func axisBand(x float64) int {
	return placeBand(x/(math.Abs(x)+axisMiddle), 1, axisFine)
}

// heightBand returns in which band a height in seconds lies.
func heightBand(h float64) (band int) {
	for limit := 0.001; band < heightBands-1 && h >= limit; limit *= 2 {
		band++
	}
	return band
}

// heightLeast returns where a band begins.
func heightLeast(band int) float64 {
	if band == 0 {
		return 0
	}
	return 0.001 * float64(uint(1)<<(band-1))
}
