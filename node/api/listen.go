package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SocketName is the name of the socket in a daemon's home directory.
const SocketName = "api.sock"

// ErrInUse reports that another daemon answers on the socket.
var ErrInUse = errors.New("another daemon runs on this home directory")

// Listen opens the API's socket: mode 0600 in a directory of mode 0700 that is
// made where it is missing. A socket that a killed daemon left is replaced; one
// that answers is not, and the error wraps ErrInUse.
func Listen(socket string) (net.Listener, error) {
	dir := filepath.Dir(socket)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("api: directory %s is open to others (mode %#o); run: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	short, release, err := shorten(socket)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := removeStale(short, socket); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("api: listen on %s: %w", socket, err)
	}
	l.SetUnlinkOnClose(false) // short may name nothing by then; see listener.Close
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("api: %w", err), l.Close())
	}
	return &listener{UnixListener: l, path: socket}, nil
}

// A listener removes its socket when it is closed.
type listener struct {
	*net.UnixListener
	path string
}

func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	if gone := os.Remove(l.path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// removeStale deletes the socket at path if nobody answers on it.
func removeStale(short, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("api: %s is in the way and is not a socket; remove it", path)
	}
	c, err := net.DialTimeout("unix", short, time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("api: %s: %w", path, ErrInUse), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("api: %s: %w: %w", path, ErrInUse, err)
	}
	return os.Remove(path)
}

// maxSocketPath is the longest name that fits the kernel's sockaddr_un.
const maxSocketPath = 107

// shorten returns a name of socket that fits a socket address. A long one goes
// by way of its directory's descriptor, which release closes.
func shorten(socket string) (short string, release func(), err error) {
	if len(socket) <= maxSocketPath {
		return socket, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return "", nil, fmt.Errorf("api: %w", err)
	}
	short = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(socket))
	return short, func() { _ = dir.Close() }, nil
}

// dial connects to the socket.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	short, release, err := shorten(socket)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

// mayCall returns an error unless the process at the other end of c runs as
// the daemon's own user or as root.
func mayCall(c net.Conn) error {
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%T is not a Unix socket", c)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	return checkUID(int(cred.Uid), os.Geteuid())
}

// checkUID allows the daemon's own user and root.
func checkUID(caller, daemon int) error {
	if caller != daemon && caller != 0 {
		return fmt.Errorf("user %d may not command a daemon of user %d", caller, daemon)
	}
	return nil
}
