package dht

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseContact(t *testing.T) {
	id := testID(1)
	relayed := "/ip4/192.0.2.1/tcp/1/p2p/" + testID(2).String() + "/p2p-circuit"
	for _, tc := range []struct {
		name, in string
		want     Contact
		bad      bool
	}{
		{"full", "/ip4/192.0.2.1/tcp/4001/p2p/" + id.String(), Contact{ID: id, Addrs: []string{"/ip4/192.0.2.1/tcp/4001"}}, false},
		{"identity alone", "/p2p/" + id.String(), Contact{ID: id}, false},
		{
			"relayed", relayed + "/p2p/" + id.String(), Contact{ID: id, Addrs: []string{relayed}}, false,
		},
		{"empty", "", Contact{}, true},
		{"no identity", "/ip4/192.0.2.1/tcp/4001", Contact{}, true},
		{"no slash", "x/p2p/" + id.String(), Contact{}, true},
		{"bad identity", "/ip4/192.0.2.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", Contact{}, true},
		{"too long", "/dns/" + strings.Repeat("x", 600) + "/p2p/" + id.String(), Contact{}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseContact(tc.in)
			if (err != nil) != tc.bad || (err != nil && !errors.Is(err, ErrBadContact)) {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
			if got.String() != tc.in {
				t.Errorf("String is %q", got.String())
			}
		})
	}
}

func TestContactCheck(t *testing.T) {
	for name, c := range map[string]Contact{
		"nobody":    {},
		"crowded":   {ID: testID(1), Addrs: make([]string, MaxAddrs+1)},
		"empty":     {ID: testID(1), Addrs: []string{""}},
		"very long": {ID: testID(1), Addrs: []string{"/" + strings.Repeat("x", MaxAddrBytes)}},
	} {
		if err := c.Check(); !errors.Is(err, ErrBadContact) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseContact: what parses is within the limits, and prints as it came.
func FuzzParseContact(f *testing.F) {
	f.Add("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/" + testID(1).String())
	f.Add("/p2p/" + testID(2).String())
	f.Add("/p2p//p2p/")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseContact(s)
		if err != nil {
			if !errors.Is(err, ErrBadContact) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		again, err := ParseContact(c.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(again, c); diff != "" {
			t.Fatalf("-again +first:\n%s", diff)
		}
	})
}
