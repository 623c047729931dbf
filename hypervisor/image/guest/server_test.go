package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

// collector is one for all tests: two would take each other's children.
var collector = sync.OnceValue(newChildren)

// start runs the guest's server on this machine, with this machine's shell.
func start(t *testing.T) (addr string, host, client ssh.Signer) {
	t.Helper()
	signers := make([]ssh.Signer, 2)
	var hostPEM []byte
	for i := range signers {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signers[i], err = ssh.NewSignerFromKey(key); err != nil {
			t.Fatal(err)
		}
		if block, err := ssh.MarshalPrivateKey(key, ""); err != nil {
			t.Fatal(err)
		} else if i == 0 {
			hostPEM = pem.EncodeToMemory(block)
		}
	}
	s, err := newServer(boot.Config{
		Hostname: "guest", Address: netip.MustParsePrefix("10.213.0.2/30"),
		HostKey: string(hostPEM), Keys: []string{string(ssh.MarshalAuthorizedKey(signers[1].PublicKey()))},
	}, collector())
	if err != nil {
		t.Fatal(err)
	}
	s.home = t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go s.accept(l)
	return l.Addr().String(), signers[0], signers[1]
}

func dial(addr string, host, client ssh.Signer) (*ssh.Client, error) {
	return ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: "anybody", Auth: []ssh.AuthMethod{ssh.PublicKeys(client)},
		HostKeyCallback: ssh.FixedHostKey(host.PublicKey()), Timeout: 10 * time.Second,
	})
}

func connect(t *testing.T) *ssh.Client {
	t.Helper()
	addr, host, client := start(t)
	c, err := dial(addr, host, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestKeys(t *testing.T) {
	addr, host, client := start(t)
	if _, err := dial(addr, host, host); err == nil {
		t.Error("a stranger's key was let in")
	}
	if _, err := dial(addr, client, client); err == nil {
		t.Error("another host key was taken")
	}
	c, err := dial(addr, host, client)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestExec(t *testing.T) {
	c := connect(t)
	for _, tt := range []struct {
		command, in, out string
		status           int
		signal           string
	}{
		{command: "echo hello", out: "hello\n"},
		{command: "cat; exit 5", in: "text", out: "text", status: 5},
		{command: "echo $LC_TEST", out: "value\n"},
		{command: "echo out; echo err >&2", out: "out\n"},
		{command: "kill -KILL $$", signal: "KILL"},
		{command: "no-such-command-here 2>/dev/null", status: 127},
	} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Setenv("LC_TEST", "value"); err != nil {
			t.Error(err)
		}
		if s.Setenv("BAD=NAME", "x") == nil {
			t.Error("a bad variable was taken")
		}
		s.Stdin = strings.NewReader(tt.in)
		out, err := s.Output(tt.command)
		status, signal := 0, ""
		if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
			status, signal = exit.ExitStatus(), exit.Signal()
		} else if err != nil {
			t.Errorf("%s: %v", tt.command, err)
		}
		if tt.signal != "" {
			status = 0 // which the client invents
		}
		if string(out) != tt.out || status != tt.status || signal != tt.signal {
			t.Errorf("%s: %q, %d, %q", tt.command, out, status, signal)
		}
	}
}

func TestSignalAndHangup(t *testing.T) {
	c := connect(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("echo up; exec sleep 1000"); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGTERM); err != nil {
		t.Error(err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("got %v", err)
	}
}

func TestOneProgramASession(t *testing.T) {
	c := connect(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.StdinPipe(); err != nil { // open, so that cat waits
		t.Fatal(err)
	}
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"shell", "exec", "pty-req", "unknown", "window-change"} {
		if ok, err := s.SendRequest(kind, true, nil); err != nil || ok {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
	}
}

func TestSessionsAreBounded(t *testing.T) {
	c := connect(t)
	for i := range maxSessions {
		if _, err := c.NewSession(); err != nil {
			t.Fatalf("session %d: %v", i, err)
		}
	}
	var open *ssh.OpenChannelError
	if _, err := c.NewSession(); !errors.As(err, &open) || open.Reason != ssh.ResourceShortage {
		t.Errorf("one more: %v", err)
	}
}

func TestForward(t *testing.T) {
	c := connect(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Write([]byte("served"))
			conn.Close()
		}
	}()
	conn, err := c.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 10)
	if n, _ := conn.Read(buf); string(buf[:n]) != "served" {
		t.Errorf("got %q", buf[:n])
	}
	var open *ssh.OpenChannelError
	if _, err := c.Dial("tcp", "192.0.2.1:80"); !errors.As(err, &open) || open.Reason != ssh.Prohibited {
		t.Errorf("another machine: %v", err)
	}
}

func FuzzPTY(f *testing.F) {
	f.Add(ssh.Marshal(ptyRequest{Term: "xterm", Columns: 80, Rows: 24, Modes: "\x00"}))
	f.Add([]byte{0, 0, 0, 200, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parsePTY(data); err == nil && len(m.Term) > maxEnvValue {
			t.Fatalf("accepted %d bytes", len(m.Term))
		}
		var w windowSize
		_ = ssh.Unmarshal(data, &w)
	})
}
