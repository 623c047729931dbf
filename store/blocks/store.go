// Package blocks keeps the blocks of XenoStore in a directory: those that the
// user added, pinned, and those that passed by, as a cache that is collected,
// least recently used first, when the size limit is reached. It builds UnixFS
// DAGs from files and writes them back, and trusts neither the disk nor the
// DAG: every block is hashed when it is read, and every size, name and depth
// is bounded.
//
// # Layout
//
//	lock       held by the process that has the store open
//	blocks/    go-ds-flatfs, next-to-last/2: one file a block, written to a
//	           temporary file, synced and renamed
//	pins/CID   one file a pinned root: a JSON object {name, size, added}
//
// The index is in memory and built from the directory when the store is
// opened; what is on the disk is all there is to lose.
package blocks

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"golang.org/x/sys/unix"
)

// Sentinels that callers decide by.
var (
	// ErrFull reports that the size limit is reached and nothing is left that
	// could be collected.
	ErrFull = errors.New("store is full: unpin something, or raise its size limit")
	// ErrLocked reports that another process has the store open.
	ErrLocked = errors.New("store is in use by another process")
	// ErrCorrupt reports a block whose content is not what its name says. It
	// was removed, so that it can be fetched again.
	ErrCorrupt = errors.New("block was damaged on disk and removed")
	// ErrIncomplete reports a DAG of which blocks are missing here.
	ErrIncomplete = errors.New("blocks are missing")
	// ErrMalformed reports content that is not a well-formed UnixFS DAG.
	ErrMalformed = errors.New("malformed content")
	// ErrUnsafe reports names or links that would leave the directory they
	// are written to or read from.
	ErrUnsafe = errors.New("unsafe path")
	// ErrTooLarge reports content beyond a size, depth or entry limit.
	ErrTooLarge = errors.New("content exceeds the limit")
	// ErrNotFile reports a directory where a file was asked for.
	ErrNotFile = errors.New("is a directory")
	// ErrNotDir reports a file where a directory was asked for.
	ErrNotDir = errors.New("is a file")
)

// Config says where and how much a store keeps.
type Config struct {
	Dir string // created if missing, 0700
	// MaxBytes is the most that blocks take, in bytes, each rounded up to
	// 4 KiB; 0 means 10 GiB. Pinned content counts: a small limit leaves
	// little cache, and adds beyond it are refused.
	MaxBytes int64
	// MaxBlocks is the most blocks, pinned or not; 0 means 262,144. Each
	// costs about 250 bytes of memory.
	MaxBlocks int
}

// A Store keeps blocks in a directory. It is a boxo blockstore. All methods
// may be called at once.
type Store struct {
	// Fixed.
	dir       string
	maxBytes  int64
	maxBlocks int
	lock      *os.File
	flat      *flatfs.Datastore

	mu      sync.Mutex // guards the following
	entries map[string]*entry
	refs    map[string]int // by pins and operations under way, also of absent blocks
	cached  *list.List     // keys of unreferenced blocks, most recently used first
	used    int64
	pins    map[cid.Cid]*pin
	stats   Stats
	closed  bool
}

// An entry is a block on the disk, or on its way there. Its key is the binary
// multihash.
type entry struct {
	size    int64
	elem    *list.Element // in Store.cached; nil while referenced or being written
	writing chan struct{} // closed when the write has ended; nil afterwards
}

// Stats counts what a store holds and did since it was opened.
type Stats struct {
	Blocks    int
	Bytes     int64 // rounded up to pages, as the limit is
	Limit     int64
	Cached    int   // blocks that collection may take
	Pins      int   //
	Collected int64 // blocks removed to make room
	Corrupt   int64 // blocks found damaged
	Refused   int64 // writes refused for want of room
}

// Open opens the store in cfg.Dir. The error wraps ErrLocked if another
// process has it open. Pins of which blocks are missing are listed by
// Incomplete.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("blocks: Config.Dir is empty")
	}
	if cfg.MaxBytes < 0 || cfg.MaxBlocks < 0 {
		return nil, errors.New("blocks: Config.MaxBytes and MaxBlocks must not be negative")
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MaxBlocks == 0 {
		cfg.MaxBlocks = defaultMaxBlocks
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, pinDir), 0o700); err != nil {
		return nil, fmt.Errorf("blocks: open store: %w", err)
	}
	lock, err := takeLock(filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("blocks: open %s: %w", cfg.Dir, err)
	}
	flat, err := flatfs.CreateOrOpen(filepath.Join(cfg.Dir, blockDir), flatfs.NextToLast(2), true)
	if err != nil {
		return nil, fmt.Errorf("blocks: open %s: %w", cfg.Dir, errors.Join(err, lock.Close()))
	}
	s := &Store{
		dir: cfg.Dir, maxBytes: cfg.MaxBytes, maxBlocks: cfg.MaxBlocks, lock: lock, flat: flat,
		entries: make(map[string]*entry),
		refs:    make(map[string]int),
		cached:  list.New(),
		pins:    make(map[cid.Cid]*pin),
	}
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("blocks: open %s: %w", cfg.Dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

const (
	blockDir = "blocks"
	pinDir   = "pins"
)

// takeLock locks the file at path for as long as it stays open.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// load builds the index, references what is pinned, and collects what a
// limit that was lowered meanwhile leaves no room for.
func (s *Store) load(ctx context.Context) error {
	found, err := scan(filepath.Join(s.dir, blockDir))
	if err != nil {
		return err
	}
	for _, f := range found { // oldest first
		e := &entry{size: f.size}
		e.elem = s.cached.PushFront(f.key)
		s.entries[f.key] = e
		s.used += charge(f.size)
	}
	if err := s.loadPins(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.used > s.maxBytes || len(s.entries) > s.maxBlocks {
		if !s.evictLocked(ctx) {
			break // pinned content above a lowered limit stays: adds are refused
		}
	}
	return nil
}

// Close closes the store. Operations under way fail. It may be called twice.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	err := s.flat.Close()
	if cerr := s.lock.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("blocks: close: %w", err)
	}
	return nil
}

