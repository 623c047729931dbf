package index

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// TestSummaryWire: summaryFromWire(summaryToWire(m)) is m.
func TestSummaryWire(t *testing.T) {
	s := search.DefaultSchema()
	rapid.Check(t, func(t *rapid.T) {
		m := search.Summary{Count: rapid.Uint32().Draw(t, "count")}
		m.Occupancy = rapid.SliceOfN(rapid.Uint64(), s.Words(), s.Words()).Draw(t, "occupancy")
		for range rapid.IntRange(0, search.MaxBalls).Draw(t, "balls") {
			b := search.Ball{Dim: coordinateOf(s), Radius: rapid.Uint16().Draw(t, "radius")}
			for axis := range b.Center {
				b.Center[axis] = rapid.Int16().Draw(t, "axis")
			}
			m.Balls = append(m.Balls, b)
		}
		w := summaryToWire(m)
		if len(w.GetBalls()) != search.BallBytes*len(m.Balls) {
			t.Fatalf("%d bytes of %d balls", len(w.GetBalls()), len(m.Balls))
		}
		got, err := summaryFromWire(s, w)
		if err != nil {
			t.Fatal(err)
		}
		if got.Count != m.Count || !slices.Equal(got.Occupancy, m.Occupancy) || !slices.Equal(got.Balls, m.Balls) {
			t.Fatalf("%v became %v", m, got)
		}
	})
}

// TestBallBytes spells out one ball.
func TestBallBytes(t *testing.T) {
	s := search.DefaultSchema()
	m := s.NewSummary()
	m.Balls = []search.Ball{{Dim: coordinateOf(s), Radius: 0x1234, Center: [dht.CoordinateDims]int16{1, -1, 0, 0, 0, 0, math.MinInt16, 2}}}
	want := []byte{coordinateOf(s), 0x12, 0x34, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 2}
	if got := summaryToWire(m).GetBalls(); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// TestBadSummary refuses what no sender that keeps to the protocol sends.
func TestBadSummary(t *testing.T) {
	s := search.DefaultSchema()
	good := s.NewSummary()
	ball := search.Ball{Dim: coordinateOf(s), Radius: 3}
	for _, c := range []struct {
		name, want string
		change     func(w *wire.SearchSummary)
	}{
		{"nothing of balls", "", func(*wire.SearchSummary) {}},
		{"occupancy", "words of occupancy", func(w *wire.SearchSummary) { w.Occupancy = w.GetOccupancy()[1:] }},
		{"length", "balls of 18 bytes", func(w *wire.SearchSummary) { w.Balls = w.GetBalls()[1:] }},
		{"dimension", "no coordinates", func(w *wire.SearchSummary) { w.Balls[0]++ }},
		{"too many", "more than 8 balls", func(w *wire.SearchSummary) { w.Balls = slices.Repeat(w.GetBalls(), search.MaxBalls+1) }},
	} {
		good.Balls = []search.Ball{ball}
		w := summaryToWire(good)
		c.change(w)
		_, err := summaryFromWire(s, w)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, errMessage) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// coordinateOf returns which dimension of a schema is the network coordinate.
func coordinateOf(s *search.Schema) uint8 {
	return uint8(slices.IndexFunc(s.Dimensions(), func(d search.Dimension) bool { return d.Kind == search.KindCoordinate }))
}
