package process

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access rights of landlock(7), by the version of its interface.
const (
	readRights  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	dirRights   = readRights | unix.LANDLOCK_ACCESS_FS_READ_DIR
	allRights   = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // version 1: all up to make_sym
	allRights2  = allRights | unix.LANDLOCK_ACCESS_FS_REFER
	allRights3  = allRights2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	allRights5  = allRights3 | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	tcpRights   = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	scopeRights = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
)

// loaderPaths are what a dynamically linked executable needs to start.
func loaderPaths() []string {
	return []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"}
}

// confine bounds the calling thread, and every process that it starts, to the
// executable and the files of c. It does nothing on a kernel without Landlock.
func confine(executable string, c Confinement) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: allRights}
	switch {
	case version >= 5:
		attr.Handled_access_fs = allRights5
	case version >= 3:
		attr.Handled_access_fs = allRights3
	case version == 2:
		attr.Handled_access_fs = allRights2
	}
	if version >= 4 {
		attr.Handled_access_net = tcpRights
	}
	if version >= 6 {
		attr.Scoped = scopeRights
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: create rules: %w", errno)
	}
	rules := os.NewFile(fd, "landlock")
	defer rules.Close()
	for _, path := range append(loaderPaths(), c.Read...) {
		if err := allow(int(fd), path, dirRights); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := allow(int(fd), executable, readRights); err != nil {
		return err
	}
	for _, path := range c.Write {
		if err := allow(int(fd), path, attr.Handled_access_fs); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}

// allow adds a rule for all below path.
func allow(rules int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("landlock: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= readRights | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: allow %s: %w", path, errno)
	}
	return nil
}
