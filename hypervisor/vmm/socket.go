package vmm

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Dial connects to a monitor's socket. Its path may be longer than the 107
// bytes that the address of a Unix socket has room for.
func Dial(ctx context.Context, socket string) (conn *net.UnixConn, err error) {
	err = withShortPath(socket, func(path string) error {
		var dialer net.Dialer
		c, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			conn = c.(*net.UnixConn)
		}
		return err
	})
	return conn, err
}

// Listen makes the socket that a monitor inherits, so that it exists before the
// monitor runs and needs no right of its.
func Listen(socket string) (f *os.File, err error) {
	err = withShortPath(socket, func(path string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		defer l.Close()
		f, err = l.File()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make the monitor's socket: %w", err)
	}
	return f, nil
}

// withShortPath calls use with a short path of the same file, which goes by way
// of its open directory.
func withShortPath(file string, use func(path string) error) error {
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(file)))
}
