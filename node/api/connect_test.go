package api_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/api/apitest"
)

// echo listens on loopback and answers each connection with what it got, once
// the other side has ended its half.
func echo(t *testing.T) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			text, _ := io.ReadAll(c)
			_, _ = c.Write(text)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr()
}

func runOne(t *testing.T, fake *apitest.Backend) (*api.Client, ledger.ID) {
	t.Helper()
	c := api.NewClient(serve(t, fake))
	if _, err := c.CreateOrder(t.Context(), api.OrderRequest{Amount: 5 * ledger.Unit}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Run(t.Context(), api.RunRequest{Terms: api.Terms{Environment: "linux"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, s.ID
}

// TestConnect sends a megabyte each way and ends one half at a time.
func TestConnect(t *testing.T) {
	addr := echo(t)
	fake := apitest.New()
	fake.Dial = func(ctx context.Context, _ ledger.ID, port int) (net.Conn, error) {
		if port != 22 {
			return nil, api.Errorf(api.CodeUnavailable, "port %d is closed", port)
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr.String())
	}
	c, id := runOne(t, fake)
	if _, err := c.Connect(t.Context(), id, 23); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("closed port: %v", err)
	}
	if _, err := c.Connect(t.Context(), apitest.ID("unknown"), 22); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("unknown session: %v", err)
	}
	conn, err := c.Connect(t.Context(), id, 22)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := strings.Repeat("all work and no play ", 50_000)
	if _, err := io.WriteString(conn, want); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != want {
		t.Errorf("echoed %d bytes of %d, %v", len(got), len(want), err)
	}
}

// TestCloseEndsConnections checks that a server's end leaves no splice behind;
// goleak watches the goroutines.
func TestCloseEndsConnections(t *testing.T) {
	addr := echo(t)
	fake := apitest.New()
	fake.Dial = func(ctx context.Context, _ ledger.ID, _ int) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr.String())
	}
	c, id := runOne(t, fake)
	conn, err := c.Connect(t.Context(), id, 22)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // runs before the server's close
		_ = conn.Close()
	})
	if _, err := conn.Write([]byte("left in the middle")); err != nil {
		t.Fatal(err)
	}
}

func TestNoDaemon(t *testing.T) {
	c := api.NewClient(filepath.Join(t.TempDir(), api.SocketName))
	if _, err := c.Status(t.Context()); !errors.Is(err, api.ErrNoDaemon) || !strings.Contains(err.Error(), c.Socket()) {
		t.Errorf("status: %v", err)
	}
	if _, err := c.Connect(t.Context(), apitest.ID("s"), 22); !errors.Is(err, api.ErrNoDaemon) {
		t.Errorf("connect: %v", err)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("long", 30), api.SocketName)
	for _, socket := range []string{filepath.Join(dir, "home", api.SocketName), long} {
		l, err := api.Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(socket)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket %v, %v", info, err)
		}
		if info, err := os.Stat(filepath.Dir(socket)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("directory %v, %v", info, err)
		}
		if _, err := api.Listen(socket); !errors.Is(err, api.ErrInUse) {
			t.Errorf("second daemon: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestListenStale checks that a socket of a killed daemon is replaced, another
// file is not, and a directory open to others is refused.
func TestListenStale(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, api.SocketName)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	_ = l.Close()
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(socket); err == nil {
		t.Error("a file was replaced")
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(socket); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("open directory: %v", err)
	}
}

func TestCheckUID(t *testing.T) {
	for _, tt := range []struct {
		caller, daemon int
		ok             bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1000, 0, false}} {
		if err := api.CheckUID(tt.caller, tt.daemon); (err == nil) != tt.ok {
			t.Errorf("user %d calls a daemon of %d: %v", tt.caller, tt.daemon, err)
		}
	}
}
