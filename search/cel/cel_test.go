package cel

import (
	"errors"
	"strings"
	"testing"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

func resolve(host string) (dht.Coordinate, error) {
	if host == "me" {
		return dht.Coordinate{}, nil
	}
	return dht.Coordinate{}, errors.New("unknown host " + host)
}

func TestCompile(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`free_cpu >= 4`, `free_cpu >= 4`},
		{`4 <= free_cpu`, `free_cpu >= 4`},
		{`free_memory >= 4GiB`, `free_memory >= 4294967296`},
		{`free_memory >= 0.5 GiB || true`, ``},
		{`price_hour <= 0.02/h && price_memory < 0.001/GiB/h`, `price_hour <= 0.02 && price_memory < 0.001`},
		{`free_network > 10MB/s`, `free_network > 10000000`},
		{`uptime > 2d`, `uptime > 172800`},
		{`"linux" in environments`, `"linux" in environments`},
		{`country in ["DE", "NO"]`, `country in ["DE", "NO"]`},
		{`free_cpu in [2, 4, 8]`, `free_cpu in [2, 4, 8]`},
		{`kernel >= "6.1" && os == 'debian'`, `kernel >= "6.1" && os == "debian"`},
		{`kernel >= 6`, `kernel >= "6"`},
		{`kernel >= 6.10`, `kernel >= "6.10"`},
		{`6 <= kernel`, `kernel >= "6"`},
		{`free_cpu>=4and load<1`, `free_cpu >= 4 && load < 1`},
		{`!(arch == "arm64") && (free_cpu > 1 || free_gpu > 0)`, `!(arch == "arm64") && (free_cpu > 1 || free_gpu > 0)`},
		{`within(59.9, -10.7, 500)`, `within(59.9, -10.7, 500)`},
		{`within("Oslo", 500)`, `within(59.9, 10.7, 500)`},
		{`rtt("me", "me") <= 30ms`, `rtt(2 hosts) <= 30ms`},
		{`rtt("me") < 30ms`, `rtt(1 hosts) <= 29.999999ms`},
		{`has(free_gpu)`, `has(free_gpu)`},
		{`free_cpu >= 2 && free_cpu <= 8`, `free_cpu >= 2 && free_cpu <= 8`},
		{`2 <= free_cpu <= 8 and load < 0.5`, `(free_cpu >= 2 && free_cpu <= 8) && load < 0.5`},
		{`8 > free_cpu >= 2`, `free_cpu < 8 && free_cpu >= 2`},
		{`not has(free_gpu) or os == "and"`, `!(has(free_gpu)) || os == "and"`},
		{`rtt("me") > 20ms`, `!(rtt(1 hosts) <= 20ms)`},
		{`within("Oslo", 500km)`, `within(59.9, 10.7, 500)`},
		{`free_network > 100Mbit/s`, `free_network > 12500000`},
		{`load <= 5e-1`, `load <= 0.5`},
	} {
		p, err := Compile(search.DefaultSchema(), tt.in, resolve)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%s: compiled to %s, want an error", tt.in, p)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if got := p.String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestErrorsPointAndSuggest(t *testing.T) {
	for _, tt := range []struct {
		in     string
		column int
		want   string // part of the text
	}{
		{`free_memry >= 4GiB`, 1, "did you mean free_memory?"},
		{`free_cpu >= 4 && memory > 1GiB`, 18, "did you mean"},
		{`free_memory >= 30ms`, 16, "does not fit"},
		{`free_cpu >= 4GB`, 13, "does not fit"},
		{`free_cpu >= "four"`, 13, "is a number"},
		{`free_memory >= 4Gib`, 17, "did you mean GiB?"},
		{`free_memory >= 4gb`, 17, "did you mean GB?"},
		{`free_memory >= 4G`, 17, "did you mean GiB?"},
		{`uptime > 3weeks`, 11, "times as ms, s, min, h, d"},
		{`free_memory >= "4GiB"`, 16, "write free_memory >= 4GiB"},
		{`free_cpu = 4`, 10, "write =="},
		{`free_memory > 4 GiB`, 17, "directly behind its number"},
		{`price_hour < 0.02/min`, 18, "unknown unit"},
		{`country == ["DE", "FR"]`, 12, "country in [ … ]"},
		{`kernel >= -6`, 11, "is a version"},
		{`free_cpu => 4`, 10, "write >="},
		{`free_cpu <> 4`, 11, "write !="},
		{`free_cpu > 4 & load < 1`, 14, "write &&"},
		{`free_cpu > 4 load < 1`, 14, "join conditions with &&"},
		{`arch == 'amd64`, 9, "is the quote closed?"},
		{`country not in ["DE"]`, 9, "!( … )"},
		{`not country == "DE"`, 1, "in parentheses"},
		{`not "linux" in environments`, 1, "in parentheses"},
		{`country in ("DE")`, 13, "expected a list"},
		{`has("free_gpu")`, 5, "without quotes"},
		{`free_cpu + 1 > 2`, 10, "no arithmetic"},
		{`2 <= free_cpu >= 8`, 3, "write a range as 2 <= free_cpu <= 8"},
		{`rtt("me") == 30ms`, 4, "never equal"},
		{`rtt("@1,x") < 30ms`, 5, "is no coordinate"},
		{`rtt() < 30ms`, 4, "1 to 8 hosts"},
		{`within(52.5GiB, 13.4, 500)`, 8, "expected a number"},
		{`within("Oslo", 500ms)`, 16, "expected kilometres"},
		{`price_hour <= 0.02/h && arch == "amd46"`, 33, "did you mean amd64?"},
		{`arch < "amd64"`, 6, "no order"},
		{`"linux" in arch`, 12, "not a set"},
		{`"linx" in environments`, 1, "did you mean linux?"},
		{`free_cpu`, 1, "not a condition"},
		{`free_cpu >= 4 &&`, 17, "syntax error"},
		{`free_cpu == total_cpu`, 13, "two dimensions"},
		{`os == debian`, 7, "put text in quotes"},
		{`rtt("me") < 30`, 13, "a time"},
		{`rtt("nobody") < 30ms`, 5, "unknown host nobody"},
		{`within(91, 0, 5)`, 8, "not between"},
		{`within("Olso", 500)`, 8, "did you mean Oslo?"},
		{`exists(free_cpu)`, 7, "unknown function"},
		{`environments == "linux"`, 14, "is a set"},
		{"free_cpu > 1 &&\n  free_memry > 1GiB", 3, "line 2"},
	} {
		_, err := Compile(search.DefaultSchema(), tt.in, resolve)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v, want an *Error", tt.in, err)
			continue
		}
		if e.Column != tt.column || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: column %d, want %d with %q in\n%v", tt.in, e.Column, tt.column, tt.want, err)
		}
	}
}

