package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files in testdata")

// testKeys are the keys of all tests, made once.
var testKeys = func() (keys [16]ed25519.PrivateKey) {
	for n := range keys {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(n)
		keys[n] = ed25519.NewKeyFromSeed(seed)
	}
	return keys
}()

func testKey(n byte) ed25519.PrivateKey { return testKeys[n] }

func testPeer(n byte) dht.PeerID {
	return dht.PeerIDFromKey(testKeys[n].Public().(ed25519.PublicKey))
}

// testDocument is one document of a kind with every field set.
type testDocument struct {
	kind  Kind
	doc   any
	empty func() any
	keys  []byte // signers
}

func testDocuments(t testing.TB) []testDocument {
	t.Helper()
	corp, client, server := testPeer(1), testPeer(2), testPeer(3)
	const now = 1_800_000_000
	order := &Order{
		Network: "test", ID: ID{1, 2, 3}, Client: client, Amount: 50 * Unit, Issued: now, Expires: now + 86400,
		Servers: []dht.PeerID{server}, MaxCap: 20 * Unit,
	}
	orderEnv := must(Seal(KindOrder, order, testKey(2)))
	agreement := &Agreement{
		Network: "test", ID: ID{4, 5, 6}, Client: client, Server: server, Order: LinkTo(orderEnv),
		Terms: Terms{
			Environment: "wasi", Image: LinkTo(orderEnv), CPUs: 2, CPUShare: 1500, MemoryBytes: 1 << 30, DiskBytes: 1 << 31,
			NetworkRate: 1 << 20, Args: []string{"a", "b c"}, Env: []string{"A=b"}, Stdin: []byte("in"),
			SSHKeys: []string{"ssh-ed25519 AAAA"}, HostKey: "ssh-ed25519 BBBB",
		},
		Rates: Rates{Session: 1, CPU: 2, Memory: 3, Disk: 4, Network: 5}, Cap: 20 * Unit, Issued: now, Expires: now + 3600,
	}
	agreementEnv := must(Seal(KindAgreement, agreement, testKey(3)))
	usage := Usage{RunNanos: 1e9, CPUNanos: 5e8, RxBytes: 1000, TxBytes: 2000}
	first := &Receipt{
		Network: "test", Agreement: LinkTo(agreementEnv), Server: server, Seq: 1, From: now * 1000, To: now*1000 + 1000, Usage: usage,
		Readings: []Reading{{Source: "ebpf", Usage: usage}, {Source: "cgroup", Usage: usage}}, Amount: 7,
	}
	second := *first
	second.Seq, second.Prev, second.Final, second.Reason = 2, LinkTo(must(Seal(KindReceipt, first, testKey(3)))), true, ReasonDone
	return []testDocument{
		{KindCredential, &Credential{
			Network: "test", Serial: 9, Peer: client, Subject: "Größe & Söhne", Roles: []Role{RoleClient, RoleParticipant},
			Issued: now, Expires: now + 86400,
		}, func() any { return new(Credential) }, []byte{1}},
		{
			KindRevocations, &Revocations{Network: "test", Seq: 2, Issued: now, Serials: []uint64{1, 23, 24, 255, 256, 65536, 1 << 32}},
			func() any { return new(Revocations) },
			[]byte{1},
		},
		{KindOrder, order, func() any { return new(Order) }, []byte{2}},
		{KindAgreement, agreement, func() any { return new(Agreement) }, []byte{3, 2}},
		{KindAuthorization, &Authorization{
			Network: "test", Agreement: LinkTo(agreementEnv), Hold: 20 * Unit, Issued: now, Expires: now + 4500,
		}, func() any { return new(Authorization) }, []byte{1}},
		{KindReceipt, first, func() any { return new(Receipt) }, []byte{3}},
		{KindReceipt, &second, func() any { return new(Receipt) }, []byte{3, 2}},
		{KindSettlement, &Settlement{
			Network: "test", Agreement: LinkTo(agreementEnv), Paid: 7, Fee: 1, Released: 20*Unit - 7, Issued: now,
		}, func() any { return new(Settlement) }, []byte{1}},
		{KindCredential, &Credential{Network: "test", Serial: 1, Peer: corp, Subject: "", Roles: nil}, func() any { return new(Credential) }, []byte{1}},
	}
}

// TestGolden holds the exact bytes of every document, so that no change of
// library or type moves them unseen.
func TestGolden(t *testing.T) {
	for i, d := range testDocuments(t) {
		name := fmt.Sprintf("%d-%s", i, d.kind)
		t.Run(name, func(t *testing.T) {
			e := must(Seal(d.kind, d.doc, testKey(d.keys[0])))
			for _, k := range d.keys[1:] {
				e.Countersign(testKey(k))
			}
			got := fmt.Sprintf("cid %s\n%s", e.CID(), hex.Dump(e.Marshal()))
			golden := filepath.Join("testdata", name+".golden")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("bytes (-golden +got):\n%s", diff)
			}
			back, err := UnmarshalEnvelope(e.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			doc := d.empty()
			if err := back.Open(d.kind, doc, testPeer(d.keys[0])); err != nil {
				t.Fatal(err)
			}
			again := must(Seal(d.kind, doc, testKey(d.keys[0])))
			if !bytes.Equal(again.Payload, e.Payload) {
				t.Errorf("decoded and sealed again: %x, want %x", again.Payload, e.Payload)
			}
		})
	}
}

