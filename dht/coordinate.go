package dht

// CoordinateDims is the dimension of the Euclidean part of a Coordinate.
const CoordinateDims = 8

// A Coordinate places a participant in a space where distance predicts round
// trip time (Dabek et al., Vivaldi, SIGCOMM 2004): a Euclidean part, a height
// for the access link, and an adjustment (Lee et al., 2010). All in seconds,
// except Error, which has no unit.
type Coordinate struct {
	Vec        [CoordinateDims]float64
	Error      float64 // 0 (certain) to 1.5 (knows nothing)
	Adjustment float64
	Height     float64
}
