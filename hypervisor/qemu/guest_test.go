package qemu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

func TestGuest(t *testing.T) {
	w := newWorld(t)
	d := w.driver(t, t.TempDir())
	began := time.Now()
	g := w.boot(t, d, "guest", func(s *hypervisor.Spec) { s.DiskBytes = 64 << 20; s.CPUs = 2 })
	t.Logf("from Start to the SSH banner: %v", time.Since(began).Round(time.Millisecond))
	c := g.login(t)
	t.Run("exec", func(t *testing.T) { testExec(t, c, d, g) })
	t.Run("keys", func(t *testing.T) { testKeys(t, g) })
	t.Run("terminal", func(t *testing.T) { testTerminal(t, c) })
	t.Run("forward", func(t *testing.T) { testForward(t, c) })
	t.Run("confined", func(t *testing.T) { testConfined(t, c, g) })
	t.Run("powerdown", func(t *testing.T) {
		if err := d.Stop(t.Context(), g.ID, time.Minute); err != nil {
			t.Fatal(err)
		}
		console, _, err := d.Logs(t.Context(), g.ID, 1<<20)
		if err != nil || !strings.Contains(string(console), "power off: button") {
			t.Errorf("console %q, %v", console, err)
		}
	})
}

func testExec(t *testing.T, c *ssh.Client, d *Driver, g guest) {
	out, err := run(t, c, "uname -a")
	if err != nil || !strings.HasPrefix(out, "Linux xeno-guest 6.") {
		t.Errorf("uname: %q, %v", out, err)
	}
	var exit *ssh.ExitError
	if _, err := run(t, c, "exit 7"); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("exit 7: %v", err)
	}
	if _, err := run(t, c, "kill -TERM $$"); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("killed: %v", err)
	}
	if out, err := run(t, c, "nproc; ls /xeno /lib/modules/boot | wc -l; df -k /data | tail -1"); err != nil || !strings.HasPrefix(out, "2\n") || !strings.Contains(out, "/dev/vda") {
		t.Errorf("machine: %q, %v", out, err)
	}
	if out, err := run(t, c, "cat /proc/cmdline; ls -a /xeno 2>&1"); err != nil && strings.Contains(out, "PRIVATE") {
		t.Errorf("secrets: %q, %v", out, err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Setenv("GREETING", "hello"); err != nil {
		t.Error(err)
	}
	s.Stdin = strings.NewReader("world\n")
	if out, err := s.Output(`read x; echo "$GREETING $x"; echo no >&2`); err != nil || string(out) != "hello world\n" {
		t.Errorf("env and stdin: %q, %v", out, err)
	}
	big, err := run(t, c, "dd if=/dev/zero bs=1024 count=3000 2>/dev/null")
	if err != nil || len(big) != 3000<<10 {
		t.Errorf("3 MB of output: got %d, %v", len(big), err)
	}
	u, err := d.Usage(t.Context(), g.ID)
	if err != nil || u.TxBytes < 3000<<10 || u.TxBytes > 4000<<10 || u.RxBytes == 0 || u.CPU == 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	t.Logf("usage %+v", u)
	// Orphans are collected.
	if out, err := run(t, c, "(sleep 0.1 &) ; sleep 0.3; ps | grep -c '[Z]ombie\\|[ ]Z[ ]'"); strings.TrimSpace(out) != "0" {
		t.Errorf("zombies: %q, %v", out, err)
	}
}

func testKeys(t *testing.T, g guest) {
	stranger, _ := newKey(t)
	if _, err := g.dial(stranger, g.host); err == nil {
		t.Error("a stranger's key was let in")
	}
	if _, err := g.dial(g.client, stranger); err == nil {
		t.Error("the host key was not pinned")
	}
	_, err := ssh.Dial("tcp", netip.AddrPortFrom(g.Guest, boot.SSHPort).String(), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.Password(""), ssh.Password("root")},
		HostKeyCallback: ssh.FixedHostKey(g.host.PublicKey()), Timeout: 30 * time.Second,
	})
	if err == nil {
		t.Error("a password was let in")
	}
}

func testTerminal(t *testing.T, c *ssh.Client) {
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.RequestPty("xterm", 40, 100, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var text strings.Builder
	s.Stdout = writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	})
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	await := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			got := text.String()
			mu.Unlock()
			if strings.Contains(got, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("no %q in %q", want, got)
			}
		}
	}
	fmt.Fprint(in, "tty; echo $TERM; stty size\n")
	await("/dev/pts/")
	await("xterm")
	await("40 100")
	if err := s.WindowChange(50, 120); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(in, "stty size\n")
	await("50 120")
	fmt.Fprint(in, "sh -c 'echo rea\"\"dy; exec sleep 1000'\n")
	await("ready")
	fmt.Fprint(in, "\x03") // the terminal's interrupt
	fmt.Fprint(in, "exit 3\n")
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Errorf("shell: %v", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func testForward(t *testing.T, c *ssh.Client) {
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Start("echo served | nc -l -p 8080"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := c.Dial("tcp", "localhost:8080")
		if err != nil && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, _ := conn.Read(buf)
		conn.Close()
		if string(buf[:n]) != "served\n" {
			t.Errorf("got %q", buf[:n])
		}
		break
	}
	if conn, err := c.Dial("tcp", "10.0.0.1:80"); err == nil {
		conn.Close()
		t.Error("forwarded to another machine")
	}
}

// testConfined tries to reach the host from within the guest.
func testConfined(t *testing.T, c *ssh.Client, g guest) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
			t.Error("the guest reached a service of the host")
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	gateway := g.Guest.Prev()
	command := fmt.Sprintf("ip route | grep -q 'default via %v' && ! nc -w 1 %v %s </dev/null && ! ping -c 1 -W 1 %v", gateway, gateway, port, gateway)
	if out, err := run(t, c, command); err != nil {
		t.Errorf("%q: %v", out, err)
	}
	spoof := fmt.Sprintf("ip addr add 10.213.77.77/32 dev eth0 && ! ping -I 10.213.77.77 -c 1 -W 1 %v", gateway)
	if out, err := run(t, c, spoof); err != nil {
		t.Errorf("%q: %v", out, err)
	}
}
