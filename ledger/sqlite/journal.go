// Package sqlite keeps a ledger's journal in an SQLite database, embedded in
// the process.
//
// # Format
//
// One table, records, append-only (triggers refuse UPDATE and DELETE), with an
// index on last_entry over the rows that have entries:
//
//	seq         INTEGER PRIMARY KEY, from 1 without gaps
//	time_ns     INTEGER, Unix nanoseconds, never falling
//	kind        TEXT, of the command
//	body        BLOB, the command as DAG-CBOR
//	entries     BLOB, the entries that it made as DAG-CBOR, a list
//	last_entry  INTEGER, number of the newest entry after this record
//	hash        BLOB, the chain: ledger.RawRecord.Hash over the row before
//
// application_id is 0x58454e4f ("XENO") and user_version the format, 1. The
// database is in WAL mode with synchronous=FULL: what Append returned for
// survives the death of the process and of the machine. One process at a time
// holds it, by SQLite's exclusive lock, which dies with its holder.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	sqlitedriver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/xenoserver/xeno/ledger"
)

// Errors of journals.
var (
	// ErrLocked reports a journal that another process, or another Journal of
	// this one, has open.
	ErrLocked = errors.New("ledger/sqlite: journal is in use by another process; stop it first")
	// ErrNewer reports a journal of a format that this program does not know.
	ErrNewer = errors.New("ledger/sqlite: journal is of a newer format; upgrade this program")
	// ErrCorrupt reports a journal that was changed from outside or damaged.
	// Restore it from a backup.
	ErrCorrupt = errors.New("ledger/sqlite: journal is damaged; restore it from a backup")
)

var errClosed = errors.New("journal is closed")

const (
	applicationID = 0x58454e4f
	format        = 1
	// maxLogBytes bounds what a log holds before Append moves it: a start
	// reads that much again, and a busy hour writes ten times as much.
	maxLogBytes = 64 << 20
	// pageBytes is what every transaction writes at least.
	pageBytes = 4096
)

const schema = `
CREATE TABLE records (
	seq INTEGER PRIMARY KEY,
	time_ns INTEGER NOT NULL,
	kind TEXT NOT NULL,
	body BLOB NOT NULL,
	entries BLOB NOT NULL,
	last_entry INTEGER NOT NULL,
	hash BLOB NOT NULL
) STRICT;
CREATE INDEX records_with_entries ON records (last_entry) WHERE entries <> x'80';
CREATE TRIGGER records_no_update BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER records_no_delete BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
`

// A Journal is an open journal. It is owned by one goroutine.
type Journal struct {
	db        *sql.DB
	conn      *sql.Conn // the only one: it holds the lock
	insert    *sql.Stmt
	seq       uint64            // of the newest record
	lastEntry uint64            // of the newest entry
	head      ledger.RecordHash // of the chain
	logBytes  int               // written since the newest checkpoint, about
	failed    error             // set for good once an Append failed
}

// Open opens the journal at path, which it creates if it is missing, checks
// the chain of hashes, and calls replay with every record in order. An error
// of replay ends it. Errors wrap ErrLocked, ErrNewer, ErrCorrupt.
func Open(ctx context.Context, path string, replay func(ledger.Record) error) (*Journal, error) {
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: url.Values{
		// In this order: the lock mode must stand before the first access.
		"_pragma": {"busy_timeout(0)", "locking_mode(exclusive)", "journal_mode(wal)", "synchronous(full)", "wal_autocheckpoint(0)"},
		"_txlock": {"exclusive"},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("ledger/sqlite: open %s: %w", path, err)
	}
	j := &Journal{db: db}
	if err := j.open(ctx, replay); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", path, explain(err)), j.Close())
	}
	return j, nil
}

func (j *Journal) open(ctx context.Context, replay func(ledger.Record) error) error {
	j.db.SetMaxOpenConns(1)
	var err error
	if j.conn, err = j.db.Conn(ctx); err != nil {
		return err
	}
	if err := j.prepare(ctx); err != nil {
		return err
	}
	if err := j.replay(ctx, replay); err != nil {
		return err
	}
	j.insert, err = j.conn.PrepareContext(ctx,
		`INSERT INTO records (seq, time_ns, kind, body, entries, last_entry, hash) VALUES (?, ?, ?, ?, ?, ?, ?)`)
	return err
}

