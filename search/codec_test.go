package search

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

var testKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

var testNow = time.Unix(1_800_000_000, 0)

func vouch(dht.PeerID, []byte) (string, error) { return "alice", nil }

func testAd(rng *rand.Rand) *Ad {
	return &Ad{
		Network: "test", Server: dht.PeerIDFromKey(testKey.Public().(ed25519.PublicKey)), Addrs: []string{"/ip4/192.0.2.1/udp/1/quic-v1"},
		Seq: 7, Issued: testNow.Unix(), Expires: testNow.Add(time.Hour).Unix(), Attributes: AttributesOf(randomAttributes(rng)),
	}
}

func TestSignAndOpen(t *testing.T) {
	s := DefaultSchema()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		signed, err := s.Sign(testAd(rng), testKey, "alice")
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Open(signed.Envelope, "test", testNow, vouch)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(signed.Ad, got.Ad, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		if owner, _ := got.Ad.Attributes.Get(DimOwner).Text(); owner != "alice" {
			t.Fatalf("owner %q", owner)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	s := DefaultSchema()
	rng := rand.New(rand.NewPCG(1, 2))
	seal := func(change func(*Ad)) []byte {
		ad := testAd(rng)
		change(ad)
		e, err := ledger.Seal(ledger.KindAd, ad, testKey)
		if err != nil {
			t.Fatal(err)
		}
		return e.Marshal()
	}
	good := seal(func(*Ad) {})
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	many := make(map[string]Value)
	for i := range maxAttributes + 1 {
		many[string(rune('a'+i%26))+string(rune('a'+i/26))] = Number(1)
	}
	for _, tt := range []struct {
		name string
		env  []byte
		want error
	}{
		{"truncated", good[:len(good)-1], ledger.ErrMalformed},
		{"bit flipped", append(append([]byte{}, good[:len(good)-1]...), good[len(good)-1]^1), ErrBadAd},
		{"oversized", make([]byte, MaxAdEnvelope+1), ErrBadAd},
		{"other server", seal(func(a *Ad) { a.Server = dht.PeerIDFromKey(other.Public().(ed25519.PublicKey)) }), ledger.ErrNotSigned},
		{"other network", seal(func(a *Ad) { a.Network = "else" }), ledger.ErrWrongNetwork},
		{"expired", seal(func(a *Ad) { a.Issued -= 7200; a.Expires -= 7200 }), ledger.ErrExpired},
		{"future", seal(func(a *Ad) { a.Issued += 600; a.Expires += 600 }), ErrBadAd},
		{"too long", seal(func(a *Ad) { a.Expires += 7200 }), ErrBadAd},
		{"unknown attribute", seal(func(a *Ad) { a.Attributes = a.Attributes.With("nonsense", Number(1)) }), ErrBadAd},
		{"claimed owner", seal(func(a *Ad) { a.Attributes = a.Attributes.With(DimOwner, Text("bob")) }), ErrBadAd},
		{"wrong kind", seal(func(a *Ad) { a.Attributes = a.Attributes.With("free_cpu", Text("4")) }), ErrBadValue},
		{"bad enum", seal(func(a *Ad) { a.Attributes = a.Attributes.With("arch", Text("z80")) }), ErrBadValue},
		{"bad place", seal(func(a *Ad) { a.Attributes = a.Attributes.With("place", PlaceAt(91, 0)) }), ErrBadValue},
		{"bad coordinate", seal(func(a *Ad) { a.Attributes = a.Attributes.With("coordinate", CoordinateAt(dht.Coordinate{Height: -1})) }), ErrBadValue},
		{"too many", seal(func(a *Ad) { a.Attributes = AttributesOf(many) }), ErrBadAd},
		{"large", seal(func(a *Ad) { a.Credential = make([]byte, MaxAd) }), ErrBadAd},
	} {
		if _, err := s.Open(tt.env, "test", testNow, vouch); !errors.Is(err, tt.want) || !errors.Is(err, ErrBadAd) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	refuse := errors.New("revoked")
	if _, err := s.Open(good, "test", testNow, func(dht.PeerID, []byte) (string, error) { return "", refuse }); !errors.Is(err, refuse) {
		t.Errorf("not vouched for: %v", err)
	}
}

// seeded draws a source of randomness, so that rapid can shrink to a seed.
func seeded(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
}

// TestPredicateRoundTrip: DecodePredicate(EncodePredicate(p)) == p, and
// encoding that again gives the same bytes.
func TestPredicateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := randomPredicate(seeded(t), 3)
		b, err := EncodePredicate(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := DecodePredicate(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := EncodePredicate(q)
		if err != nil || !bytes.Equal(b, again) || !reflect.DeepEqual(p.String(), q.String()) {
			t.Fatalf("%v became %v (%v)", p, q, err)
		}
		if err := DefaultSchema().Check(Query{Where: q}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPredicateLimits(t *testing.T) {
	deep := Predicate(Has{"arch"})
	for range maxDepth + 1 {
		deep = Not{deep}
	}
	wide := make(And, maxNodes+1)
	for i := range wide {
		wide[i] = Has{"arch"}
	}
	for name, p := range map[string]Predicate{"deep": deep, "wide": wide, "hole": And{nil}} {
		if _, err := EncodePredicate(p); !errors.Is(err, ErrBadPredicate) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKleene checks the three values: what an ad lacks satisfies neither a
// condition nor its negation.
func TestKleene(t *testing.T) {
	s := DefaultSchema()
	ad := &Ad{Attributes: AttributesOf(map[string]Value{"free_cpu": Number(4)})}
	gpu := Compare{"free_gpu", OpGreater, Number(0)}
	cpu := Compare{"free_cpu", OpGreater, Number(1)}
	for _, tt := range []struct {
		p    Predicate
		want Truth
	}{
		{gpu, Unknown},
		{Not{gpu}, Unknown},
		{Or{gpu, cpu}, True},
		{And{gpu, cpu}, Unknown},
		{And{gpu, Not{cpu}}, False},
		{Has{"free_gpu"}, False},
		{Not{Has{"free_gpu"}}, True},
		{And{}, True},
		{Or{}, False},
	} {
		if got := s.Eval(tt.p, ad); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.p, got, tt.want)
		}
	}
}

// TestSummaryNeverMisses: if an ad matches, the summary of any range with it
// can match; and the bound of the range is no worse than the match's rank.
func TestSummaryNeverMisses(t *testing.T) {
	s := DefaultSchema()
	rapid.Check(t, func(t *rapid.T) {
		rng := seeded(t)
		m := s.NewSummary()
		var ads []*Signed
		for range 1 + rng.IntN(6) {
			ad := randomAd(rng, testNow)
			ads = append(ads, ad)
			s.add(&m, ad.Ad)
		}
		for range 20 {
			q := randomQuery(rng)
			o := s.order(&q)
			for _, ad := range ads {
				if s.Matches(q.Where, ad.Ad) && !s.CanMatch(q.Where, m) {
					t.Fatalf("%v matches an ad, but not its summary", q.Where)
				}
				if s.Matches(q.Where, ad.Ad) && o.bound(m) > o.standing(ad).rank {
					t.Fatalf("order by %s desc %v: bound %v, rank %v", q.OrderBy, q.Desc, o.bound(m), o.standing(ad).rank)
				}
			}
		}
	})
}

// TestKeysKeepOrder: the key of a greater number or version is not smaller.
func TestKeysKeepOrder(t *testing.T) {
	s := DefaultSchema()
	rapid.Check(t, func(t *rapid.T) {
		rng := seeded(t)
		a, b := randomAd(rng, testNow), randomAd(rng, testNow)
		for _, name := range []string{"free_cpu", "free_memory", "price_hour", "reputation", "kernel"} {
			tree, _ := s.Tree(name)
			v, ok := a.Ad.Attribute(name)
			w, ok2 := b.Ad.Attribute(name)
			if !ok || !ok2 {
				continue
			}
			d, _ := s.Dimension(name)
			c := compareValues(v, w, d.Kind)
			k, l := s.KeyOf(tree, a), s.KeyOf(tree, b)
			bits := d.keyBits() / 4
			k, l = PrefixOf(k, bits).Key, PrefixOf(l, bits).Key
			if x := bytes.Compare(k[:], l[:]); x != 0 && x != c {
				t.Fatalf("%s: %v and %v have keys %x and %x", name, v, w, k, l)
			}
		}
	})
}

func TestPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var k Key
		copy(k[:], rapid.SliceOfN(rapid.Byte(), keyBytes, keyBytes).Draw(t, "key"))
		level := rapid.IntRange(1, maxLevel).Draw(t, "level")
		p := PrefixOf(k, level)
		parent, i := p.Parent()
		if parent.Child(i) != p || !p.Contains(k) || !parent.Contains(k) || !p.valid() {
			t.Fatalf("%v %v %d", p, parent, i)
		}
	})
}

func TestSchemaRefuses(t *testing.T) {
	server := Dimension{Name: DimServer, Kind: KindText, Tree: true}
	for name, dims := range map[string][]Dimension{
		"no server":   {{Name: "a", Kind: KindText}},
		"name":        {server, {Name: "A", Kind: KindText}},
		"twice":       {server, {Name: "a", Kind: KindText}, {Name: "a", Kind: KindText}},
		"range":       {server, {Name: "a", Kind: KindNumber, Min: 1, Max: 1}},
		"log of zero": {server, {Name: "a", Kind: KindNumber, Min: 0, Max: 1, Scale: ScaleLog}},
		"scale":       {server, {Name: "a", Kind: KindNumber, Max: 1, Scale: "cubic"}},
		"empty enum":  {server, {Name: "a", Kind: KindEnum}},
		"kind":        {server, {Name: "a", Kind: "colour"}},
	} {
		if _, err := NewSchema(dims); !errors.Is(err, ErrBadSchema) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewSchema([]Dimension{server}, Tree{Name: "x", Dims: []string{"server", "nothing"}}); !errors.Is(err, ErrBadSchema) {
		t.Errorf("composite of an unknown dimension: %v", err)
	}
	s, err := NewSchema(defaultDimensions(), Tree{Name: "size", Dims: []string{"free_cpu", "free_memory", "price_hour"}})
	if err != nil || len(s.Trees()) != len(DefaultSchema().Trees())-len(defaultComposites())+1 || s.Fingerprint() == DefaultSchema().Fingerprint() {
		t.Errorf("a composite: %v", err)
	}
}

func TestVersions(t *testing.T) {
	ascending := []string{"5", "5.10", "6.1", "6.1.0-42-amd64", "6.12", "7.0.1", "12", "2022"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got, want := compareVersions(a, b), i-j; got*want < 0 || (got == 0) != (want == 0) {
				t.Errorf("compare %s and %s: %d", a, b, got)
			}
			if i < j && versionFraction(a) > versionFraction(b) {
				t.Errorf("fractions of %s and %s", a, b)
			}
		}
	}
	for _, bad := range []string{"", "x1", "-1", "99999999999999999999"} {
		if _, ok := parseVersion(bad); ok {
			t.Errorf("%q is no version", bad)
		}
	}
}

func FuzzOpenAd(f *testing.F) {
	s := DefaultSchema()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		signed, err := s.Sign(testAd(rng), testKey, "alice")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signed.Envelope, true)
		e, err := ledger.UnmarshalEnvelope(signed.Envelope)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.Payload, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if !sealed { // a payload, signed as it is
			e := &ledger.Envelope{Kind: ledger.KindAd, Payload: b}
			e.Countersign(testKey)
			b = e.Marshal()
		}
		signed, err := s.Open(b, "test", testNow, vouch)
		if err != nil {
			if !errors.Is(err, ErrBadAd) {
				t.Fatal(err)
			}
			return
		}
		m := s.NewSummary()
		s.add(&m, signed.Ad)
		for _, tree := range s.Trees() {
			s.KeyOf(tree, signed)
		}
	})
}

func FuzzDecodePredicate(f *testing.F) {
	s := DefaultSchema()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		b, err := EncodePredicate(randomPredicate(rng, 2))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	ad := randomAd(rng, testNow)
	m := s.NewSummary()
	s.add(&m, ad.Ad)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePredicate(b)
		if err != nil {
			if !errors.Is(err, ErrBadPredicate) {
				t.Fatal(err)
			}
			return
		}
		again, err := EncodePredicate(p)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x (%v)", b, again, err)
		}
		if s.Check(Query{Where: p}) != nil {
			return
		}
		if s.Matches(p, ad.Ad) && !s.CanMatch(p, m) {
			t.Fatalf("%v matches an ad, but not its summary", p)
		}
	})
}
