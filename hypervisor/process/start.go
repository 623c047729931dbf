package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeperArg is the argv[0] by which MaybeRun knows a keeper.
const keeperArg = "xeno-keeper"

// selfExe is the running program, also after its file was replaced.
const selfExe = "/proc/self/exe"

// The keeper's inherited descriptors, after the three standard ones.
const (
	configFD = 3 + iota // JSON of job, to the end of file
	replyFD             // JSON of reply
	lockFD              // holds the flock
	filesFD             // the child's descriptors 3 and up
)

// A job is what a keeper is told to do.
type job struct {
	Dir        string        `json:"dir"`
	Path       string        `json:"path"`
	Name       string        `json:"name"`
	Args       []string      `json:"args"`
	Env        []string      `json:"env"`
	WorkDir    string        `json:"work_dir"`
	Stdin      string        `json:"stdin"`
	Files      int           `json:"files"`
	LogBytes   int64         `json:"log_bytes"`
	Cgroup     Cgroup        `json:"cgroup"`
	Limits     []Limit       `json:"limits"`
	Credential *Credential   `json:"credential"`
	Timeout    time.Duration `json:"timeout_ns"`
	Confine    *Confinement  `json:"confine"`
}

// A reply is a keeper's answer, once.
type reply struct {
	Err string `json:"err"` // empty: the child runs and the record is on disk
}

// Start starts a child and returns when it runs and is on record. A failed
// start leaves nothing behind; nor does a cancelled one.
func Start(ctx context.Context, c Config) (*Process, error) {
	j, err := c.job()
	if err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	if os.Args[0] == keeperArg {
		// Without this a program that forgot the call would start itself
		// without end.
		return nil, errors.New("process: call process.MaybeRun first thing in main")
	}
	if err := os.Mkdir(c.Dir, 0o700); errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("process: %s: %w", c.Dir, ErrExists)
	} else if err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	p, err := start(ctx, j, c)
	if err != nil {
		err = errors.Join(err, Remove(c.Dir))
		return nil, fmt.Errorf("process: start %s: %w", j.Path, err)
	}
	return p, nil
}

func (c Config) job() (job, error) {
	j := job{
		Dir: c.Dir, Path: c.Path, Name: c.Name, Args: c.Args, Env: c.Env,
		WorkDir: c.WorkDir, Stdin: c.Stdin, Files: len(c.Files), LogBytes: c.LogBytes,
		Cgroup: c.Cgroup, Limits: c.Limits, Credential: c.Credential,
		Timeout: c.Timeout, Confine: c.Confine,
	}
	if j.Path == "" {
		j.Path = selfExe
	}
	if j.Name == "" {
		j.Name = j.Path
	}
	if j.WorkDir == "" {
		j.WorkDir = "/"
	}
	if j.LogBytes == 0 {
		j.LogBytes = DefaultLogBytes
	}
	for _, path := range []string{j.Dir, j.Path, j.WorkDir} {
		if !filepath.IsAbs(path) {
			return job{}, fmt.Errorf("path %q is not absolute", path)
		}
	}
	if j.Timeout < 0 {
		return job{}, fmt.Errorf("negative Timeout %v", j.Timeout)
	}
	if j.LogBytes < 0 || j.LogBytes > maxLogBytes {
		return job{}, fmt.Errorf("want LogBytes from 0 to %[2]d, got %[1]d", j.LogBytes, maxLogBytes)
	}
	for _, s := range append(append([]string{j.Name}, j.Args...), j.Env...) {
		if strings.ContainsRune(s, 0) {
			return job{}, fmt.Errorf("argument %q holds a zero byte", s)
		}
	}
	return j, nil
}

// start runs the keeper and waits for its reply.
func start(ctx context.Context, j job, c Config) (*Process, error) {
	lock, err := takeLock(j.Dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	log, err := os.OpenFile(filepath.Join(j.Dir, keeperName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	configR, configW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer configR.Close()
	defer configW.Close()
	replyR, replyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer replyR.Close()
	defer replyW.Close()

	keeper := c.Keeper
	if keeper == "" {
		keeper = selfExe
	}
	cmd := exec.Cmd{
		Path: keeper,
		Args: []string{keeperArg, j.Dir},
		// One thread and little memory are enough to copy output.
		Env:         []string{"GOMAXPROCS=1", "GOGC=25"},
		Dir:         "/",
		Stdout:      log,
		Stderr:      log,
		ExtraFiles:  append([]*os.File{configR, replyW, lock}, c.Files...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run the keeper: %w", err)
	}
	configR.Close()
	replyW.Close()
	lock.Close()
	err = converse(ctx, j, configW, replyR)
	p := &Process{dir: j.Dir}
	if err == nil {
		err = readRecord(j.Dir, &p.record)
	}
	if err != nil {
		// The child goes with its keeper.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, withLog(err, j.Dir)
	}
	// From here on the record tells who it is; reap takes its status.
	return p, cmd.Process.Release()
}

// takeLock makes the lock file so that it is never seen unlocked.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// converse sends the job and waits for the reply.
func converse(ctx context.Context, j job, config, answer *os.File) error {
	deadline := time.Now().Add(startTimeout)
	_ = config.SetWriteDeadline(deadline)
	_ = answer.SetReadDeadline(deadline)
	stop := context.AfterFunc(ctx, func() {
		past := time.Unix(1, 0)
		_ = config.SetWriteDeadline(past)
		_ = answer.SetReadDeadline(past)
	})
	defer stop()
	sent := json.NewEncoder(config).Encode(j)
	config.Close()
	var r reply
	data, err := io.ReadAll(io.LimitReader(answer, maxReplyBytes))
	if err == nil && len(data) == 0 {
		err = errors.New("the keeper died; its executable must call process.MaybeRun first thing in main")
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return errors.Join(err, sent)
	case r.Err != "":
		return errors.New(r.Err)
	}
	return nil
}

// withLog adds what the keeper said before it died.
func withLog(err error, dir string) error {
	data, _ := readTail(filepath.Join(dir, keeperName), 1024)
	if len(data) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(data)))
}