func TestNilAndEmptySlicesAreOne(t *testing.T) {
	a := must(encode(&Order{Servers: nil}))
	b := must(encode(&Order{Servers: []dht.PeerID{}}))
	if !bytes.Equal(a, b) {
		t.Errorf("nil and empty slices differ:\n%x\n%x", a, b)
	}
	if a, b := must(encode(&Terms{Stdin: nil})), must(encode(&Terms{Stdin: []byte{}})); !bytes.Equal(a, b) {
		t.Errorf("nil and empty byte strings differ:\n%x\n%x", a, b)
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	type future struct {
		Settlement
		More map[string]any `cbor:"more"`
	}
	want := Settlement{Network: "test", Paid: 5, Agreement: LinkTo(must(Seal(KindOrder, &Order{}, testKey(1))))}
	e := must(Seal(KindSettlement, &future{want, map[string]any{"x": []int{1}, "yy": "z"}}, testKey(1)))
	var got Settlement
	if err := e.Open(KindSettlement, &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStrict(t *testing.T) {
	link := "d82a5825" + "00" + hex.EncodeToString(must(Seal(KindOrder, &Order{}, testKey(1))).CID().Bytes())
	for _, test := range []struct {
		name, in string
		want     error
	}{
		{"integer", "00", nil},
		{"integer of two bytes", "1818", nil},
		{"long integer", "1817", errLongForm},
		{"long integer of 16 bits", "1900ff", errLongForm},
		{"long integer of 32 bits", "1a0000ffff", errLongForm},
		{"long integer of 64 bits", "1b00000000ffffffff", errLongForm},
		{"negative", "3b7fffffffffffffff", nil},
		{"text", "6161", nil},
		{"long length", "780161", errLongForm},
		{"not UTF-8", "61ff", errUTF8},
		{"truncated bytes", "4201", errTruncated},
		{"indefinite bytes", "5f4101ff", errIndefinite},
		{"indefinite array", "9f01ff", errIndefinite},
		{"huge array", "9b7fffffffffffffff", errTruncated},
		{"huge map", "bb7fffffffffffffff", errTruncated},
		{"map", "a2616101616202", nil},
		{"map by length first", "a2617a0162616102", nil},
		{"map out of order", "a2616201616102", errMapKey},
		{"duplicate key", "a2616101616102", errMapKey},
		{"integer key", "a10101", errMapKey},
		{"false, true, null", "83f4f5f6", nil},
		{"undefined", "f7", errSimple},
		{"simple value", "e0", errSimple},
		{"half float", "f93c00", errSimple},
		{"single float", "fa3f800000", errSimple},
		{"double", "fb3ff0000000000000", nil},
		{"not a number", "fb7ff8000000000000", errFloat},
		{"infinity", "fb7ff0000000000000", errFloat},
		{"link", link, nil},
		{"link to nothing", "d82a40", errTag},
		{"link to junk", "d82a430001ff", errTag},
		{"link that is text", "d82a6161", errTag},
		{"time", "c100", errTag},
		{"bignum", "c249010000000000000000", errTag},
		{"other tag", "d82b00", errTag},
		{"self-described", "d9d9f700", errTag},
		{"deep", strings.Repeat("81", 20) + "00", errDepth},
		{"two items", "0000", errTrailing},
		{"nothing", "", errTruncated},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := hex.DecodeString(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := checkStrict(b); !errors.Is(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// dumbStrict is checkStrict the slow way: read b without a type, and see that
// it is written again with the same bytes.
func dumbStrict(b []byte) bool {
	opts := decMode.DecOptions()
	opts.DefaultMapType = reflect.TypeFor[map[string]any]()
	var v any
	if must(opts.DecMode()).Unmarshal(b, &v) != nil || !dumbTags(v) {
		return false
	}
	again, err := encMode.Marshal(v)
	return err == nil && bytes.Equal(again, b)
}

func dumbTags(v any) bool {
	switch v := v.(type) {
	case cbor.Tag:
		content, ok := v.Content.([]byte)
		if !ok || v.Number != tagLink {
			return false
		}
		raw := must(encMode.Marshal(cbor.RawTag{Number: tagLink, Content: must(encMode.Marshal(content))}))
		return new(Link).UnmarshalCBOR(raw) == nil
	case cbor.SimpleValue:
		return false
	case []any:
		for _, e := range v {
			if !dumbTags(e) {
				return false
			}
		}
	case map[string]any:
		for _, e := range v {
			if !dumbTags(e) {
				return false
			}
		}
	default:
	}
	return true
}

// anyValue draws a value of the data model of DAG-CBOR.
func anyValue(depth int) *rapid.Generator[any] {
	gens := []*rapid.Generator[any]{
		rapid.Int64().AsAny(), rapid.Uint64().AsAny(), rapid.String().AsAny(), rapid.SliceOf(rapid.Byte()).AsAny(),
		rapid.Bool().AsAny(), rapid.Float64().AsAny(), rapid.Just(any(nil)),
	}
	if depth > 0 {
		gens = append(gens,
			rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return anyValue(depth - 1) }), 0, 5).AsAny(),
			rapid.MapOfN(rapid.String(), rapid.Deferred(func() *rapid.Generator[any] { return anyValue(depth - 1) }), 0, 5).AsAny(),
		)
	}
	return rapid.OneOf(gens...)
}

func TestStrictAgreesWithTheSlowWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, err := encMode.Marshal(anyValue(3).Draw(t, "value"))
		if err != nil {
			return // NaN or infinity
		}
		if rapid.Bool().Draw(t, "damage") && len(b) > 0 {
			at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			b[at] = rapid.Byte().Draw(t, "byte")
		}
		if got, want := checkStrict(b) == nil, dumbStrict(b); got != want {
			t.Fatalf("%x: strict %v (%v), the slow way %v", b, got, checkStrict(b), want)
		}
	})
}

func FuzzStrict(f *testing.F) {
	for _, d := range testDocuments(f) {
		f.Add(must(encode(d.doc)))
	}
	f.Add([]byte{0x82, 0xf4, 0xd8, 0x2a, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		// The library counts nesting of tags and elements otherwise.
		if err := checkStrict(b); !errors.Is(err, errDepth) && len(b) < 4096 {
			if got, want := err == nil, dumbStrict(b); got != want {
				t.Fatalf("%x: strict %v (%v), the slow way %v", b, got, err, want)
			}
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	docs := testDocuments(f)
	for _, d := range docs {
		f.Add(must(Seal(d.kind, d.doc, testKey(d.keys[0]))).Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := UnmarshalEnvelope(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v is not ErrMalformed", err)
			}
			return
		}
		back, err := UnmarshalEnvelope(e.Marshal())
		if err != nil || !bytes.Equal(e.Marshal(), back.Marshal()) {
			t.Fatalf("read again: %v, %v", back, err)
		}
		_ = e.Verify(e.Kind)
	})
}

// FuzzDocument decodes payloads as every type of document, and walks what
// reads them before a signature is known to be good.
func FuzzDocument(f *testing.F) {
	docs := testDocuments(f)
	for _, d := range docs {
		f.Add(must(encode(d.doc)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range docs {
			doc := d.empty()
			if Decode(b, doc) != nil {
				continue
			}
			again, err := Encode(doc)
			if err != nil {
				t.Fatalf("%T from %x does not encode: %v", doc, b, err)
			}
			if err := Decode(again, d.empty()); err != nil {
				t.Fatalf("%T from %x does not decode again: %v", doc, b, err)
			}
			if v, ok := doc.(interface{ Validate() error }); ok {
				_ = v.Validate()
			}
			if a, ok := doc.(*Agreement); ok && a.Validate() == nil {
				if a.WorstCost() < 0 {
					t.Fatalf("worst cost of %+v is negative", a)
				}
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, cmd := range []Command{
		&Deposit{ID: ID{1}, By: testPeer(1), Peer: testPeer(2), Amount: 5, Note: "n"}, &Tick{},
		&Claim{By: testPeer(3), Receipt: must(Seal(KindReceipt, &Receipt{}, testKey(3)))},
	} {
		raw := must((&Record{Seq: 1, Time: 2, Command: cmd, Entries: []Entry{{Seq: 1}}}).Raw())
		f.Add(raw.Kind, raw.Body, raw.Entries)
	}
	f.Fuzz(func(t *testing.T, kind string, body, entries []byte) {
		raw := RawRecord{Seq: 1, Time: 2, Kind: kind, Body: body, Entries: entries}
		record, err := raw.Record()
		if err != nil {
			return
		}
		if _, err := record.Raw(); err != nil {
			t.Fatalf("%s %x does not encode again: %v", kind, body, err)
		}
		_, _, _ = NewState().Apply(time.Unix(1, 0), record.Command)
	})
}

func TestIdentitiesHaveOneLength(t *testing.T) {
	type short struct {
		Client []byte `cbor:"client"`
		ID     []byte `cbor:"id"`
	}
	for _, in := range []short{
		{make([]byte, 31), make([]byte, 16)},
		{make([]byte, 33), make([]byte, 16)},
		{make([]byte, 32), make([]byte, 15)},
		{make([]byte, 32), make([]byte, 17)},
	} {
		if err := Decode(must(Encode(in)), new(Order)); !errors.Is(err, ErrMalformed) {
			t.Errorf("client of %d bytes, ID of %d: %v", len(in.Client), len(in.ID), err)
		}
	}
	good := short{make([]byte, 32), make([]byte, 16)}
	if err := Decode(must(Encode(good)), new(Order)); err != nil {
		t.Error(err)
	}
}
