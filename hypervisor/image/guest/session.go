package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A session is one channel of type "session" (RFC 4254, section 6): at most
// one program, with or without a terminal.
type session struct {
	server *server
	ch     ssh.Channel
	env    []string
	term   *terminal // nil without pty-req
	pid    int       // of the program; 0 before it starts
	ended  atomic.Bool
	// answered is closed when the client was told that the program started: a
	// channel that closes before that has refused, for all the client knows.
	answered chan struct{}
}

func (s *server) session(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	x := &session{server: s, ch: ch, answered: make(chan struct{}), env: []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + s.home, "USER=root", "LOGNAME=root", "SHELL=" + s.shell,
	}}
	started := false
	for r := range requests {
		ok := x.handle(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		if x.pid != 0 && !started {
			started = true
			close(x.answered)
		}
	}
	// The client closed the channel, or the program ended.
	if x.pid != 0 && !x.ended.Load() {
		_ = unix.Kill(-x.pid, unix.SIGHUP)
	}
	if x.term != nil && x.pid == 0 {
		x.term.close()
	}
	_ = ch.Close()
}

// handle obeys one request and says whether it did.
func (x *session) handle(r *ssh.Request) bool {
	switch r.Type {
	case "env":
		var m struct{ Name, Value string }
		if ssh.Unmarshal(r.Payload, &m) != nil || x.pid != 0 {
			return false
		}
		return x.setenv(m.Name, m.Value)
	case "pty-req":
		if x.pid != 0 || x.term != nil {
			return false
		}
		return x.requestTerminal(r.Payload)
	case "window-change":
		var m windowSize
		return x.term != nil && ssh.Unmarshal(r.Payload, &m) == nil && x.term.resize(m) == nil
	case "shell":
		return x.start("-sh")
	case "exec":
		var m struct{ Command string }
		if ssh.Unmarshal(r.Payload, &m) != nil || len(m.Command) > maxCommand {
			return false
		}
		return x.start("sh", "-c", m.Command)
	case "signal":
		var m struct{ Name string }
		if ssh.Unmarshal(r.Payload, &m) != nil || x.pid == 0 {
			return false
		}
		sig := unix.SignalNum("SIG" + m.Name)
		return sig != 0 && unix.Kill(-x.pid, sig) == nil
	}
	return false
}

func (x *session) requestTerminal(payload []byte) bool {
	m, err := parsePTY(payload)
	if err == nil {
		x.term, err = newTerminal(m)
	}
	if err != nil {
		logf("ssh: terminal: %v", err)
		return false
	}
	return x.setenv("TERM", m.Term)
}

func (x *session) setenv(name, value string) bool {
	if name == "" || len(name) > maxEnvName || len(value) > maxEnvValue || len(x.env) >= maxEnv ||
		strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
		return false
	}
	x.env = append(x.env, name+"="+value)
	return true
}

// start runs the shell with args as its argv, and reports its end in the
// background.
func (x *session) start(args ...string) bool {
	if x.pid != 0 {
		return false
	}
	var err error
	if x.term != nil {
		err = x.startTerminal(args)
	} else {
		err = x.startPipes(args)
	}
	if err != nil {
		fmt.Fprintf(x.ch.Stderr(), "xeno: %v\n", err)
		return false
	}
	return true
}

func (x *session) startPipes(args []string) error {
	var mine, its [3]*os.File
	defer func() {
		for _, f := range its {
			closeFile(f)
		}
	}()
	for i := range its {
		r, w, err := os.Pipe()
		if err != nil {
			closeFile(mine[0])
			closeFile(mine[1])
			return err
		}
		if i == 0 {
			its[i], mine[i] = r, w
		} else {
			mine[i], its[i] = r, w
		}
	}
	done, err := x.spawn(args, its, false)
	if err != nil {
		for _, f := range mine {
			closeFile(f)
		}
		return err
	}
	go func() {
		_, _ = io.Copy(mine[0], x.ch)
		_ = mine[0].Close()
	}()
	var output sync.WaitGroup
	output.Go(func() { _, _ = io.Copy(x.ch, mine[1]); _ = mine[1].Close() })
	output.Go(func() { _, _ = io.Copy(x.ch.Stderr(), mine[2]); _ = mine[2].Close() })
	go func() {
		status := <-done
		output.Wait() // as OpenSSH: until no process can write any more
		x.exit(status)
	}()
	return nil
}

func (x *session) startTerminal(args []string) error {
	tty, err := x.term.open()
	if err != nil {
		return err
	}
	defer tty.Close()
	done, err := x.spawn(args, [3]*os.File{tty, tty, tty}, true)
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(x.term.master, x.ch) }()
	var output sync.WaitGroup
	output.Go(func() { _, _ = io.Copy(x.ch, x.term.master) })
	go func() {
		status := <-done
		output.Wait() // ends with EIO, for the terminal hangs up with its leader
		x.term.close()
		x.exit(status)
	}()
	return nil
}

// spawn starts the shell on the given standard files.
func (x *session) spawn(args []string, files [3]*os.File, ctty bool) (<-chan syscall.WaitStatus, error) {
	attr := &syscall.ProcAttr{
		Dir:   x.server.home,
		Env:   x.env,
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: ctty, Ctty: 0},
	}
	// argv[0] names how the shell was called; the program is always the same.
	pid, done, err := x.server.children.start(x.server.shell, args, attr)
	if err != nil {
		return nil, err
	}
	x.pid = pid
	return done, nil
}

// exit tells the client how the program ended and closes the channel.
func (x *session) exit(status syscall.WaitStatus) {
	x.ended.Store(true)
	<-x.answered
	if status.Signaled() {
		name := strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
		_, _ = x.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name string
			Core bool
			Text string
			Lang string
		}{name, status.CoreDump(), "", ""}))
	} else {
		_, _ = x.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())}))
	}
	_ = x.ch.Close()
}

func closeFile(f *os.File) {
	if f != nil {
		_ = f.Close()
	}
}
