package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Files in a process's directory.
const (
	lockName   = "lock"
	recordName = "record.json"
	exitName   = "exit.json"
	keeperName = "keeper.log"
)

// formatVersion is the version of both records. History: 1, the first.
const formatVersion = 1

var errRecord = errors.New("damaged record")

// An ident tells one process from all others of one boot.
type ident struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, /proc/PID/stat field 22
	Exe   string `json:"exe"`   // device:inode of the executable, empty: not known
}

// A record is written by the keeper when the child was started.
type record struct {
	Version int       `json:"version"`
	Boot    string    `json:"boot"` // /proc/sys/kernel/random/boot_id
	Keeper  ident     `json:"keeper"`
	Child   ident     `json:"child"`
	Started time.Time `json:"started"`
	Uptime  int64     `json:"uptime_ns"` // SinceBoot when it was started
	Cgroup  Cgroup    `json:"cgroup"`
}

// An exit is written by the keeper when nothing of the child runs any more.
type exit struct {
	Version  int       `json:"version"`
	Code     int       `json:"code"`
	Signal   int       `json:"signal"`
	TimedOut bool      `json:"timed_out"`
	Run      int64     `json:"run_ns"`
	CPU      int64     `json:"cpu_ns"`
	MaxBytes uint64    `json:"max_bytes"`
	Ended    time.Time `json:"ended"`
}

func decodeRecord(data []byte) (record, error) {
	var r record
	if err := decode(data, &r); err != nil {
		return record{}, err
	}
	if r.Version != formatVersion {
		return record{}, fmt.Errorf("%w: version %d, want %d", errRecord, r.Version, formatVersion)
	}
	// Number 1 is init: a signal to it, or to 0 and below, hits strangers.
	if r.Boot == "" || r.Keeper.PID <= 1 || r.Child.PID <= 1 || r.Keeper.PID == r.Child.PID {
		return record{}, fmt.Errorf("%w: keeper %d, child %d", errRecord, r.Keeper.PID, r.Child.PID)
	}
	if len(r.Cgroup.Legacy) > maxLegacyDirs {
		return record{}, fmt.Errorf("%w: %d control groups", errRecord, len(r.Cgroup.Legacy))
	}
	return r, nil
}

func decodeExit(data []byte) (exit, error) {
	var e exit
	if err := decode(data, &e); err != nil {
		return exit{}, err
	}
	if e.Version != formatVersion {
		return exit{}, fmt.Errorf("%w: version %d, want %d", errRecord, e.Version, formatVersion)
	}
	if e.CPU < 0 || e.Run < 0 || e.Signal < 0 || e.Code < -1 {
		return exit{}, fmt.Errorf("%w: negative counts", errRecord)
	}
	return e, nil
}

// decode reads exactly one JSON object.
func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one object", errRecord)
	}
	return nil
}

func readRecord(dir string, r *record) error {
	data, err := readBounded(filepath.Join(dir, recordName))
	if err == nil {
		*r, err = decodeRecord(data)
	}
	if err != nil {
		return fmt.Errorf("process: %s: %w", filepath.Join(dir, recordName), err)
	}
	return nil
}

func readExit(dir string, e *exit) error {
	data, err := readBounded(filepath.Join(dir, exitName))
	if err == nil {
		*e, err = decodeExit(data)
	}
	if err != nil {
		return fmt.Errorf("process: %s: %w", filepath.Join(dir, exitName), err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecordBytes+1))
	if err == nil && len(data) > maxRecordBytes {
		err = fmt.Errorf("%w: more than %d bytes", errRecord, maxRecordBytes)
	}
	return data, err
}

// writeDurably replaces dir/name by the JSON of v: afterwards, and after a
// crash, the file is the old or the new one.
func writeDurably(dir, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
