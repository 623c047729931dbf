package handtest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
	"github.com/xenoserver/xeno/node/api"
)

// text is what people read.
const text = "../../docs/by-hand.md"

// A block is one fenced piece of shell: its info string names the machine, and
// a feature that it takes.
type block struct {
	heading, machine, feature, script string
	line                              int
}

// readBlocks takes the shell blocks out of a Markdown file.
func readBlocks(t *testing.T, name string) (blocks []block) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var heading string
	var open *block
	for i, line := range strings.Split(string(b), "\n") {
		switch info, fence := strings.CutPrefix(line, "```"); {
		case fence && open != nil:
			blocks, open = append(blocks, *open), nil
		case fence:
			words := append(strings.Fields(info), "", "", "")
			open = &block{heading: heading, machine: words[1], feature: words[2], line: i + 1}
		case open != nil:
			open.script += line + "\n"
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimLeft(line, "# ")
		}
	}
	if open != nil || len(blocks) == 0 {
		t.Fatalf("%s: %d blocks, one open: %v", name, len(blocks), open != nil)
	}
	return blocks
}

// wants are patterns that the output under a heading must show, in this order.
var wants = map[string][]string{
	"Become a client": {`order +[0-9a-f]{32}`, `amount +10\.00`, `available +40\.00`, `reserved +10\.00`},
	"Search":          {`oslo`, `zurich`, `(?s)oslo.*country == "NO"`},
	"Run a module": {
		`78498 primes below 1000000`, `cost 0\.`, `state +settled`, `78498 primes`, `rusage|cgroup|ebpf`, `true +true`,
	},
	"Run Linux": {
		`running +linux`, `state +running`, `Linux .* x86_64`, `hello from the guest`, `is settled`, `ebpf .* true +true +stopped`,
	},
	"Look at the books": {`settled`, `available +40\.00`, `sum +0\.00`},
}

// TestByHand goes through docs/by-hand.md from its beginning to its end.
func TestByHand(t *testing.T) {
	testenv.Require(t, "root", errors.Join(testenv.Root(), programs("ip", "nsenter", "bash", "jq", "curl", "sysctl")))
	s := newSite(t, build(t), map[string]string{"corp": "198.51.100.1", "server": "203.0.113.7", "client": "192.0.2.9"})
	s.installSCP()
	copyFile(t, "../../hypervisor/wasi/demo/primes.wasm", filepath.Join(s.machines["client"].dir, "primes.wasm"))
	linux := programs("qemu-system-x86_64")
	outputs := make(map[string]string)
	for _, b := range readBlocks(t, text) {
		m := s.machines[b.machine]
		if m == nil {
			t.Fatalf("%s:%d: no machine %q", text, b.line, b.machine)
		}
		if b.feature == "linux" && linux != nil {
			continue
		}
		begin := time.Now()
		out, err := m.sh(s, b.script)
		t.Logf("%s:%d: %s, %.1f s\n%s\n%s", text, b.line, b.machine, time.Since(begin).Seconds(), b.script, out)
		if err != nil {
			t.Fatalf("%s:%d: %v\n%s", text, b.line, err, s.logs())
		}
		outputs[b.heading] += out
		s.settle()
	}
	for heading, patterns := range wants {
		if heading == "Run Linux" && linux != nil {
			continue
		}
		rest := outputs[heading]
		for _, p := range patterns {
			at := regexp.MustCompile(p).FindStringIndex(rest)
			if at == nil {
				t.Errorf("under %q: no %q in\n%s", heading, p, rest)
				continue
			}
			rest = rest[at[0]:]
		}
	}
	s.checkExclusion()
	s.checkBooks()
	s.end()
	if linux != nil {
		testenv.Require(t, "qemu", linux)
	}
}

// programs returns an error that wraps ErrNotSupported unless all are there.
func programs(names ...string) error {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w: %w", hypervisor.ErrNotSupported, err)
		}
	}
	return nil
}

// build makes the two programs that people install.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../xeno", "../xeno-node")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err := errors.Join(err, os.WriteFile(to, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// homes are the home directories made up to now.
func (s *site) homes() (homes []string) {
	for _, pattern := range []string{"*/.xeno/node.toml", "*/zurich/node.toml"} {
		found, _ := filepath.Glob(filepath.Join(s.dir, pattern)) // the pattern is right
		for _, name := range found {
			homes = append(homes, filepath.Dir(name))
		}
	}
	return homes
}

