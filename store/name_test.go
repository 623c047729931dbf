package store

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// now is when the tests play.
var now = time.Unix(1_800_000_000, 0)

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func idOf(key ed25519.PrivateKey) dht.PeerID {
	return dht.PeerIDFromKey(key.Public().(ed25519.PublicKey))
}

func link(t testing.TB, codec, hash uint64) ledger.Link {
	t.Helper()
	mh, err := multihash.Sum([]byte("x"), hash, -1)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Link{Cid: cid.NewCidV1(codec, mh)}
}

func validName(key ed25519.PrivateKey) Name {
	return Name{
		Network: "test", Owner: idOf(key), Label: "profile", Seq: 1, Value: []byte("v"),
		Issued: now.Unix(), Expires: now.Add(time.Hour).Unix(),
	}
}

func TestNameLimits(t *testing.T) {
	key := testKey(1)
	for _, tc := range []struct {
		name   string
		change func(*Name)
		ok     bool
	}{
		{"as it is", func(*Name) {}, true},
		{"link", func(n *Name) { n.Value, n.Link = nil, link(t, cid.DagProtobuf, multihash.SHA2_256) }, true},
		{"neither value nor link", func(n *Name) { n.Value = nil }, true},
		{"largest value", func(n *Name) { n.Value = make([]byte, MaxValue) }, true},
		{"longest label", func(n *Name) { n.Label = strings.Repeat("x", MaxLabel) }, true},
		{"longest life", func(n *Name) { n.Expires = n.Issued + int64(MaxLife/time.Second) }, true},
		{"value too large", func(n *Name) { n.Value = make([]byte, MaxValue+1) }, false},
		{"no label", func(n *Name) { n.Label = "" }, false},
		{"label too long", func(n *Name) { n.Label = strings.Repeat("x", MaxLabel+1) }, false},
		{"label with a newline", func(n *Name) { n.Label = "a\nb" }, false},
		{"label that is not UTF-8", func(n *Name) { n.Label = "a\xff" }, false},
		{"version 0", func(n *Name) { n.Seq = 0 }, false},
		{"value and link", func(n *Name) { n.Link = link(t, cid.Raw, multihash.SHA2_256) }, false},
		{"identity link", func(n *Name) { n.Value, n.Link = nil, link(t, cid.Raw, multihash.IDENTITY) }, false},
		{"weak link", func(n *Name) { n.Value, n.Link = nil, link(t, cid.Raw, multihash.MD5) }, false},
		{"nobody's", func(n *Name) { n.Owner = dht.PeerID{} }, false},
		{"somebody else's", func(n *Name) { n.Owner = idOf(testKey(2)) }, false},
		{"life too long", func(n *Name) { n.Expires = n.Issued + int64(MaxLife/time.Second) + 1 }, false},
		{"ends before it begins", func(n *Name) { n.Expires = n.Issued }, false},
		{"negative times", func(n *Name) { n.Issued, n.Expires = -5, 5 }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := validName(key)
			tc.change(&n)
			env, err := SealName(n, key)
			if tc.ok != (err == nil) || err != nil && !errors.Is(err, ErrBadName) {
				t.Fatalf("seal: %v, want ok %v", err, tc.ok)
			}
			if !tc.ok { // a writer that does not check
				env, err = ledger.Seal(ledger.KindName, n, key)
				if err != nil {
					return
				}
			}
			r, err := OpenName(env.Marshal(), "test", now)
			if tc.ok != (err == nil) || err != nil && !errors.Is(err, ErrBadName) {
				t.Fatalf("open: %v, want ok %v", err, tc.ok)
			}
			if tc.ok && (r.Seq != n.Seq || !bytes.Equal(r.Value, n.Value) || r.Key() != n.Key()) {
				t.Errorf("opened %+v, want %+v", r.Name, n)
			}
		})
	}
}

