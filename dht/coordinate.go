package dht

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// CoordinateDims is the dimension of the Euclidean part of a Coordinate.
const CoordinateDims = 8

// ErrBadCoordinate reports a coordinate or a round trip time that no honest
// measurement yields.
var ErrBadCoordinate = errors.New("dht: coordinate or round trip time out of range")

// A Coordinate places a participant in a space where distance predicts round
// trip time (Dabek et al., Vivaldi, SIGCOMM 2004): a Euclidean part, a height
// for the access link, and an adjustment (Lee et al., On suitability of
// Euclidean embedding, 2010). All in seconds, except Error, which has no unit.
type Coordinate struct {
	Vec        [CoordinateDims]float64
	Error      float64 // 0 (certain) to 1.5 (knows nothing)
	Adjustment float64
	Height     float64
}

// The parameters of Vivaldi, those of Serf (coordinate/config.go), which
// follow the papers; 8 dimensions plus height is what Ledlie et al. found
// best (Network coordinates in the wild, NSDI 2007).
const (
	errorMax     = 1.5 // Error of one that has measured nothing
	tuneError    = 0.25
	tuneForce    = 0.25
	adjustWindow = 20 // observations that the adjustment averages
	heightMin    = 10e-6
	medianWindow = 3     // round trip times of one peer, of which the median counts
	gravityRho   = 150.0 // seconds; pulls everybody towards the origin against drift
	nearZero     = 1e-6
)

// NewCoordinate returns the coordinate of one that has measured nothing.
func NewCoordinate() Coordinate { return Coordinate{Error: errorMax, Height: heightMin} }

// Check returns an error wrapping ErrBadCoordinate unless c is a coordinate
// that an honest participant can have.
func (c Coordinate) Check() error {
	for _, x := range c.Vec {
		if !(math.Abs(x) <= maxCoordinate) { // also not a number
			return fmt.Errorf("component %v s: %w", x, ErrBadCoordinate)
		}
	}
	switch {
	case !(c.Error >= 0 && c.Error <= errorMax):
		return fmt.Errorf("error %v: %w", c.Error, ErrBadCoordinate)
	case !(math.Abs(c.Adjustment) <= maxCoordinate):
		return fmt.Errorf("adjustment %v s: %w", c.Adjustment, ErrBadCoordinate)
	case !(c.Height > 0 && c.Height <= maxCoordinate):
		return fmt.Errorf("height %v s: %w", c.Height, ErrBadCoordinate)
	}
	return nil
}

// DistanceTo predicts the round trip time between c and d, which must have
// passed Check. c.DistanceTo(d) == d.DistanceTo(c), never negative.
func (c Coordinate) DistanceTo(d Coordinate) time.Duration {
	return time.Duration(c.distance(d) * float64(time.Second))
}

// distance is the predicted round trip time in seconds.
func (c Coordinate) distance(d Coordinate) float64 {
	raw := c.rawDistance(d)
	if adjusted := raw + c.Adjustment + d.Adjustment; adjusted > 0 {
		return adjusted
	}
	return raw
}

// rawDistance leaves the adjustments out.
func (c Coordinate) rawDistance(d Coordinate) float64 {
	var sum float64
	for i := range c.Vec {
		x := c.Vec[i] - d.Vec[i]
		sum += x * x
	}
	return math.Sqrt(sum) + (c.Height + d.Height)
}

// A Vivaldi keeps the coordinate of one participant and moves it with every
// round trip time that the participant measures. It is not safe for
// concurrent use; its memory is bounded by maxMedianPeers.
type Vivaldi struct {
	rng        *rand.Rand
	at         Coordinate
	samples    [adjustWindow]float64
	nextSample int
	recent     map[PeerID][]float64 // last round trip times, seconds
	order      []PeerID             // of recent, oldest first
}

// NewVivaldi returns the state of one that has measured nothing. rng gives
// the direction in which two participants at one point part.
func NewVivaldi(rng *rand.Rand) *Vivaldi {
	return &Vivaldi{rng: rng, at: NewCoordinate(), recent: make(map[PeerID][]float64)}
}

// Coordinate returns where the participant is now.
func (v *Vivaldi) Coordinate() Coordinate { return v.at }

