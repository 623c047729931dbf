// Package process runs children that outlive the program that started them.
//
// Between the daemon and each child stands a keeper: the daemon's own
// executable, run again under another name, in a session of its own. It starts
// the child, copies its output to bounded files, waits for it and writes down
// how it ended, whether the daemon lives or not. Nothing is asked of the
// daemon: it can be killed at any instant, and the next one finds the child by
// its directory:
//
//	lock         held (flock) as long as the keeper lives
//	record.json  who the keeper and the child are
//	exit.json    how the child ended
//	stdout, stdout.old, stderr, stderr.old   newest output
//	keeper.log   what the keeper itself had to say, normally empty
//
// A process is signalled only after its pidfd was opened and its boot, number
// and start time were compared with the record, so that a reused number never
// hits a stranger. A killed keeper takes the child with it.
//
// Every program that starts processes calls MaybeRun first thing in main.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sentinels that callers decide by.
var (
	// ErrNotFound reports a directory in which no process was ever started.
	ErrNotFound = errors.New("no process was started here")
	// ErrExited reports a signal to what has ended.
	ErrExited = errors.New("process has exited")
	// ErrExists reports a start in a directory that has a process already.
	ErrExists = errors.New("a process was started here already")
)

// A Config says what to start. Only Dir and Path are needed.
type Config struct {
	// Dir is the process's private directory. Start creates it (its parent
	// must exist) and Remove deletes it with all it holds.
	Dir string
	// Path is the executable. Empty means the program itself, for children
	// that are told apart by Name.
	Path string
	// Name is the child's argv[0]. Empty: Path.
	Name string
	// Args are the child's arguments, without argv[0].
	Args []string
	// Env is the child's whole environment: nothing is inherited.
	Env []string
	// WorkDir is the child's working directory. Empty: the root.
	WorkDir string
	// Stdin names the file that is the child's standard input. Empty: none.
	Stdin string
	// Files become the child's descriptors 3 and up. They stay the caller's.
	Files []*os.File
	// LogBytes bounds what is kept of standard output, and of standard
	// error: at least the newest half of it. 0: DefaultLogBytes.
	LogBytes int64
	// Cgroup is joined before the child's first instruction.
	Cgroup Cgroup
	// Limits hold from the child's first millisecond.
	Limits []Limit
	// Credential is whom the child runs as. Nil: as the caller.
	Credential *Credential
	// Timeout is the most time, pauses included, that the child may take
	// before it is killed. 0: no limit.
	Timeout time.Duration
	// Confine bounds what the child can reach, where the kernel has Landlock
	// (Linux 5.13). Nil: no bounds.
	Confine *Confinement
	// Keeper is the executable that calls MaybeRun. Empty: the running one.
	// Programs that embed the platform and cannot call MaybeRun in their own
	// main name the path of xeno-node here.
	Keeper string
}

// A Cgroup names the directories of one control group. The zero value is none.
type Cgroup struct {
	// Unified is the directory in the v2 tree, joined by clone3.
	Unified string `json:"unified,omitempty"`
	// Legacy are the directories in the v1 hierarchies, in the order in which
	// they are joined: that which counts CPU time belongs at the end.
	Legacy []string `json:"legacy,omitempty"`
}

// A Limit is one resource limit, soft and hard.
type Limit struct {
	Resource int    `json:"resource"` // unix.RLIMIT_…
	Value    uint64 `json:"value"`
}

// A Credential is a user and a group; supplementary groups are dropped.
type Credential struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// A Confinement names the files that a child can reach: itself, what is listed
// here, and what is handed to it open. It cannot use TCP or signal others, where
// the kernel's Landlock knows these.
type Confinement struct {
	// Read are files and directories that may be read and executed. What
	// does not exist is left out.
	Read []string `json:"read"`
	// Write are directories in which all is allowed.
	Write []string `json:"write"`
}

// A Status says whether a process runs, and if not how it ended.
type Status struct {
	Running bool
	PID     int // of the child; 0 when it does not run
	Started time.Time
	// The following are set when it does not run.
	Ended  time.Time // zero when the keeper was killed
	Code   int       // exit code; -1 when a signal ended it
	Signal syscall.Signal
	Lost   bool // the keeper was killed, or the machine restarted
	// TimedOut reports that the keeper ended it after Config.Timeout.
	TimedOut bool
	// The following hold at any time, except when Lost.
	Run      time.Duration // since the start, pauses included, on a clock that is never set
	CPU      time.Duration // user and system time of all threads
	MaxBytes uint64        // peak resident memory; 0: not known
}

// A Process is a started child, running or ended. It holds no descriptor and
// no goroutine; all methods may be called at once.
type Process struct {
	dir    string
	record record
}

