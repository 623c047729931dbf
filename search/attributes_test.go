package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/ledger"
)

// TestAttributesAreMaps: whatever the layout, attributes say and encode what
// the map says that they are made of.
func TestAttributesAreMaps(t *testing.T) {
	s := DefaultSchema()
	rapid.Check(t, func(t *rapid.T) {
		m := randomAttributes(seeded(t))
		free := AttributesOf(m)
		laid := s.Attributes(maps.All(m))
		wantCBOR, wantJSON := encodings(t, m)
		for name, a := range map[string]Attributes{"free": free, "laid": laid} {
			if got := maps.Collect(a.All()); !maps.EqualFunc(got, m, Value.Equal) || a.Len() != len(m) {
				t.Fatalf("%s: %v, want %v", name, got, m)
			}
			asCBOR, asJSON := encodings(t, a)
			if !bytes.Equal(asCBOR, wantCBOR) || !bytes.Equal(asJSON, wantJSON) {
				t.Fatalf("%s: encoded as %s, want %s", name, asJSON, wantJSON)
			}
			var fromCBOR, fromJSON Attributes
			if err := errors.Join(ledger.Decode(asCBOR, &fromCBOR), json.Unmarshal(asJSON, &fromJSON)); err != nil {
				t.Fatal(err)
			}
			if !fromCBOR.Equal(a) || !fromJSON.Equal(a) || !laid.Equal(fromCBOR) {
				t.Fatalf("%s: %s became another", name, asJSON)
			}
		}
	})
}

func encodings(t *rapid.T, v any) (asCBOR, asJSON []byte) {
	asCBOR, err := ledger.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	if asJSON, err = json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	return asCBOR, asJSON
}

func TestAttributesWith(t *testing.T) {
	m := map[string]Value{"arch": Text("amd64"), "free_cpu": Number(4)}
	for name, a := range map[string]Attributes{"free": AttributesOf(m), "laid": testSchema.Attributes(maps.All(m))} {
		b := a.With("free_cpu", Number(8)).With("country", Text("DE"))
		c := b.With("arch", Value{}).With("owner", Value{})
		if got := a.Get("free_cpu"); !got.Equal(Number(4)) || a.Len() != 2 || a.Equal(b) {
			t.Errorf("%s: the first changed to %v", name, got)
		}
		if got := b.Get("free_cpu"); !got.Equal(Number(8)) || !b.Get("country").Equal(Text("DE")) || b.Len() != 3 {
			t.Errorf("%s: free_cpu is %v of %d", name, got, b.Len())
		}
		if got := c.Get("arch"); !got.IsZero() || c.Len() != 2 {
			t.Errorf("%s: arch is %v of %d", name, got, c.Len())
		}
	}
	var none Attributes
	if got := none.With("arch", Text("arm64")); got.Len() != 1 || none.Len() != 0 || !none.Get("arch").IsZero() {
		t.Errorf("none became %d", got.Len())
	}
}

// TestAttributesRefuse: what claims nothing is no claim.
func TestAttributesRefuse(t *testing.T) {
	var a Attributes
	if err := json.Unmarshal([]byte(`{"arch": null}`), &a); err == nil {
		t.Error("null in JSON is taken")
	}
	for _, in := range []any{map[string]any{"arch": nil}, map[string]any{"arch": true}, []any{"arch"}, "arch"} {
		b, err := ledger.Encode(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.Decode(b, &a); err == nil {
			t.Errorf("%v is taken", in)
		}
	}
}

// TestLayouts: an ad means the same to a schema that has not laid it out.
func TestLayouts(t *testing.T) {
	foreign := DefaultSchema()
	rapid.Check(t, func(t *rapid.T) {
		rng := seeded(t)
		ad, p := randomAd(rng, testNow), randomPredicate(rng, 2)
		if got, want := foreign.Eval(p, ad.Ad), testSchema.Eval(p, ad.Ad); got != want {
			t.Fatalf("%v is %d, want %d", p, got, want)
		}
		tree := foreign.Trees()[rng.IntN(len(foreign.Trees()))]
		if got, want := foreign.KeyOf(tree, ad), testSchema.KeyOf(tree, ad); got != want {
			t.Fatalf("key %x in %s, want %x", got, tree.Name, want)
		}
	})
}
