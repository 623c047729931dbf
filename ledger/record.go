package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// A Record is one line of the journal: a command that changed the ledger, when,
// and the entries that it made. Replaying all records from the first rebuilds
// the State.
type Record struct {
	Seq     uint64  // from 1, without gaps
	Time    int64   // as State.Now had it, Unix nanoseconds
	Command Command //
	Entries []Entry // may be empty
}

// A RecordHash is the head of the chain over all records up to one.
type RecordHash [sha256.Size]byte

// recordDomain separates the chain from every other use of SHA-256 here.
const recordDomain = "xeno-journal-v1"

// A RawRecord is a Record in the form that journals store: Body is the DAG-CBOR
// of the command, Entries the DAG-CBOR of the list of entries.
type RawRecord struct {
	Seq     uint64
	Time    int64
	Kind    string
	Body    []byte
	Entries []byte
}

// Raw encodes r.
func (r *Record) Raw() (RawRecord, error) {
	body, err := encode(r.Command)
	if err != nil {
		return RawRecord{}, fmt.Errorf("ledger: encode %s: %w", r.Command.kind(), err)
	}
	entries, err := encode(r.Entries)
	if err != nil {
		return RawRecord{}, fmt.Errorf("ledger: encode entries: %w", err)
	}
	return RawRecord{Seq: r.Seq, Time: r.Time, Kind: r.Command.kind(), Body: body, Entries: entries}, nil
}

// Record decodes r. The error wraps ErrMalformed or ErrUnknownKind.
func (r *RawRecord) Record() (Record, error) {
	cmd := newCommand(r.Kind)
	if cmd == nil {
		return Record{}, fmt.Errorf("record %d: %w: %.40q", r.Seq, ErrUnknownKind, r.Kind)
	}
	if err := decode(r.Body, cmd); err != nil {
		return Record{}, fmt.Errorf("record %d: %w: %w", r.Seq, ErrMalformed, err)
	}
	entries, err := DecodeEntries(r.Entries)
	if err != nil {
		return Record{}, fmt.Errorf("record %d: %w", r.Seq, err)
	}
	return Record{Seq: r.Seq, Time: r.Time, Command: cmd, Entries: entries}, nil
}

// DecodeEntries reads the Entries of a RawRecord. The error wraps ErrMalformed.
func DecodeEntries(b []byte) ([]Entry, error) {
	var entries []Entry
	if err := decode(b, &entries); err != nil {
		return nil, fmt.Errorf("%w: entries: %w", ErrMalformed, err)
	}
	return entries, nil
}

// Hash continues the chain from prev: SHA-256 over the domain, prev, Seq and
// Time as 8 bytes big-endian each, and Kind, Body and Entries, each preceded
// by its length as 8 bytes big-endian.
func (r *RawRecord) Hash(prev RecordHash) RecordHash {
	b := make([]byte, 0, len(recordDomain)+len(prev)+40+len(r.Kind)+len(r.Body)+len(r.Entries))
	b = append(b, recordDomain...)
	b = append(b, prev[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	for _, part := range [][]byte{[]byte(r.Kind), r.Body, r.Entries} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}
