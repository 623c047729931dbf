package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a keeper is told by signals: to ask the child to end, and to end it.
const (
	askSignal  = unix.SIGTERM
	killSignal = unix.SIGUSR1
)

// MaybeRun does not return in a keeper, and does nothing in any other process.
// It is called before anything else in main, and in TestMain.
func MaybeRun() {
	if os.Args[0] != keeperArg {
		return
	}
	if err := keep(); err != nil {
		fmt.Fprintln(os.Stderr, keeperArg+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A keeper looks after one started child.
type keeper struct {
	job     job
	uptime  time.Duration // when the child was started
	cmd     *exec.Cmd
	copied  sync.WaitGroup
	pipes   []*os.File
	signals chan os.Signal
}

// keep is the life of a keeper.
func keep() error {
	// The child dies with the thread that started it (parent death signal):
	// that must be this one, which lives as long as the process. It may become
	// confined with the child, so all but the start is done by others.
	runtime.LockOSThread()
	unix.Umask(0o077)
	k := &keeper{signals: make(chan os.Signal, 8)}
	signal.Notify(k.signals, askSignal, killSignal)
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	for fd := configFD; fd <= lockFD; fd++ {
		unix.CloseOnExec(fd)
	}
	err := k.readJob()
	if err == nil {
		err = k.start()
	}
	done := make(chan error)
	go func() { done <- k.live(err) }()
	return <-done
}

func (k *keeper) readJob() error {
	config := os.NewFile(configFD, "config")
	defer config.Close()
	if err := json.NewDecoder(io.LimitReader(config, maxConfigBytes)).Decode(&k.job); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	return nil
}

// live records the start, answers for it, and watches over what was started.
func (k *keeper) live(err error) error {
	if err == nil {
		if err = k.record(); err != nil {
			err = fmt.Errorf("write the record: %w", err)
		}
	}
	if err != nil {
		k.end()
	}
	r := reply{}
	if err != nil {
		r.Err = err.Error()
	}
	// When the daemon is dead nobody reads this; the record says it all.
	answer := os.NewFile(replyFD, "reply")
	_ = json.NewEncoder(answer).Encode(r)
	answer.Close()
	if err != nil {
		return err
	}
	return k.watch()
}

func (k *keeper) start() error {
	// Inherited by the child: nothing it runs gains privileges.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	// What the child leaves behind becomes ours, and is ended with it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("subreaper: %w", err)
	}
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if c := k.job.Credential; c != nil {
		attr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID}
	}
	k.cmd = &exec.Cmd{
		Path: k.job.Path, Args: append([]string{k.job.Name}, k.job.Args...),
		Env: k.job.Env, Dir: k.job.WorkDir, SysProcAttr: attr,
	}
	if k.cmd.Env == nil {
		k.cmd.Env = []string{}
	}
	path := k.job.Stdin
	if path == "" {
		path = os.DevNull
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	k.cmd.Stdin = in
	for i := range k.job.Files {
		f := os.NewFile(uintptr(filesFD+i), "file"+strconv.Itoa(i))
		unix.CloseOnExec(filesFD + i)
		defer f.Close()
		k.cmd.ExtraFiles = append(k.cmd.ExtraFiles, f)
	}
	out, err := k.copyTo(stdoutName)
	if err != nil {
		return err
	}
	defer out.Close()
	errs, err := k.copyTo(stderrName)
	if err != nil {
		return err
	}
	defer errs.Close()
	k.cmd.Stdout, k.cmd.Stderr = out, errs

	leave, err := enter(k.job.Cgroup, attr)
	if err != nil {
		return err
	}
	if c := k.job.Confine; c != nil {
		err = confine(k.job.Path, *c)
	}
	if err == nil {
		k.uptime = SinceBoot()
		err = k.cmd.Start()
	}
	err = errors.Join(err, leave())
	if err != nil {
		return err
	}
	return k.limit()
}

// copyTo returns the write end of a pipe that is copied to a bounded file.
func (k *keeper) copyTo(name string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	k.pipes = append(k.pipes, r)
	k.copied.Go(func() {
		to := newCapped(filepath.Join(k.job.Dir, name), k.job.LogBytes)
		defer to.Close()
		_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{r}, make([]byte, 32<<10))
	})
	return w, nil
}

// limit sets the child's resource limits. Those of another user's process may
// be set by whoever has CAP_SYS_RESOURCE, which root in a container may lack,
// or the same real user and group: this thread's, for the moment.
func (k *keeper) limit() error {
	if c := k.job.Credential; c != nil && len(k.job.Limits) > 0 {
		restore, err := pose(*c)
		if err != nil {
			return err
		}
		defer restore()
	}
	for _, l := range k.job.Limits {
		value := unix.Rlimit{Cur: l.Value, Max: l.Value}
		if err := unix.Prlimit(k.cmd.Process.Pid, l.Resource, &value, nil); err != nil {
			return fmt.Errorf("limit %d to %d: %w", l.Resource, l.Value, err)
		}
	}
	return nil
}

// pose makes c the real user and group of the calling thread alone, which must
// be locked. The effective ones stay.
func pose(c Credential) (restore func(), err error) {
	const keep = ^uintptr(0)
	user, group := unix.Getuid(), unix.Getgid()
	restore = func() {
		_, _, _ = unix.RawSyscall(unix.SYS_SETRESUID, uintptr(user), keep, keep)
		_, _, _ = unix.RawSyscall(unix.SYS_SETRESGID, uintptr(group), keep, keep)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(c.GID), keep, keep)
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, uintptr(c.UID), keep, keep)
	}
	if errno != 0 {
		restore()
		return nil, fmt.Errorf("take user %d: %w", c.UID, errno)
	}
	return restore, nil
}