// settle gives the daemons the moment that passes while a person reads on:
// they answer, have joined if they are registered, and know all servers.
func (s *site) settle() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	servers := 0
	for _, home := range s.homes() {
		c := api.NewClient(filepath.Join(home, api.SocketName))
		st, err := c.WaitStatus(ctx, func(st api.Status) bool { return st.Credential == nil || st.Ready })
		if err != nil {
			s.t.Fatalf("%s: %v\n%s", home, err, s.logs())
		}
		if st.Server != nil && st.Credential != nil {
			servers++
		}
	}
	home := filepath.Join(s.machines["client"].dir, ".xeno")
	c := api.NewClient(filepath.Join(home, api.SocketName))
	for {
		st, err := c.Status(ctx)
		if err != nil || st.Credential == nil {
			return // there is no client yet
		}
		found, err := c.Search(ctx, api.SearchRequest{})
		if err == nil && len(found.Results) == servers {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("the client finds %d of %d servers, %v\n%s", len(found.Results), servers, err, s.logs())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// logs are the ends of the daemons' logs.
func (s *site) logs() string {
	var b strings.Builder
	names, _ := filepath.Glob(filepath.Join(s.dir, "*/*.log")) // the pattern is right
	for _, name := range names {
		log, _ := os.ReadFile(name) // as much as there is
		fmt.Fprintf(&b, "== %s\n%s\n", name, log[max(0, len(log)-3000):])
	}
	return b.String()
}

// checkExclusion asks again what the text asks, for a program.
func (s *site) checkExclusion() {
	s.t.Helper()
	out, err := s.machines["client"].sh(s, `xeno search 'country == "NO" && price_cpu < 0.05' --explain --json`)
	var answer api.SearchAnswer
	if err := errors.Join(err, json.Unmarshal([]byte(out), &answer)); err != nil {
		s.t.Fatalf("search: %v\n%s", err, out)
	}
	if len(answer.Results) != 1 || answer.Results[0].Name != "oslo" {
		s.t.Errorf("found %+v, want oslo alone", answer.Results)
	}
	if len(answer.Excluded) == 0 && len(answer.Conditions) == 0 {
		s.t.Error("nothing tells why zurich is excluded")
	}
}

// checkBooks reads the accounts: they sum to zero, and no session holds money.
func (s *site) checkBooks() {
	s.t.Helper()
	out, err := s.machines["corp"].sh(s, `xeno corp accounts --json`)
	var books api.Books
	if err := errors.Join(err, json.Unmarshal([]byte(out), &books)); err != nil {
		s.t.Fatalf("accounts: %v\n%s", err, out)
	}
	if books.Sum != 0 {
		s.t.Errorf("the sum of all accounts is %s", books.Sum)
	}
	for _, a := range books.Accounts {
		if (a.Kind == "held" || a.Kind == "pending" || a.Kind == "dispute") && a.Balance != 0 {
			s.t.Errorf("%s still has %s", a.Name, a.Balance)
		}
		if a.Kind == "fee" && a.Balance <= 0 {
			s.t.Errorf("XenoCorp earned %s", a.Balance)
		}
	}
}

// end stops the daemons as a service manager does, and checks that nothing
// remains: no process, tap or control group.
func (s *site) end() {
	s.t.Helper()
	for _, home := range s.homes() {
		st, err := api.NewClient(filepath.Join(home, api.SocketName)).Status(s.t.Context())
		if err != nil {
			s.t.Errorf("%s: %v", home, err)
			continue
		}
		s.t.Cleanup(func() { s.checkCgroup(st.ID) })
	}
	for _, m := range s.machines {
		for _, pid := range s.pids(m.ns) {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	for _, m := range s.machines {
		deadline := time.Now().Add(20 * time.Second)
		for left := s.pids(m.ns); len(left) > 0; left = s.pids(m.ns) {
			if time.Now().After(deadline) {
				s.t.Fatalf("%s still runs processes %v\n%s", m.name, left, s.logs())
			}
			time.Sleep(20 * time.Millisecond)
		}
		out, err := exec.Command("ip", "-n", m.ns, "-brief", "link").CombinedOutput()
		if err != nil || strings.Count(string(out), "\n") != 2 {
			s.t.Errorf("links of %s: %v\n%s", m.name, err, out)
		}
	}
}

// checkCgroup looks for the control groups of a daemon.
func (s *site) checkCgroup(id dht.PeerID) {
	name := "/sys/fs/cgroup/xeno-" + hex.EncodeToString(id[:8])
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		s.t.Errorf("%s is still there (%v)", name, err)
	}
}
