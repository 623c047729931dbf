package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/cmd/xeno/internal/access"
	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// errProgram reports that the leased program itself failed.
var errProgram = errors.New("the program failed")

// maxStdin bounds what run sends as standard input, which becomes part of the
// signed agreement of 64 KiB.
const maxStdin = 48 << 10

// runFlags are the command line of run.
type runFlags struct {
	req                api.RunRequest
	server, order, id  string
	duration           time.Duration
	stdin, detach      bool
	memory, disk, rate uint64
}

func newRun(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] [MODULE [ARGS...]]",
		Short: "Lease an environment",
		Long: `Run finds a server, agrees with it on a session, has XenoCorp hold the money, and
launches the environment.

With --env wasi it runs MODULE, a file or the CID of one in XenoStore, with ARGS, waits
for its end and prints its output. With --env linux it brings up a virtual machine and
returns when it answers; use it with xeno ssh, end it with xeno stop.`,
		Example: `  xeno run --env linux --image linux --query 'country == "GB"' --for 1h
  xeno run job.wasm 1000000
  echo hello | xeno run --stdin --cap 0.5 upper.wasm`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runSession(cmd.Context(), f, args)
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false)
	t := &f.req.Terms
	fs.StringVar(&t.Environment, "env", "", "`kind` of environment: wasi or linux; default wasi if a module is given")
	fs.StringVar(&f.req.Query, "query", "", "narrow the `search` for servers")
	fs.StringVar(&f.req.OrderBy, "sort", "", "`expression` to sort candidates by; default price")
	fs.StringVar(&f.server, "server", "", "lease from this `peer` without a search")
	fs.StringVar(&f.order, "order", "", "purchase `order` to draw on; default the newest with enough money")
	fs.Var(amountFlag{&f.req.Cap}, "cap", "most the session may cost; default from --for and the server's rates")
	fs.DurationVar(&f.duration, "for", 10*time.Minute, "how long it may run")
	fs.StringVar(&f.id, "id", "", "idempotency `key`, the session's ID: 32 hexadecimal digits")
	fs.StringVar(&t.Image, "image", "", "`CID` or directory of what to boot, see xeno image build")
	fs.IntVar(&t.CPUs, "cpus", 0, "virtual CPUs")
	fs.IntVar(&t.CPUShare, "cpu-share", 0, "CPU `milliseconds` a second over all CPUs")
	fs.Var(sizeFlag{&f.memory}, "memory", "memory, such as 512MiB")
	fs.Var(sizeFlag{&f.disk}, "disk", "private disk, such as 1GiB")
	fs.Var(sizeFlag{&f.rate}, "rate", "network bytes a second each way")
	fs.StringArrayVarP(&t.Env, "set", "e", nil, "environment `NAME=value` of the module")
	fs.BoolVar(&f.stdin, "stdin", false, "pass standard input to the module")
	fs.BoolVar(&f.detach, "detach", false, "do not wait for the module's end")
	return cmd
}

// A runOutcome is what run --json prints.
type runOutcome struct {
	Session api.Session `json:"session"`
	Stdout  string      `json:"stdout,omitempty"`
	Stderr  string      `json:"stderr,omitempty"`
}

func (a *app) runSession(ctx context.Context, f runFlags, args []string) error {
	c := a.client()
	req, err := a.runRequest(ctx, c, f, args)
	if err != nil {
		return err
	}
	p := newProgress(a)
	s, err := c.Run(ctx, req, p.event)
	p.end()
	if err != nil {
		return err
	}
	if req.Terms.Environment != string(hypervisor.KindWASI) || f.detach {
		return a.print(runOutcome{Session: s}, func(w io.Writer) { printSession(w, s) })
	}
	if !s.State.Over() {
		if s, err = a.waitOver(ctx, c, s); err != nil {
			return err
		}
	}
	logs, err := c.Logs(ctx, s.ID, maxLogs)
	if err != nil {
		return err
	}
	if a.json {
		err = a.print(runOutcome{Session: s, Stdout: string(logs.Stdout), Stderr: string(logs.Stderr)}, nil)
	} else {
		_, _ = a.stderr.Write(logs.Stderr)
		_, err = a.stdout.Write(logs.Stdout)
		fmt.Fprintf(a.stderr, "session %s cost %s\n", shortID(s.ID), s.Spent)
	}
	return errors.Join(err, programError(s))
}

// programError says how the program ended, nil if it ended well.
func programError(s api.Session) error {
	switch reason := ledger.Reason(s.Reason); {
	case reason == ledger.ReasonExhausted:
		return api.Errorf(api.CodeFunds, "the program was ended: session %s used up its cap of %s", shortID(s.ID), s.Cap).WithHint("allow more with --cap")
	case reason == ledger.ReasonExpired:
		return api.Errorf(api.CodeTimeout, "the program was ended: the time of session %s was over", shortID(s.ID)).WithHint("allow more with --for")
	case s.ExitCode != nil && *s.ExitCode != 0:
		return fmt.Errorf("%w with exit code %d", errProgram, *s.ExitCode)
	case s.State == api.SessionFailed:
		return fmt.Errorf("%w: %s", errProgram, nameOr(s.Error, s.Reason))
	}
	return nil
}

