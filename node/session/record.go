package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/xenoserver/xeno/ledger"
)

// recordFormat is the version of the files. 1: first.
const recordFormat = 1

// maxRecord bounds a session's file: agreement, authorization and two
// receipts, in base64.
const maxRecord = 1 << 20

// ErrRecord reports a session file that cannot be read.
var ErrRecord = errors.New("session: damaged session file")

// records keeps one JSON file a session in a directory of mode 0700. A file
// is replaced whole and synced before save returns.
type records[T any] struct{ dir string }

type recordFile[T any] struct {
	Format int `json:"format"`
	Record T   `json:"record"`
}

func openRecords[T any](dir string) (*records[T], error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return &records[T]{dir: dir}, nil
}

func (r *records[T]) path(id ledger.ID) string { return filepath.Join(r.dir, id.String()+".json") }

// save writes v durably.
func (r *records[T]) save(id ledger.ID, v T) error {
	b, err := json.Marshal(recordFile[T]{Format: recordFormat, Record: v})
	if err != nil {
		return fmt.Errorf("session: encode %s: %w", id, err)
	}
	f, err := os.CreateTemp(r.dir, id.String()+".tmp*")
	if err != nil {
		return fmt.Errorf("session: save %s: %w", id, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), r.path(id))
	}
	if err != nil {
		return fmt.Errorf("session: save %s: %w", id, errors.Join(err, os.Remove(f.Name())))
	}
	return r.syncDir()
}

func (r *records[T]) syncDir() error {
	d, err := os.Open(r.dir)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("session: sync %s: %w", r.dir, err)
	}
	return nil
}

// remove deletes a record; a missing one is no error.
func (r *records[T]) remove(id ledger.ID) error {
	if err := os.Remove(r.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("session: %w", err)
	}
	return nil
}

// load reads every record. Half-written files of an interrupted save are
// deleted; a damaged record is an error, since money hangs on it.
func (r *records[T]) load() (map[ledger.ID]T, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	all := make(map[ledger.ID]T)
	for _, e := range entries {
		path := filepath.Join(r.dir, e.Name())
		name, ok := bytes.CutSuffix([]byte(e.Name()), []byte(".json"))
		if !ok {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("session: %w", err)
			}
			continue
		}
		id, err := ledger.ParseID(string(name))
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrRecord, path, err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
		v, err := decodeRecord[T](b)
		if err != nil {
			return nil, fmt.Errorf("%w: %s (move it away to go on without this session): %w", ErrRecord, path, err)
		}
		all[id] = v
	}
	return all, nil
}

func decodeRecord[T any](b []byte) (T, error) {
	var f recordFile[T]
	if len(b) > maxRecord {
		return f.Record, fmt.Errorf("%d bytes, limit %d", len(b), maxRecord)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f.Record, err
	}
	if f.Format != recordFormat {
		return f.Record, fmt.Errorf("format %d, this program reads %d: update it", f.Format, recordFormat)
	}
	return f.Record, nil
}
