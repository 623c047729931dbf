package wasi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// The child's descriptors after the standard ones.
const (
	jobFD    = 3 + iota // job.json
	moduleFD            // the module
	rootFD              // the private directory
	resultFD            // result.json, for writing
	readyFD             // a pipe: one report when _start is about to be called
)

// badModule begins a report about the module itself, for the client to read.
const badModule = "bad module"

// A report is a child's answer before its module starts.
type report struct {
	Err string `json:"err"` // empty: the module starts now
}

// Start implements hypervisor.Driver. The module is compiled and linked when
// it returns: a module that cannot run is an ErrBadSpec, not an exit.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Instance, error) {
	if err := ctx.Err(); err != nil {
		return hypervisor.Instance{}, fmt.Errorf("wasi: %w", err)
	}
	if err := spec.Validate(); err != nil {
		return hypervisor.Instance{}, err
	}
	if spec.Kind != hypervisor.KindWASI {
		return hypervisor.Instance{}, hypervisor.Explain("not a WASI module", fmt.Errorf("wasi: kind %q: %w", spec.Kind, hypervisor.ErrBadSpec))
	}
	module, err := openModule(spec.Module)
	if err != nil {
		return hypervisor.Instance{}, err
	}
	defer module.Close()

	defer d.take(spec.ID)()
	d.setStarting(spec.ID, true)
	defer d.setStarting(spec.ID, false)
	if err := os.Mkdir(d.dir(spec.ID), 0o700); errors.Is(err, os.ErrExist) {
		return hypervisor.Instance{}, fmt.Errorf("wasi: %s: %w", spec.ID, hypervisor.ErrExists)
	} else if err != nil {
		return hypervisor.Instance{}, fmt.Errorf("wasi: %w", err)
	}
	if err := d.launch(ctx, spec, module); err != nil {
		// Also when ctx has ended: nothing may be left.
		undo := d.forget(context.WithoutCancel(ctx), spec.ID)
		return hypervisor.Instance{}, errors.Join(err, undo)
	}
	d.setStarting(spec.ID, false)
	return d.instance(spec.ID)
}

// openModule refuses what is not a core module at first sight.
func openModule(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // not to hang on a pipe
	if err != nil {
		return nil, hypervisor.Explain("the module cannot be read", fmt.Errorf("wasi: %w: %w", err, hypervisor.ErrBadSpec))
	}
	if err := checkModule(f); err != nil {
		f.Close()
		text := "the module cannot be read"
		if format, ok := errors.AsType[formatError](err); ok {
			text = "the image " + format.Error()
		}
		return nil, hypervisor.Explain(text, fmt.Errorf("wasi: %s %w: %w", path, err, hypervisor.ErrBadSpec))
	}
	return f, nil
}

// A formatError tells what is wrong with the content of a module.
type formatError string

func (e formatError) Error() string { return string(e) }

// checkModule looks at the first bytes. What is wrong with them is a
// formatError.
func checkModule(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return formatError("is not a file")
	}
	if info.Size() > maxModuleBytes {
		return formatError(fmt.Sprintf("has %d bytes, want at most %d", info.Size(), maxModuleBytes))
	}
	header := make([]byte, 8)
	if _, err := f.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case !bytes.HasPrefix(header, []byte("\x00asm")):
		return formatError("is not a WebAssembly module")
	case bytes.Equal(header[4:], []byte{0x0d, 0, 1, 0}):
		return formatError("is a WebAssembly component; only core modules with WASI preview 1 run here (build for wasm32-wasip1)")
	case !bytes.Equal(header[4:], []byte{1, 0, 0, 0}):
		return formatError(fmt.Sprintf("has WebAssembly version % x, want 1", header[4:]))
	}
	return nil
}

