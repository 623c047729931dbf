package cloudhypervisor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/hypervisortest"
	"github.com/xenoserver/xeno/hypervisor/meter"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/vmm"
	"github.com/xenoserver/xeno/internal/testenv"
)

// newImage writes files that pass for kernel and initrd.
func newImage(t *testing.T) (kernel, initrd string) {
	t.Helper()
	dir := t.TempDir()
	kernel, initrd = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")
	must(t, os.WriteFile(kernel, []byte("kernel"), 0o600))
	must(t, os.WriteFile(initrd, []byte("initrd"), 0o600))
	return kernel, initrd
}

func specOf(id, kernel, initrd string) hypervisor.Spec {
	return hypervisor.Spec{
		ID: id, Kind: hypervisor.KindLinux, CPUs: 1, MemoryBytes: minMemory, Kernel: kernel, Initrd: initrd,
	}
}

// As an ordinary user: no control group, no network.
func TestConform(t *testing.T) {
	binary := newFake(t)
	kernel, initrd := newImage(t)
	hypervisortest.Conform(t, func(dir string) hypervisor.Driver {
		d, err := New(Config{Config: vmm.Config{Dir: dir}, Binary: binary, Trust: true})
		must(t, err)
		return d
	}, func(id string) hypervisor.Spec { return specOf(id, kernel, initrd) })
}

// With all that root has: control group, tap, disk, a user for each guest.
func TestConformPrivileged(t *testing.T) {
	testenv.Require(t, "root", network.Available())
	binary := newFake(t)
	kernel, initrd := newImage(t)
	owner := fmt.Sprintf("test-ch-%d", os.Getpid())
	groups, err := cgroup.Open(cgroup.Config{Parent: owner})
	testenv.Require(t, "root", err)
	t.Cleanup(func() { must(t, groups.Close()) })
	nets, err := network.New(network.Config{Owner: owner})
	must(t, err)
	hypervisortest.Conform(t, func(dir string) hypervisor.Driver {
		d, err := New(Config{Config: vmm.Config{Dir: dir, Cgroups: groups, Network: nets}, Binary: binary, Trust: true})
		must(t, err)
		return d
	}, func(id string) hypervisor.Spec {
		s := specOf(id, kernel, initrd)
		s.NetworkRate, s.DiskBytes = 10<<20, 1<<20
		return s
	})
}

// TestMetered compares the kernel's meter with the control group's, over the
// whole life of a guest.
func TestMetered(t *testing.T) {
	testenv.Require(t, "root", network.Available())
	testenv.Require(t, "bpf", meter.Available())
	ctx := t.Context()
	owner := fmt.Sprintf("test-chm-%d", os.Getpid())
	groups, err := cgroup.Open(cgroup.Config{Parent: owner})
	testenv.Require(t, "root", err)
	t.Cleanup(func() { must(t, groups.Close()) })
	nets, err := network.New(network.Config{Owner: owner})
	must(t, err)
	m, err := meter.New(meter.Config{Namespace: owner, Cgroups: groups.Unified()})
	must(t, err)
	defer m.Close()
	kernel, initrd := newImage(t)
	d, err := New(Config{Config: vmm.Config{Dir: t.TempDir(), Cgroups: groups, Network: nets, Meter: m}, Binary: newFake(t), Trust: true})
	must(t, err)
	spec := specOf("metered", kernel, initrd)
	spec.NetworkRate = 1 << 20
	in, err := d.Start(ctx, spec)
	testenv.Require(t, "root", err)
	defer func() {
		must(t, d.Remove(context.WithoutCancel(ctx), in.ID))
		must(t, m.Forget(context.WithoutCancel(ctx), in.ID))
	}()
	group, err := groups.Group(in.ID)
	must(t, err)
	second := func(context.Context) (hypervisor.Usage, error) {
		u, err := group.Usage()
		return hypervisor.Usage{Source: "cgroup", CPU: u.CPU}, err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		a, b, err := meter.Pair(ctx, m, in.ID, second)
		must(t, err)
		if diff := (a.CPU - b.CPU).Abs(); diff > b.CPU/1000+time.Millisecond {
			t.Fatalf("meter %v, control group %v", a.CPU, b.CPU)
		}
		if a.CPU > 300*time.Millisecond {
			t.Logf("meter %v, control group %v, difference %v", a.CPU, b.CPU, a.CPU-b.CPU)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("only %v used", a.CPU)
		}
	}
}

