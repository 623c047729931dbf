package cel

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

func TestFormat(t *testing.T) {
	hosts := NewHosts(resolve)
	schema := search.DefaultSchema()
	for _, tt := range []struct{ in, want string }{
		{`free_memory >= 4294967296`, `free_memory >= 4GiB`},
		{`free_memory >= 1536MiB`, `free_memory >= 1.5GiB`},
		{`free_disk > 100GB`, `free_disk > 100GB`},
		{`free_disk > 0`, `free_disk > 0`},
		{`free_network >= 1Gbit/s`, `free_network >= 125MB/s`},
		{`uptime > 172800`, `uptime > 2d`},
		{`uptime > 90s`, `uptime > 90s`},
		{`uptime > 0.25`, `uptime > 250ms`},
		{`price_hour <= 0.02 and price_memory < 0.001`, `price_hour <= 0.02/h && price_memory < 0.001/GiB/h`},
		{`price_hour <= 0.00000001`, `price_hour <= 1e-08`},
		{`free_cpu >= 2 && load < 0.5 && free_cpu <= 8`, `2 <= free_cpu <= 8 && load < 0.5`},
		{`8GiB > free_memory >= 1GiB`, `free_memory < 8GiB && free_memory >= 1GiB`},
		{`free_memory in [1073741824, 2GiB]`, `free_memory in [1GiB, 2GiB]`},
		{`(free_cpu > 1 || free_gpu > 0) and not (arch == "arm64")`, `(free_cpu > 1 || free_gpu > 0) && !(arch == "arm64")`},
		{`rtt("me", "me") < 30ms`, `rtt("me", "me") < 30ms`},
		{`rtt("me") <= 1.5s`, `rtt("me") <= 1500ms`},
		{`rtt("me") > 20ms`, `rtt("me") > 20ms`},
		{`10ms < rtt("me") <= 30ms`, `rtt("me") > 10ms && rtt("me") <= 30ms`},
		{`rtt("@0.01,-0.002,0+0.001") <= 30ms`, `rtt("@0.01,-0.002+0.001") <= 30ms`},
		{`within(52.5, 13.4, 500km)`, `within("Berlin", 500)`},
		{`within(52.51, -13.4, 500)`, `within(52.51, -13.4, 500)`},
		{`"6.1" <= kernel < "7"`, `kernel >= "6.1" && kernel < "7"`},
		{`true`, `true`},
		{`false or !true`, `false || !(true)`},
	} {
		p, err := Compile(schema, tt.in, hosts.Resolve)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if got := Format(schema, p, hosts.Name); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
	if got := FormatValue(schema, "free_memory", search.Number(6<<30)); got != "6GiB" {
		t.Errorf("6 GiB of memory print as %s", got)
	}
}

// drawNumber draws numbers that people write, and any others.
func drawNumber(t *rapid.T, d search.Dimension) float64 {
	var factors []float64
	for _, u := range units {
		if u.of == d.Unit {
			factors = append(factors, u.factor)
		}
	}
	if len(factors) == 0 || rapid.IntRange(0, 3).Draw(t, "any") == 0 {
		return rapid.Float64Range(-1e300, 1e300).Draw(t, "number") + 0 // -0 is 0
	}
	f := float64(rapid.IntRange(-5000, 100000).Draw(t, "thousandths")) / 1000
	return f * rapid.SampledFrom(factors).Draw(t, "unit")
}

func drawText(t *rapid.T, d search.Dimension) string {
	switch d.Kind {
	case search.KindEnum:
		return rapid.SampledFrom(d.Values).Draw(t, "value")
	case search.KindVersion:
		return rapid.SampledFrom([]string{"6.1", "12", "6.1.0-42-amd64", "0"}).Draw(t, "version")
	default:
		return rapid.StringMatching(`[ -~äß☃"\\]{1,12}`).Draw(t, "text")
	}
}

func drawCoordinate(t *rapid.T) (c dht.Coordinate) {
	for i := range rapid.IntRange(0, len(c.Vec)).Draw(t, "dims") {
		c.Vec[i] = rapid.Float64Range(-1, 1).Draw(t, "x") + 0
	}
	c.Height = rapid.Float64Range(0, 1).Draw(t, "height")
	return c
}

// drawLeaf draws a condition that Compile could return.
func drawLeaf(t *rapid.T, schema *search.Schema) search.Predicate {
	d := rapid.SampledFrom(schema.Dimensions()).Draw(t, "dimension")
	switch choice := rapid.IntRange(0, 4).Draw(t, "kind of condition"); {
	case choice == 0:
		return search.Has{Dim: d.Name}
	case d.Kind == search.KindSet:
		if len(d.Values) > 0 {
			return search.Contains{Dim: d.Name, Member: rapid.SampledFrom(d.Values).Draw(t, "member")}
		}
		return search.Contains{Dim: d.Name, Member: drawText(t, search.Dimension{})}
	case d.Kind == search.KindPlace:
		return search.Within{Dim: d.Name, Center: search.Place{
			Lat: rapid.Float64Range(-90, 90).Draw(t, "lat") + 0, Lon: rapid.Float64Range(-180, 180).Draw(t, "lon") + 0,
		}, Km: rapid.Float64Range(0, 20000).Draw(t, "km")}
	case d.Kind == search.KindCoordinate:
		p := search.RTT{Dim: d.Name, Most: time.Duration(rapid.Int64Range(0, int64(time.Minute)-1).Draw(t, "most"))}
		if choice == 1 {
			p.Most = p.Most.Round(time.Millisecond)
		}
		for range rapid.IntRange(1, 3).Draw(t, "hosts") {
			p.To = append(p.To, drawCoordinate(t))
		}
		return p
	case d.Kind == search.KindNumber:
		low := drawNumber(t, d)
		switch choice {
		case 1:
			return search.Range{Dim: d.Name, Low: low, High: drawNumber(t, d)}
		case 2:
			return search.In{Dim: d.Name, Values: []search.Value{search.Number(low), search.Number(drawNumber(t, d))}}
		}
		return search.Compare{Dim: d.Name, Op: rapid.SampledFrom([]search.Op{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "op"), Value: search.Number(low)}
	case d.Kind == search.KindVersion:
		return search.Compare{Dim: d.Name, Op: rapid.SampledFrom([]search.Op{"==", "<", ">="}).Draw(t, "op"), Value: search.Text(drawText(t, d))}
	case choice == 1:
		return search.In{Dim: d.Name, Values: []search.Value{search.Text(drawText(t, d)), search.Text(drawText(t, d))}}
	default:
		return search.Compare{Dim: d.Name, Op: rapid.SampledFrom([]search.Op{"==", "!="}).Draw(t, "op"), Value: search.Text(drawText(t, d))}
	}
}

func drawPredicate(t *rapid.T, schema *search.Schema, depth int) search.Predicate {
	kind := rapid.IntRange(0, 5).Draw(t, "shape")
	if depth == 0 || kind < 2 {
		return drawLeaf(t, schema)
	}
	if kind == 2 {
		return search.Not{Of: drawPredicate(t, schema, depth-1)}
	}
	var members []search.Predicate
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		members = append(members, drawPredicate(t, schema, depth-1))
	}
	if kind == 3 {
		return search.Or(members)
	}
	return search.And(members)
}

// TestFormatIsInverse prints whatever Compile returns and compiles it again.
func TestFormatIsInverse(t *testing.T) {
	schema := search.DefaultSchema()
	rapid.Check(t, func(t *rapid.T) {
		drawn := drawPredicate(t, schema, 2)
		text := Format(schema, drawn, nil)
		p, err := Compile(schema, text, nil)
		if err != nil {
			if len(text) <= maxText {
				t.Fatalf("%s\n%v", text, err)
			}
			return
		}
		again := Format(schema, p, nil)
		q, err := Compile(schema, again, nil)
		if err != nil {
			t.Fatalf("%s\n%v", again, err)
		}
		if same, err := samePredicate(p, q); err != nil || !same {
			t.Fatalf("%s\nbecomes\n%s\n%v", text, Format(schema, q, nil), err)
		}
		if _, and := drawn.(search.And); and {
			return // Compile flattens it
		}
		if _, or := drawn.(search.Or); or {
			return
		}
		if not, ok := drawn.(search.Not); ok {
			drawn = not.Of
			if _, leaf := drawn.(search.RTT); !leaf {
				return
			}
			p = p.(search.Not).Of
		}
		if same, err := samePredicate(drawn, p); err != nil || !same {
			t.Fatalf("%v\nprints as %s\nwhich compiles to\n%v\n%v", drawn, text, p, err)
		}
	})
}

// samePredicate compares what travels, which is all there is.
func samePredicate(p, q search.Predicate) (bool, error) {
	a, err := search.EncodePredicate(p)
	b, err2 := search.EncodePredicate(q)
	return bytes.Equal(a, b), errors.Join(err, err2)
}

// TestFlattened checks that flattening changes nothing on any ad.
func TestFlattened(t *testing.T) {
	schema := search.DefaultSchema()
	ad := rich(schema)
	rapid.Check(t, func(t *rapid.T) {
		drawn := drawPredicate(t, schema, 3)
		text := Format(schema, drawn, nil)
		p, err := Compile(schema, text, nil)
		if err != nil {
			if len(text) <= maxText {
				t.Fatalf("%s\n%v", text, err)
			}
			return
		}
		if got, want := schema.Eval(p, ad), schema.Eval(drawn, ad); got != want {
			t.Fatalf("%v is %d, and %v is %d", drawn, want, p, got)
		}
	})
}

func TestCoordinateText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCoordinate(t)
		got, err := parseCoordinate(formatCoordinate(c))
		if err != nil || got != c {
			t.Fatalf("%v prints as %s, which is %v (%v)", c, formatCoordinate(c), got, err)
		}
	})
	for _, bad := range []string{"@", "@x", "@1,2,3,4,5,6,7,8,9", "@1+x", "@1,,2"} {
		if c, err := parseCoordinate(bad); err == nil {
			t.Errorf("%s is %v", bad, c)
		}
	}
	if _, err := Compile(search.DefaultSchema(), `rtt("@1e9") < 30ms`, nil); err == nil {
		t.Error("a coordinate far from Earth compiles")
	}
	if _, err := Compile(search.DefaultSchema(), `rtt("@NaN") < 30ms`, nil); err == nil {
		t.Error("a coordinate that is not a number compiles")
	}
}

// TestUnitTexts prints every number with every unit.
func TestUnitTexts(t *testing.T) {
	for _, u := range units {
		for _, f := range []float64{1, 0.5, 3, 100, 0.001, 1e6, math.Pi} {
			text := formatNumber(f*u.factor, u.of)
			src, err := rewrite(text)
			if err != nil {
				t.Errorf("%g %s prints as %s: %v", f, u.name, text, err)
				continue
			}
			p, err := Compile(search.DefaultSchema(), "load < "+string(src.text), nil)
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			if got, _ := p.(search.Compare).Value.Number(); got != f*u.factor {
				t.Errorf("%g %s prints as %s, which is %g", f, u.name, text, got)
			}
		}
	}
}
