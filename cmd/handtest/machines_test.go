package handtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// commandTimeout bounds what one block of the text may take.
const commandTimeout = 3 * time.Minute

// A machine is a network namespace with a home directory.
type machine struct {
	name, addr string
	ns         string
	dir        string
}

// A site holds the machines of the text, joined by a router in a namespace of
// its own, so that each is in a network of its own.
type site struct {
	t        *testing.T
	bin      string
	dir      string
	router   string
	machines map[string]*machine
}

// newSite makes the namespaces; the end of the test removes them and whatever
// runs in them.
func newSite(t *testing.T, bin string, addrs map[string]string) *site {
	t.Helper()
	s := &site{t: t, bin: bin, dir: t.TempDir(), machines: make(map[string]*machine)}
	s.router = s.namespace("router")
	s.ip("netns", "exec", s.router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	for name, addr := range addrs {
		m := &machine{name: name, addr: addr, ns: s.namespace(name), dir: filepath.Join(s.dir, name)}
		if err := os.Mkdir(m.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		gateway := addr[:strings.LastIndex(addr, ".")] + ".254"
		s.ip("-n", s.router, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", m.ns)
		s.ip("-n", s.router, "addr", "add", gateway+"/24", "dev", name)
		s.ip("-n", s.router, "link", "set", name, "up")
		s.ip("-n", m.ns, "addr", "add", addr+"/24", "dev", "eth0")
		s.ip("-n", m.ns, "link", "set", "eth0", "up")
		s.ip("-n", m.ns, "route", "add", "default", "via", gateway)
		s.machines[name] = m
	}
	return s
}

// namespace makes a network namespace with loopback alone.
func (s *site) namespace(name string) string {
	ns := fmt.Sprintf("xeno-hand-%d-%s", os.Getpid(), name)
	s.ip("netns", "add", ns)
	s.t.Cleanup(func() { s.remove(ns) })
	s.ip("-n", ns, "link", "set", "lo", "up")
	return ns
}

// remove kills what still runs in a namespace and deletes it.
func (s *site) remove(ns string) {
	for range 50 {
		pids := s.pids(ns)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		time.Sleep(20 * time.Millisecond) // the kernel takes them away
	}
	if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
		s.t.Errorf("ip netns del %s: %v\n%s", ns, err, out)
	}
}

// pids are the processes of a namespace.
func (s *site) pids(ns string) (pids []int) {
	out, err := exec.Command("ip", "netns", "pids", ns).Output()
	if err != nil {
		s.t.Errorf("ip netns pids %s: %v", ns, err)
	}
	for text := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(text); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// ip runs that program on the machine that the test runs on.
func (s *site) ip(args ...string) {
	s.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// prologue makes one shell of many: variables that a block sets are there in
// the next, on whatever machine.
const prologue = `set -euo pipefail
exec </dev/null
[ ! -e "$SITE/variables" ] || . "$SITE/variables"
cd "$HOME"
`

const epilogue = `
declare -p | sed -n 's/^declare -- \([a-z][a-z_]*=\)/\1/p' >"$SITE/variables"
`

// sh runs a script on a machine and returns its output, standard error
// included. What it leaves in the background goes on.
func (m *machine) sh(s *site, script string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), commandTimeout)
	defer cancel()
	out, err := os.CreateTemp(s.dir, m.name+"-*.out")
	if err != nil {
		return "", err
	}
	defer out.Close()
	// Not ip netns exec, which hides /sys/fs/cgroup.
	cmd := exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+m.ns, "bash", "-c", prologue+script+epilogue)
	cmd.Env = []string{
		"HOME=" + m.dir, "SITE=" + s.dir, "PATH=" + s.bin + ":" + os.Getenv("PATH"), "TMPDIR=" + s.dir, "LANG=C.UTF-8", "TZ=UTC",
	}
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, readErr := os.ReadFile(out.Name())
	return string(text), errors.Join(err, readErr, ctx.Err())
}

// scp stands in for the program of that name: the machines of the text share
// a file system.
const scp = `#!/bin/sh
set -eu
case ${1%%:*} in
CASES
*) echo "scp: no machine ${1%%:*}" >&2; exit 1 ;;
esac
cp "$from/${1#*:}" "$2"
`

func (s *site) installSCP() {
	var cases bytes.Buffer
	for _, m := range s.machines {
		fmt.Fprintf(&cases, "%s) from=%s ;;\n", m.addr, m.dir)
	}
	text := strings.Replace(scp, "CASES\n", cases.String(), 1)
	if err := os.WriteFile(filepath.Join(s.bin, "scp"), []byte(text), 0o755); err != nil {
		s.t.Fatal(err)
	}
}