// A daemon that dies between a pause or resume and its record leaves a record
// that the monitor knows better than.
func TestPauseCutShort(t *testing.T) {
	ctx := t.Context()
	kernel, initrd := newImage(t)
	dir := t.TempDir()
	config := Config{Config: vmm.Config{Dir: dir}, Binary: newFake(t), Trust: true}
	d, err := New(config)
	must(t, err)
	_, err = d.Start(ctx, specOf("pause", kernel, initrd))
	testenv.Require(t, Name, err)
	defer func() { must(t, d.Remove(context.WithoutCancel(ctx), "pause")) }()
	monitor := client{socket: filepath.Join(dir, "pause", "api")}
	is := func(state string) {
		t.Helper()
		info, err := monitor.info(ctx)
		must(t, err)
		list, err := d.List(ctx)
		must(t, err)
		if info.State != state || !strings.EqualFold(string(list[0].State), state) {
			t.Errorf("guest %s, listed as %s, want %s", info.State, list[0].State, state)
		}
	}
	must(t, d.Pause(ctx, "pause"))
	must(t, monitor.Resume(ctx))
	must(t, d.Pause(ctx, "pause"))
	is(vmPaused)
	must(t, d.Resume(ctx, "pause"))
	must(t, monitor.Pause(ctx))
	must(t, d.Resume(ctx, "pause"))
	is(vmRunning)
	// The next daemon counts what runs.
	must(t, d.Pause(ctx, "pause"))
	must(t, monitor.Resume(ctx))
	next, err := New(config)
	must(t, err)
	if swept, err := next.Sweep(ctx); err != nil || len(swept) != 0 {
		t.Errorf("swept %v, %v", swept, err)
	}
	is(vmRunning)
	before, err := next.Usage(ctx, "pause")
	must(t, err)
	time.Sleep(10 * time.Millisecond)
	if after, err := next.Usage(ctx, "pause"); err != nil || after.Run <= before.Run {
		t.Errorf("run time %v, then %v, %v", before.Run, after.Run, err)
	}
	must(t, monitor.Pause(ctx))
	_, err = next.Sweep(ctx)
	must(t, err)
	is(vmPaused)
}

func TestVersion(t *testing.T) {
	for _, tt := range []struct {
		in string
		ok bool
	}{
		{"v53.0", true},
		{"53.0.0", true},
		{"51.2.0", false},
		{"v52.0", true},
		{"cloud-hypervisor v53.0-12-g12ab\n", true},
		{"cloud-hypervisor v100.1", true},
		{"v51.2", false},
		{"cloud-hypervisor v9.9", false},
		{"", false},
		{"QEMU emulator version 7.2", false},
		{"v99999999999999999999.0", false},
	} {
		err := checkVersion(tt.in)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, hypervisor.ErrNotSupported) {
			t.Errorf("%q: %v", tt.in, err)
		}
	}
}

func TestAvailable(t *testing.T) {
	d, err := New(Config{Config: vmm.Config{Dir: t.TempDir()}, Binary: "/no/such/binary"})
	must(t, err)
	if err := d.Available(t.Context()); !errors.Is(err, hypervisor.ErrNotSupported) {
		t.Errorf("without a binary: %v", err)
	}
	old := filepath.Join(t.TempDir(), "old")
	must(t, os.WriteFile(old, []byte("#!/bin/sh\necho cloud-hypervisor v45.0\n"), 0o755))
	d, err = New(Config{Config: vmm.Config{Dir: t.TempDir()}, Binary: old, Trust: true})
	must(t, err)
	if err := d.Available(t.Context()); !errors.Is(err, hypervisor.ErrNotSupported) || !strings.Contains(err.Error(), "45") {
		t.Errorf("with an old one: %v", err)
	}
}

// A monitor that fails says why.
func TestMonitorFails(t *testing.T) {
	kernel, initrd := newImage(t)
	dir, err := os.MkdirTemp("", "xeno-fail-") //nolint:usetesting // open to guests' users, as t.TempDir is not
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	script := filepath.Join(dir, "monitor")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nif [ \"$1\" = --version ]; then echo v53.0; exit; fi\necho no memory >&2\nexit 3\n"), 0o755))
	state := t.TempDir()
	d, err := New(Config{Config: vmm.Config{Dir: state}, Binary: script, Trust: true})
	must(t, err)
	began := time.Now()
	_, err = d.Start(t.Context(), specOf("fails", kernel, initrd))
	if err == nil || !strings.Contains(err.Error(), "no memory") || !strings.Contains(err.Error(), "code 3") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > readyTimeout/2 {
		t.Errorf("noticed after %v", took)
	}
	if entries, err := os.ReadDir(state); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"version\":\"v53.0\"}"))
	f.Add([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 13\r\n\r\n[\"a\",\"b\\n c\"]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p pingResponse
		err := decodeResponse(bufio.NewReader(bytes.NewReader(data)), "GET", "vmm.ping", &p)
		var refusal *APIError
		if errors.As(err, &refusal) && len(refusal.Message) > 2*maxErrorBody {
			t.Errorf("message of %d bytes", len(refusal.Message))
		}
		if err == nil {
			_ = checkVersion(p.Version)
		}
	})
}
