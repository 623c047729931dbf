package search

import (
	"math"
	"testing"

	"pgregory.net/rapid"
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
