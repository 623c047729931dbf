package search

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
)

// TestWithinBands checks that no point of a circle lies outside its bands.
func TestWithinBands(t *testing.T) {
	d := Dimension{Kind: KindPlace}
	rapid.Check(t, func(t *rapid.T) {
		center := Place{rapid.Float64Range(-90, 90).Draw(t, "lat"), rapid.Float64Range(-180, 180).Draw(t, "lon")}
		at := Place{rapid.Float64Range(-90, 90).Draw(t, "lat2"), rapid.Float64Range(-180, 180).Draw(t, "lon2")}
		if rapid.Bool().Draw(t, "near") {
			at = Place{max(-90, min(90, center.Lat+at.Lat/30)), math.Remainder(center.Lon+at.Lon/30, 360)}
		}
		p := Within{Dim: DimPlace, Center: center, Km: Distance(at, center)}
		if !reaches(p, d.occupancy(PlaceAt(at.Lat, at.Lon))) {
			t.Fatalf("%v in a circle of %g km around %v, but not in its bands", at, p.Km, center)
		}
		rows, columns := withinRanges(p, placeFine)
		y, x := placeBand(at.Lat, 90, placeFine), placeBand(at.Lon, 180, placeFine)
		if !overlap(rows, y, 1) || !overlap(columns, x, 1) {
			t.Fatalf("%v in a circle of %g km around %v, but not in its fine bands", at, p.Km, center)
		}
	})
}

// TestWholeEarth: a circle larger than the Earth touches every band.
func TestWholeEarth(t *testing.T) {
	for _, km := range []float64{20_100, 1e6, 1e116} {
		lat, lon := withinBands(Within{Dim: DimPlace, Km: km}, placeBands)
		if lat != 1<<placeBands-1 || lon != 1<<placeBands-1 {
			t.Errorf("%g km: bands %x of latitude, %x of longitude", km, lat, lon)
		}
	}
}

// TestAmidst: what is near enough to all hosts is never left out, and what may be
// so only to each of them alone is.
func TestAmidst(t *testing.T) {
	s := DefaultSchema()
	can := func(ads []dht.Coordinate, most time.Duration, to ...dht.Coordinate) bool {
		m := s.NewSummary()
		for _, at := range ads {
			s.add(&m, &Ad{Attributes: AttributesOf(map[string]Value{DimCoordinate: CoordinateAt(at)})})
		}
		return s.CanMatch(RTT{DimCoordinate, to, most}, m)
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (c dht.Coordinate) {
			for axis := range c.Vec {
				c.Vec[axis] = rapid.Float64Range(-0.12, 0.12).Draw(t, name)
			}
			c.Height = rapid.Float64Range(0, 0.03).Draw(t, name)
			return c
		}
		at, most := draw("at"), time.Duration(0)
		to := make([]dht.Coordinate, rapid.IntRange(1, 4).Draw(t, "hosts"))
		for i := range to {
			to[i] = draw("to")
			most = max(most, PredictRTT(at, to[i]))
		}
		if !can([]dht.Coordinate{at, draw("other")}, most, to...) {
			t.Fatalf("%v is within %s of %v, and left out", at, most, to)
		}
		q := Query{Where: RTT{DimCoordinate, to, most}, OrderBy: DimCoordinate, Origin: &to[0], Limit: 1}
		ad := &Signed{Ad: &Ad{Attributes: AttributesOf(map[string]Value{DimCoordinate: CoordinateAt(at)})}}
		if o := s.order(&q); o.bound(s.SummaryOf(ad)) > o.standing(ad).rank {
			t.Fatalf("%v is within %s of %v, at %g, and bounded by %g", at, most, to, o.standing(ad).rank, o.bound(s.SummaryOf(ad)))
		}
	})
	// West has its west near, and east its east, but neither both.
	var west, east dht.Coordinate
	west.Vec[0], east.Vec[0] = -0.03, 0.03
	ads := []dht.Coordinate{west, east}
	ads[0].Vec[1], ads[1].Vec[1] = 0.02, 0.02
	most := 40 * time.Millisecond
	if !can(ads, most, west) || !can(ads, most, east) || can(ads, most, west, east) {
		t.Error("what is near to either of two hosts is not left out where both are wanted")
	}
}
