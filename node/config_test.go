package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInitAndLoad(t *testing.T) {
	home := filepath.Join(t.TempDir(), "corp")
	cfg, err := Init(Config{Home: home, Name: "c", Corp: &CorpConfig{FeePermille: 7}, Network: Network{Name: "example"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cfg.Network, got.Network); diff != "" {
		t.Errorf("network file differs (-made +read):\n%s", diff)
	}
	for _, a := range got.Listen {
		if strings.Contains(a, "/0") && !strings.Contains(a, "127.0.0.1") {
			t.Errorf("listens on %s: not loopback, or any port", a)
		}
	}
	for name, mode := range map[string]os.FileMode{identityFile: 0o600, ConfigFile: 0o644, NetworkFile: 0o644} {
		info, err := os.Stat(filepath.Join(home, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", name, info.Mode(), err, mode)
		}
	}
	if _, err := Init(Config{Home: home, Network: cfg.Network}); !errors.Is(err, errHomeInUse) {
		t.Errorf("second init: %v, want %v", err, errHomeInUse)
	}
}

func TestBadConfiguration(t *testing.T) {
	good := `name = "n"` + "\n" + `xenocorp = "12D3KooWKNmfavo37AuVXYKieTvRJTHUWM987e5uhPehqqoJTNqB"` + "\n"
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", good + "colour = 1\n", "line 3: unknown key colour"},
		{"bad name", strings.Replace(good, `"n"`, `"N N"`, 1), "name"},
		{"no XenoCorp", `name = "n"`, "xenocorp is missing"},
		{"bad peer ID", strings.Replace(good, "12D3", "XXXX", 1), "line 2"},
		{"bad bootstrap", good + `bootstrap = ["localhost:1"]`, "bootstrap"},
		{"slow revocations", good + `revocations = "2m"`, "revocations"},
		{"not TOML", good + "[[", "line 3"},
	} {
		_, err := ParseNetwork([]byte(tt.text))
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want ErrConfig with %q", tt.name, err, tt.want)
		}
	}
}

func TestOpenIdentity(t *testing.T) {
	home := t.TempDir()
	if _, err := createIdentity(home); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, identityFile)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(home); !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("key that others may read: %v, want what to do", err)
	}
	if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := createIdentity(home); !errors.Is(err, ErrIdentity) {
		t.Errorf("a damaged key was replaced: %v", err)
	}
}