func (k *keeper) record() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	self, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	// Not reaped before we wait for it, so the number is still the child's.
	child, err := identify(k.cmd.Process.Pid)
	if err != nil {
		return err
	}
	return writeDurably(k.job.Dir, recordName, record{
		Version: formatVersion, Boot: boot, Keeper: self, Child: child,
		Started: time.Now().UTC(), Uptime: int64(k.uptime), Cgroup: k.job.Cgroup,
	})
}

// watch waits for the child's end and writes it down.
func (k *keeper) watch() error {
	ctx, cancel := context.WithCancel(context.Background())
	var obeyed sync.WaitGroup
	timedOut := false
	obeyed.Go(func() { timedOut = k.obey(ctx) })
	// WNOWAIT leaves a zombie: until it is reaped its number is not reused,
	// and its clock can be read.
	pid := k.cmd.Process.Pid
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		continue
	}
	run := SinceBoot() - k.uptime
	clock, _ := cpuTime(pid) // rusage follows
	e := exit{Version: formatVersion, Run: int64(run), CPU: int64(clock), Ended: time.Now().UTC()}
	cancel()
	obeyed.Wait()
	k.end()
	e.TimedOut = timedOut
	state := k.cmd.ProcessState
	e.Code = state.ExitCode()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.Signal = int(status.Signal())
	}
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		e.CPU = max(e.CPU, int64(state.UserTime()+state.SystemTime()))
		e.MaxBytes = uint64(usage.Maxrss) << 10
	}
	return writeDurably(k.job.Dir, exitName, e)
}

// obey carries out what the daemon signals, and the time limit, until the
// child has ended. It reports whether the time limit came first.
func (k *keeper) obey(ctx context.Context) (timedOut bool) {
	group := -k.cmd.Process.Pid // setsid made it the leader of its group
	var timeout <-chan time.Time
	if k.job.Timeout > 0 {
		timer := time.NewTimer(k.job.Timeout)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return timedOut
		case <-timeout:
			timedOut = true
			_ = unix.Kill(group, unix.SIGKILL)
		case s := <-k.signals:
			if s == killSignal {
				_ = unix.Kill(group, unix.SIGKILL)
				continue
			}
			_ = unix.Kill(group, unix.SIGTERM)
			_ = unix.Kill(group, unix.SIGCONT)
		}
	}
}

// end kills whatever of the child runs and takes its status.
func (k *keeper) end() {
	if k.cmd != nil && k.cmd.Process != nil {
		_ = unix.Kill(-k.cmd.Process.Pid, unix.SIGKILL)
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait()
	}
	killDescendants()
	killCgroup(k.job.Cgroup)
	k.drain()
}

// drain ends the copying of output.
func (k *keeper) drain() {
	for _, r := range k.pipes {
		_ = r.SetReadDeadline(time.Now().Add(drainTimeout))
	}
	k.copied.Wait()
}
