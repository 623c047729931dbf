package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// childVar makes the test binary a writer that its parent kills.
const childVar = "XENO_SQLITE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVar); path != "" {
		if err := writeForEver(path, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// record is the n-th record of every test: its content follows from n.
func record(n uint64) ledger.Record {
	r := ledger.Record{
		Seq: n, Time: int64(n) * 1000,
		Command: &ledger.Deposit{ID: ledger.ID{byte(n), byte(n >> 8), byte(n >> 16)}, Amount: ledger.Amount(n), Note: strings.Repeat("n", int(n%200))},
	}
	if n%3 != 0 {
		r.Entries = []ledger.Entry{{
			Seq: entries(n-1) + 1, Time: r.Time, Kind: ledger.EntryDeposit, From: ledger.Account{Kind: ledger.AccountExternal},
			To: ledger.Account{Kind: ledger.AccountAvailable, Peer: dht.PeerID{byte(n)}}, Amount: ledger.Amount(n), Ref: ledger.ID{byte(n)},
		}}
	}
	return r
}

// entries is how many the first n records have.
func entries(n uint64) uint64 { return n - n/3 }

// checker returns a replay function that expects record 1, 2, 3…
func checker(t testing.TB, count *uint64) func(ledger.Record) error {
	*count = 0
	return func(got ledger.Record) error {
		*count++
		want := record(*count)
		if want.Entries == nil {
			want.Entries = []ledger.Entry{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("record %d (-want +got):\n%s", *count, diff)
		}
		return nil
	}
}

func nothing(ledger.Record) error { return nil }

func write(t testing.TB, j *Journal, n int) {
	t.Helper()
	for range n {
		if err := j.Append(t.Context(), []ledger.Record{record(j.Seq() + 1)}); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t testing.TB, path string, replay func(ledger.Record) error) *Journal {
	t.Helper()
	j, err := Open(t.Context(), path, replay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a journal?#%41.db")
	var n uint64
	j := open(t, path, checker(t, &n))
	write(t, j, 10)
	var group []ledger.Record
	for i := range uint64(20) {
		group = append(group, record(11+i))
	}
	if err := j.Append(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	head := j.Head()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, path, checker(t, &n))
	if n != 30 || j.Seq() != 30 || j.Head() != head {
		t.Errorf("%d records, seq %d, head %x, want 30, 30, %x", n, j.Seq(), j.Head(), head)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is elsewhere: %v", err)
	}
	for _, test := range []struct {
		after uint64
		limit int
		want  []uint64
	}{{0, 3, []uint64{1, 2, 3}}, {5, 2, []uint64{6, 7}}, {18, 100, []uint64{19, 20}}, {20, 10, nil}, {99, 10, nil}, {0, 0, nil}} {
		list, err := j.Entries(t.Context(), test.after, test.limit)
		var got []uint64
		for _, e := range list {
			got = append(got, e.Seq)
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("entries after %d, limit %d: %v, %v; want %v", test.after, test.limit, got, err, test.want)
		}
	}
}

func TestSecondProcessIsLockedOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path, nothing)
	write(t, j, 1)
	if _, err := Open(t.Context(), path, nothing); !errors.Is(err, ErrLocked) {
		t.Errorf("in the same process: %v", err)
	}
	out, err := child(t, path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), ErrLocked.Error()) {
		t.Errorf("in another process: %v, %s", err, out)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, nothing)
}

func child(t testing.TB, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childVar+"="+path)
	return cmd
}

// alter changes a closed journal from outside.
func alter(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestAlteredJournalsAreRefused(t *testing.T) {
	const loose = "DROP TRIGGER records_no_update; DROP TRIGGER records_no_delete"
	for _, test := range []struct {
		name, statement string
		want            error
	}{
		{"newer format", "PRAGMA user_version = 2", ErrNewer},
		{"older format", "PRAGMA user_version = 0", ErrCorrupt},
		{"another program's", "PRAGMA application_id = 7", ErrCorrupt},
		{"amount changed", loose + "; UPDATE records SET body = CAST(replace(body, x'7b', x'7c') AS BLOB)", ErrCorrupt},
		{"time changed", loose + "; UPDATE records SET time_ns = time_ns + 1 WHERE seq = 5", ErrCorrupt},
		{"entries dropped", loose + "; UPDATE records SET entries = x'80' WHERE seq = 5", ErrCorrupt},
		{"count of entries changed", loose + "; UPDATE records SET last_entry = 9 WHERE seq = 5", ErrCorrupt},
		{"hash changed", loose + "; UPDATE records SET hash = zeroblob(32) WHERE seq = 10", ErrCorrupt},
		{"record removed", loose + "; DELETE FROM records WHERE seq = 5", ErrCorrupt},
		{"first record removed", loose + "; DELETE FROM records WHERE seq = 1", ErrCorrupt},
		{"records swapped", loose + "; UPDATE records SET seq = 1000 WHERE seq = 3; UPDATE records SET seq = 3 WHERE seq = 4; UPDATE records SET seq = 4 WHERE seq = 1000", ErrCorrupt},
		{"nothing", "SELECT 1", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			j := open(t, path, nothing)
			group := make([]ledger.Record, 0x7b)
			for i := range group {
				group[i] = record(uint64(i) + 1)
			}
			if err := j.Append(t.Context(), group); err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			alter(t, path, test.statement)
			j, err := Open(t.Context(), path, nothing)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err == nil {
				j.Close()
			}
		})
	}
	t.Run("not a database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("junk", 5000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, nothing); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAppendOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path, nothing)
	write(t, j, 3)
	for _, s := range []string{"UPDATE records SET time_ns = 0", "DELETE FROM records WHERE seq = 3"} {
		if _, err := j.conn.ExecContext(t.Context(), s); err == nil {
			t.Errorf("%s: allowed", s)
		}
	}
	if err := j.Append(t.Context(), []ledger.Record{record(5)}); err == nil {
		t.Error("a gap is accepted")
	}
	if err := j.Append(t.Context(), []ledger.Record{record(4)}); err == nil {
		t.Error("a journal that failed goes on")
	}
}

func TestReplayErrorEndsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path, nothing)
	write(t, j, 3)
	j.Close()
	stop := errors.New("stop")
	if _, err := Open(t.Context(), path, func(r ledger.Record) error {
		if r.Seq == 2 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	open(t, path, nothing) // the lock is free
}

// writeForEver appends groups of records and says on w how far they are durable.
func writeForEver(path string, w io.Writer) error {
	j, err := Open(context.Background(), path, nothing)
	if err != nil {
		return err
	}
	for {
		group := make([]ledger.Record, 1+j.Seq()%7)
		for i := range group {
			group[i] = record(j.Seq() + uint64(i) + 1)
		}
		if err := j.Append(context.Background(), group); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, j.Seq()); err != nil {
			return err
		}
	}
}

