package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// A world is the directory and the daemons of one demo.
type world struct {
	dir     string
	opts    Options
	members []*member
}

// A member is one participant: a daemon in a process of its own.
type member struct {
	name  string
	roles []ledger.Role
	place place // of a XenoServer
	cfg   node.Config
	id    dht.PeerID
	api   *api.Client

	cmd    *exec.Cmd
	life   *os.File      // the daemon ends when this does
	exited chan struct{} // closed when the process is gone
	err    error         // how it ended; read after exited
}

func newWorld(dir string, opts Options) *world { return &world{dir: dir, opts: opts} }

// add makes the home directory of a member. Members are added one at a time,
// by one goroutine.
func (w *world) add(m *member) error {
	m.cfg.Home, m.cfg.Name = filepath.Join(w.dir, m.name), m.name
	var err error
	if m.cfg, err = node.Init(m.cfg); err != nil {
		return err
	}
	if m.id, err = m.cfg.ID(); err != nil {
		return err
	}
	m.api = api.NewClient(filepath.Join(m.cfg.Home, api.SocketName))
	w.members = append(w.members, m)
	return nil
}

// logFile is where a member's daemon writes, beside its home, so that it can
// be read when the home is gone.
func (m *member) logFile() string { return m.cfg.Home + ".log" }

// start runs the member's daemon. The process gets a group of its own, so that
// an interrupt on the terminal reaches only the demo, which ends everything in
// order; and a pipe, so that the daemon ends when the demo is killed.
func (w *world) start(m *member) error {
	log, err := os.Create(m.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	args := []string{"daemon", "--home", m.cfg.Home, "--lifeline", "3", "--log-level", w.opts.LogLevel}
	if !w.opts.Keep {
		args = append(args, "--ephemeral")
	}
	m.cmd = exec.Command(w.opts.Executable, args...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.ExtraFiles = []*os.File{theirs}
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := m.cmd.Start(); err != nil {
		return errors.Join(err, ours.Close())
	}
	m.life, m.exited = ours, make(chan struct{})
	go func() {
		defer close(m.exited)
		m.err = m.cmd.Wait()
	}()
	return nil
}

// up waits until the member's daemon answers, or has ended.
func (m *member) up(ctx context.Context, within time.Duration, ok func(api.Status) bool) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-m.exited:
			cancel()
		case <-done:
		}
	}()
	s, err := m.api.WaitStatus(ctx, ok)
	select {
	case <-m.exited:
		return s, fmt.Errorf("daemon %s ended: %w", m.name, errors.Join(m.err, errEnded))
	default:
	}
	if err != nil {
		return s, fmt.Errorf("daemon %s: %w", m.name, err)
	}
	return s, nil
}

var errEnded = errors.New("see its log")

// each calls f for members at once, within a bound, and returns the first error.
func each(ctx context.Context, members []*member, f func(context.Context, *member) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(startsAtOnce)
	for _, m := range members {
		g.Go(func() error { return f(ctx, m) })
	}
	return g.Wait()
}

// stop ends the member's daemon: asked first, then by force, its whole group.
func (m *member) stop() error {
	if m.cmd == nil || m.cmd.Process == nil {
		return nil
	}
	defer m.life.Close()
	_ = m.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	var err error
	select {
	case <-m.exited:
		if !asked(m.err) {
			err = m.err
		}
	case <-time.After(stopTimeout):
		err = fmt.Errorf("did not end within %s and was killed", stopTimeout)
	}
	_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
	<-m.exited
	if err != nil {
		return fmt.Errorf("daemon %s: %w", m.name, err)
	}
	return nil
}

// asked tells whether a process ended by the signal that asks it to, which it
// does in the instant before it listens to that.
func asked(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

// close stops every daemon, XenoCorp last so that the others can settle, and
// deletes the directory unless it is to be kept.
func (w *world) close() (string, error) {
	var corps, others []*member
	for _, m := range w.members {
		if m.cfg.Corp != nil {
			corps = append(corps, m)
		} else {
			others = append(others, m)
		}
	}
	var errs []error
	for _, group := range [][]*member{others, corps} {
		results := make([]error, len(group))
		_ = each(context.Background(), group, func(_ context.Context, m *member) error {
			results[slices.Index(group, m)] = m.stop()
			return nil
		})
		errs = append(errs, results...)
	}
	note := fmt.Sprintf("%d daemons ended", len(w.members))
	if w.opts.Keep {
		note += "; their state and logs are in " + w.dir + "\nstart one again with: xeno-node --home " + filepath.Join(w.dir, "NAME")
	} else if err := os.RemoveAll(w.dir); err != nil {
		errs = append(errs, err)
	}
	return note, errors.Join(errs...)
}

// tell shows the end of the log of daemons that ended by themselves, after a
// failure.
func (w *world) tell(out io.Writer) {
	for _, m := range w.members {
		if m.exited == nil {
			continue
		}
		select {
		case <-m.exited:
		default:
			continue
		}
		text, err := os.ReadFile(m.logFile())
		if err != nil {
			continue
		}
		fmt.Fprintf(out, "end of the log of %s:\n%s\n", m.name, text[max(0, len(text)-logTail):])
	}
}
