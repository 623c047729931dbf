package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

var errNoModule = errors.New("no such module")

// A module is a kernel module, decompressed.
type module struct {
	name string // with underscores, without .ko
	data []byte
}

// drivers are the modules that a guest uses, if its kernel has them as modules:
// each bus that a hypervisor may offer, then the devices.
var drivers = []struct {
	name     string
	optional bool
}{
	{"virtio_mmio", false}, // QEMU's microvm
	{"virtio_pci", true},   // Cloud Hypervisor
	{"virtio_net", false},
	{"virtio_blk", true},
	{"virtio_rng", true},
	{"button", true}, // power off on request
	{"evdev", true},
}

// readModules reads the drivers below dir and what they depend on, in load
// order.
func readModules(ctx context.Context, dir, busybox string) ([]module, error) {
	depends, err := readBounded(filepath.Join(dir, "modules.dep"), maxFileBytes)
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("image: %w", err)
	}
	tree := parseDepends(depends)
	inside := make(map[string]bool)
	for line := range strings.Lines(string(builtin)) {
		inside[moduleName(strings.TrimSpace(line))] = true
	}
	var paths []string
	for _, d := range drivers {
		if inside[d.name] {
			continue
		}
		paths, err = tree.order(d.name, paths)
		if errors.Is(err, errNoModule) && d.optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("image: modules in %s: %w: %w", dir, ErrBadImage, err)
		}
	}
	modules := make([]module, 0, len(paths))
	for _, p := range paths {
		data, err := readModule(ctx, filepath.Join(dir, p), busybox)
		if err != nil {
			return nil, err
		}
		modules = append(modules, module{name: moduleName(p), data: data})
	}
	return modules, nil
}

// depends is modules.dep: for each module its file and the files it needs.
type depends map[string]struct {
	path  string
	needs []string
}

func parseDepends(data []byte) depends {
	tree := make(depends)
	for line := range strings.Lines(string(data)) {
		p, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		tree[moduleName(p)] = struct {
			path  string
			needs []string
		}{p, strings.Fields(rest)}
	}
	return tree
}

// order appends to paths what name needs, deepest first, and its own path.
func (d depends) order(name string, paths []string) ([]string, error) {
	m, ok := d[name]
	if !ok {
		return paths, fmt.Errorf("%s: %w", name, errNoModule)
	}
	if len(paths) >= maxModules {
		return paths, fmt.Errorf("more than %d modules: %w", maxModules, ErrBadImage)
	}
	if slices.Contains(paths, m.path) {
		return paths, nil
	}
	// modules.dep lists the whole closure, the deepest last.
	for _, p := range slices.Backward(m.needs) {
		if !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	return append(paths, m.path), nil
}

// moduleName is a module's name as the kernel writes it: virtio_rng for
// kernel/drivers/char/hw_random/virtio-rng.ko.xz.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readModule reads a module file and undoes its compression.
func readModule(ctx context.Context, name, busybox string) ([]byte, error) {
	raw, err := readBounded(name, maxModuleBytes)
	if err != nil {
		return nil, err
	}
	var r io.Reader = bytes.NewReader(raw)
	switch filepath.Ext(name) {
	case ".ko":
		return raw, nil
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModuleBytes)); err == nil {
			defer z.Close()
			r = z
		}
	case ".xz": // the one format without a Go decoder here
		cmd := exec.CommandContext(ctx, busybox, "unxz", "-c")
		cmd.Stdin = r
		var out []byte
		out, err = cmd.Output()
		r = bytes.NewReader(out)
	default:
		err = errors.New("unknown compression")
	}
	if err != nil {
		return nil, fmt.Errorf("image: %s: %w: %w", name, ErrBadImage, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModuleBytes+1))
	if err != nil || len(data) > maxModuleBytes {
		return nil, fmt.Errorf("image: %s: does not unpack to %d bytes or less: %w", name, maxModuleBytes, errors.Join(ErrBadImage, err))
	}
	return data, nil
}
