package meter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
)

const (
	// defaultPins is where pins are unless the configuration says otherwise.
	defaultPins = "/sys/fs/bpf/xeno"
	// layout is the version of the maps and of record, part of every pin's
	// path: 1 since the first.
	layout = "1"
	// mountSource marks the file systems that this package mounted, which it
	// may unmount again.
	mountSource = "xeno"
	switchPin   = "switch"
	tapsDir     = "taps"
)

// pins is the directory of one namespace in a BPF file system.
//
//	ROOT/NAMESPACE/1/{environments,counters,slices,control,names}  maps
//	ROOT/NAMESPACE/1/switch                                        link
//	ROOT/NAMESPACE/1/taps/ID/{traffic,received,sent}               map and links
type pins struct {
	root string
	base string
	dir  string
	lock *os.File
}

// openPins makes the directory. Errors wrap hypervisor.ErrNotSupported where
// there is no BPF file system and none can be mounted.
func openPins(root, namespace string) (*pins, error) {
	if root == "" {
		root = defaultPins
	}
	p := &pins{root: root, base: filepath.Join(root, namespace)}
	p.dir = filepath.Join(p.base, layout)
	unlock, err := p.guard()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := os.MkdirAll(filepath.Join(p.dir, tapsDir), 0o700); err != nil {
		return nil, unsupported(fmt.Errorf("make %s: %w", p.dir, err), "run as root")
	}
	if p.lock, err = os.Open(p.base); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("meter: %s is in use by another process: %w", p.base, err), p.lock.Close())
	}
	return p, nil
}

// Remove deletes all pins of a namespace, so that nothing counts any more, and
// unmounts the file system under the rules of Meter.Close. It is for cleaning up
// after a daemon that will not start again; pins as in Config. Removing what is
// not there is no error.
func Remove(root, namespace string) error {
	if !namespaceForm.MatchString(namespace) {
		return fmt.Errorf("meter: bad namespace %q", namespace)
	}
	if root == "" {
		root = defaultPins
	}
	base := filepath.Join(root, namespace)
	if _, err := os.Stat(base); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	p, err := openPins(root, namespace)
	if err != nil {
		return err
	}
	return errors.Join(p.remove(), p.close())
}

// guard holds off other processes that mount and unmount, and makes sure that
// a BPF file system is there.
func (p *pins) guard() (unlock func(), err error) {
	at := filepath.Dir(p.root)
	// The directory under the mount, or the mount itself when it is one: two
	// processes that both find none lock the same.
	for {
		dir, err := os.Open(at)
		if err != nil {
			return nil, unsupported(fmt.Errorf("open %s: %w", at, err), "give the kernel CONFIG_BPF_SYSCALL")
		}
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", at, err), dir.Close())
		}
		held, err := isBPF(int(dir.Fd()))
		mounted, errPath := isBPFPath(at)
		if err := errors.Join(err, errPath); err != nil {
			return nil, errors.Join(err, dir.Close())
		}
		switch {
		case held == mounted && !mounted:
			err = unix.Mount(mountSource, at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
			if err != nil {
				return nil, errors.Join(unsupported(fmt.Errorf("mount a BPF file system on %s: %w", at, err),
					"run as root, or have it mounted"), dir.Close())
			}
			return func() { dir.Close() }, nil
		case held == mounted:
			return func() { dir.Close() }, nil
		}
		dir.Close() // somebody mounted or unmounted in between
	}
}

func isBPF(fd int) (bool, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(fd, &st)
	return st.Type == unix.BPF_FS_MAGIC, err
}

func isBPFPath(path string) (bool, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	return st.Type == unix.BPF_FS_MAGIC, err
}

func (p *pins) tapDir(id string) string { return filepath.Join(p.dir, tapsDir, id) }

func (p *pins) makeTap(id string) (string, error) {
	dir := p.tapDir(id)
	return dir, os.MkdirAll(dir, 0o700)
}

// removeTap unpins what counts at an environment's tap, which ends it.
func (p *pins) removeTap(id string) error {
	if !idForm.MatchString(id) {
		return nil
	}
	return os.RemoveAll(p.tapDir(id))
}

// sweepTaps removes the pins of environments that are not tracked.
func (p *pins) sweepTaps(tracked []string) error {
	entries, err := os.ReadDir(filepath.Join(p.dir, tapsDir))
	if err != nil {
		return fmt.Errorf("meter: sweep: %w", err)
	}
	var errs error
	for _, e := range entries {
		if !slices.Contains(tracked, e.Name()) {
			errs = errors.Join(errs, p.removeTap(e.Name()))
		}
	}
	return errs
}

// remove deletes the namespace, and the file system if this package mounted it
// and nothing is left there.
func (p *pins) remove() error {
	unlock, err := p.guard()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.RemoveAll(p.base); err != nil {
		return fmt.Errorf("meter: remove %s: %w", p.base, err)
	}
	// Another namespace keeps the root, and with it the mount.
	if err := os.Remove(p.root); err != nil {
		return nil
	}
	at := filepath.Dir(p.root)
	left, err := os.ReadDir(at)
	left = slices.DeleteFunc(left, func(e os.DirEntry) bool {
		return strings.Contains(e.Name(), ".") // the kernel's own; no pin has a dot
	})
	if err != nil || len(left) > 0 || mountedFrom(at) != mountSource {
		return err
	}
	// Our own handles keep it busy until they are closed: detach.
	if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("meter: unmount %s: %w", at, err)
	}
	return nil
}

func (p *pins) close() error { return p.lock.Close() }

func unsupported(err error, advice string) error {
	return fmt.Errorf("meter: %w: %w: %s", hypervisor.ErrNotSupported, err, advice)
}
