package xeno

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
)

// Sessions says how long nodes stay and stay away.
type Sessions struct {
	// Shape and Scale are of the Weibull distribution of sessions.
	Shape float64
	Scale time.Duration
	// Away is the mean of the exponential time between two sessions of a node.
	Away time.Duration
	// Graceful is the part of sessions that end with a withdrawal; the others
	// end without a word.
	Graceful float64
}

// Mean is how long a session lasts in the mean.
func (s Sessions) Mean() time.Duration {
	return time.Duration(float64(s.Scale) * math.Gamma(1+1/s.Shape))
}

// draw returns the length of a new session.
func (s Sessions) draw(rng *rand.Rand) time.Duration {
	return bounded(float64(s.Scale) * math.Pow(rng.ExpFloat64(), 1/s.Shape))
}

// residual returns how long a session that is under way at any moment still
// lasts: the residual life of a stationary renewal process. Where sessions are
// Weibull, its density is that of a power of a Gamma variate.
func (s Sessions) residual(rng *rand.Rand) time.Duration {
	return bounded(float64(s.Scale) * math.Pow(gamma(1/s.Shape, rng), 1/s.Shape))
}

// longest bounds a session: longer than any simulation.
const longest = 100 * 365 * 24 * time.Hour

func bounded(d float64) time.Duration { return time.Duration(min(d, float64(longest))) }

// gamma draws from the Gamma distribution of scale 1 (Marsaglia and Tsang, A
// simple method for generating gamma variables, 2000).
func gamma(shape float64, rng *rand.Rand) float64 {
	if shape < 1 {
		return gamma(shape+1, rng) * math.Pow(1-rng.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v *= v * v
		if math.Log(1-rng.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// A Population is nodes that come and go.
type Population interface {
	// Join begins a session of a node that is away.
	Join(id network.NodeID)
	// Leave ends a session, gracefully or without a word.
	Leave(id network.NodeID, graceful bool)
}

// Absent lets as many nodes be away as are in the long run, before the
// population is made. The network's size is that of all who ever come.
func (s Sessions) Absent(net *network.Network, rng *rand.Rand) {
	share := float64(s.Away) / float64(s.Away+s.Mean())
	for i := range net.Len() {
		if rng.Float64() < share {
			net.Kill(network.NodeID(i)) //nolint:gosec // below MaxNodes
		}
	}
}

// Churn lets nodes come and go from now until a time since the start of the
// network; zero: for ever. Those that are up are in the midst of a session.
// The population keeps its size in the mean.
func (s Sessions) Churn(net *network.Network, p Population, until time.Duration, rng *rand.Rand) {
	over := func() bool { return until > 0 && net.Now() >= until }
	var come, stay func(id network.NodeID, d time.Duration)
	stay = func(id network.NodeID, d time.Duration) {
		net.After(d, func() {
			if !over() {
				p.Leave(id, rng.Float64() < s.Graceful)
				come(id, bounded(rng.ExpFloat64()*float64(s.Away)))
			}
		})
	}
	come = func(id network.NodeID, d time.Duration) {
		// A graceful farewell takes two seconds.
		net.After(max(d, 2*search.WithdrawTimeout), func() {
			if !over() {
				p.Join(id)
				stay(id, s.draw(rng))
			}
		})
	}
	for i := range net.Len() {
		id := network.NodeID(i) //nolint:gosec // below MaxNodes
		switch {
		case net.Answers(id):
			stay(id, s.residual(rng))
		case !net.Alive(id):
			come(id, bounded(rng.ExpFloat64()*float64(s.Away)))
		}
	}
}

// Fail lets a part of the nodes that answer leave at once without a word, and
// returns them. With cut they keep running, and only the messages between them
// and the others are lost.
func Fail(net *network.Network, p Population, part float64, cut bool, rng *rand.Rand) (failed []network.NodeID) {
	for i := range net.Len() {
		id := network.NodeID(i) //nolint:gosec // below MaxNodes
		if !net.Answers(id) || rng.Float64() >= part {
			continue
		}
		failed = append(failed, id)
		if !cut {
			p.Leave(id, false)
		}
	}
	if cut {
		net.Cut(failed)
	}
	return failed
}

// Drift changes what servers offer, each one rate times a minute in the mean,
// from now on.
func (l *Live) Drift(rate float64, rng *rand.Rand) {
	if rate <= 0 {
		return
	}
	pause := func() time.Duration { return bounded(rng.ExpFloat64() * float64(time.Minute) / rate) }
	var change func(id network.NodeID)
	change = func(id network.NodeID) {
		if n := l.nodes[id]; n != nil {
			l.world.Market.Drift(int(id), rng)
			n.offer()
		}
		l.net.After(pause(), func() { change(id) })
	}
	for i := range l.net.Len() {
		id := network.NodeID(i) //nolint:gosec // below MaxNodes
		l.net.After(pause(), func() { change(id) })
	}
}