func TestOpenNameRefuses(t *testing.T) {
	key, other := testKey(1), testKey(2)
	sealed := func() *ledger.Envelope {
		env, err := SealName(validName(key), key)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	both := sealed()
	both.Countersign(other)
	flipped := sealed()
	flipped.Payload[len(flipped.Payload)-1] ^= 1
	kind := sealed()
	kind.Kind = ledger.KindAd
	for _, tc := range []struct {
		name    string
		record  []byte
		network string
		at      time.Time
		want    error
	}{
		{"another network", sealed().Marshal(), "other", now, ledger.ErrWrongNetwork},
		{"expired", sealed().Marshal(), "test", now.Add(time.Hour), ledger.ErrExpired},
		{"from the future", sealed().Marshal(), "test", now.Add(-MaxSkew - time.Second), ErrBadName},
		{"countersigned", both.Marshal(), "test", now, ErrBadName},
		{"changed", flipped.Marshal(), "test", now, ledger.ErrBadSignature},
		{"another kind", kind.Marshal(), "test", now, ledger.ErrWrongKind},
		{"truncated", sealed().Marshal()[:50], "test", now, ledger.ErrMalformed},
		{"empty", nil, "test", now, ledger.ErrMalformed},
		{"too large", make([]byte, MaxRecord+1), "test", now, ErrBadName},
	} {
		if _, err := OpenName(tc.record, tc.network, tc.at); !errors.Is(err, tc.want) || !errors.Is(err, ErrBadName) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, err := OpenName(sealed().Marshal(), "test", now.Add(-MaxSkew)); err != nil {
		t.Errorf("within the skew: %v", err)
	}
}

func TestLargestRecordFits(t *testing.T) {
	key := testKey(1)
	n := validName(key)
	n.Network, n.Label, n.Value = strings.Repeat("n", 64), strings.Repeat("l", MaxLabel), make([]byte, MaxValue)
	n.Seq, n.Issued = 1<<64-1, 1<<40
	n.Expires = n.Issued + 1
	env, err := SealName(n, key)
	if err != nil {
		t.Fatal(err)
	}
	if size := len(env.Marshal()); size > MaxRecord {
		t.Errorf("the largest record has %d bytes, limit %d", size, MaxRecord)
	}
}

// TestNameKey pins the derivation: changing it loses every name.
func TestNameKey(t *testing.T) {
	owner := idOf(testKey(1))
	want := dht.KeyspaceName.Key(append(append([]byte{}, owner[:]...), "profile"...))
	if got := NameKey(owner, "profile"); got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	if NameKey(owner, "a") == NameKey(owner, "b") || NameKey(owner, "a") == NameKey(idOf(testKey(2)), "a") {
		t.Error("two names share a key")
	}
}

func TestRefs(t *testing.T) {
	sum := sha256.Sum256([]byte("x"))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		t.Fatal(err)
	}
	v1 := cid.NewCidV1(cid.DagProtobuf, mh)
	for _, text := range []string{cid.NewCidV0(mh).String(), v1.String(), mustBase(v1, 'f')} {
		ref, err := ParseRef(text)
		if err != nil || ref.CID() != v1 {
			t.Errorf("parse %s: %s, %v, want %s", text, ref, err, v1)
		}
		var again Ref
		b, _ := ref.MarshalText()
		if err := again.UnmarshalText(b); err != nil || again != ref {
			t.Errorf("text of %s reads as %s, %v", ref, again, err)
		}
	}
	for _, text := range []string{
		"", "bafy", "../../etc/passwd", strings.Repeat("b", 1000),
		cid.NewCidV1(cid.GitRaw, mh).String(), link(t, cid.Raw, multihash.IDENTITY).String(), link(t, cid.Raw, multihash.SHA1).String(),
	} {
		if ref, err := ParseRef(text); !errors.Is(err, ErrBadRef) {
			t.Errorf("parse %.40q: %s, %v, want ErrBadRef", text, ref, err)
		}
	}
	var zero Ref
	if !zero.IsZero() || zero.String() != "" {
		t.Errorf("the zero reference is %q", zero)
	}
	if err := zero.UnmarshalText(nil); err != nil || !zero.IsZero() {
		t.Errorf("empty text: %v", err)
	}
}

func mustBase(c cid.Cid, base byte) string {
	if base != 'f' {
		panic("base16 only")
	}
	return fmt.Sprintf("f%x", c.Bytes())
}

func FuzzOpenName(f *testing.F) {
	key := testKey(1)
	env, err := SealName(validName(key), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(env.Marshal())
	f.Add([]byte{0xa3})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := OpenName(b, "test", now)
		if err != nil {
			if !errors.Is(err, ErrBadName) {
				t.Errorf("error %v does not wrap ErrBadName", err)
			}
			return
		}
		if r.check() != nil || r.Owner != idOf(key) {
			t.Errorf("accepted %+v", r.Name)
		}
	})
}

func FuzzParseRef(f *testing.F) {
	f.Add("bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4")
	f.Add("QmPZ9gcCEpqKTo6aq61g2nXGUhM4iCL3ewB6LDXZCtioEB")
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseRef(s)
		if err != nil {
			return
		}
		if again, err := ParseRef(ref.String()); err != nil || again != ref {
			t.Errorf("%q is %s and that is %s, %v", s, ref, again, err)
		}
		if strings.ContainsAny(ref.String(), "/.\\\x00") {
			t.Errorf("%s is not a file name", ref)
		}
	})
}
