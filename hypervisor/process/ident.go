package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootID is different after every start of the machine.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}

// SinceBoot reads the clock that starts with the machine, runs while it sleeps
// and is never set: differences hold across restarts of a program.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("process: clock_gettime: " + err.Error()) // since Linux 2.6.39 it cannot fail
	}
	return time.Duration(ts.Nano())
}

// identify describes the process that has the number pid now.
func identify(pid int) (ident, error) {
	s, err := readStat(pid)
	if err != nil {
		return ident{}, err
	}
	id := ident{PID: pid, Start: s.start}
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &st) == nil {
		id.Exe = fmt.Sprintf("%x:%d", st.Dev, st.Ino)
	}
	return id, nil
}

// A stat is what we read of /proc/PID/stat.
type stat struct {
	state  byte
	parent int
	start  uint64
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

// parseStat reads the line of proc_pid_stat(5). The second field, the
// command's name, may hold anything, blanks and parentheses included.
func parseStat(data []byte) (stat, error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return stat{}, errors.New("no command name")
	}
	fields := strings.Fields(string(data[end+1:]))
	// Counted from the third field of the manual, the state.
	const stateField, parentField, startField = 0, 1, 19
	if len(fields) <= startField || len(fields[stateField]) != 1 {
		return stat{}, errors.New("too few fields")
	}
	parent, err := strconv.Atoi(fields[parentField])
	if err != nil {
		return stat{}, err
	}
	start, err := strconv.ParseUint(fields[startField], 10, 64)
	if err != nil {
		return stat{}, err
	}
	return stat{state: fields[stateField][0], parent: parent, start: start}, nil
}

// openIdent opens a pidfd of exactly this process. Errors wrap ErrExited when
// it is gone, whoever may have its number now. It is not gone as a zombie:
// other threads may still be on their way out.
func openIdent(boot string, id ident) (int, error) {
	now, err := bootID()
	if err != nil {
		return -1, fmt.Errorf("process: %w", err)
	}
	if now != boot {
		return -1, fmt.Errorf("process: %d ran before the machine's restart: %w", id.PID, ErrExited)
	}
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return -1, fmt.Errorf("process: %d: %w", id.PID, ErrExited)
	}
	if err != nil {
		return -1, fmt.Errorf("process: pidfd_open %d: %w", id.PID, err)
	}
	// The descriptor holds one process now; was it ours when it was opened?
	s, err := readStat(id.PID)
	if err != nil || s.start != id.Start || !sameExe(id) {
		unix.Close(fd)
		return -1, fmt.Errorf("process: %d: %w", id.PID, ErrExited)
	}
	return fd, nil
}

// sameExe compares the executables, where both are known. A process that has
// just been killed has none any more.
func sameExe(id ident) bool {
	var st unix.Stat_t
	if id.Exe == "" || unix.Stat(fmt.Sprintf("/proc/%d/exe", id.PID), &st) != nil {
		return true
	}
	return id.Exe == fmt.Sprintf("%x:%d", st.Dev, st.Ino)
}

func signalIdent(boot string, id ident, sig unix.Signal) error {
	fd, err := openIdent(boot, id)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process: %d: %w", id.PID, ErrExited)
	}
	if err != nil {
		return fmt.Errorf("process: signal %d: %w", id.PID, err)
	}
	return nil
}

// waitPidfd waits for the process of fd to end, and closes fd.
func waitPidfd(ctx context.Context, fd int) error {
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0
	})
	if ctx.Err() != nil && err != nil {
		return ctx.Err()
	}
	return err
}

// reap takes the keeper's exit status if it is a child of this program, lest
// it stay a zombie.
func (p *Process) reap() {
	id := p.record.Keeper
	boot, err := bootID()
	if err != nil || boot != p.record.Boot {
		return
	}
	// A zombie keeps its number: what is found is what gets reaped.
	s, err := readStat(id.PID)
	if err != nil || s.state != 'Z' || s.start != id.Start || s.parent != os.Getpid() {
		return
	}
	_, _ = unix.Wait4(id.PID, nil, unix.WNOHANG, nil)
}

// consumed reads the CPU time and the peak memory of a process. It is not ok
// when the process was reaped.
func consumed(id ident) (cpu time.Duration, peak uint64, ok bool) {
	cpu, err := cpuTime(id.PID)
	if err != nil {
		return 0, 0, false
	}
	peak = peakBytes(id.PID)
	// Looked at last: it was ours before if it is ours now.
	s, err := readStat(id.PID)
	return cpu, peak, err == nil && s.start == id.Start
}

// cpuTime reads the CPU clock of another process, in nanoseconds, exited
// threads included: clock_getcpuclockid(3) computes the clock's number so.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts)
	return time.Duration(ts.Nano()), err
}

// peakBytes reads VmHWM of /proc/PID/status.
func peakBytes(pid int) uint64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(line, "VmHWM:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}

// locked tells whether a keeper holds the directory's lock.
func locked(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("process: %w: %w", ErrNotFound, err)
	}
	if err != nil {
		return false, fmt.Errorf("process: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("process: lock %s: %w", dir, err)
	}
	return false, nil
}