// waitOver waits for the session's end. Interrupted, it stops the session.
func (a *app) waitOver(ctx context.Context, c *api.Client, s api.Session) (api.Session, error) {
	over, err := c.WaitSession(ctx, s.ID, func(s api.Session) bool { return s.State.Over() })
	if err == nil || ctx.Err() == nil {
		return over, err
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if _, stopErr := c.StopSession(stopping, s.ID); stopErr != nil {
		return s, errors.Join(err, fmt.Errorf("session %s may still run: %w", s.ID, stopErr))
	}
	return s, err
}

// stopTimeout bounds the end of a session that the user interrupted.
const stopTimeout = 30 * time.Second

// runRequest makes the request from the command line. It stores the module
// and makes the ssh key where they are needed.
func (a *app) runRequest(ctx context.Context, c *api.Client, f runFlags, args []string) (api.RunRequest, error) {
	req := f.req
	t := &req.Terms
	var err error
	if f.server != "" {
		if req.Server, err = dht.ParsePeerID(f.server); err != nil {
			return req, usageError{err}
		}
	}
	if f.id != "" {
		if req.Session, err = ledger.ParseID(f.id); err != nil {
			return req, usageError{err}
		}
	}
	t.MemoryBytes, t.DiskBytes, t.NetworkRate = f.memory, f.disk, f.rate
	req.DurationSeconds = int64(f.duration / time.Second)
	if req.DurationSeconds < 1 {
		return req, usagef("--for %s: at least a second", f.duration)
	}
	if t.Environment == "" && len(args) > 0 {
		t.Environment = string(hypervisor.KindWASI)
	}
	switch {
	case t.Environment != "" && t.Environment != string(hypervisor.KindWASI) && t.Environment != string(hypervisor.KindLinux):
		return req, usagef("--env %q: wasi or linux", t.Environment)
	case t.Environment == string(hypervisor.KindWASI) && len(args) == 0 && t.Image == "":
		return req, usagef("name the module to run")
	case t.Environment == string(hypervisor.KindLinux) && len(args) > 0:
		return req, usagef("a Linux environment takes no module; run commands in it with xeno ssh")
	case t.Environment == "":
		return req, usagef("name a module, or say --env linux")
	case t.Environment == string(hypervisor.KindLinux) && t.Image == "":
		return req, usagef("say what to boot with --image; make an image with xeno image build --out linux")
	}
	for _, pair := range t.Env {
		if name, _, ok := strings.Cut(pair, "="); !ok || name == "" {
			return req, usagef("--set %q is not NAME=value", pair)
		}
	}
	if f.order != "" {
		if req.Order, err = orderID(ctx, c, f.order); err != nil {
			return req, err
		}
	}
	if t.Environment == string(hypervisor.KindWASI) {
		err = a.wasiTerms(ctx, c, f, t, args)
		return req, err
	}
	if t.Image, err = imageOf(ctx, c, t.Image); err != nil {
		return req, err
	}
	key, err := access.ClientKey(a.home)
	if err != nil {
		return req, err
	}
	t.SSHKeys = []string{key.Authorized()}
	return req, nil
}

// wasiTerms fills in the module, its arguments and its input.
func (a *app) wasiTerms(ctx context.Context, c *api.Client, f runFlags, t *api.Terms, args []string) error {
	if f.stdin {
		text, err := io.ReadAll(io.LimitReader(a.stdin, maxStdin+1))
		if err != nil {
			return err
		}
		if len(text) > maxStdin {
			return usagef("standard input is longer than %s; put it into the module or fetch it from XenoStore", formatSize(maxStdin))
		}
		t.Stdin = text
	}
	if len(args) == 0 {
		return nil
	}
	if t.Image != "" {
		t.Args = args
		return nil
	}
	t.Args = args[1:]
	var err error
	t.Image, err = imageOf(ctx, c, args[0])
	return err
}

// imageOf returns the CID that name is, or that of the file or directory of
// that name, which it stores. No name stays none.
func imageOf(ctx context.Context, c *api.Client, name string) (string, error) {
	if _, err := os.Stat(name); name == "" || errors.Is(err, os.ErrNotExist) && looksLikeCID(name) {
		return name, nil
	}
	obj, err := addPath(ctx, c, name)
	return obj.CID, err
}

// looksLikeCID tells a base32 CID from a misspelt file name.
func looksLikeCID(s string) bool {
	return strings.HasPrefix(s, "baf") && !strings.ContainsAny(s, "./")
}
