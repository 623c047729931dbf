package blocks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
	"go.uber.org/goleak"

	"github.com/xenoserver/xeno/store"
)

// open opens a store that the test closes.
func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// content returns n bytes that depend on seed alone.
func content(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

func add(t testing.TB, s *Store, b []byte) store.Ref {
	t.Helper()
	a, err := s.Add(t.Context(), "test", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if a.Size != int64(len(b)) {
		t.Fatalf("added %d bytes, want %d", a.Size, len(b))
	}
	return a.Ref
}

func read(s *Store, ref store.Ref) ([]byte, error) {
	var b bytes.Buffer
	_, err := Copy(context.Background(), &b, s.Local(), ref, 1<<40)
	return b.Bytes(), err
}

// check compares the index with its own counts and with the disk.
func check(t testing.TB, s *Store) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := scan(filepath.Join(s.dir, blockDir))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(s.entries) {
		t.Errorf("%d block files, %d in the index", len(files), len(s.entries))
	}
	var used int64
	cached := 0
	for _, f := range files {
		e := s.entries[f.key]
		if e == nil || e.size != f.size {
			t.Fatalf("block file of %d bytes is %+v in the index", f.size, e)
		}
		used += charge(f.size)
		if e.elem != nil {
			cached++
		}
		if (e.elem == nil) != (s.refs[f.key] > 0) {
			t.Errorf("a block with %d references is collectable: %v", s.refs[f.key], e.elem != nil)
		}
	}
	if used != s.used || used > s.maxBytes || cached != s.cached.Len() {
		t.Errorf("%d bytes used, counted %d, limit %d; %d cached, counted %d", used, s.used, s.maxBytes, cached, s.cached.Len())
	}
}

func TestAddReadRestart(t *testing.T) {
	dir := t.TempDir()
	sizes := []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 5*chunkBytes + 17}
	var refs []store.Ref
	s, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		refs = append(refs, add(t, s, content(uint64(i), n)))
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v, want ErrLocked", err)
	}
	check(t, s)
	before := s.Stats()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir})
	if got := s.Stats(); got != before {
		t.Errorf("after the restart %+v, before %+v", got, before)
	}
	for i, n := range sizes {
		got, err := read(s, refs[i])
		if err != nil || !bytes.Equal(got, content(uint64(i), n)) {
			t.Errorf("file of %d bytes: %d bytes, %v", n, len(got), err)
		}
	}
	if n := len(s.Pins()); n != len(sizes) || len(s.Incomplete()) != 0 {
		t.Errorf("%d pins, %d incomplete", n, len(s.Incomplete()))
	}
	check(t, s)
}

// TestKnownCIDs holds the CIDs that other tools derive with the profile
// unixfs-v1-2025.
func TestKnownCIDs(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	for _, tc := range []struct{ in, want string }{
		{"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},
		{"hello world\n", "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"},
	} {
		if got := add(t, s, []byte(tc.in)).String(); got != tc.want {
			t.Errorf("CID of %q is %s, want %s", tc.in, got, tc.want)
		}
	}
}

func TestLimitHolds(t *testing.T) {
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), MaxBytes: 8 << 20})
	kept := add(t, s, content(1, 3<<20))
	for i := range 40 { // what passes by makes room for itself
		b := block.NewBlock(content(uint64(100+i), 1<<20-100))
		b2, err := block.NewBlockWithCid(b.RawData(), cid.NewCidV1(cid.Raw, b.Cid().Hash()))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Put(ctx, b2); err != nil {
			t.Fatal(err)
		}
	}
	check(t, s)
	if st := s.Stats(); st.Collected < 30 {
		t.Errorf("collected %d blocks, want at least 30", st.Collected)
	}
	if _, err := s.Add(ctx, "too large", bytes.NewReader(content(2, 6<<20))); !errors.Is(err, ErrFull) {
		t.Errorf("add beyond the limit: %v, want ErrFull", err)
	}
	check(t, s)
	if b, err := read(s, kept); err != nil || len(b) != 3<<20 {
		t.Errorf("pinned file after collection: %d bytes, %v", len(b), err)
	}
	if err := s.Unpin(kept); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpin(kept); !errors.Is(err, ErrNotPinned) {
		t.Errorf("second unpin: %v, want ErrNotPinned", err)
	}
	large := add(t, s, content(2, 6<<20))
	check(t, s)
	if err := s.Cache().Put(ctx, rawBlock(content(3, 1<<20))); err != nil {
		t.Errorf("cache with room: %v", err)
	}
	full := add(t, s, content(4, 1<<20))
	if err := s.Cache().Put(ctx, rawBlock(content(5, 1<<20))); err != nil {
		t.Errorf("cache without room: %v, want it not kept", err)
	}
	for _, ref := range []store.Ref{large, full} {
		if _, err := read(s, ref); err != nil {
			t.Error(err)
		}
	}
	check(t, s)
}

