package node

import (
	"testing"

	"github.com/xenoserver/xeno/dht"
)

// TestSettled: a coordinate that trembles is advertised as it was, one that moved
// as it is, also little by little.
func TestSettled(t *testing.T) {
	s := new(server)
	at := dht.Coordinate{Height: 0.001}
	first := s.settled(at)
	if first != at {
		t.Fatalf("advertised %+v, want %+v", first, at)
	}
	for i := range 20 {
		at.Vec[i%dht.CoordinateDims] = 0.001 * float64(i%3-1)
		at.Height = 0.001 + 0.0001*float64(i%5)
		if got := s.settled(at); got != first {
			t.Fatalf("advertised %+v after a tremble to %+v", got, at)
		}
	}
	at = first
	for range 4 {
		at.Vec[0] += 0.0012
		if got := s.settled(at); got != first {
			t.Fatalf("advertised %+v after %g s", got, at.Vec[0])
		}
	}
	at.Vec[0] += 0.0012
	if got := s.settled(at); got != at {
		t.Errorf("advertised %+v, want %+v", got, at)
	}
	at.Height += 0.006
	if got := s.settled(at); got != at {
		t.Errorf("advertised %+v, want %+v", got, at)
	}
}
