package search

import "math"

// Confidence is in what part of cases the bounds of an Estimate hold the truth:
// 19 of 20.
const Confidence = 0.95

// An Estimate is a number of ads that were not all looked at.
type Estimate struct {
	Count float64
	// Low and High hold the true number with Confidence, as far as holders tell
	// the truth and ads do not change meanwhile.
	Low, High float64
}

// Exact tells whether every ad that may match was counted.
func (e Estimate) Exact() bool { return e.Low == e.High }

// Error is half of what lies between the bounds, as a part of the number.
func (e Estimate) Error() float64 { return (e.High - e.Low) / 2 / max(e.Count, 1) }

// A stratum is a part of the ads, of which some were looked at and the others
// are like those.
type stratum struct {
	counted float64 // matches among those that were looked at
	rest    float64 // ads that were not
	sampled float64 // ads that tell of the rest
	matched float64 // those of them that match
	guess   float64 // which part of the rest matches, of summaries alone; weighs samplePrior ads
}

// part estimates which part of the rest matches.
func (t stratum) part() float64 {
	return (t.matched + samplePrior*t.guess) / (t.sampled + samplePrior)
}

// estimate returns how many ads of the stratum match.
//
// The rest is of R ads. A sample of n of the same kind predicts its matches
// with the variance R² p (1-p) (1/n + 1/R), that of n R / (n + R) ads without
// the second term, which is the correction for finite populations. Wilson's
// score interval (JASA 1927) of so many ads bounds the part.
func (t stratum) estimate() Estimate {
	if t.rest <= 0 {
		return Estimate{t.counted, t.counted, t.counted}
	}
	count := t.counted + t.rest*t.part()
	low, high := 0.0, 1.0
	if t.sampled > 0 {
		low, high = wilson(t.matched/t.sampled, t.sampled*t.rest/(t.sampled+t.rest))
	}
	return Estimate{count, min(count, t.counted+t.rest*low), max(count, t.counted+t.rest*high)}
}

// variance returns that of the estimate.
func (t stratum) variance() float64 {
	if t.rest <= 0 {
		return 0
	}
	p := t.part()
	return t.rest * p * (1 - p) * (t.rest/max(t.sampled, 1) + 1)
}

// wilson bounds a probability of which n trials had the part p.
func wilson(p, n float64) (low, high float64) {
	const z2 = sketchZ * sketchZ
	middle := p + z2/(2*n)
	spread := sketchZ * math.Sqrt(p*(1-p)/n+z2/(4*n*n))
	return max(0, (middle-spread)/(1+z2/n)), min(1, (middle+spread)/(1+z2/n))
}

// add returns the sum of independent estimates. Their bounds are combined as
// the squares of their distances (MOVER: Zou and Donner, Construction of
// confidence limits about effect measures, Statistics in Medicine 2008).
func (e Estimate) add(f Estimate) Estimate {
	count := e.Count + f.Count
	return Estimate{
		Count: count,
		Low:   count - math.Hypot(e.Count-e.Low, f.Count-f.Low),
		High:  count + math.Hypot(e.High-e.Count, f.High-f.Count),
	}
}
