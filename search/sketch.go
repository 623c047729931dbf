package search

import (
	"math"
	"slices"
)

// A Sketch describes a set of ads by a coordinated sample: all members whose
// server hash lies below a threshold, the same order of hashes for everybody.
// Where every member is in it the Sketch is exact; the zero Sketch is exact
// and empty. Sketches are immutable.
//
// They are theta sketches: unions and intersections of sketches are sketches
// of the unions and intersections, whatever their thresholds, and what they
// estimate is unbiased (Dasgupta, Lang, Rhodes, Thaler, A framework for
// estimating stream expression cardinalities, ICDT 2016, sections 3 and 4).
// With fixed thresholds they form a distributive lattice.
type Sketch struct {
	ads     []*Signed // ascending by hash, all below bound; one a server
	partial bool      // members at or above bound are missing
	bound   Hash
}

// NewSketch returns the sketch of a set of which all members are at hand. It
// keeps at most the given number of them; the threshold is then the smallest
// hash that was left out.
func NewSketch(ads []*Signed, most int) Sketch {
	return Sketch{ads: sortedSample(ads)}.Trim(most)
}

// SampleOf returns the sketch of a larger set of which ads are the members with
// the smallest hashes, as an inner cell keeps them. The greatest of them serves
// as the threshold, since the next is not known. Without ads nothing is known.
func SampleOf(ads []*Signed) Sketch {
	sample := sortedSample(ads)
	if len(sample) == 0 {
		return Sketch{partial: true}
	}
	last := len(sample) - 1
	return Sketch{ads: sample[:last:last], partial: true, bound: sample[last].hash}
}

// sortedSample returns the newest ad of each server, by hash.
func sortedSample(ads []*Signed) []*Signed {
	sample := slices.Clone(ads)
	slices.SortFunc(sample, func(a, b *Signed) int {
		if c := a.hash.Compare(b.hash); c != 0 {
			return c
		}
		return compareSeq(b, a)
	})
	return slices.CompactFunc(sample, func(a, b *Signed) bool { return a.hash == b.hash })
}

// Ads returns the members in the sample, by hash. The caller must not change
// the slice.
func (k Sketch) Ads() []*Signed { return k.ads }

// Exact tells whether every member is in the sample.
func (k Sketch) Exact() bool { return !k.partial }

// Trim returns the sketch with the given number of members at most, those with
// the smallest hashes.
func (k Sketch) Trim(most int) Sketch {
	if most = max(most, 0); len(k.ads) <= most {
		return k
	}
	return Sketch{ads: k.ads[:most:most], partial: true, bound: k.ads[most].hash}
}

// Union returns the sketch of what is in k or in l, or in both. Of two ads of a
// server it keeps the newer.
func (k Sketch) Union(l Sketch) Sketch {
	out := k.meet(l)
	out.ads = make([]*Signed, 0, len(k.ads)+len(l.ads))
	i, j := 0, 0
	for i < len(k.ads) || j < len(l.ads) {
		c := -1
		switch {
		case i == len(k.ads):
			c = 1
		case j < len(l.ads):
			c = k.ads[i].hash.Compare(l.ads[j].hash)
		}
		var ad *Signed
		switch {
		case c < 0:
			ad = k.ads[i]
			i++
		case c > 0:
			ad = l.ads[j]
			j++
		default:
			ad = newer(k.ads[i], l.ads[j])
			i++
			j++
		}
		if out.complete(ad.hash) {
			out.ads = append(out.ads, ad)
		}
	}
	return out
}

// Intersect returns the sketch of what is in both k and l. Of two ads of a
// server it keeps the newer.
func (k Sketch) Intersect(l Sketch) Sketch {
	out := k.meet(l)
	for i, j := 0, 0; i < len(k.ads) && j < len(l.ads); {
		switch c := k.ads[i].hash.Compare(l.ads[j].hash); {
		case c < 0:
			i++
		case c > 0:
			j++
		default:
			out.ads = append(out.ads, newer(k.ads[i], l.ads[j])) // below both thresholds
			i++
			j++
		}
	}
	return out
}

// Filter returns the sketch of the members that satisfy p; nil is satisfied by
// all.
func (k Sketch) Filter(s *Schema, p Predicate) Sketch {
	out := Sketch{partial: k.partial, bound: k.bound}
	for _, ad := range k.ads {
		if s.Matches(p, ad.Ad) {
			out.ads = append(out.ads, ad)
		}
	}
	return out
}

// meet returns the empty sketch with the lower of both thresholds.
func (k Sketch) meet(l Sketch) Sketch {
	if !k.partial || l.partial && l.bound.Compare(k.bound) < 0 {
		return Sketch{partial: l.partial, bound: l.bound}
	}
	return Sketch{partial: k.partial, bound: k.bound}
}

// complete tells whether a member with that hash would be in the sample.
func (k Sketch) complete(h Hash) bool { return !k.partial || h.Compare(k.bound) < 0 }

func newer(a, b *Signed) *Signed {
	if compareSeq(a, b) < 0 {
		return b
	}
	return a
}

// compareSeq orders ads of a server by sequence number.
func compareSeq(a, b *Signed) int {
	switch {
	case a.Ad.Seq < b.Ad.Seq:
		return -1
	case a.Ad.Seq > b.Ad.Seq:
		return 1
	default:
		return 0
	}
}

// sketchZ is the two-sided 95 % quantile of the normal distribution.
const sketchZ = 1.959963984540054

// Estimate returns how many members the set has, and bounds between which the
// true number lies in 95 of 100 cases. An exact sketch returns its number
// three times.
//
// With n members below the threshold θ, a fraction of all hashes, the estimate
// is n/θ. Each of N members is below θ with that probability, so n is binomial.
// The bounds are those N for which n ± 1/2 is z standard deviations off:
//
//	(n ± 1/2 - Nθ)² = z² N θ (1-θ)
//
// which is Wilson's score interval with a correction for continuity, solved for
// the number of trials. low is never below n, high is infinite only where
// nothing is known.
func (k Sketch) Estimate() (count, low, high float64) {
	n := float64(len(k.ads))
	if !k.partial {
		return n, n, n
	}
	theta := k.theta()
	if theta == 0 {
		return n, n, math.Inf(1)
	}
	if n > 0 {
		low, _ = scoreBounds(n-0.5, theta)
	}
	_, high = scoreBounds(n+0.5, theta)
	count = n / theta
	return count, min(max(low, n), count), max(high, count)
}

// scoreBounds returns the two N with (n - Nθ)² = z² N θ (1-θ).
func scoreBounds(n, theta float64) (low, high float64) {
	spread := sketchZ * sketchZ * (1 - theta)
	middle := n + spread/2
	root := math.Sqrt(spread * (n + spread/4))
	return (middle - root) / theta, (middle + root) / theta
}

// theta is the threshold as a fraction of all hashes.
func (k Sketch) theta() float64 {
	return k.bound.fraction()
}
