package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// A role is one of the three daemons of a world.
type role string

const (
	corp   role = "corp"
	server role = "server"
	client role = "client"
)

// A world is a network of three daemons.
type world struct {
	t       *testing.T
	dir     string
	members map[role]*member
}

// A member is one participant: a daemon in a process of its own.
type member struct {
	name role
	cfg  node.Config
	id   dht.PeerID
	api  *api.Client

	mu     sync.Mutex // guards the following
	cmd    *exec.Cmd
	life   *os.File
	exited chan error // takes how it ended
}

// newWorld makes and starts the daemons. Nobody but XenoCorp is registered.
// The server offers one kind of environment; XenoCorp takes claims for grace
// after the end of an agreement.
func newWorld(t *testing.T, kind string, grace time.Duration) *world {
	t.Helper()
	w := emptyWorld(t, t.TempDir())
	price := node.Money(36 * ledger.Unit) // a hundredth of a unit every second
	w.add(corpConfig(grace))
	network := w.members[corp].cfg.Network
	w.add(node.Config{Name: string(server), Network: network, Server: &node.ServerConfig{
		Environments: []string{kind}, CPUs: 2, Memory: 1 << 30, Disk: 1 << 30,
		Rates: node.RatesConfig{Session: price, CPU: price}, ReceiptInterval: node.Duration(500 * time.Millisecond),
	}})
	w.add(node.Config{Name: string(client), Network: network})
	for _, m := range w.members {
		w.start(m)
	}
	return w
}

// emptyWorld has nobody in it yet. What runs when the test ends is killed.
func emptyWorld(t *testing.T, dir string) *world {
	w := &world{t: t, dir: dir, members: make(map[role]*member)}
	t.Cleanup(w.kill)
	return w
}

// corpConfig is that of a XenoCorp whose network finds out quickly what changed.
func corpConfig(grace time.Duration) node.Config {
	return node.Config{
		Name: string(corp),
		Network: node.Network{
			Name: "crash", Renew: node.Duration(2 * time.Second), Revocations: node.Duration(2 * time.Second),
		},
		Corp: &node.CorpConfig{FeePermille: 10, ClaimGrace: node.Duration(grace)},
	}
}

// add makes the home directory of a member.
func (w *world) add(cfg node.Config) {
	w.t.Helper()
	m := &member{name: role(cfg.Name)}
	cfg.Home = filepath.Join(w.dir, cfg.Name)
	cfg, err := node.Init(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if m.id, err = cfg.ID(); err != nil {
		w.t.Fatal(err)
	}
	m.cfg, m.api = cfg, api.NewClient(filepath.Join(cfg.Home, api.SocketName))
	w.members[m.name] = m
}

// start runs the member's daemon and waits until it answers. The log goes on.
func (w *world) start(m *member) {
	if err := w.tryStart(m); err != nil {
		w.t.Errorf("start %s: %v", m.name, err)
	}
}

func (w *world) tryStart(m *member) error {
	log, err := os.OpenFile(w.logFile(m), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asDaemon+"="+m.cfg.Home)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, ours.Close())
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	m.mu.Lock()
	m.cmd, m.life, m.exited = cmd, ours, exited
	m.mu.Unlock()
	return nil
}

func (w *world) logFile(m *member) string { return m.cfg.Home + ".log" }

// crash kills the member's daemon without warning; the processes of its
// environments are not touched.
func (w *world) crash(m *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.cmd.Process.Kill(); err != nil {
		w.t.Errorf("kill %s: it was gone already: %v, %v", m.name, err, <-m.exited)
		return
	}
	<-m.exited
	m.exited <- nil // for whoever asks next
	_ = m.life.Close()
}

// stop ends the member's daemon in good order.
func (w *world) stop(m *member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	defer m.life.Close()
	select {
	case err := <-m.exited:
		m.exited <- nil
		return err
	case <-time.After(20 * time.Second):
		_ = m.cmd.Process.Signal(syscall.SIGQUIT) // its log tells where it hangs
		<-m.exited
		m.exited <- nil
		return errors.New("does not end when asked to")
	}
}

// kill ends whatever is left at the end of a test that failed.
func (w *world) kill() {
	for _, m := range w.members {
		m.mu.Lock()
		if m.cmd != nil {
			_ = m.cmd.Process.Kill() // it may have ended
			<-m.exited
			m.exited <- nil
			_ = m.life.Close()
		}
		m.mu.Unlock()
		if w.t.Failed() {
			if text, err := os.ReadFile(w.logFile(m)); err == nil {
				w.t.Logf("end of the log of %s:\n%s", m.name, text[max(0, len(text)-logTail):])
			}
		}
	}
	for _, o := range w.orphans() {
		_ = syscall.Kill(o.pid, syscall.SIGKILL)
	}
}

// logTail is how much of each log a failure shows.
const logTail = 6000

// patience is how long a call may fail: guests boot slowly without KVM.
const patience = 90 * time.Second

// persist repeats a call until it succeeds, as a user does whose daemon or
// whose XenoCorp is down for a moment.
func (w *world) persist(what string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		err := call(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
