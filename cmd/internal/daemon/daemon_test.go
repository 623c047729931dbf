package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// found makes the home of a new network's XenoCorp.
func found(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "world", "corp")
	if err := os.MkdirAll(filepath.Dir(home), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := node.Config{Home: home, Network: node.Network{Name: "test"}, Corp: &node.CorpConfig{}, Log: node.LogConfig{Level: "error"}}
	if _, err := node.Init(cfg); err != nil {
		t.Fatal(err)
	}
	return home
}

// start runs a daemon and returns when it answers.
func start(ctx context.Context, t *testing.T, opts Options) (ended chan error) {
	t.Helper()
	ended = make(chan error, 1)
	begin := time.Now()
	go func() { ended <- Run(ctx, opts) }()
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c := api.NewClient(filepath.Join(opts.Home, api.SocketName))
	s, err := c.WaitStatus(waiting, func(api.Status) bool { return true })
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	if s.Network != "test" || !s.IsXenoCorp {
		t.Errorf("status %+v", s)
	}
	t.Logf("answered after %s", time.Since(begin))
	return ended
}

// TestRun starts a daemon, tells systemd, refuses a second one, and ends
// cleanly when it is asked to.
func TestRun(t *testing.T) {
	home := found(t)
	dir := t.TempDir()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", l.LocalAddr().String())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := start(ctx, t, Options{Home: home})
	said := make([]byte, 100)
	n, err := l.Read(said)
	if err != nil || string(said[:n]) != "READY=1" {
		t.Errorf("systemd was told %q, %v", said[:n], err)
	}
	if err := Run(t.Context(), Options{Home: home}); !errors.Is(err, api.ErrInUse) {
		t.Errorf("a second daemon: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("end: %v", err)
	}
	if _, err := os.Stat(filepath.Join(home, api.SocketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: %v", err)
	}
	if _, err := os.Stat(filepath.Join(home, node.ConfigFile)); err != nil {
		t.Errorf("home: %v", err)
	}
}

// TestLifeline cuts the pipe by which a parent holds an ephemeral daemon: it
// ends and takes its home along, and what is empty then above it.
func TestLifeline(t *testing.T) {
	home := found(t)
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(theirs.Fd())) // the daemon's own, as an inherited one is
	if err := errors.Join(err, theirs.Close()); err != nil {
		t.Fatal(err)
	}
	ended := start(t.Context(), t, Options{Home: home, Lifeline: fd, Ephemeral: true})
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("end: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(home)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory of the daemons: %v", err)
	}
}

// TestBadConfig gives a daemon files that are missing, strange or wrong.
func TestBadConfig(t *testing.T) {
	for name, spoil := range map[string]func(home string) error{
		"xeno init makes one": func(home string) error { return os.Remove(filepath.Join(home, node.ConfigFile)) },
		"unknown key":         func(home string) error { return appendTo(filepath.Join(home, node.NetworkFile), "\nx = 1\n") },
		"chmod 600":           func(home string) error { return os.Chmod(filepath.Join(home, "identity.pem"), 0o644) },
		"chmod 700":           func(home string) error { return os.Chmod(home, 0o755) },
		"metrics_listen": func(home string) error {
			return appendFirst(filepath.Join(home, node.ConfigFile), "metrics_listen = \"nowhere\"\n")
		},
	} {
		home := found(t)
		if err := spoil(home); err != nil {
			t.Fatal(err)
		}
		if err := Run(t.Context(), Options{Home: home}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

func appendTo(name, text string) error {
	old, err := os.ReadFile(name)
	return errors.Join(err, os.WriteFile(name, append(old, text...), 0o600))
}

func appendFirst(name, text string) error {
	old, err := os.ReadFile(name)
	return errors.Join(err, os.WriteFile(name, append([]byte(text), old...), 0o600))
}
