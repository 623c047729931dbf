package cloudhypervisor

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/hypervisortest"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
	"github.com/xenoserver/xeno/hypervisor/meter"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/vmm"
	"github.com/xenoserver/xeno/internal/testenv"
)

const greeting = "xeno: a guest\n"

// tinyGuest returns an executable that a monitor starts by the PVH protocol, in
// 32-bit mode without paging: it writes text to the first serial port and then
// uses its CPU for ever.
//
//	0x000  ELF header (64 bit, as monitors want it)
//	0x040  two program headers: one segment to load, one with notes
//	0x0b0  note: name Xen, type 18 (PHYS32_ENTRY), the address of the code
//	0x0d0  code
//	       text
func tinyGuest(text string) []byte {
	const (
		load     = 0x100000 // where the file's first byte goes
		notes    = 0xb0
		notesLen = 12 + 4 + 8
		code     = 0xd0
	)
	le := binary.LittleEndian
	program := []byte{
		0xbe, 0, 0, 0, 0, // mov esi, text
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xfc,       // next: cld
		0xac,       // lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz end
		0xee,       // out dx, al
		0xeb, 0xf7, // jmp next
		0xeb, 0xfe, // end: jmp end
	}
	le.PutUint32(program[1:], load+code+uint32(len(program)))
	body := append(append(program, text...), 0)
	file := make([]byte, code, code+len(body))
	copy(file, "\x7fELF\x02\x01\x01")
	le.PutUint16(file[16:], 2)         // executable
	le.PutUint16(file[18:], 62)        // x86-64
	le.PutUint32(file[20:], 1)         // version
	le.PutUint64(file[24:], load+code) // entry
	le.PutUint64(file[32:], 64)        // program headers at
	le.PutUint16(file[52:], 64)        // size of this header
	le.PutUint16(file[54:], 56)        // size of a program header
	le.PutUint16(file[56:], 2)         // number of them
	segment := func(at int, kind uint32, offset, size uint64) {
		p := file[at:]
		le.PutUint32(p, kind)
		le.PutUint32(p[4:], 7) // readable, writable, executable
		le.PutUint64(p[8:], offset)
		le.PutUint64(p[16:], load+offset) // virtual
		le.PutUint64(p[24:], load+offset) // physical
		le.PutUint64(p[32:], size)
		le.PutUint64(p[40:], size)
		le.PutUint64(p[48:], 4)
	}
	segment(64, 1, 0, uint64(code+len(body)))
	segment(64+56, 4, notes, notesLen)
	le.PutUint32(file[notes:], 4)    // length of the name
	le.PutUint32(file[notes+4:], 8)  // of the content
	le.PutUint32(file[notes+8:], 18) // XEN_ELFNOTE_PHYS32_ENTRY
	copy(file[notes+12:], "Xen\x00")
	le.PutUint64(file[notes+16:], load+code)
	return append(file, body...)
}

// newTinyImage writes a tiny guest, and an initrd that it does not look at.
func newTinyImage(t *testing.T, text string) (kernel, initrd string) {
	t.Helper()
	dir := t.TempDir()
	kernel, initrd = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")
	must(t, os.WriteFile(kernel, tinyGuest(text), 0o600))
	must(t, os.WriteFile(initrd, make([]byte, 512), 0o600))
	return kernel, initrd
}

// realDriver skips where there is no Cloud Hypervisor or no KVM.
func realDriver(t *testing.T, c Config) *Driver {
	t.Helper()
	d, err := New(c)
	must(t, err)
	trusting := c.Trust
	d.config.Trust = false
	testenv.Require(t, Name, d.Available(t.Context()))
	d.config.Trust = trusting
	return d
}

// The suite under the real monitor, with all that root has.
func TestConformReal(t *testing.T) {
	realDriver(t, Config{Config: vmm.Config{Dir: t.TempDir()}})
	config := Config{Trust: true}
	rate := uint64(0)
	if network.Available() == nil {
		owner := fmt.Sprintf("test-chr-%d", os.Getpid())
		groups, err := cgroup.Open(cgroup.Config{Parent: owner})
		testenv.Require(t, "root", err)
		t.Cleanup(func() { must(t, groups.Close()) })
		config.Cgroups = groups
		config.Network, err = network.New(network.Config{Owner: owner})
		must(t, err)
		rate = 1 << 20
	}
	kernel, initrd := newTinyImage(t, greeting)
	hypervisortest.Conform(t, func(dir string) hypervisor.Driver {
		c := config
		c.Dir = dir
		return realDriver(t, c)
	}, func(id string) hypervisor.Spec {
		s := specOf(id, kernel, initrd)
		s.NetworkRate, s.DiskBytes = rate, 1<<20
		return s
	})
}

// A real guest says something, and its virtual CPU is told from the monitor.
func TestRealGuest(t *testing.T) {
	realDriver(t, Config{Config: vmm.Config{Dir: t.TempDir()}})
	testenv.Require(t, "bpf", meter.Available())
	ctx := t.Context()
	owner := fmt.Sprintf("test-chg-%d", os.Getpid())
	groups, err := cgroup.Open(cgroup.Config{Parent: owner})
	testenv.Require(t, "root", err)
	defer groups.Close()
	m, err := meter.New(meter.Config{Namespace: owner, Cgroups: groups.Unified()})
	must(t, err)
	defer m.Close()
	d := realDriver(t, Config{Config: vmm.Config{Dir: t.TempDir(), Cgroups: groups, Meter: m}, Trust: true})
	kernel, initrd := newTinyImage(t, greeting)
	began := time.Now()
	in, err := d.Start(ctx, specOf("real", kernel, initrd))
	must(t, err)
	booted := time.Since(began)
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
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out, _, err := d.Logs(ctx, in.ID, 1000)
		must(t, err)
		a, b, err := meter.Pair(ctx, m, in.ID, second)
		must(t, err)
		if diff := (a.CPU - b.CPU).Abs(); diff > b.CPU/1000+time.Millisecond {
			t.Errorf("meter %v, control group %v", a.CPU, b.CPU)
		}
		detail, err := m.Detail(ctx, in.ID)
		must(t, err)
		if strings.Contains(string(out), strings.TrimSpace(greeting)) && detail.Guest > time.Second {
			t.Logf("started in %v; meter %v, control group %v, difference %v; virtual CPU %v, monitor %v",
				booted, a.CPU, b.CPU, a.CPU-b.CPU, detail.Guest, detail.VMM)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("console %q, used %+v", out, detail)
		}
	}
}

// The check of a kernel believes what it sees.
func TestRealCheck(t *testing.T) {
	cache := t.TempDir()
	d := realDriver(t, Config{Config: vmm.Config{Dir: t.TempDir(), CacheDir: cache}})
	kernel, initrd := newTinyImage(t, boot.CheckPassed+"\n")
	for range 2 {
		if err := d.Check(t.Context(), specOf("check", kernel, initrd)); err != nil {
			t.Error(err)
		}
	}
	kernel, initrd = newImage(t) // no kernel at all
	err := d.Check(t.Context(), specOf("check", kernel, initrd))
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("monitor failed")) {
		t.Errorf("of junk: %v", err)
	}
	if entries, err := filepath.Glob(filepath.Join(cache, "*.json")); err != nil || len(entries) != 2 {
		t.Errorf("verdicts %v, %v", entries, err)
	}
}
