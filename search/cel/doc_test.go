package cel

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// blocks returns the lines of the fenced blocks of a kind in docs/search.md.
func blocks(t *testing.T, kind string) (lines []string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/search.md")
	if err != nil {
		t.Fatal(err)
	}
	in := false
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "```"+kind:
			in = true
		case line == "```":
			in = false
		case in && line != "":
			lines = append(lines, line)
		}
	}
	return lines
}

// rich is an ad that says something about everything.
func rich(schema *search.Schema) *search.Ad {
	attributes := make(map[string]search.Value)
	for _, d := range schema.Dimensions() {
		switch d.Kind {
		case search.KindNumber:
			attributes[d.Name] = search.Number(d.Min)
		case search.KindVersion:
			attributes[d.Name] = search.Text("12.1")
		case search.KindEnum:
			attributes[d.Name] = search.Text(d.Values[0])
		case search.KindSet:
			attributes[d.Name] = search.Set(d.Values...)
		case search.KindPlace:
			attributes[d.Name] = search.PlaceAt(52.5, 13.4)
		case search.KindCoordinate:
			attributes[d.Name] = search.CoordinateAt(dht.Coordinate{})
		case search.KindText:
			attributes[d.Name] = search.Text("x")
		}
	}
	return &search.Ad{Attributes: search.AttributesOf(attributes)}
}

// TestDocExamples compiles every example of docs/search.md, checks that what
// it prints compiles to the same, and that an ad decides it.
func TestDocExamples(t *testing.T) {
	schema := search.DefaultSchema()
	examples := blocks(t, "cel")
	if len(examples) < 20 {
		t.Fatalf("%d examples, want 20", len(examples))
	}
	hosts := NewHosts(func(string) (dht.Coordinate, error) { return dht.Coordinate{}, nil })
	ad := rich(schema)
	for _, text := range examples {
		p, err := Compile(schema, text, hosts.Resolve)
		if err != nil {
			t.Errorf("%s\n%v", text, err)
			continue
		}
		printed := Format(schema, p, hosts.Name)
		if q, err := Compile(schema, printed, hosts.Resolve); err != nil || q.String() != p.String() {
			t.Errorf("%s\nprints as\n%s\nwhich is %v (%v)", text, printed, q, err)
		}
		if schema.Eval(p, ad) == search.Unknown {
			t.Errorf("%s: undecided on an ad that has everything", text)
		}
		b, err := search.EncodePredicate(p)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if q, err := search.DecodePredicate(b); err != nil || q.String() != p.String() {
			t.Errorf("%s travels as %v (%v)", text, q, err)
		}
	}
	for _, text := range blocks(t, "order") {
		if _, _, err := OrderBy(schema, text); err != nil {
			t.Errorf("order by %s: %v", text, err)
		}
	}
	for _, text := range blocks(t, "bad") {
		if p, err := Compile(schema, text, resolve); err == nil {
			t.Errorf("%s compiles to %v", text, p)
		}
	}
}

// TestDocSchema keeps the table of dimensions in step with the code.
func TestDocSchema(t *testing.T) {
	doc, err := os.ReadFile("../../docs/search.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range search.DefaultSchema().Dimensions() {
		if row := tableRow(d); !strings.Contains(string(doc), row+"\n") {
			t.Errorf("docs/search.md lacks the row\n%s", row)
		}
	}
}

// tableRow is a dimension in the table of docs/search.md.
func tableRow(d search.Dimension) string {
	tree := ""
	if d.Tree {
		tree = "yes"
	}
	doc := d.Doc
	if d.Kind == search.KindEnum || d.Kind == search.KindSet && len(d.Values) > 0 {
		doc += ": " + strings.Join(d.Values, ", ")
	}
	unit := string(d.Unit)
	if d.Kind == search.KindNumber && unit == "" {
		unit = strconv.FormatFloat(d.Min, 'g', -1, 64) + " to " + strconv.FormatFloat(d.Max, 'g', -1, 64)
	}
	return "| `" + d.Name + "` | " + string(d.Kind) + " | " + unit + " | " + tree + " | " + doc + " |"
}