// Open finds the process that was started in dir, by this program or by an
// earlier one. Errors wrap ErrNotFound.
func Open(dir string) (*Process, error) {
	if _, err := os.Lstat(filepath.Join(dir, lockName)); err != nil {
		return nil, fmt.Errorf("process: %s: %w", dir, ErrNotFound)
	}
	deadline := time.Now().Add(startTimeout)
	for {
		// The order matters, as in status.
		alive, err := locked(dir)
		if err != nil {
			return nil, err
		}
		p := &Process{dir: dir}
		err = readRecord(dir, &p.record)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if !alive {
			return nil, fmt.Errorf("process: %s: %w", dir, ErrNotFound)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("process: %s: its keeper does not come up", dir)
		}
		time.Sleep(pollInterval)
	}
}

// PID is the child's process number, also after it ended.
func (p *Process) PID() int { return p.record.Child.PID }

// Started is when the child was started.
func (p *Process) Started() time.Time { return p.record.Started }

// Status tells how the process is. Errors wrap ErrNotFound when its directory
// was removed.
func (p *Process) Status() (Status, error) {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(pollInterval) {
		s, settled, err := p.status()
		if err != nil || settled {
			return s, err
		}
		if time.Now().After(deadline) {
			return Status{}, fmt.Errorf("process: %s: its keeper does not record the exit", p.dir)
		}
	}
}

// status is not settled while the keeper tidies up after the child's end.
func (p *Process) status() (s Status, settled bool, err error) {
	// The order matters: a keeper records the exit before it lets go of the
	// lock.
	alive, err := locked(p.dir)
	if err != nil {
		return Status{}, false, err
	}
	s = Status{Started: p.record.Started}
	var e exit
	switch err := readExit(p.dir, &e); {
	case err == nil:
		p.reap()
		s.Ended, s.Code, s.Signal = e.Ended, e.Code, syscall.Signal(e.Signal)
		s.Run, s.CPU, s.MaxBytes, s.TimedOut = time.Duration(e.Run), time.Duration(e.CPU), e.MaxBytes, e.TimedOut
		return s, true, nil
	case !errors.Is(err, os.ErrNotExist):
		return Status{}, false, err
	}
	if !alive {
		p.reap()
		s.Code, s.Lost = -1, true
		return s, true, nil
	}
	s.Running, s.PID = true, p.record.Child.PID
	s.Run = max(SinceBoot()-time.Duration(p.record.Uptime), 0)
	s.CPU, s.MaxBytes, settled = consumed(p.record.Child)
	return s, settled, nil
}

// Wait returns when the process has ended, be it a child of this program or
// not, or with the context's error.
func (p *Process) Wait(ctx context.Context) (Status, error) {
	// Not the exit record, the keeper's end is what is waited for: only then
	// nothing runs any more.
	fd, err := openIdent(p.record.Boot, p.record.Keeper)
	if errors.Is(err, ErrExited) {
		return p.Status()
	}
	if err != nil {
		return Status{}, err
	}
	if err := waitPidfd(ctx, fd); err != nil {
		return Status{}, fmt.Errorf("process: wait for %s: %w", p.dir, err)
	}
	return p.Status()
}

// Signal sends sig to the child alone. Errors wrap ErrExited.
func (p *Process) Signal(sig syscall.Signal) error {
	return signalIdent(p.record.Boot, p.record.Child, sig)
}

// Stop asks the child's process group to end with SIGTERM, ends it with
// SIGKILL after grace, and returns when nothing of it runs any more. Stopping
// what has ended is no error.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if grace > 0 {
		if done, err := p.tell(ctx, askSignal, grace); done || err != nil {
			return err
		}
	}
	if done, err := p.tell(ctx, killSignal, killTimeout); done || err != nil {
		return err
	}
	// The keeper does not answer. Its end is the child's end.
	done, err := p.tell(ctx, unix.SIGKILL, killTimeout)
	if err == nil && !done {
		err = fmt.Errorf("process: %s: does not end after SIGKILL", p.dir)
	}
	return err
}

// tell sends sig to the keeper and waits for its end, at most patience.
func (p *Process) tell(ctx context.Context, sig unix.Signal, patience time.Duration) (done bool, err error) {
	err = signalIdent(p.record.Boot, p.record.Keeper, sig)
	if err != nil && !errors.Is(err, ErrExited) {
		return false, err
	}
	inner, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := p.Wait(inner); err != nil {
		if ctx.Err() != nil || inner.Err() == nil {
			return false, err
		}
		return false, nil
	}
	return true, nil
}

// Logs returns the newest limit bytes of standard output and standard error.
func (p *Process) Logs(limit int) (stdout, stderr []byte, err error) {
	return ReadLogs(p.dir, limit)
}

// Remove kills the process if it runs, and deletes its directory.
func (p *Process) Remove(ctx context.Context) error {
	if err := p.Stop(ctx, 0); err != nil {
		return err
	}
	return Remove(p.dir)
}

// Remove deletes what is left of a process that does not run, also when its
// start was cut short. It refuses while the keeper lives.
func Remove(dir string) error {
	// The last thread of a dying keeper may hold the lock for a moment.
	for deadline := time.Now().Add(removeTimeout); ; time.Sleep(pollInterval) {
		alive, err := locked(dir)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if !alive {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process: remove %s: still running", dir)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("process: %w", err)
	}
	return nil
}
