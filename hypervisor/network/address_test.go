package network

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/hypervisor"
)

// A subnet that is given out is in the range, aligned, and overlaps nothing in
// use; none is given out only when every one overlaps something.
func TestFreeSubnet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, 0, 0}), rapid.IntRange(24, 30).Draw(t, "bits"))
		var used []netip.Prefix
		for range rapid.IntRange(0, 40).Draw(t, "n") {
			last := rapid.Byte().Draw(t, "last")
			used = append(used, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, 0, last}), rapid.IntRange(25, 32).Draw(t, "used")))
		}
		host, ok := freeSubnet(prefix, used, rapid.Uint32().Draw(t, "seed"))
		got := netip.PrefixFrom(host, subnetBits)
		for n := range 1 << (subnetBits - prefix.Bits()) {
			subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, 0, byte(4 * n)}), subnetBits)
			free := true
			for _, u := range used {
				free = free && !u.Overlaps(subnet)
			}
			if free && !ok {
				t.Fatalf("%v is free", subnet)
			}
			if ok && got.Masked() == subnet && !free {
				t.Fatalf("%v is in use", subnet)
			}
		}
		if ok && (!prefix.Contains(host) || number(host)%4 != 1) {
			t.Fatalf("host address %v", host)
		}
	})
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"no owner":     {},
		"bad owner":    {Owner: "a b"},
		"public range": {Owner: "a", Prefix: netip.MustParsePrefix("8.8.0.0/16")},
		"IPv6":         {Owner: "a", Prefix: netip.MustParsePrefix("fd00::/64")},
		"too small":    {Owner: "a", Prefix: netip.MustParsePrefix("10.0.0.0/31")},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(Config{Owner: "a"}); err != nil {
		t.Error(err)
	}
}

// FuzzAlias: parseAlias(t.alias()) == t for all that parses.
func FuzzAlias(f *testing.F) {
	f.Add(newTap(tapName("me", "x"), "me", "x", netip.MustParseAddr("10.213.0.5")).alias())
	f.Add("xeno1 a b 10.0.0.2/30")
	f.Add("my own alias")
	f.Fuzz(func(t *testing.T, s string) {
		tap, ok := parseAlias(s)
		if !ok {
			return
		}
		again, ok := parseAlias(tap.alias())
		if !ok || again.Name != tap.Name || again.Host != tap.Host || again.Guest != tap.Guest {
			t.Fatalf("%q gives %+v and then %+v", s, tap, again)
		}
		if hypervisor.ValidateID(tap.ID) != nil || len(tap.Name) > maxName || !tap.Host.Contains(tap.Guest.Addr()) {
			t.Fatalf("%q gives %+v", s, tap)
		}
	})
}

func FuzzBanner(f *testing.F) {
	f.Add("SSH-2.0-OpenSSH_9.2\r\n")
	f.Add("hello\r\nSSH-1.99-x\n")
	f.Add("SSH-1.0-old\n")
	f.Add(strings.Repeat("x", 300))
	f.Fuzz(func(t *testing.T, s string) {
		banner, err := readBanner(strings.NewReader(s))
		switch {
		case err == nil:
			if !strings.HasPrefix(banner, "SSH-") || len(banner) > maxBanner || strings.Contains(banner, "\n") {
				t.Fatalf("%q gives %q", s, banner)
			}
		case !errors.Is(err, ErrNotSSH) && !errors.Is(err, io.EOF):
			t.Fatalf("%q: %v", s, err)
		}
	})
}
