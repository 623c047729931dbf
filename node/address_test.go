package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadAddresses loads homes whose node.toml or network.toml has an address
// of no use: the error names file and key.
func TestBadAddresses(t *testing.T) {
	const peer = "12D3KooWKNmfavo37AuVXYKieTvRJTHUWM987e5uhPehqqoJTNqB"
	network := `name = "n"` + "\n" + `xenocorp = "` + peer + `"` + "\n"
	for _, tt := range []struct{ name, node, network, want string }{
		{"no multiaddr", `listen = ["localhost:4001"]`, "", "node.toml: node: configuration: listen \"localhost:4001\""},
		{"no address", `listen = [""]`, "", "node.toml: node: configuration: listen"},
		{"not IP", `listen = ["/dns4/example.org/tcp/4001"]`, "", "neither QUIC nor TCP"},
		{"UDP alone", `listen = ["/ip4/127.0.0.1/udp/4001"]`, "", "neither QUIC nor TCP"},
		{"web", `listen = ["/ip4/127.0.0.1/tcp/4001/ws"]`, "", "neither QUIC nor TCP"},
		{"bad port", `listen = ["/ip4/127.0.0.1/tcp/70000"]`, "", "out of range"},
		{"too many", `listen = ["` + strings.Repeat(`/ip4/127.0.0.1/tcp/0", "`, 64) + `/ip4/127.0.0.1/tcp/0"]`, "", "at most 64"},
		{"bootstrap without peer", `bootstrap = ["/ip4/192.0.2.1/tcp/4001"]`, "", "node.toml: node: configuration: bootstrap \"/ip4/192.0.2.1/tcp/4001\""},
		{"bootstrap without address", `bootstrap = ["/p2p/` + peer + `"]`, "", "no address"},
		{"bootstrap with bad peer", `bootstrap = ["/ip4/192.0.2.1/tcp/4001/p2p/12D3"]`, "", "bootstrap"},
		{"bootstrap with bad address", `bootstrap = ["/ip4/192.0.2.900/tcp/4001/p2p/` + peer + `"]`, "", "bootstrap"},
		{"network file", "", `bootstrap = ["/ip4/192.0.2.1/nonsense/p2p/` + peer + `"]`, "network.toml: node: configuration: bootstrap"},
		{"good", `listen = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::1/tcp/0"]` + "\n" +
			`bootstrap = ["/dns4/example.org/udp/4001/quic-v1/p2p/` + peer + `"]`, "", ""},
	} {
		home := t.TempDir()
		for file, text := range map[string]string{ConfigFile: tt.node, NetworkFile: network + tt.network} {
			if err := os.WriteFile(filepath.Join(home, file), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := LoadConfig(home)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		} else if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want ErrConfig with %q", tt.name, err, tt.want)
		}
	}
}

// TestListenNowhere gives a node an address of the right form that this
// machine does not have.
func TestListenNowhere(t *testing.T) {
	home := filepath.Join(t.TempDir(), "corp")
	cfg, err := Init(Config{Home: home, Name: "c", Corp: &CorpConfig{}, Network: Network{Name: "example"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = []string{"/ip4/192.0.2.1/tcp/4001"}
	if _, err := New(t.Context(), cfg); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), filepath.Join(home, ConfigFile)+": node: configuration: listen") {
		t.Errorf("got %v, want ErrConfig with the file and the key", err)
	}
}
