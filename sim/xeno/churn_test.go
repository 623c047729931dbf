package xeno_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

// passive is nodes that do nothing, and how often they came and went.
type passive struct {
	trial.World
	joined, left int
}

func (p *passive) Join(id network.NodeID)          { p.Net.Revive(id); p.joined++ }
func (p *passive) Leave(id network.NodeID, _ bool) { p.Net.Kill(id); p.left++ }

// TestSessions looks whether the population keeps its size and its rate of
// churn from the first moment on, whatever the shape.
func TestSessions(t *testing.T) {
	const nodes = 4000
	for _, shape := range []float64{0.61, 1, 2.5} {
		p := &passive{World: newWorld(t, nodes, 15)}
		rng := rand.New(rand.NewPCG(15, 15))
		s := xeno.Sessions{Shape: shape, Scale: time.Hour}
		s.Away = s.Mean() / 4
		s.Absent(p.Net, rng)
		s.Churn(p.Net, p, 0, rng)
		// Each node leaves once in a session and a pause.
		window := s.Mean() / 2
		want := nodes * float64(window) / float64(s.Mean()+s.Away)
		for k := range 3 {
			p.left = 0
			if err := p.Net.Run(t.Context(), p.Net.Now()+window); err != nil {
				t.Fatal(err)
			}
			up := 0
			for i := range nodes {
				if p.Net.Answers(network.NodeID(i)) {
					up++
				}
			}
			if math.Abs(float64(up)/nodes-0.8) > 0.03 || math.Abs(float64(p.left)/want-1) > 0.1 {
				t.Errorf("shape %g, window %d: %d are up, want %d; %d left, want %.0f", shape, k, up, nodes*4/5, p.left, want)
			}
		}
	}
}

// TestFail lets some die, and cuts off others.
func TestFail(t *testing.T) {
	p := &passive{World: newWorld(t, 1000, 16)}
	rng := rand.New(rand.NewPCG(16, 16))
	died := xeno.Fail(p.Net, p, 0.2, false, rng)
	if len(died) < 150 || len(died) > 250 || p.left != len(died) || p.Net.Answers(died[0]) {
		t.Errorf("%d died, %d left", len(died), p.left)
	}
	cut := xeno.Fail(p.Net, p, 0.5, true, rng)
	if p.left != len(died) || p.Net.Together(cut[0], died[0]) || !p.Net.Together(cut[0], cut[1]) || !p.Net.Answers(cut[0]) {
		t.Errorf("%d were cut off", len(cut))
	}
}
