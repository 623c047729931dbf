package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

var rewrite = flag.Bool("rewrite", false, "write openapi.json anew from the types and routes of the package")

// TestOpenAPIDocument makes the document from the routes, the types and their
// comments, and compares it with the committed one.
func TestOpenAPIDocument(t *testing.T) {
	want := buildDocument(t)
	if *rewrite {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("openapi.json is stale, run go generate ./node/api (-want +got):\n%s", diff)
	}
	doc, err := openapi3.NewLoader().LoadFromData(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

type object = map[string]any

// A documenter collects the schemas of types as it meets them.
type documenter struct {
	t       *testing.T
	about   map[string]string // comments by "Type" or "Type.Field"
	enums   map[string][]any  // values of string types declared here or in ledger
	schemas object
}

func buildDocument(t *testing.T) []byte {
	t.Helper()
	d := &documenter{t: t, about: map[string]string{}, enums: map[string][]any{}, schemas: object{}}
	d.readSource("../../ledger") // for the roles
	d.readSource(".")
	paths := object{}
	for _, r := range routes(nil2{}) {
		item, ok := paths[r.path].(object)
		if !ok {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = d.operation(r)
	}
	text, err := json.MarshalIndent(object{
		"openapi": "3.0.3",
		"info": object{
			"title": "Xeno local API", "version": "1",
			"description": "Commands of a Xeno daemon, over the Unix socket api.sock in its home directory. Amounts are nano-units (1e-9) of the network's currency.",
			"license":     object{"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
		},
		"servers":    []any{object{"url": "http://xeno", "description": "the host name does not matter"}},
		"paths":      paths,
		"components": object{"schemas": d.schemas},
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// nil2 is a backend whose methods are never called.
type nil2 struct{ Backend }

func (d *documenter) operation(r route) object {
	op := object{"operationId": r.id, "summary": r.summary}
	var params []any
	for _, p := range r.params {
		in, schema := "path", object{"type": "string"}
		if p.inQuery {
			in = "query"
		}
		switch p.schema {
		case "integer":
			schema = object{"type": "integer", "minimum": 0}
		case "id":
			schema = idSchema()
		}
		params = append(params, object{"name": p.name, "in": in, "required": p.required, "description": p.about, "schema": schema})
	}
	if params != nil {
		op["parameters"] = params
	}
	switch {
	case r.request != nil:
		op["requestBody"] = object{"required": true, "content": object{typeJSON: object{"schema": d.schema(r.request)}}}
	case r.requestType != "":
		op["requestBody"] = object{"required": true, "content": object{r.requestType: object{"schema": binary()}}}
	}
	answer := object{"description": "success"}
	status := "200"
	switch {
	case r.responseType == upgradeTCP:
		status, answer = "101", object{"description": "the connection now carries the environment's bytes"}
	case r.responseType == typeLines:
		answer["content"] = object{typeLines: object{"schema": d.schema(r.response)}}
	case r.responseType != "":
		answer["content"] = object{r.responseType: object{"schema": binary()}}
	default:
		answer["content"] = object{typeJSON: object{"schema": d.schema(r.response)}}
	}
	op["responses"] = object{
		status:    answer,
		"default": object{"description": "failure", "content": object{typeJSON: object{"schema": d.schema(reflect.TypeFor[ErrorAnswer]())}}},
	}
	return op
}

func binary() object { return object{"type": "string", "format": "binary"} }

func idSchema() object { return object{"type": "string", "pattern": "^[0-9a-f]{32}$"} }

func (d *documenter) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[dht.PeerID]():
		return object{"type": "string", "pattern": "^([1-9A-HJ-NP-Za-km-z]{46,64})?$", "description": "libp2p peer ID; empty: nobody"}
	case reflect.TypeFor[ledger.ID]():
		return idSchema()
	case reflect.TypeFor[ledger.Amount]():
		return object{"type": "integer", "format": "int64", "description": "nano-units"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		inner := d.schema(t.Elem())
		if inner["$ref"] == nil {
			inner["nullable"] = true
			return inner
		}
		return object{"nullable": true, "allOf": []any{inner}}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "format": "byte"}
		}
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": true}
	case reflect.Struct:
		return d.structSchema(t)
	case reflect.String:
		s := object{"type": "string"}
		if values := d.enums[t.Name()]; values != nil {
			s["enum"] = values
		}
		return s
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	default:
		d.t.Fatalf("no schema for %s", t)
		return nil
	}
}

func (d *documenter) structSchema(t reflect.Type) object {
	ref := object{"$ref": "#/components/schemas/" + t.Name()}
	if d.schemas[t.Name()] != nil {
		return ref
	}
	properties := object{}
	s := object{"type": "object", "description": d.comment(t.Name()), "properties": properties, "additionalProperties": false}
	d.schemas[t.Name()] = s
	var required []any
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		property := d.schema(f.Type)
		about := d.comment(t.Name() + "." + f.Name)
		if property["$ref"] != nil {
			property = object{"allOf": []any{property}}
		}
		property["description"] = about
		properties[name] = property
		if !strings.Contains(options, "omit") && !strings.HasSuffix(t.Name(), "Request") {
			required = append(required, name)
		}
	}
	if required != nil {
		s["required"] = required
	}
	return ref
}

// comment returns the doc comment of a type or field, on one line.
func (d *documenter) comment(name string) string {
	text := d.about[name]
	if text == "" {
		d.t.Errorf("%s has no doc comment", name)
	}
	return text
}

// readSource collects comments and constants of the package in dir.
func (d *documenter) readSource(dir string) {
	files, err := os.ReadDir(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, entry := range files {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), dir+"/"+entry.Name(), nil, parser.ParseComments)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, decl := range f.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				d.readDecl(g)
			}
		}
	}
}

func (d *documenter) readDecl(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			d.about[spec.Name.Name] = oneLine(g.Doc)
			fields, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range fields.Fields.List {
				for _, name := range f.Names {
					d.about[spec.Name.Name+"."+name.Name] = oneLine(f.Doc)
				}
			}
		case *ast.ValueSpec:
			kind, typed := spec.Type.(*ast.Ident)
			if g.Tok != token.CONST || !typed || len(spec.Values) != 1 {
				continue
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				value, _ := strconv.Unquote(lit.Value)
				d.enums[kind.Name] = append(d.enums[kind.Name], value)
			}
		}
	}
}

var spaces = regexp.MustCompile(`\s+`)

func oneLine(doc *ast.CommentGroup) string {
	return spaces.ReplaceAllString(strings.TrimSpace(doc.Text()), " ")
}

// TestOpenAPIServed checks that what is served is what is committed.
func TestOpenAPIServed(t *testing.T) {
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(openapi, want) {
		t.Error("embedded document differs")
	}
}
