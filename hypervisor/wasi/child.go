package wasi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/unix"
)

// pageBytes is the unit of a module's memory.
const pageBytes = 64 << 10

// runChild is the life of a child. It returns its exit code.
func runChild() int {
	ready := os.NewFile(readyFD, "ready")
	out := os.NewFile(resultFD, "result")
	for fd := jobFD; fd <= readyFD; fd++ {
		unix.CloseOnExec(fd)
	}
	// A write over the file size limit is an error of that write.
	signal.Ignore(unix.SIGXFSZ, unix.SIGPIPE)
	ctx := context.Background()
	g, err := newGuest(ctx)
	r := report{}
	if err != nil {
		r.Err = err.Error()
	}
	// A daemon that was killed meanwhile does not hear this.
	_ = json.NewEncoder(ready).Encode(r)
	ready.Close()
	if err != nil {
		return 1
	}
	end := g.run(ctx)
	if err := json.NewEncoder(out).Encode(end); err != nil {
		fmt.Fprintln(os.Stderr, "xeno: record the result:", err)
		return 1
	}
	if end.Err != "" {
		return 1
	}
	return int(end.Code & 0xff)
}

// A guest is a compiled module with all it needs.
type guest struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
	config  wazero.ModuleConfig
	host    *host
}

// newGuest compiles and links the module.
func newGuest(ctx context.Context) (*guest, error) {
	var j job
	jobFile := os.NewFile(jobFD, "job")
	data, err := readAll(jobFile, maxStateBytes)
	jobFile.Close()
	if err == nil {
		err = decode(data, &j)
	}
	if err != nil {
		return nil, fmt.Errorf("read the job: %w", err)
	}
	moduleFile := os.NewFile(moduleFD, "module")
	code, err := readAll(moduleFile, maxModuleBytes)
	moduleFile.Close()
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	pages := min(max(j.MemoryBytes/pageBytes, 1), 1<<16)
	g := &guest{host: &host{job: j}}
	g.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithMemoryLimitPages(uint32(pages)).
		// Address space is reserved at once, memory is used when touched:
		// growing never copies and never leaves garbage.
		WithMemoryCapacityFromMax(true))
	builder := g.runtime.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(builder)
	offered, err := builder.Compile(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := g.runtime.InstantiateModule(ctx, offered, wazero.NewModuleConfig()); err != nil {
		return nil, err
	}
	if g.module, err = g.runtime.CompileModule(ctx, code); err != nil {
		return nil, fmt.Errorf(badModule+": %w", err)
	}
	if g.module.ExportedFunctions()["_start"] == nil {
		return nil, errors.New(badModule + ": it exports no _start; build it as a command, not as a library")
	}
	for _, f := range g.module.ImportedFunctions() {
		module, name, _ := f.Import()
		if module != wasi_snapshot_preview1.ModuleName || offered.ExportedFunctions()[name] == nil {
			return nil, fmt.Errorf(badModule+": it imports %s.%s; only %s is offered", module, name, wasi_snapshot_preview1.ModuleName)
		}
	}
	g.config = g.host.config()
	return g, nil
}

// config is the module's world.
func (h *host) config() wazero.ModuleConfig {
	root := sysfs.DirFS("/proc/self/fd/" + strconv.Itoa(rootFD))
	h.disk = newDisk(root, h.job.DiskBytes, h.tick, h.diskFull)
	mounts, ok := wazero.NewFSConfig().(sysfs.FSConfig)
	if !ok {
		panic("wasi: wazero's file system configuration changed") // fixed by go.mod
	}
	c := wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithArgs(append([]string{"module"}, h.job.Args...)...).
		WithStdin(os.Stdin).
		WithStdout(&output{file: os.Stdout, name: "standard output", host: h}).
		WithStderr(&output{file: os.Stderr, name: "standard error", host: h}).
		WithFSConfig(mounts.WithSysFSMount(h.disk, "/")).
		WithWalltime(h.walltime, sys.ClockResolution(clockStep.Nanoseconds())).
		WithNanotime(h.nanotime, sys.ClockResolution(clockStep.Nanoseconds())).
		WithNanosleep(h.nanosleep).
		WithRandSource(rand.Reader)
	for _, v := range h.job.Env {
		name, value, _ := strings.Cut(v, "=")
		c = c.WithEnv(name, value)
	}
	return c
}

// run runs the module to its end.
func (g *guest) run(ctx context.Context) result {
	// Compiled code has no safe points: a collection that another thread
	// begins would wait for it, maybe forever. So the module's own thread
	// collects, while it is in the host (see host.tick).
	runtime.GC()
	debug.SetGCPercent(-1)
	g.host.start()
	m, err := g.runtime.InstantiateModule(ctx, g.module, g.config)
	if err == nil {
		_, err = m.ExportedFunction("_start").Call(ctx)
	}
	r := result{Version: stateVersion}
	var exit *sys.ExitError
	switch {
	case g.host.stopped != nil:
		r.Err = g.host.stopped.Error()
	case err == nil:
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	default:
		// The stack trace is for the module's author.
		fmt.Fprintln(os.Stderr, "xeno:", err)
		first, _, _ := strings.Cut(err.Error(), "\n")
		r.Err = "trap: " + strings.TrimPrefix(first, "wasm error: ")
	}
	return r
}
