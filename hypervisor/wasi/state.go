package wasi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/xenoserver/xeno/hypervisor"
)

// stateVersion is the version of all state files. History: 1, the first.
const stateVersion = 1

var errState = errors.New("damaged state file")

// A job is what a child is told to run.
type job struct {
	Version     int           `json:"version"`
	ID          string        `json:"id"`
	Args        []string      `json:"args"`
	Env         []string      `json:"env"`
	MemoryBytes uint64        `json:"memory_bytes"`
	DiskBytes   uint64        `json:"disk_bytes"`
	Timeout     time.Duration `json:"timeout_ns"`
	Cgroup      string        `json:"cgroup"` // as in Instance.Cgroup
}

// A control is what calls did to a running instance.
type control struct {
	Version int `json:"version"`
	// Times are run times of the process, pauses included.
	PausedFor time.Duration `json:"paused_for_ns"` // in earlier pauses
	PausedAt  time.Duration `json:"paused_at_ns"`  // 0: not paused
	Stopped   bool          `json:"stopped"`
}

// A mark is the most that was ever read of a usage.
type mark struct {
	Version  int           `json:"version"`
	Run      time.Duration `json:"run_ns"`
	CPU      time.Duration `json:"cpu_ns"`
	MaxBytes uint64        `json:"max_bytes"`
}

// A result is a child's own account of how its module ended.
type result struct {
	Version int    `json:"version"`
	Code    uint32 `json:"code"`
	Err     string `json:"err"` // empty: the module exited by itself
}

func (j *job) check() error {
	return errors.Join(version(j.Version), hypervisor.ValidateID(j.ID))
}

func (c *control) check() error {
	if c.PausedFor < 0 || c.PausedAt < 0 {
		return fmt.Errorf("%w: negative time", errState)
	}
	return version(c.Version)
}

func (m *mark) check() error {
	if m.Run < 0 || m.CPU < 0 {
		return fmt.Errorf("%w: negative time", errState)
	}
	return version(m.Version)
}

// check also makes the message harmless: it comes from a process that may be
// in a stranger's hands.
func (r *result) check() error {
	r.Err = printable(r.Err)
	return version(r.Version)
}

func version(v int) error {
	if v != stateVersion {
		return fmt.Errorf("%w: version %d, want %d", errState, v, stateVersion)
	}
	return nil
}

// printable keeps one line of bounded length.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s[:min(len(s), maxReportBytes)])
	return strings.TrimSpace(s)
}

type checked interface{ check() error }

// decode reads exactly one JSON object.
func decode(data []byte, into checked) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errState, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one object", errState)
	}
	return into.check()
}

// read reads a state file. Errors wrap os.ErrNotExist.
func read(path string, into checked) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("wasi: %w", err)
	}
	defer f.Close()
	data, err := readAll(f, maxStateBytes)
	if err == nil {
		err = decode(data, into)
	}
	if err != nil {
		return fmt.Errorf("wasi: %s: %w", path, err)
	}
	return nil
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", errState, limit)
	}
	return data, err
}

// write replaces a state file: it is the old or the new one, also when the
// daemon is killed. A process does not survive a crash of the machine, so
// nothing is synced.
func write(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("wasi: %w", err)
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("wasi: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("wasi: %w", err)
	}
	return nil
}
