package vmm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// recordVersion is the format of instance.json. History: 1, in which QEMU's had
// no booted, there the process alone made the instance; 2, one for both drivers.
const recordVersion = 2

const recordName = "instance.json"

var errRecord = errors.New("damaged record")

// A record is what a driver remembers of an instance beside what process,
// monitor and kernel know. It is written before the process starts.
type record struct {
	Version int              `json:"version"`
	ID      string           `json:"id"`
	Accel   string           `json:"accel"` // kvm or tcg
	Group   string           `json:"group"` // control group, as in Instance.Cgroup
	Tap     string           `json:"tap"`
	Guest   netip.Addr       `json:"guest"`
	Booted  bool             `json:"booted"`     // the start came to its end
	Paused  time.Time        `json:"paused"`     // when; zero: not paused
	Idle    time.Duration    `json:"idle_ns"`    // paused before that
	Last    hypervisor.Usage `json:"last"`       // a reading, for when there is no other
	Saved   time.Time        `json:"last_saved"` // when Last was taken
	Final   bool             `json:"final"`      // Last is the reading after the end
}

func decodeRecord(data []byte) (record, error) {
	r := record{Booted: true} // where version 1 does not say
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&r); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return record{}, fmt.Errorf("%w: data after its end", errRecord)
	}
	if r.Version < 1 || r.Version > recordVersion {
		return record{}, fmt.Errorf("%w: version %d, not 1 to %d", errRecord, r.Version, recordVersion)
	}
	if err := hypervisor.ValidateID(r.ID); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if r.Idle < 0 {
		return record{}, fmt.Errorf("%w: negative time", errRecord)
	}
	return r, nil
}

// readRecord reads the record in dir. Errors wrap os.ErrNotExist where none is,
// and errRecord.
func readRecord(dir string) (record, error) {
	f, err := os.Open(filepath.Join(dir, recordName))
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecordBytes))
	if err != nil {
		return record{}, err
	}
	r, err := decodeRecord(data)
	if err == nil && r.ID != filepath.Base(dir) {
		err = fmt.Errorf("%w: of %s", errRecord, r.ID)
	}
	if err != nil {
		return record{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return r, nil
}

// write replaces the record in dir, durably.
func (r record) write(dir string) error {
	r.Version = recordVersion
	data, err := json.Marshal(r)
	if err == nil {
		err = process.ReplaceFile(filepath.Join(dir, recordName), data)
	}
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// run is the time not paused between start and now.
func (r record) run(start, now time.Time) time.Duration {
	idle := r.Idle
	if !r.Paused.IsZero() {
		idle += max(0, now.Sub(r.Paused))
	}
	return max(0, now.Sub(start)-idle)
}

// setPaused begins or ends a pause and tells whether the record is another now.
func (r *record) setPaused(paused bool, now time.Time) bool {
	switch was := !r.Paused.IsZero(); {
	case was == paused:
		return false
	case paused:
		r.Paused = now
	default:
		r.Idle += max(0, now.Sub(r.Paused))
		r.Paused = time.Time{}
	}
	return true
}