// prepare takes the lock, and creates the schema or checks the format.
func (j *Journal) prepare(ctx context.Context) error {
	tx, err := j.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do
	var app, version, tables int
	row := tx.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`)
	if err := row.Scan(&app, &version, &tables); err != nil {
		return err
	}
	switch {
	case app == 0 && version == 0 && tables == 0:
		ddl := fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d;", schema, applicationID, format)
		if _, err := tx.ExecContext(ctx, ddl); err != nil {
			return err
		}
	case app != applicationID:
		return fmt.Errorf("%w: it is a database of another program", ErrCorrupt)
	case version > format:
		return fmt.Errorf("%w (format %d, this program knows %d)", ErrNewer, version, format)
	case version < format:
		return fmt.Errorf("%w: format %d", ErrCorrupt, version)
	}
	return tx.Commit()
}

// replay reads all records, checking the chain.
func (j *Journal) replay(ctx context.Context, replay func(ledger.Record) error) error {
	rows, err := j.conn.QueryContext(ctx, `SELECT seq, time_ns, kind, body, entries, last_entry, hash FROM records ORDER BY seq`)
	if err != nil {
		return err
	}
	defer rows.Close() // rows.Err says what matters
	for rows.Next() {
		var raw ledger.RawRecord
		var last uint64
		var hash []byte
		if err := rows.Scan(&raw.Seq, &raw.Time, &raw.Kind, &raw.Body, &raw.Entries, &last, &hash); err != nil {
			return err
		}
		head := raw.Hash(j.head)
		if raw.Seq != j.seq+1 || string(head[:]) != string(hash) {
			return fmt.Errorf("%w: at record %d", ErrCorrupt, j.seq+1)
		}
		record, err := raw.Record()
		if err != nil {
			return err
		}
		if j.lastEntry+uint64(len(record.Entries)) != last {
			return fmt.Errorf("%w: entries of record %d", ErrCorrupt, raw.Seq)
		}
		if err := replay(record); err != nil {
			return fmt.Errorf("replay record %d: %w", raw.Seq, err)
		}
		j.seq, j.lastEntry, j.head = raw.Seq, last, head
	}
	return rows.Err()
}

// Seq returns the number of the newest record.
func (j *Journal) Seq() uint64 { return j.seq }

// Head returns the hash over all records.
func (j *Journal) Head() ledger.RecordHash { return j.head }

// Append writes records, whose numbers follow the newest, in one transaction.
// They are durable when it returns nil. After an error nothing is certain, and
// the Journal accepts no more: close it, and open and replay it again.
func (j *Journal) Append(ctx context.Context, records []ledger.Record) error {
	if len(records) == 0 {
		return nil
	}
	if j.failed != nil {
		return fmt.Errorf("ledger/sqlite: append after an error: %w", j.failed)
	}
	if err := j.append(ctx, records); err != nil {
		j.failed = explain(err)
		return fmt.Errorf("ledger/sqlite: append %d records: %w", len(records), j.failed)
	}
	return nil
}

func (j *Journal) append(ctx context.Context, records []ledger.Record) error {
	tx, err := j.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do
	insert := tx.StmtContext(ctx, j.insert)
	seq, last, head, size := j.seq, j.lastEntry, j.head, pageBytes
	for i := range records {
		seq++
		if records[i].Seq != seq {
			return fmt.Errorf("record %d where %d is due", records[i].Seq, seq)
		}
		raw, err := records[i].Raw()
		if err != nil {
			return err
		}
		head = raw.Hash(head)
		last += uint64(len(records[i].Entries))
		size += len(raw.Body) + len(raw.Entries)
		if _, err := insert.ExecContext(ctx, raw.Seq, raw.Time, raw.Kind, raw.Body, raw.Entries, last, head[:]); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	j.seq, j.lastEntry, j.head = seq, last, head
	j.logBytes += size
	if j.logBytes > maxLogBytes {
		return j.Checkpoint(ctx)
	}
	return nil
}

// Checkpoint moves what was appended from SQLite's log into its database, so
// that the log stays short. Append does so by itself only when the log is
// long, since it takes two more writes to the disk: call it when nobody waits.
// It does nothing if nothing was appended since.
func (j *Journal) Checkpoint(ctx context.Context) error {
	if j.logBytes == 0 || j.conn == nil {
		return nil
	}
	var busy, pages, moved int
	row := j.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err := row.Scan(&busy, &pages, &moved); err != nil {
		return fmt.Errorf("ledger/sqlite: checkpoint: %w", explain(err))
	}
	j.logBytes = 0
	return nil
}

// Entries returns the entries numbered above after, in order, at most limit.
func (j *Journal) Entries(ctx context.Context, after uint64, limit int) ([]ledger.Entry, error) {
	if j.conn == nil {
		return nil, fmt.Errorf("ledger/sqlite: entries after %d: %w", after, errClosed)
	}
	rows, err := j.conn.QueryContext(ctx,
		`SELECT entries FROM records WHERE last_entry > ? AND entries <> x'80' ORDER BY last_entry`, after)
	if err != nil {
		return nil, fmt.Errorf("ledger/sqlite: entries after %d: %w", after, explain(err))
	}
	defer rows.Close() // rows.Err says what matters
	list := make([]ledger.Entry, 0, min(limit, 256))
	for len(list) < limit && rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, fmt.Errorf("ledger/sqlite: entries after %d: %w", after, explain(err))
		}
		entries, err := ledger.DecodeEntries(b)
		if err != nil {
			return nil, fmt.Errorf("ledger/sqlite: entries after %d: %w", after, err)
		}
		for _, e := range entries {
			if e.Seq > after && len(list) < limit {
				list = append(list, e)
			}
		}
	}
	return list, rows.Err()
}

// Close releases the journal. What was appended is safe without it. It is
// idempotent.
func (j *Journal) Close() error {
	var errs []error
	if j.failed == nil {
		j.failed = errClosed
	}
	if j.insert != nil {
		errs = append(errs, j.insert.Close())
	}
	if j.conn != nil {
		errs = append(errs, j.conn.Close())
	}
	j.insert, j.conn = nil, nil
	return errors.Join(append(errs, j.db.Close())...)
}

// explain names SQLite's errors that a caller can do something about.
func explain(err error) error {
	var e *sqlitedriver.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w (%w)", ErrLocked, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w (%w)", ErrCorrupt, err)
	}
	return err
}
