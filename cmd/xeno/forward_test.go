package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/api/apitest"
)

// TestForward forwards a port, sends bytes both ways, and interrupts, which is
// the normal end.
func TestForward(t *testing.T) {
	home := t.TempDir()
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	fake := apitest.New()
	fake.Dial = func(_ context.Context, _ ledger.ID, port int) (net.Conn, error) {
		if port != 80 {
			t.Errorf("port %d", port)
		}
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(far, far) }()
		return near, nil
	}
	l, err := api.Listen(filepath.Join(home, api.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	server := api.Serve(l, fake, slog.New(slog.DiscardHandler))
	defer server.Close()
	c := api.NewClient(filepath.Join(home, api.SocketName))
	if _, err := c.CreateOrder(t.Context(), api.OrderRequest{Amount: ledger.Unit}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Run(t.Context(), api.RunRequest{Terms: api.Terms{Environment: "linux"}}, nil)
	if err != nil {
		t.Fatal(err)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, stdout := io.Pipe()
	a := &app{stdin: os.Stdin, stdout: stdout, stderr: io.Discard, getenv: os.Getenv}
	code := make(chan int)
	go func() { code <- a.run(ctx, []string{"--home", home, "--json", "forward", s.ID.String(), "0:80"}) }()
	var said struct{ Address string }
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	for range 2 {
		conn, err := net.Dial("tcp", said.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("through")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len("through"))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "through" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	interrupt() // with both connections open
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d", got)
	}
}
