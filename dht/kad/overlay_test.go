package kad_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// key returns the i-th identity.
func key(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "kad test %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

// openGate admits everybody who shows anything.
func openGate() kad.Gate {
	return kad.Gate{
		Credential: func() []byte { return []byte("member") },
		Admit: func(_ dht.PeerID, credential []byte) (time.Time, error) {
			if len(credential) == 0 {
				return time.Time{}, errors.New("no credential: register first")
			}
			return time.Now().Add(24 * time.Hour), nil
		},
	}
}

// loopback is the configuration of the i-th real host.
func loopback(t testing.TB, i int) kad.Config {
	return kad.Config{
		Key: key(i), Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"},
		Network: "test", Gate: openGate(), Server: true,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func start(t testing.TB, cfg kad.Config) *kad.Overlay {
	t.Helper()
	o, err := kad.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func TestLoopback(t *testing.T) {
	echo := func(_ context.Context, from dht.PeerID, request []byte) ([]byte, error) {
		if string(request) == "fail" {
			return nil, errors.New("as you like")
		}
		return append([]byte(from.Short()+" "), request...), nil
	}
	var all []*kad.Overlay
	for i := range 4 {
		cfg := loopback(t, i)
		if i > 0 {
			cfg.Bootstrap = all[0].Addrs()
		}
		o := start(t, cfg)
		o.Handle("/test/echo/1", 1024, echo)
		all = append(all, o)
		if err := o.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := all[3].Request(t.Context(), all[1].Contact(), "/test/echo/1", []byte("hi"), 100)
	if err != nil || string(got) != all[3].ID().Short()+" hi" {
		t.Fatalf("echo: %q, %v", got, err)
	}
	var remote *kad.RemoteError
	if _, err := all[3].Request(t.Context(), all[1].Contact(), "/test/echo/1", []byte("fail"), 100); !errors.As(err, &remote) || remote.Message != "as you like" {
		t.Fatalf("remote error: %v", err)
	}
	if _, err := all[3].Request(t.Context(), all[1].Contact(), "/test/none/1", nil, 100); !errors.Is(err, kad.ErrNoProtocol) {
		t.Fatalf("unknown protocol: %v", err)
	}
	near, err := all[2].Closest(t.Context(), dht.KeyspaceXIS.Key([]byte("x")), 4)
	if err != nil || len(near) != 4 {
		t.Fatalf("closest: %v, %v", near, err)
	}
	if _, err := all[3].Find(t.Context(), all[2].ID()); err != nil {
		t.Fatal(err)
	}
}
