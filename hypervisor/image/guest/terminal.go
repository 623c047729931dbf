package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A terminal is a pseudo-terminal pair, seen from its master side.
type terminal struct {
	name   string // TERM
	master *os.File
}

// windowSize is the payload of window-change (RFC 4254, section 6.7).
type windowSize struct{ Columns, Rows, Width, Height uint32 }

// A ptyRequest is the payload of pty-req (RFC 4254, section 6.2). Terminal
// modes keep the kernel's defaults.
type ptyRequest struct {
	Term                         string
	Columns, Rows, Width, Height uint32
	Modes                        string
}

func parsePTY(payload []byte) (ptyRequest, error) {
	var m ptyRequest
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return m, err
	}
	if len(m.Term) > maxEnvValue {
		return m, errors.New("name too long")
	}
	return m, nil
}

// newTerminal opens the master of a new pair.
func newTerminal(m ptyRequest) (*terminal, error) {
	// O_NONBLOCK lets the runtime's poller carry blocked reads.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	t := &terminal{name: m.Term, master: os.NewFile(uintptr(fd), "ptmx")}
	if err := t.resize(windowSize{m.Columns, m.Rows, m.Width, m.Height}); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *terminal) resize(s windowSize) error {
	return t.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{
			Row: uint16(s.Rows), Col: uint16(s.Columns), Xpixel: uint16(s.Width), Ypixel: uint16(s.Height),
		})
	})
}

// open returns the slave side.
func (t *terminal) open() (*os.File, error) {
	var number int
	err := t.control(func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		var err error
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("unlock terminal: %w", err)
	}
	fd, err := unix.Open(fmt.Sprintf("/dev/pts/%d", number), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal %d: %w", number, err)
	}
	return os.NewFile(uintptr(fd), "tty"), nil
}

func (t *terminal) control(do func(fd int) error) error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func (t *terminal) close() { _ = t.master.Close() }
