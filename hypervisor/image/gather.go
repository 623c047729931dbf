package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	_ "embed" // the guest's init
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xenoserver/xeno/hypervisor"
)

// guestInit is the guest's init, built from the guest directory and
// compressed. It is committed: an installed xeno has no compiler, and its own
// executable is ten times as large. A test builds it anew and compares.
//
//go:generate go run ./internal/mkguest guest.gz
//go:embed guest.gz
var guestInit []byte

// inputs are what an image is made of, read and checked.
type inputs struct {
	kernel  kernel
	modules []module // in load order
	busybox []byte
	applets []string // paths without the leading slash
	init    []byte
	zstd    bool // the kernel unpacks zstd
}

type kernel struct {
	data    []byte
	version string
	arch    string
}

func (o Options) gather(ctx context.Context) (inputs, error) {
	var in inputs
	var err error
	name := o.Kernel
	if name == "" {
		if name, err = newestKernel("/boot"); err != nil {
			return in, err
		}
	}
	if in.kernel, err = readKernel(name); err != nil {
		return in, err
	}
	busybox, err := o.findBusybox()
	if err != nil {
		return in, err
	}
	if in.busybox, err = readStatic(busybox); err != nil {
		return in, err
	}
	if in.applets, err = listApplets(ctx, busybox); err != nil {
		return in, err
	}
	dir := o.Modules
	if dir == "" {
		dir = filepath.Join("/lib/modules", in.kernel.version)
	}
	if in.modules, err = readModules(ctx, dir, busybox); err != nil {
		return in, err
	}
	in.zstd = unpacksZstd(filepath.Join(filepath.Dir(name), "config-"+in.kernel.version))
	if o.Init != "" {
		in.init, err = readStatic(o.Init)
	} else {
		in.init, err = EmbeddedInit()
	}
	return in, err
}

// EmbeddedInit returns the guest's init that comes with this package: a static
// executable for Linux on amd64.
func EmbeddedInit() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(guestInit))
	if err != nil {
		return nil, fmt.Errorf("image: unpack init: %w", err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("image: unpack init: %w", err)
	}
	return data, nil
}

func (o Options) findBusybox() (string, error) {
	if o.Busybox != "" {
		return o.Busybox, nil
	}
	name, err := exec.LookPath("busybox")
	if err != nil {
		return "", fmt.Errorf("image: no busybox (apt install busybox-static, or name one): %w: %w", hypervisor.ErrNotSupported, err)
	}
	return name, nil
}

// newestKernel returns the kernel file in dir with the highest version.
func newestKernel(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "vmlinuz-*"))
	if err != nil || len(names) == 0 {
		return "", fmt.Errorf("image: no %s/vmlinuz-* (apt install linux-image-cloud-amd64, or name a kernel): %w",
			dir, hypervisor.ErrNotSupported)
	}
	return slices.MaxFunc(names, compareVersions), nil
}

// compareVersions orders names so that numbers in them count as numbers.
func compareVersions(a, b string) int {
	digits := func(s string) int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	for a != "" && b != "" {
		i, j := digits(a), digits(b)
		if i == 0 || j == 0 {
			if a[0] != b[0] {
				return int(a[0]) - int(b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(a[:i], "0"), strings.TrimLeft(b[:j], "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return len(a) - len(b)
}

// readKernel reads a bzImage.
func readKernel(name string) (kernel, error) {
	data, err := readBounded(name, maxFileBytes)
	if err != nil {
		return kernel{}, err
	}
	version, err := kernelVersion(data)
	if err != nil {
		return kernel{}, fmt.Errorf("image: %s: %w: %w", name, ErrBadImage, err)
	}
	return kernel{data: data, version: version, arch: "amd64"}, nil
}

// kernelVersion reads the release in a bzImage's header (Linux,
// Documentation/arch/x86/boot.rst: HdrS at 0x202, kernel_version at 0x20e).
func kernelVersion(data []byte) (string, error) {
	if len(data) < 0x1000 || string(data[0x202:0x206]) != "HdrS" {
		return "", errors.New("not a bzImage for x86")
	}
	at := int(binary.LittleEndian.Uint16(data[0x20e:])) + 0x200
	if at == 0x200 || at >= len(data) {
		return "", errors.New("no version in the header")
	}
	text, _, ok := bytes.Cut(data[at:min(at+256, len(data))], []byte{0})
	version, _, _ := strings.Cut(string(text), " ")
	if !ok || version == "" || strings.ContainsAny(version, "/\\") {
		return "", errors.New("no version in the header")
	}
	return version, nil
}

// readStatic reads an executable that needs no other file.
func readStatic(name string) ([]byte, error) {
	data, err := readBounded(name, maxFileBytes)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("image: %s is no ELF executable: %w: %w", name, ErrBadImage, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("image: %s is for %v, not x86-64: %w", name, f.Machine, ErrBadImage)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("image: %s is not static (apt install busybox-static): %w", name, ErrBadImage)
		}
	}
	return data, nil
}

// listApplets asks busybox for the paths of its applets.
func listApplets(ctx context.Context, busybox string) ([]string, error) {
	out, err := exec.CommandContext(ctx, busybox, "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("image: ask %s for its applets: %w", busybox, err)
	}
	var applets []string
	for p := range strings.FieldsSeq(string(out)) {
		if p = filepath.Clean("/" + p)[1:]; p != "bin/busybox" && strings.Contains(p, "/") {
			applets = append(applets, p)
		}
	}
	slices.Sort(applets)
	applets = slices.Compact(applets)
	if !slices.Contains(applets, "bin/sh") || len(applets) > maxApplets {
		return nil, fmt.Errorf("image: %s has %d applets and may lack sh: %w", busybox, len(applets), ErrBadImage)
	}
	return applets, nil
}

// unpacksZstd reads a kernel's configuration; without one the answer is no,
// and the initrd is gzip's, which every kernel unpacks.
func unpacksZstd(config string) bool {
	data, err := os.ReadFile(config)
	return err == nil && bytes.Contains(data, []byte("\nCONFIG_RD_ZSTD=y\n"))
}
