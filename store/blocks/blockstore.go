package blocks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/datastore/dshelp"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/store"
)

var _ blockstore.Blockstore = (*Store)(nil)

func keyOf(c cid.Cid) string { return string(c.Hash()) }

// emptyKey names the block of no bytes, SHA-256 as every other. It is always
// here: everybody knows it by its name, and bitswap does not send it.
const emptyKey = "\x12\x20" +
	"\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb\xf4\xc8\x99\x6f\xb9\x24" +
	"\x27\xae\x41\xe4\x64\x9b\x93\x4c\xa4\x95\x99\x1b\x78\x52\xb8\x55"

func dsKey(key string) ds.Key { return dshelp.MultihashToDsKey(multihash.Multihash(key)) }

// damaged is the error of a block that was removed because its content is not
// what its name says. It counts as not found, so that an exchange fetches it.
func damaged(c cid.Cid) error {
	return fmt.Errorf("blocks: %w (%w)", ErrCorrupt, ipld.ErrNotFound{Cid: c})
}

// ready returns the entry of key once it is on the disk, nil if it is not.
func (s *Store) ready(ctx context.Context, key string) (*entry, error) {
	for {
		s.mu.Lock()
		e := s.entries[key]
		var writing chan struct{}
		if e != nil {
			writing = e.writing
		}
		s.mu.Unlock()
		if writing == nil {
			return e, nil
		}
		select {
		case <-writing:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Get returns the block that c names, after hashing it. The error is
// ipld.ErrNotFound for what is not here; for what was damaged it wraps
// ErrCorrupt, and ipld.IsNotFound holds as well.
func (s *Store) Get(ctx context.Context, c cid.Cid) (block.Block, error) {
	if err := store.CheckCID(c); err != nil {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	key := keyOf(c)
	e, err := s.ready(ctx, key)
	if err != nil {
		return nil, err
	}
	if e == nil && key == emptyKey {
		return block.NewBlockWithCid(nil, c)
	}
	if e == nil {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	if e.size > maxBlock {
		return nil, s.drop(ctx, key, e, damaged(c))
	}
	data, err := s.flat.Get(ctx, dsKey(key))
	if errors.Is(err, ds.ErrNotFound) {
		return nil, s.drop(ctx, key, e, ipld.ErrNotFound{Cid: c})
	}
	if err != nil {
		return nil, fmt.Errorf("blocks: read %s: %w", c, err)
	}
	got, err := c.Prefix().Sum(data)
	if err != nil || !got.Equals(c) {
		return nil, s.drop(ctx, key, e, damaged(c))
	}
	s.mu.Lock()
	if e.elem != nil {
		s.cached.MoveToFront(e.elem)
	}
	s.mu.Unlock()
	return block.NewBlockWithCid(data, c)
}

// drop removes the entry that turned out bad, and returns why.
func (s *Store) drop(ctx context.Context, key string, e *entry, why error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[key] != e || s.closed {
		return why
	}
	if errors.Is(why, ErrCorrupt) {
		s.stats.Corrupt++
	}
	if err := s.removeLocked(ctx, key); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// Has tells whether the block is here.
func (s *Store) Has(ctx context.Context, c cid.Cid) (bool, error) {
	e, err := s.ready(ctx, keyOf(c))
	return err == nil && (e != nil || keyOf(c) == emptyKey), err
}

// GetSize returns the size of a block in bytes. The error is ipld.ErrNotFound
// for what is not here.
func (s *Store) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	e, err := s.ready(ctx, keyOf(c))
	if err != nil {
		return -1, err
	}
	if e == nil && keyOf(c) == emptyKey {
		return 0, nil
	}
	if e == nil {
		return -1, ipld.ErrNotFound{Cid: c}
	}
	return int(e.size), nil
}

// Put stores a block durably. The error wraps ErrFull if there is no room.
func (s *Store) Put(ctx context.Context, b block.Block) error {
	return s.PutMany(ctx, []block.Block{b})
}

// PutMany stores blocks durably, all or none of those that were not here.
// They are then the most recently used. The error wraps ErrFull if there is
// no room.
func (s *Store) PutMany(ctx context.Context, bs []block.Block) error {
	for _, b := range bs {
		if err := store.CheckCID(b.Cid()); err != nil {
			return fmt.Errorf("blocks: write: %w", err)
		}
		if len(b.RawData()) > maxBlock {
			return fmt.Errorf("blocks: write %s of %d bytes, limit %d: %w", b.Cid(), len(b.RawData()), maxBlock, ErrTooLarge)
		}
	}
	// Nothing of the batch makes room for the rest of it.
	keys := make([]string, len(bs))
	s.mu.Lock()
	for i, b := range bs {
		keys[i] = keyOf(b.Cid())
		s.refLocked(keys[i])
	}
	s.mu.Unlock()
	defer s.release(keys)
	for {
		fresh, busy, err := s.claim(ctx, bs)
		if err != nil {
			return fmt.Errorf("blocks: write: %w", err)
		}
		if err := s.write(ctx, fresh); err != nil {
			if errors.Is(err, ErrFull) && s.makeRoom(ctx, fresh) {
				continue // the disk is smaller than the limit: the cache gives way
			}
			return fmt.Errorf("blocks: write: %w", err)
		}
		if busy == nil {
			return nil
		}
		select { // somebody else writes one of them: its end decides
		case <-busy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// claim reserves room for those blocks that are neither here nor being
// written, and marks them as being written. busy is what to wait for before
// the rest can be judged.
func (s *Store) claim(ctx context.Context, bs []block.Block) (fresh []block.Block, busy chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, errors.New("store is closed")
	}
	for _, b := range bs {
		key := keyOf(b.Cid())
		e := s.entries[key]
		switch {
		case e == nil:
			size := int64(len(b.RawData()))
			if err := s.reserveLocked(ctx, size); err != nil {
				s.abandonLocked(fresh)
				return nil, nil, err
			}
			s.entries[key] = &entry{size: size, writing: make(chan struct{})}
			fresh = append(fresh, b)
		case e.writing != nil:
			if !slices.ContainsFunc(fresh, func(f block.Block) bool { return keyOf(f.Cid()) == key }) {
				busy = e.writing
			}
		}
	}
	return fresh, busy, nil
}

// abandonLocked forgets claimed blocks that were not written.
func (s *Store) abandonLocked(claimed []block.Block) {
	for _, b := range claimed {
		key := keyOf(b.Cid())
		e := s.entries[key]
		delete(s.entries, key)
		s.used -= charge(e.size)
		close(e.writing)
	}
}

// write stores claimed blocks and ends the claim.
func (s *Store) write(ctx context.Context, claimed []block.Block) error {
	if len(claimed) == 0 {
		return nil
	}
	err := s.writeFiles(ctx, claimed)
	if err != nil {
		for _, b := range claimed { // what was written before the failure
			if derr := s.flat.Delete(context.WithoutCancel(ctx), dsKey(keyOf(b.Cid()))); derr != nil && !errors.Is(derr, ds.ErrNotFound) {
				err = errors.Join(err, derr)
			}
		}
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.abandonLocked(claimed)
		return err
	}
	for _, b := range claimed {
		key := keyOf(b.Cid())
		e := s.entries[key]
		close(e.writing)
		e.writing = nil
		if s.refs[key] == 0 {
			e.elem = s.cached.PushFront(key)
		}
	}
	return nil
}

// makeRoom collects as much as bs take, and tells whether anything was
// collected.
func (s *Store) makeRoom(ctx context.Context, bs []block.Block) bool {
	var need int64
	for _, b := range bs {
		need += charge(int64(len(b.RawData())))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.used
	for before-s.used < need {
		if !s.evictLocked(ctx) {
			break
		}
	}
	return s.used < before
}

// writeFiles writes the files of blocks, in one batch if there are several: it
// syncs a directory once. A batch that failed leaves its temporary files to
// whoever discards it.
func (s *Store) writeFiles(ctx context.Context, bs []block.Block) error {
	if len(bs) == 1 {
		return s.flat.Put(ctx, dsKey(keyOf(bs[0].Cid())), bs[0].RawData())
	}
	batch, err := s.flat.Batch(ctx)
	if err != nil {
		return err
	}
	for _, b := range bs {
		if err = batch.Put(ctx, dsKey(keyOf(b.Cid())), b.RawData()); err != nil {
			break
		}
	}
	if err == nil {
		err = batch.Commit(ctx)
	}
	if d, ok := batch.(flatfs.DiscardableBatch); ok && err != nil {
		err = errors.Join(err, d.Discard(context.WithoutCancel(ctx)))
	}
	return err
}

// DeleteBlock removes a block, pinned or not; what is not here is no error.
func (s *Store) DeleteBlock(ctx context.Context, c cid.Cid) error {
	key := keyOf(c)
	e, err := s.ready(ctx, key)
	if err != nil || e == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[key] != e {
		return nil
	}
	return s.removeLocked(ctx, key)
}

// AllKeysChan sends every block's CID, as raw, and closes the channel at the
// end or when ctx is done.
func (s *Store) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	s.mu.Lock()
	keys := make([]string, 0, len(s.entries))
	for k, e := range s.entries {
		if e.writing == nil {
			keys = append(keys, k)
		}
	}
	s.mu.Unlock()
	ch := make(chan cid.Cid)
	go func() {
		defer close(ch)
		for _, k := range keys {
			select {
			case ch <- cid.NewCidV1(cid.Raw, multihash.Multihash(k)):
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch, nil
}

// Cache returns a view of the store for content that passes by: where there
// is no room, it is not kept, and that is no error.
func (s *Store) Cache() blockstore.Blockstore { return cacheView{s} }

type cacheView struct{ *Store }

func (v cacheView) Put(ctx context.Context, b block.Block) error {
	return v.PutMany(ctx, []block.Block{b})
}

func (v cacheView) PutMany(ctx context.Context, bs []block.Block) error {
	if err := v.Store.PutMany(ctx, bs); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	return nil
}

// holdView is the store for one operation that ends with a pin: what it
// writes is not collected meanwhile.
type holdView struct {
	*Store
	hold *hold
}

func (v holdView) Put(ctx context.Context, b block.Block) error {
	return v.PutMany(ctx, []block.Block{b})
}

func (v holdView) PutMany(ctx context.Context, bs []block.Block) error {
	if err := v.hold.add(bs); err != nil {
		return err
	}
	defer v.hold.writers.Done()
	return v.Store.PutMany(ctx, bs)
}
