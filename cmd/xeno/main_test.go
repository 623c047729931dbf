package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/xenoserver/xeno/hypervisor/wasi"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/api/apitest"
)

// asXeno is set in processes of the test binary that are to be xeno itself.
const asXeno = "XENO_TEST_MAIN"

func TestMain(m *testing.M) {
	wasi.MaybeRun()
	if os.Getenv(asXeno) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"xeno": main})
}

// TestScripts runs the command lines in testdata/script. The script command
// "daemon" serves a fake backend in the home directory:
//
//	daemon [operator] [hold] [lines] [unregistered CODE] [stranger]
//
// hold keeps WASI sessions running, stranger answers ssh with another host key
// than the agreed one.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XENO_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"daemon": cmdDaemon, "mode": cmdMode},
	})
}

// cmdDaemon serves a fake until the script ends.
func cmdDaemon(ts *testscript.TestScript, _ bool, args []string) {
	fake := apitest.New()
	if i := slices.Index(args, "unregistered"); i >= 0 {
		fake = apitest.Unregistered(args[i+1])
	}
	fake.Operate = slices.Contains(args, "operator")
	fake.Hold = slices.Contains(args, "hold")
	if slices.Contains(args, "lines") { // of held sessions, which then end
		fake.Lines = 4
	}
	host := newHost(ts)
	fake.HostKey = host.agreed(slices.Contains(args, "stranger"))
	fake.Dial = func(ctx context.Context, id ledger.ID, port int) (net.Conn, error) {
		if port == 80 {
			return host.dialEcho(), nil
		}
		if port != 22 {
			return nil, api.Errorf(api.CodeUnavailable, "port %d does not answer", port)
		}
		s, err := fake.Session(ctx, id)
		if err != nil {
			return nil, err
		}
		return host.dial(s.Terms.SSHKeys), nil
	}
	l, err := api.Listen(filepath.Join(ts.Getenv("XENO_HOME"), api.SocketName))
	ts.Check(err)
	server := api.Serve(l, fake, slog.New(slog.DiscardHandler))
	ts.Defer(func() {
		if err := server.Close(); err != nil {
			ts.Logf("close: %v", err)
		}
		host.close()
	})
}

// cmdMode compares the permissions of a file: mode 0600 FILE.
func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%#o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("mode of %s is %s, want %s", args[1], got, args[0])
	}
}

// TestHelp checks that every verb has help, an example that begins with its
// own name, and --json.
func TestHelp(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	for _, cmd := range allCommands(newRoot(a)) {
		if cmd.Short == "" || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: short help %q, example %q", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
		if cmd.InheritedFlags().Lookup("json") == nil && cmd.Flag("json") == nil {
			t.Errorf("%s has no --json", cmd.CommandPath())
		}
	}
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want uint64
		ok   bool
	}{
		{"512MiB", 512 << 20, true},
		{"2GiB", 2 << 30, true},
		{"1kB", 1000, true},
		{"7", 7, true},
		{"7B", 7, true},
		{"", 0, false},
		{"-1", 0, false},
		{"1.5GiB", 0, false},
		{"GiB", 0, false},
		{"99999999999TiB", 0, false},
		{"1 GiB", 0, false},
	} {
		got, err := parseSize(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("parseSize(%q) = %d, %v", tt.in, got, err)
		}
	}
	for in, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1 << 30: "1 GiB", 3 << 29: "1.5 GiB"} {
		if got := formatSize(in); got != want {
			t.Errorf("formatSize(%d) = %q, want %q", in, got, want)
		}
	}
}

func TestResolveID(t *testing.T) {
	ids := []ledger.ID{{0xab, 0xcd, 1}, {0xab, 0xcd, 2}, {0x12, 0x34, 5}}
	for _, tt := range []struct {
		in   string
		want ledger.ID
		code int
	}{
		{"1234", ids[2], exitOK},
		{ids[1].String(), ids[1], exitOK},
		{"abcd02", ids[1], exitOK},
		{"ABCD02", ids[1], exitOK},
		{"abcd", ledger.ID{}, exitUsage},
		{"123", ledger.ID{}, exitUsage},
		{"wxyz", ledger.ID{}, exitUsage},
		{"9999", ledger.ID{}, exitNotFound},
	} {
		got, err := resolveID("session", tt.in, ids)
		if got != tt.want || exitCode(err) != tt.code {
			t.Errorf("resolveID(%q) = %s, %v (code %d), want %s, code %d", tt.in, got, err, exitCode(err), tt.want, tt.code)
		}
	}
}

// TestProgramError tells what the program did from what was done to it.
func TestProgramError(t *testing.T) {
	code := func(n int) *int { return &n }
	for _, tt := range []struct {
		s    api.Session
		want int
	}{
		{api.Session{State: api.SessionSettled, Reason: "done", ExitCode: code(0)}, exitOK},
		{api.Session{State: api.SessionSettled, Reason: "done", ExitCode: code(3)}, exitProgram},
		{api.Session{State: api.SessionSettled, Reason: "exhausted", ExitCode: code(-1)}, exitFunds},
		{api.Session{State: api.SessionSettled, Reason: "expired", ExitCode: code(-1)}, exitUnavailable},
		{api.Session{State: api.SessionFailed, Error: "gone"}, exitProgram},
	} {
		if err := programError(tt.s); exitCode(err) != tt.want {
			t.Errorf("%s %s: %v, code %d, want %d", tt.s.State, tt.s.Reason, err, exitCode(err), tt.want)
		}
	}
}