func TestOrderBy(t *testing.T) {
	for _, tt := range []struct {
		in, dim string
		desc    bool
	}{
		{"price_hour", "price_hour", false},
		{"-free_cpu", "free_cpu", true},
		{"free_cpu desc", "free_cpu", true},
		{"latency", search.DimCoordinate, false},
	} {
		dim, desc, err := OrderBy(search.DefaultSchema(), tt.in)
		if err != nil || dim != tt.dim || desc != tt.desc {
			t.Errorf("%s: %s %v %v, want %s %v", tt.in, dim, desc, err, tt.dim, tt.desc)
		}
	}
	if _, _, err := OrderBy(search.DefaultSchema(), "prise_hour"); err == nil || !strings.Contains(err.Error(), "did you mean price_hour") {
		t.Errorf("misspelt order: %v", err)
	}
	if _, _, err := OrderBy(search.DefaultSchema(), "country"); err == nil || !strings.Contains(err.Error(), "no order") {
		t.Errorf("order by text: %v", err)
	}
}

func TestLimits(t *testing.T) {
	for name, in := range map[string]string{
		"long":   strings.Repeat("free_cpu > 1 && ", 1000) + "free_cpu > 1",
		"deep":   strings.Repeat("(", 200) + "free_cpu > 1" + strings.Repeat(")", 200),
		"digits": "free_cpu > " + strings.Repeat("9", 400) + "GiB",
	} {
		if _, err := Compile(search.DefaultSchema(), in, resolve); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
}

// FuzzCompile checks that no text panics, that errors point into the text, and
// that what compiles is a query that the schema accepts.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`free_cpu >= 4 && free_memory >= 4GiB`, `!("linux" in environments) || rtt("me") < 30ms`, `country in ["DE"]`,
		`within(1,2,3)`, `-1 < load`, "\"", `4GiB/s`, `has(a.b)`, `{"a":1}`, `free_cpu > 0x10u`, "a\n&& ß",
		`2 <= free_cpu <= 8 and not has(free_gpu)`, `10ms < rtt("me", "@0.1,2+0.01") <= 30ms`, `within("Oslo", 5km) or "sev" in isolation`,
		`free_memory in [1.5GiB, 2e9]`, `name == "a\x41\u00e4\n\\"`,
	} {
		f.Add(s)
	}
	schema := search.DefaultSchema()
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Compile(schema, text, resolve)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%q: %T", text, err)
			}
			if lines := strings.Count(text, "\n") + 1; e.Line > lines {
				t.Fatalf("%q: line %d of %d", text, e.Line, lines)
			}
			return
		}
		if err := schema.Check(search.Query{Where: p}); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		printed := Format(schema, p, nil)
		if len([]rune(printed)) > maxText || strings.Count(printed, "(") > maxRecursion/4 {
			return // not a query any more
		}
		q, err := Compile(schema, printed, resolve)
		if err != nil {
			t.Fatalf("%q prints as\n%s\n%v", text, printed, err)
		}
		if same, err := samePredicate(p, q); err == nil && !same {
			t.Fatalf("%q prints as\n%s\nwhich is %s", text, printed, Format(schema, q, nil))
		}
	})
}