// launch makes all that an instance needs, and starts it.
func (d *Driver) launch(ctx context.Context, spec hypervisor.Spec, module *os.File) error {
	j := job{
		Version: stateVersion, ID: spec.ID, Args: spec.Args, Env: spec.Env,
		MemoryBytes: spec.MemoryBytes, DiskBytes: spec.DiskBytes, Timeout: spec.Timeout,
	}
	var join process.Cgroup
	if d.cfg.Groups != nil {
		g, err := d.cfg.Groups.Create(spec.ID, cgroup.Limits{
			CPUShare: spec.CPUShare, MemoryBytes: spec.MemoryBytes + overheadBytes, Pids: cgroup.DefaultPids,
		})
		if err != nil {
			return err
		}
		j.Cgroup = g.Path()
		join = process.Cgroup{Unified: g.Unified(), Legacy: g.Legacy()}
	}
	if d.cfg.Meter != nil {
		in := hypervisor.Instance{ID: spec.ID, Kind: spec.Kind, Driver: driverName, State: hypervisor.StateStarting, Started: time.Now(), Cgroup: j.Cgroup}
		if err := d.cfg.Meter.Track(ctx, in); err != nil && !errors.Is(err, hypervisor.ErrNotSupported) {
			return err
		}
	}
	files, err := d.prepare(spec, j, module)
	defer closeAll(files)
	if err != nil {
		return fmt.Errorf("wasi: prepare %s: %w", spec.ID, err)
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("wasi: %w", err)
	}
	defer readyR.Close()
	p, err := process.Start(ctx, process.Config{
		Dir: d.processDir(spec.ID), Name: childArg, Args: []string{spec.ID},
		Env:   []string{"GOMAXPROCS=" + strconv.Itoa(max(spec.CPUs, minThreads))},
		Stdin: d.path(spec.ID, "stdin"), Files: append(files[:resultFD-jobFD+1:resultFD-jobFD+1], readyW),
		LogBytes: d.cfg.LogBytes, Cgroup: join, Credential: d.cfg.Credential, Timeout: spec.Timeout,
		Confine: &process.Confinement{Write: []string{d.path(spec.ID, "root")}},
		Limits: []process.Limit{
			{Resource: unix.RLIMIT_CORE, Value: 0},
			{Resource: unix.RLIMIT_NOFILE, Value: maxOpenFiles},
			{Resource: unix.RLIMIT_FSIZE, Value: max(spec.DiskBytes, maxReportBytes)},
			{Resource: unix.RLIMIT_DATA, Value: spec.MemoryBytes + overheadBytes + reservedBytes},
		},
		Keeper: d.cfg.Executable,
	})
	readyW.Close()
	if err != nil {
		return err
	}
	return awaitReady(ctx, p, readyR)
}

// prepare makes the files of an instance and opens those that its child gets,
// in the order of the descriptors from jobFD to resultFD.
func (d *Driver) prepare(spec hypervisor.Spec, j job, module *os.File) (files []*os.File, err error) {
	if err := os.WriteFile(d.path(spec.ID, "stdin"), spec.Stdin, 0o600); err != nil {
		return nil, err
	}
	root := d.path(spec.ID, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		return nil, err
	}
	if c := d.cfg.Credential; c != nil {
		if err := os.Chown(root, int(c.UID), int(c.GID)); err != nil {
			return nil, err
		}
	}
	if err := write(d.path(spec.ID, "control.json"), control{Version: stateVersion}); err != nil {
		return nil, err
	}
	if err := write(d.path(spec.ID, "job.json"), j); err != nil {
		return nil, err
	}
	for _, open := range []func() (*os.File, error){
		func() (*os.File, error) { return os.Open(d.path(spec.ID, "job.json")) },
		func() (*os.File, error) { return dup(module) },
		func() (*os.File, error) { return os.Open(root) },
		func() (*os.File, error) {
			return os.OpenFile(d.path(spec.ID, "result.json"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		},
	} {
		f, err := open()
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (d *Driver) path(id, name string) string { return filepath.Join(d.dir(id), name) }

// awaitReady waits for the child's report.
func awaitReady(ctx context.Context, p *process.Process, ready *os.File) error {
	_ = ready.SetReadDeadline(time.Now().Add(startTimeout))
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, err := readAll(ready, maxReportBytes)
	if ctx.Err() != nil {
		return fmt.Errorf("wasi: start: %w", ctx.Err())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		text := fmt.Sprintf("the module does not compile within %v", startTimeout)
		return hypervisor.Explain(text, fmt.Errorf("wasi: %s: %w", text, hypervisor.ErrBadSpec))
	}
	if err != nil {
		return fmt.Errorf("wasi: start: %w", err)
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		status, _ := p.Wait(ctx)
		_, errs, _ := p.Logs(maxReportBytes / 4)
		text := fmt.Sprintf("the process ended before its module started: code %d, signal %d, timed out %t", status.Code, status.Signal, status.TimedOut)
		return hypervisor.Explain(text, fmt.Errorf("wasi: %s: %s", text, printable(string(errs))))
	}
	switch {
	case r.Err == "":
		return nil
	case strings.HasPrefix(r.Err, badModule): // about the module alone
		err = hypervisor.Explain(printable(r.Err), fmt.Errorf("wasi: %s: %w", printable(r.Err), hypervisor.ErrBadSpec))
	default:
		err = fmt.Errorf("wasi: %s: %w", printable(r.Err), hypervisor.ErrBadSpec)
	}
	return err
}
