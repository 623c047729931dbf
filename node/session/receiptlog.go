package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/xenoserver/xeno/ledger"
)

// A sealedReceipt is a receipt with the envelope it came in.
type sealedReceipt struct {
	receipt ledger.Receipt
	env     *ledger.Envelope // nil before the first receipt
}

// A receiptLog is the append-only file of one session's receipts: envelopes,
// each preceded by its length as 4 bytes big-endian. A receipt that came back
// countersigned is appended again. An incomplete tail, from a crash while
// appending, is cut off when the file is opened.
type receiptLog struct {
	path string

	mu    sync.Mutex // guards the following
	last  sealedReceipt
	index []int64 // offset of the newest entry of each Seq, from 1
	size  int64
}

func openReceiptLog(dir string, id ledger.ID) (*receiptLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	l := &receiptLog{path: filepath.Join(dir, id.String()+".receipts")}
	b, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	for int(l.size) < len(b) {
		entry, n := cutEntry(b[l.size:])
		if n == 0 {
			break
		}
		r, err := openReceipt(entry)
		if err != nil {
			return nil, fmt.Errorf("%w: %s at byte %d: %w", ErrRecord, l.path, l.size, err)
		}
		l.note(r)
		l.size += int64(n)
	}
	if int(l.size) < len(b) {
		if err := os.Truncate(l.path, l.size); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
	}
	return l, nil
}

// cutEntry returns the first entry of b and its length with the prefix, 0 if
// it is incomplete.
func cutEntry(b []byte) (entry []byte, n int) {
	if len(b) < 4 {
		return nil, 0
	}
	size := binary.BigEndian.Uint32(b)
	if size > ledger.MaxEnvelope || int(size) > len(b)-4 {
		return nil, 0
	}
	return b[4 : 4+size], int(4 + size)
}

func openReceipt(b []byte) (sealedReceipt, error) {
	env, err := ledger.UnmarshalEnvelope(b)
	if err != nil {
		return sealedReceipt{}, err
	}
	r := sealedReceipt{env: env}
	if err := env.Open(ledger.KindReceipt, &r.receipt); err != nil {
		return sealedReceipt{}, err
	}
	return r, nil
}

// note takes r, at the end of the file, into the index.
func (l *receiptLog) note(r sealedReceipt) {
	if int(r.receipt.Seq) == len(l.index)+1 {
		l.index = append(l.index, l.size)
	} else if r.receipt.Seq >= 1 && int(r.receipt.Seq) <= len(l.index) {
		l.index[r.receipt.Seq-1] = l.size
	}
	if r.receipt.Seq >= l.last.receipt.Seq {
		l.last = r
	}
}

// append writes r durably.
func (l *receiptLog) append(r sealedReceipt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendLocked(r)
}

// extend writes r durably if it follows the newest receipt. One that is known
// already, from another way it came, is no error.
func (l *receiptLog) extend(r sealedReceipt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch newest := l.last.receipt.Seq; {
	case r.receipt.Seq <= newest:
		return nil
	case r.receipt.Seq > newest+1:
		return fmt.Errorf("session: receipt %d does not follow %d", r.receipt.Seq, newest)
	}
	return l.appendLocked(r)
}

func (l *receiptLog) appendLocked(r sealedReceipt) error {
	b := r.env.Marshal()
	entry := append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) //nolint:gosec // bounded by MaxEnvelope
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	_, err = f.WriteAt(entry, l.size)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("session: append receipt: %w", err)
	}
	l.note(r)
	l.size += int64(len(entry))
	return nil
}

// newest returns the receipt with the highest sequence number.
func (l *receiptLog) newest() sealedReceipt {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// page returns up to most envelopes with sequence numbers above after.
func (l *receiptLog) page(after uint64, most int) ([]*ledger.Envelope, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if after >= uint64(len(l.index)) {
		return nil, nil
	}
	f, err := os.Open(l.path)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	defer f.Close()
	var out []*ledger.Envelope
	for _, at := range l.index[after:] {
		if len(out) == most {
			break
		}
		var prefix [4]byte
		if _, err := f.ReadAt(prefix[:], at); err != nil {
			return nil, fmt.Errorf("session: read receipts: %w", err)
		}
		b := make([]byte, min(binary.BigEndian.Uint32(prefix[:]), ledger.MaxEnvelope))
		if _, err := f.ReadAt(b, at+4); err != nil {
			return nil, fmt.Errorf("session: read receipts: %w", err)
		}
		env, err := ledger.UnmarshalEnvelope(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrRecord, l.path, err)
		}
		out = append(out, env)
	}
	return out, nil
}

func (l *receiptLog) remove() error {
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("session: %w", err)
	}
	return nil
}
