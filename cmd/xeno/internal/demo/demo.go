// Package demo shows the whole platform on one machine: it founds a network of
// separate daemons on loopback, leads a client through the flow that a user
// goes, and leaves nothing behind.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// The kinds of environments that Options.Env may ask for.
const (
	EnvAuto  = "auto"
	EnvWASI  = "wasi"
	EnvLinux = "linux"
)

// ErrOptions reports options that make no network.
var ErrOptions = errors.New("bad options")

// Options say what to show.
type Options struct {
	// Env is the environment to lease: auto takes Linux where the machine
	// can run it.
	Env string
	// Servers is the number of XenoServers, Participants that of the others,
	// the client among them.
	Servers, Participants int
	// Keep leaves the directory with state and logs.
	Keep bool
	// LogLevel is that of the daemons' logs, which Keep leaves to be read.
	LogLevel string
	// Executable is the program that becomes a daemon by the arguments
	// "daemon --home DIR".
	Executable string
	// Out is shown how it goes.
	Out io.Writer
}

func (o Options) validate() error {
	switch {
	case o.Env != EnvAuto && o.Env != EnvWASI && o.Env != EnvLinux:
		return fmt.Errorf("%w: environment %q; there are auto, wasi and linux", ErrOptions, o.Env)
	case o.Servers < 1 || o.Servers > maxServers:
		return fmt.Errorf("%w: %d servers; from 1 to %d", ErrOptions, o.Servers, maxServers)
	case o.Participants < 1 || o.Participants > maxParticipants:
		return fmt.Errorf("%w: %d participants; from 1 (the client) to %d", ErrOptions, o.Participants, maxParticipants)
	}
	return nil
}

// A Result is what happened, for programs.
type Result struct {
	Steps       []Step            `json:"steps"`
	Server      Server            `json:"server"`
	Environment Environment       `json:"environment"`
	Output      string            `json:"output"`
	Receipts    []api.Receipt     `json:"receipts"`
	Usage       Usage             `json:"usage"`
	Accounts    []api.BookAccount `json:"accounts"`
	Sum         ledger.Amount     `json:"sum"`
}

// A Step is one part of the flow.
type Step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// A Server is the one that was leased from.
type Server struct {
	ID    dht.PeerID `json:"id"`
	Name  string     `json:"name"`
	Place string     `json:"place"`
}

// An Environment is what was leased and why that kind.
type Environment struct {
	Kind string `json:"kind"`
	Why  string `json:"why"`
}

// Usage is what both meters read at the end. Second is null on a machine with
// one meter alone.
type Usage struct {
	Billed api.Reading   `json:"billed"`
	Second *api.Reading  `json:"second"`
	Amount ledger.Amount `json:"amount"`
}

// A run is one demo under way.
type run struct {
	opts   Options
	world  *world
	result Result
	stages int // of those that the flow has, for the display

	corp   *member
	client *member
	order  api.Order
	best   api.Result
	terms  api.Terms
	sess   api.Session
}

// Run shows the platform. Whatever it started has ended when it returns, and
// its directory is gone unless it is to be kept.
func Run(ctx context.Context, opts Options) (result Result, err error) {
	if err := opts.validate(); err != nil {
		return result, err
	}
	dir, err := os.MkdirTemp("", "xeno-demo-")
	if err != nil {
		return result, err
	}
	r := &run{opts: opts, world: newWorld(dir, opts)}
	flow := r.flow()
	r.stages = len(flow) + 1
	for _, s := range flow {
		if err = r.step(ctx, s); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			r.world.tell(opts.Out)
			break
		}
	}
	stop := stage{"stop everything", func(context.Context) (string, error) { return r.world.close() }}
	err = errors.Join(err, r.step(context.WithoutCancel(ctx), stop))
	return r.result, err
}

// A stage is one part of the flow; it returns what to show beside its name.
type stage struct {
	name string
	do   func(ctx context.Context) (note string, err error)
}

// flow is the whole of what the demo shows, in order.
func (r *run) flow() []stage {
	return []stage{
		{"found the network", r.found},
		{"start the daemons", r.populate},
		{"register everybody", r.register},
		{"choose the environment", r.choose},
		{"deposit", r.deposit},
		{"order", r.createOrder},
		{"search", r.search},
		{"open a session", r.lease},
		{"do a job in it", r.work},
		{"settle", r.settle},
		{"statement", r.statement},
	}
}

// step carries out one stage and shows it.
func (r *run) step(ctx context.Context, s stage) error {
	begin := time.Now()
	fmt.Fprintf(r.opts.Out, "[%d/%d] %s ", len(r.result.Steps)+1, r.stages, s.name)
	note, err := s.do(ctx)
	took := time.Since(begin).Seconds()
	r.result.Steps = append(r.result.Steps, Step{Name: s.name, Seconds: float64(int(took*1000)) / 1000})
	if err != nil {
		fmt.Fprintf(r.opts.Out, "— failed after %.1f s\n", took)
		return err
	}
	fmt.Fprintf(r.opts.Out, "(%.1f s)\n%s", took, indent(note))
	return nil
}