// Stats returns the present counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Blocks, st.Bytes, st.Limit = len(s.entries), s.used, s.maxBytes
	st.Cached, st.Pins = s.cached.Len(), len(s.pins)
	return st
}

// charge is what a block of size bytes counts against the limit.
func charge(size int64) int64 {
	return max(1, (size+pageBytes-1)/pageBytes) * pageBytes
}

// reserveLocked makes room for size bytes and counts them, collecting cached
// blocks as far as needed.
func (s *Store) reserveLocked(ctx context.Context, size int64) error {
	need := charge(size)
	for s.used+need > s.maxBytes || len(s.entries) >= s.maxBlocks {
		if !s.evictLocked(ctx) {
			s.stats.Refused++
			return fmt.Errorf("%w (limit %d bytes in %d blocks)", ErrFull, s.maxBytes, s.maxBlocks)
		}
	}
	s.used += need
	return nil
}

// evictLocked removes the least recently used block that nothing references,
// and tells whether there was one.
func (s *Store) evictLocked(ctx context.Context) bool {
	back := s.cached.Back()
	if back == nil {
		return false
	}
	if err := s.removeLocked(ctx, back.Value.(string)); err != nil {
		return false
	}
	s.stats.Collected++
	return true
}

// removeLocked deletes a block that is not being written from disk and index.
func (s *Store) removeLocked(ctx context.Context, key string) error {
	e := s.entries[key]
	if err := s.flat.Delete(context.WithoutCancel(ctx), dsKey(key)); err != nil && !errors.Is(err, ds.ErrNotFound) {
		return err
	}
	if e.elem != nil {
		s.cached.Remove(e.elem)
	}
	delete(s.entries, key)
	s.used -= charge(e.size)
	return nil
}

// Collect removes cached blocks, least recently used first, until they take
// at most keep bytes, and returns how many bytes that freed.
func (s *Store) Collect(ctx context.Context, keep int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var cached int64
	for el := s.cached.Front(); el != nil; el = el.Next() {
		cached += charge(s.entries[el.Value.(string)].size)
	}
	before := s.used
	for cached-(before-s.used) > keep {
		if !s.evictLocked(ctx) {
			break
		}
	}
	return before - s.used
}

// refLocked protects a block from collection, whether it is here yet or not.
func (s *Store) refLocked(key string) {
	s.refs[key]++
	if e := s.entries[key]; e != nil && e.elem != nil {
		s.cached.Remove(e.elem)
		e.elem = nil
	}
}

// unrefLocked takes back one refLocked.
func (s *Store) unrefLocked(key string) {
	if s.refs[key]--; s.refs[key] > 0 {
		return
	}
	delete(s.refs, key)
	if e := s.entries[key]; e != nil && e.writing == nil {
		e.elem = s.cached.PushFront(key)
	}
}

// A hold protects the blocks of an operation that ends with a pin.
type hold struct {
	s       *Store
	writers sync.WaitGroup // writes under way

	mu   sync.Mutex // guards the following
	keys map[string]bool
	over bool
}

func (s *Store) hold() *hold { return &hold{s: s, keys: make(map[string]bool)} }

// add begins a write, whose end the caller reports to h.writers.
func (h *hold) add(bs []block.Block) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return errors.New("blocks: write after the end of its operation")
	}
	h.writers.Add(1)
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	for _, b := range bs {
		if key := keyOf(b.Cid()); !h.keys[key] {
			h.keys[key] = true
			h.s.refLocked(key)
		}
	}
	return nil
}

// release ends the operation: it waits for writes under way, of which an
// interrupted one leaves some, and gives its blocks free.
func (h *hold) release() {
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
	h.writers.Wait()
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	for k := range h.keys {
		h.s.unrefLocked(k)
	}
}