func rawBlock(b []byte) block.Block {
	mh, err := multihash.Sum(b, multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	blk, err := block.NewBlockWithCid(b, cid.NewCidV1(cid.Raw, mh))
	if err != nil {
		panic(err)
	}
	return blk
}

func TestBlockCountLimit(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MaxBlocks: 10})
	for i := range 50 {
		if err := s.Put(t.Context(), rawBlock(fmt.Appendf(nil, "block %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.Blocks != 10 || st.Bytes != 10*pageBytes {
		t.Errorf("%d blocks of %d bytes, want 10 of a page each", st.Blocks, st.Bytes)
	}
	check(t, s)
}

func TestLowerLimitOnRestart(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ref := add(t, s, content(1, 2<<20))
	for i := range 10 {
		if err := s.Put(t.Context(), rawBlock(content(uint64(i+2), 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir, MaxBytes: 4 << 20})
	check(t, s)
	if _, err := read(s, ref); err != nil {
		t.Error(err)
	}
}

// blockFile returns the path of the file of a block.
func blockFile(t *testing.T, s *Store, c cid.Cid) string {
	t.Helper()
	name := dsKey(keyOf(c)).String()[1:]
	path := filepath.Join(s.dir, blockDir, name[len(name)-3:len(name)-1], name+".data")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDamagedBlocks(t *testing.T) {
	raw := rawBlock(content(9, 1<<20))
	for _, tc := range []struct {
		name   string
		damage func(path string) error
		want   error
	}{
		{"flipped bit", func(p string) error {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b[1000] ^= 1
			return os.WriteFile(p, b, 0o600)
		}, ErrCorrupt},
		{"truncated", func(p string) error { return os.Truncate(p, 100) }, ErrCorrupt},
		{"empty", func(p string) error { return os.Truncate(p, 0) }, ErrCorrupt},
		{"too large", func(p string) error { return os.Truncate(p, 4<<20) }, ErrCorrupt},
		{"gone", os.Remove, nil},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", tc.name, restart), func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, Config{Dir: dir})
				if err := s.Put(t.Context(), raw); err != nil {
					t.Fatal(err)
				}
				path := blockFile(t, s, raw.Cid())
				if err := tc.damage(path); err != nil {
					t.Fatal(err)
				}
				if restart {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, Config{Dir: dir})
				}
				_, err := s.Get(t.Context(), raw.Cid())
				if !ipld.IsNotFound(err) || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("read: %v, want not found and %v", err, tc.want)
				}
				if _, err := os.Stat(path); err == nil {
					t.Error("the damaged file is still there")
				}
				if err := s.Put(t.Context(), raw); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Get(t.Context(), raw.Cid()); err != nil {
					t.Errorf("after it was stored again: %v", err)
				}
				check(t, s)
			})
		}
	}
}

