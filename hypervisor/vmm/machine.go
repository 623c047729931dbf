package vmm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

// Files in an instance's directory.
const (
	kernelName = "kernel"
	initrdName = "initrd"
	diskName   = "disk"
)

// A Machine is what a guest is made of, as open files of the driver's.
type Machine struct {
	Spec           hypervisor.Spec
	Socket         *os.File // where the monitor is to listen
	SocketPath     string   // its name, for Dial
	Kernel, Initrd *os.File
	Disk           *os.File // nil: none
	Tap            *os.File // nil: none
	MAC            string   // with Tap

	inherited []*os.File
}

// Inherit hands a file to the monitor and returns the descriptor that it gets
// there: the first is 3. It returns 0 for a nil file.
func (m *Machine) Inherit(f *os.File) (fd int) {
	if f == nil {
		return 0
	}
	m.inherited = append(m.inherited, f)
	return 2 + len(m.inherited)
}

// Inherited is the monitor's path of a file that it inherits. It leads to the
// file itself: no directory on the way has to be open to the guest's user.
func Inherited(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func (m *Machine) close() {
	for _, f := range []*os.File{m.Socket, m.Kernel, m.Initrd, m.Disk, m.Tap} {
		if f != nil {
			f.Close()
		}
	}
}

// openFiles prepares what the monitor reads and writes.
func (s *start) openFiles() (err error) {
	m := &s.machine
	m.Spec, m.SocketPath = s.Spec, filepath.Join(s.dir, s.driver.program.Socket)
	if m.Socket, err = Listen(m.SocketPath); err != nil {
		return err
	}
	if m.Kernel, err = s.openKernel(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if m.Initrd, err = s.makeInitrd(); err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	if s.Spec.DiskBytes == 0 {
		return nil
	}
	if m.Disk, err = os.OpenFile(filepath.Join(s.dir, diskName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		err = errors.Join(m.Disk.Truncate(int64(s.Spec.DiskBytes)), m.Disk.Chown(s.user, -1))
	}
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}

// openKernel opens the kernel so that the guest's user can open it again by its
// descriptor; a copy is made if need be.
func (s *start) openKernel() (*os.File, error) {
	f, err := os.Open(s.Spec.Kernel)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (s.user < 0 || info.Mode().Perm()&0o004 != 0) {
		return f, nil
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	return s.copyFile(kernelName, f)
}

// makeInitrd puts the session's archive in front of the image's initrd.
func (s *start) makeInitrd() (*os.File, error) {
	f, err := os.Open(s.Spec.Initrd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	archive, err := boot.Archive(s.guestConfig())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrBadSpec, err)
	}
	return s.copyFile(initrdName, io.MultiReader(bytes.NewReader(archive), f))
}

func (s *start) guestConfig() boot.Config {
	c := boot.Config{
		Hostname: "xeno-" + s.Spec.ID, HostKey: string(s.Spec.HostKey), Keys: s.Spec.SSHKeys,
		Disk: s.Spec.DiskBytes != 0,
	}
	if s.Spec.NetworkRate != 0 {
		c.Address, c.Gateway, c.Port = s.tap.Guest, s.tap.Host.Addr(), boot.SSHPort
		for _, server := range s.driver.config.DNS {
			if a, err := netip.ParseAddr(server); err == nil {
				c.DNS = append(c.DNS, a)
			}
		}
	}
	return c
}

// copyFile writes a file in the instance's directory that the guest's user alone
// can read, and opens it for reading.
func (s *start) copyFile(name string, from io.Reader) (*os.File, error) {
	path := filepath.Join(s.dir, name)
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(w, from)
	if err = errors.Join(err, w.Chown(s.user, -1), w.Close()); err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return os.Open(path)
}