// TestKill kills a writing process again and again, at random moments, and
// looks for every record that it had acknowledged.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	rng := rand.New(rand.NewPCG(1, 2))
	var acknowledged uint64
	kills := 32
	if testing.Short() {
		kills = 5
	}
	for range kills {
		cmd := child(t, path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		stop := 1 + rng.IntN(30) // acknowledgements, and then a moment more
		for i := 0; lines.Scan(); i++ {
			if acknowledged, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
				t.Fatal(err)
			}
			if i == stop {
				timer := time.AfterFunc(time.Duration(rng.IntN(3000))*time.Microsecond, func() { cmd.Process.Kill() })
				defer timer.Stop()
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
		var n uint64
		j := open(t, path, checker(t, &n))
		if n < acknowledged {
			t.Fatalf("%d records are left of %d acknowledged", n, acknowledged)
		}
		if n > acknowledged+7 {
			t.Fatalf("%d records, but only %d acknowledged", n, acknowledged)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d records acknowledged and found", kills, acknowledged)
}

// TestTornWrites copies database and log as a crash of the machine may leave
// them: with the log cut anywhere beyond what was synced when a record was
// acknowledged, or with junk there.
func TestTornWrites(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "journal.db")
	j := open(t, path, nothing)
	rng := rand.New(rand.NewPCG(3, 4))
	images := 0
	for range 12 {
		write(t, j, 1+rng.IntN(5))
		acknowledged := j.Seq()
		synced := size(t, path+"-wal")
		write(t, j, 1+rng.IntN(5)) // these may be lost
		db, wal := read(t, path), read(t, path+"-wal")
		if len(wal) < synced {
			continue // a checkpoint began the log anew
		}
		for cut := range 6 {
			tail := slices.Clone(wal[synced:])
			keep := rng.IntN(len(tail) + 1)
			switch cut {
			case 0:
				keep = 0
			case 1:
				keep = len(tail)
			case 2, 3:
				for i := keep; i < len(tail); i++ {
					tail[i] = byte(rng.Uint32())
				}
				keep = len(tail)
			}
			images++
			n, limit := recoverImage(t, db, append(slices.Clone(wal[:synced]), tail[:keep]...)), j.Seq()
			if n < acknowledged || n > limit {
				t.Fatalf("%d records are left, %d were acknowledged, %d written", n, acknowledged, limit)
			}
		}
	}
	t.Logf("%d images", images)
}

// recoverImage opens copies of the files and returns how many records they hold.
func recoverImage(t *testing.T, db, wal []byte) uint64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.db")
	for name, b := range map[string][]byte{path: db, path + "-wal": wal} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var n uint64
	j, err := Open(t.Context(), path, checker(t, &n))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func size(t *testing.T, name string) int {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size())
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// BenchmarkAppend is the cost of one durable record by itself.
func BenchmarkAppend(b *testing.B) {
	j := open(b, filepath.Join(b.TempDir(), "journal.db"), nothing)
	for b.Loop() {
		write(b, j, 1)
	}
}

// BenchmarkReplay is what opening costs per record.
func BenchmarkReplay(b *testing.B) {
	path := filepath.Join(b.TempDir(), "journal.db")
	j := open(b, path, nothing)
	const records = 20_000
	group := make([]ledger.Record, records)
	for i := range group {
		group[i] = record(uint64(i) + 1)
	}
	if err := j.Append(b.Context(), group); err != nil {
		b.Fatal(err)
	}
	j.Close()
	for b.Loop() {
		j := open(b, path, nothing)
		j.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
}

func TestCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	var n uint64
	j := open(t, path, nothing)
	write(t, j, 20)
	if size(t, path+"-wal") == 0 {
		t.Error("the log is empty after 20 records")
	}
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := size(t, path+"-wal"); got != 0 {
		t.Errorf("the log has %d bytes after a checkpoint", got)
	}
	j.logBytes = maxLogBytes
	write(t, j, 1)
	if got := size(t, path+"-wal"); got != 0 {
		t.Errorf("a long log has %d bytes after the next record", got)
	}
	if got := recoverImage(t, read(t, path), nil); got != 21 {
		t.Errorf("%d records without a log, want 21", got)
	}
	j.Close()
	open(t, path, checker(t, &n))
	if n != 21 {
		t.Errorf("%d records, want 21", n)
	}
}