func TestDamagedPin(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	ref := add(t, s, content(1, 3<<20))
	if err := os.Remove(blockFile(t, s, ref.CID())); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir})
	if got := s.Incomplete(); len(got) != 1 || got[0].Ref != ref {
		t.Fatalf("incomplete pins %v, want %s", got, ref)
	}
	if err := s.Pin(t.Context(), Pin{Ref: ref}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("pin without the root: %v, want ErrIncomplete", err)
	}
	add(t, s, content(1, 3<<20))
	if got := s.Incomplete(); len(got) != 0 {
		t.Errorf("incomplete after it was added again: %v", got)
	}
	if p := s.Pins(); len(p) != 1 || p[0].Size != 3<<20 {
		t.Errorf("pins %+v", p)
	}
	check(t, s)
}

func TestForeignFilesInPins(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, pinDir), 0o700); err != nil {
		t.Fatal(err)
	}
	rest := filepath.Join(dir, pinDir, ".tmp-1")
	if err := os.WriteFile(rest, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{Dir: dir})
	if _, err := os.Stat(rest); err == nil {
		t.Error("remains of an interrupted write are still there")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, pinDir, "bafkqaaa")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("open: %v, want an error that names %s", err, bad)
	}
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Dir: dir}) // the failed open left no lock behind
}

// failing yields n bytes, then an error.
type failing struct {
	r   io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

func TestInterruptedAdd(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MaxBytes: 8 << 20})
	broken := errors.New("broken")
	if _, err := s.Add(t.Context(), "x", failing{bytes.NewReader(content(1, 4<<20)), broken}); !errors.Is(err, broken) {
		t.Errorf("add: %v, want the reader's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := io.MultiReader(bytes.NewReader(content(2, 2<<20)), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }))
	if _, err := s.Add(ctx, "x", r); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled add: %v", err)
	}
	if st := s.Stats(); st.Pins != 0 || st.Cached != st.Blocks {
		t.Errorf("after two interrupted adds: %+v, want everything collectable", st)
	}
	check(t, s)
	add(t, s, content(3, 7<<20)) // the remains make room
	check(t, s)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestConcurrent adds, reads, unpins and collects at once: what is pinned
// stays whole, and the limit holds.
func TestConcurrent(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MaxBytes: 24 << 20})
	shared := content(0, 2<<20)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 8 {
				b := append(bytes.Clone(shared), content(uint64(1+w*8+i), 1<<20+i)...)
				a, err := s.Add(t.Context(), "x", bytes.NewReader(b))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := read(s, a.Ref)
				if err != nil || !bytes.Equal(got, b) {
					t.Errorf("pinned file: %d bytes, %v", len(got), err)
				}
				if err := s.Unpin(a.Ref); err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					s.Collect(t.Context(), 1<<20)
				}
				if st := s.Stats(); st.Bytes > st.Limit {
					t.Errorf("%d bytes, limit %d", st.Bytes, st.Limit)
				}
			}
		})
	}
	wg.Wait()
	check(t, s)
	s.Collect(t.Context(), 0)
	if st := s.Stats(); st.Blocks != 0 || st.Bytes != 0 {
		t.Errorf("after everything was unpinned and collected: %+v", st)
	}
}

// TestKnownDirectory holds the fixture of IPIP-550 for this profile.
func TestKnownDirectory(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello.txt"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := s.AddPath(t.Context(), dir)
	if want := "bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24"; err != nil || a.Ref.String() != want {
		t.Errorf("CID is %s, %v, want %s", a.Ref, err, want)
	}
}

// TestBatchKeepsItself: a batch does not collect its own blocks to make room.
func TestBatchKeepsItself(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MaxBlocks: 2})
	a, b, c := rawBlock([]byte("a")), rawBlock([]byte("b")), rawBlock([]byte("c"))
	for _, batch := range [][]block.Block{{a}, {a, b}, {b, c}, {c, c, a}} {
		if err := s.PutMany(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		for _, blk := range batch {
			if ok, err := s.Has(t.Context(), blk.Cid()); err != nil || !ok {
				t.Errorf("%s of the batch is not here: %v", blk.Cid(), err)
			}
		}
	}
	if err := s.PutMany(t.Context(), []block.Block{a, b, c}); !errors.Is(err, ErrFull) {
		t.Errorf("batch above the limit: %v, want ErrFull", err)
	}
	check(t, s)
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
