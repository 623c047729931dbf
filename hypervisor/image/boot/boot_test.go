package boot

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func example() Config {
	return Config{
		Hostname: "xeno-a", Address: netip.MustParsePrefix("10.213.0.2/30"), Gateway: netip.MustParseAddr("10.213.0.1"),
		Port: 22, HostKey: "key", Keys: []string{"ssh-ed25519 AAAA"}, DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")},
	}
}

// Parse(what Archive(c) holds) == c.
func TestArchive(t *testing.T) {
	a, err := Archive(example())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Archive(example())
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("two archives differ, %v", err)
	}
	if len(a)%4 != 0 {
		t.Errorf("%d bytes are not aligned", len(a))
	}
	r := cpio.NewReader(bytes.NewReader(a))
	if _, err := r.Next(); err != nil { // the directory
		t.Fatal(err)
	}
	h, err := r.Next()
	if err != nil || "/"+h.Name != Path || h.Mode.Perm() != 0o400 {
		t.Fatalf("%+v, %v", h, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	want.Version = version
	opts := cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestBadConfig(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"hostname": func(c *Config) { c.Hostname = "a b" },
		"IPv6":     func(c *Config) { c.Address = netip.MustParsePrefix("fd00::1/64") },
		"gateway":  func(c *Config) { c.Gateway = netip.MustParseAddr("::1") },
		"MTU":      func(c *Config) { c.MTU = 100 },
		"port":     func(c *Config) { c.Port = 0 },
		"network":  func(c *Config) { c.Address = netip.Prefix{} },
		"keys":     func(c *Config) { c.Keys = make([]string, maxKeys+1) },
		"DNS":      func(c *Config) { c.DNS = make([]netip.Addr, maxDNS+1) },
		"size":     func(c *Config) { c.HostKey = string(make([]byte, maxConfigBytes)) },
	} {
		c := example()
		edit(&c)
		if _, err := Archive(c); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	c := example()
	c.Version = version
	seed, err := json.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":1,"hostname":"a","unknown":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrBadConfig) {
				t.Fatalf("unwrapped %v", err)
			}
			return
		}
		if _, err := Archive(c); err != nil && len(data) < maxConfigBytes/6 {
			t.Fatalf("accepted what cannot be written: %v", err)
		}
	})
}