// Forget drops what was measured to peer.
func (v *Vivaldi) Forget(peer PeerID) {
	if _, ok := v.recent[peer]; ok {
		delete(v.recent, peer)
		v.order = slices.DeleteFunc(v.order, func(id PeerID) bool { return id == peer })
	}
}

// Observe takes in the coordinate that peer claims and the round trip time
// measured to it. On an error, which wraps ErrBadCoordinate, nothing changes.
// No single observation moves the coordinate by more than maxForce.
func (v *Vivaldi) Observe(peer PeerID, other Coordinate, rtt time.Duration) error {
	if rtt < 0 || rtt > maxRTT {
		return fmt.Errorf("round trip time %v: %w", rtt, ErrBadCoordinate)
	}
	if err := other.Check(); err != nil {
		return err
	}
	seconds := max(v.median(peer, rtt.Seconds()), nearZero)
	v.attract(other, seconds)
	v.adjust(other, seconds)
	v.gravitate()
	if v.at.Check() != nil { // drifted out of the world: begin again
		v.at = NewCoordinate()
		v.samples = [adjustWindow]float64{}
	}
	return nil
}

// median rides out blips: the median of the last round trip times of a peer.
func (v *Vivaldi) median(peer PeerID, seconds float64) float64 {
	recent, known := v.recent[peer]
	if !known {
		if len(v.order) == maxMedianPeers {
			delete(v.recent, v.order[0])
			v.order = slices.Delete(v.order, 0, 1)
		}
		v.order = append(v.order, peer)
	}
	recent = append(recent, seconds)
	if len(recent) > medianWindow {
		recent = slices.Delete(recent, 0, 1)
	}
	v.recent[peer] = recent
	sorted := slices.Clone(recent)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// attract is Vivaldi proper: weigh the observation by both errors, update our
// error, and move along the spring. Unlike serf's, the spring knows no
// adjustments: searches predict without them, and vectors that make up for
// adjustments drift apart for ever.
func (v *Vivaldi) attract(other Coordinate, seconds float64) {
	dist := v.at.rawDistance(other)
	wrong := math.Abs(dist-seconds) / seconds
	weight := v.at.Error / max(v.at.Error+other.Error, nearZero)
	v.at.Error = min(tuneError*weight*wrong+v.at.Error*(1-tuneError*weight), errorMax)
	v.push(tuneForce*weight*(seconds-dist), other)
}

// adjust averages what the Euclidean model cannot express.
func (v *Vivaldi) adjust(other Coordinate, seconds float64) {
	v.samples[v.nextSample] = seconds - v.at.rawDistance(other)
	v.nextSample = (v.nextSample + 1) % adjustWindow
	var sum float64
	for _, s := range v.samples {
		sum += s
	}
	v.at.Adjustment = sum / (2 * adjustWindow)
}

// gravitate pulls towards the origin, so that the whole space does not drift.
func (v *Vivaldi) gravitate() {
	origin := NewCoordinate()
	d := origin.distance(v.at) / gravityRho
	v.push(-d*d, origin)
}

// push moves the coordinate away from other by force seconds.
func (v *Vivaldi) push(force float64, other Coordinate) {
	force = max(-maxForce, min(force, maxForce))
	unit, dist := v.direction(other)
	for i := range v.at.Vec {
		v.at.Vec[i] += unit[i] * force
	}
	if dist > nearZero {
		v.at.Height = max((v.at.Height+other.Height)*force/dist+v.at.Height, heightMin)
	}
}

// direction returns the unit vector from other to us and the distance; a
// random one and 0 when both stand at one point.
func (v *Vivaldi) direction(other Coordinate) (unit [CoordinateDims]float64, dist float64) {
	for i := range unit {
		unit[i] = v.at.Vec[i] - other.Vec[i]
	}
	if dist = norm(&unit); dist > nearZero {
		return scale(unit, 1/dist), dist
	}
	for i := range unit {
		unit[i] = v.rng.Float64() - 0.5
	}
	if n := norm(&unit); n > nearZero {
		return scale(unit, 1/n), 0
	}
	return [CoordinateDims]float64{1}, 0
}

func norm(v *[CoordinateDims]float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

func scale(v [CoordinateDims]float64, by float64) [CoordinateDims]float64 {
	for i := range v {
		v[i] *= by
	}
	return v
}
