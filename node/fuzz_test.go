package node

import (
	"testing"

	"github.com/xenoserver/xeno/dht"
)

// FuzzNetworkFile reads network files from strangers: what is accepted can be
// written and read again, and stays the same.
func FuzzNetworkFile(f *testing.F) {
	f.Add([]byte("name = \"example\"\nxenocorp = \"12D3KooWKNmfavo37AuVXYKieTvRJTHUWM987e5uhPehqqoJTNqB\"\nbootstrap = [\"/ip4/127.0.0.1/tcp/1/p2p/12D3KooWKNmfavo37AuVXYKieTvRJTHUWM987e5uhPehqqoJTNqB\"]\nrenew = \"60s\"\n"))
	f.Add([]byte("name = 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNetwork(b)
		if err != nil {
			return
		}
		home := t.TempDir()
		if err := n.Save(home); err != nil {
			t.Fatalf("accepted but not written: %v", err)
		}
		again, err := LoadNetwork(home)
		if err != nil || again.Name != n.Name || again.XenoCorp != n.XenoCorp || len(again.Bootstrap) != len(n.Bootstrap) {
			t.Fatalf("read again: %+v, %v; want %+v", again, err, n)
		}
	})
}

// FuzzConfig reads node.toml.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("name = \"x\"\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n[store]\nquota = \"4GiB\"\n[server]\ncpus = 2\n[server.rates]\ncpu = \"0.02\"\n"))
	f.Add([]byte("[corp]\nfee_permille = 5000\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var c Config
		if decodeTOML(b, &c) == nil {
			c.Home, c.Network = "/x", Network{Name: "n", XenoCorp: dht.PeerID{1}}
			_ = c.validate()
		}
	})
}

// FuzzIdentity reads private key files.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseIdentity(b) })
}
