// Package image builds the small Linux image that the virtual machine drivers
// boot, and checks one that came from elsewhere.
//
// An image is a directory of three files:
//
//	manifest.json  what the others are (Manifest)
//	vmlinuz        a kernel, as its distribution ships it
//	initrd         a cpio archive (SVR4 "newc"), compressed with zstd or gzip
//
// The initrd holds /init (see the guest directory), the kernel's virtio
// modules below /lib/modules/boot in the order in which they load, and busybox
// with a link for each of its applets. It holds nothing of a session: package
// boot adds that in front when a machine starts.
//
// The same inputs give the same bytes: owners, times and inode numbers are
// fixed, entries are sorted, the compressor runs on one thread.
package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

// ErrBadImage reports an image, or an input of one, that cannot boot.
var ErrBadImage = errors.New("bad image")

// Names of an image's files.
const (
	ManifestName = "manifest.json"
	KernelName   = "vmlinuz"
	InitrdName   = "initrd"
)

// Options say from what to build an image. Every input that is left empty is
// looked for where Debian and its kin keep it.
type Options struct {
	Kernel  string // a bzImage; "": the newest /boot/vmlinuz-*
	Modules string // the kernel's module directory; "": /lib/modules/VERSION
	Busybox string // a static busybox; "": from PATH
	Init    string // a static init; "": the one that comes with this package
	Out     string // the directory to fill, made if need be
}

// Build makes an image in opts.Out. Missing inputs are errors that wrap
// hypervisor.ErrNotSupported and name the package to install; wrong ones wrap
// ErrBadImage. The manifest is written last.
func Build(ctx context.Context, opts Options) (Manifest, error) {
	if opts.Out == "" {
		return Manifest{}, errors.New("image: no output directory")
	}
	in, err := opts.gather(ctx)
	if err != nil {
		return Manifest{}, err
	}
	initrd, err := in.initrd()
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{
		Format: format,
		Kind:   hypervisor.KindLinux,
		Arch:   in.kernel.arch,
		Kernel: in.kernel.version,
		Port:   boot.SSHPort,
		Files:  []File{describe(KernelName, in.kernel.data), describe(InitrdName, initrd)},
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Manifest{}, fmt.Errorf("image: encode manifest: %w", err)
	}
	if err := os.MkdirAll(opts.Out, 0o755); err != nil {
		return Manifest{}, fmt.Errorf("image: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{KernelName, in.kernel.data}, {InitrdName, initrd}, {ManifestName, append(text, '\n')}} {
		if err := ctx.Err(); err != nil {
			return Manifest{}, err
		}
		if err := replace(filepath.Join(opts.Out, f.name), f.data); err != nil {
			return Manifest{}, fmt.Errorf("image: %w", err)
		}
	}
	return m, nil
}

func describe(name string, data []byte) File {
	return File{Name: name, Size: int64(len(data)), SHA256: fmt.Sprintf("%x", sha256.Sum256(data))}
}

// replace writes a file so that a reader sees the old one or the new one.
func replace(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
