package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/xenoserver/xeno/store"
)

// A Pin is a root that the user added: its blocks are never collected.
type Pin struct {
	Ref   store.Ref `json:"ref"`
	Name  string    `json:"name"`  // of the file or directory it was added from
	Size  int64     `json:"size"`  // of the content in bytes
	Added int64     `json:"added"` // Unix seconds
}

// A pin is a Pin with the keys that it references.
type pin struct {
	Pin
	keys       []string
	incomplete bool
}

// ErrNotPinned reports a root that is not pinned.
var ErrNotPinned = errors.New("not pinned")

// Pin protects the DAG below p.Ref from collection, durably. All of it must
// be here: otherwise the error wraps ErrIncomplete. Pinning again is no error
// and completes a pin that was incomplete.
func (s *Store) Pin(ctx context.Context, p Pin) error {
	root := p.Ref.CID()
	if p.Added == 0 {
		p.Added = time.Now().Unix()
	}
	if len(p.Name) > maxName {
		p.Name = strings.ToValidUTF8(p.Name[:maxName], "")
	}
	keys, missing, err := s.reference(ctx, root)
	if err == nil && missing > 0 {
		err = fmt.Errorf("%w: %d", ErrIncomplete, missing)
	}
	if err != nil {
		s.release(keys)
		return fmt.Errorf("blocks: pin %s: %w", root, err)
	}
	s.mu.Lock()
	old := s.pins[root]
	if old == nil && len(s.pins) >= maxPins {
		s.mu.Unlock()
		s.release(keys)
		return fmt.Errorf("blocks: pin %s: %w: %d pins", root, ErrFull, maxPins)
	}
	s.mu.Unlock()
	if old == nil {
		if err := s.writePin(p); err != nil {
			s.release(keys)
			return fmt.Errorf("blocks: pin %s: %w", root, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &pin{Pin: p, keys: keys}
	if old = s.pins[root]; old != nil {
		next.Pin = old.Pin
		for _, k := range old.keys {
			s.unrefLocked(k)
		}
	}
	s.pins[root] = next
	return nil
}

// Unpin lets the DAG below ref be collected, unless other pins keep parts of
// it. The error wraps ErrNotPinned.
func (s *Store) Unpin(ref store.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pins[ref.CID()]
	if p == nil {
		return fmt.Errorf("blocks: unpin %s: %w", ref, ErrNotPinned)
	}
	if err := os.Remove(s.pinPath(ref)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("blocks: unpin %s: %w", ref, err)
	}
	delete(s.pins, ref.CID())
	for _, k := range p.keys {
		s.unrefLocked(k)
	}
	return nil
}

// Pins lists what is pinned, oldest first.
func (s *Store) Pins() []Pin {
	return s.listPins(func(*pin) bool { return true })
}

// Incomplete lists the pins of which blocks were missing or damaged when the
// store was opened: fetch their DAG and pin them again.
func (s *Store) Incomplete() []Pin {
	return s.listPins(func(p *pin) bool { return p.incomplete })
}

func (s *Store) listPins(want func(*pin) bool) []Pin {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Pin
	for _, p := range s.pins {
		if want(p) {
			all = append(all, p.Pin)
		}
	}
	slices.SortFunc(all, func(a, b Pin) int {
		if a.Added != b.Added {
			return int(a.Added - b.Added)
		}
		return strings.Compare(a.Ref.String(), b.Ref.String())
	})
	return all
}

// reference protects every block of the DAG below root and returns their
// keys, with how many were missing. Each block is looked at once. The caller
// releases the keys when it does not keep them, even on an error.
func (s *Store) reference(ctx context.Context, root cid.Cid) (keys []string, missing int, err error) {
	seen := make(map[string]bool)
	queue := []cid.Cid{root}
	for len(queue) > 0 {
		c := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		key := keyOf(c)
		if seen[key] {
			continue
		}
		if len(seen) >= s.maxBlocks {
			return keys, missing, fmt.Errorf("%w: more than %d blocks", ErrTooLarge, s.maxBlocks)
		}
		seen[key] = true
		s.mu.Lock()
		s.refLocked(key)
		s.mu.Unlock()
		keys = append(keys, key)
		links, err := s.links(ctx, c)
		switch {
		case ipld.IsNotFound(err):
			missing++
		case err != nil:
			return keys, missing, err
		}
		queue = append(queue, links...)
	}
	return keys, missing, nil
}

// links returns the links of a block that is here.
func (s *Store) links(ctx context.Context, c cid.Cid) ([]cid.Cid, error) {
	if c.Prefix().Codec != cid.DagProtobuf {
		if ok, err := s.Has(ctx, c); err != nil || !ok {
			return nil, errors.Join(err, ipld.ErrNotFound{Cid: c})
		}
		return nil, nil
	}
	b, err := s.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	node, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, c, err)
	}
	links := make([]cid.Cid, 0, len(node.Links()))
	for _, l := range node.Links() {
		if err := store.CheckCID(l.Cid); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, c, err)
		}
		links = append(links, l.Cid)
	}
	return links, nil
}

func (s *Store) release(keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		s.unrefLocked(k)
	}
}

func (s *Store) pinPath(ref store.Ref) string { return filepath.Join(s.dir, pinDir, ref.String()) }

// writePin makes a pin durable.
func (s *Store) writePin(p Pin) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeFileSync(s.pinPath(p.Ref), b)
}

// writeFileSync writes a file so that after a crash it is there whole or not
// at all.
func writeFileSync(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// loadPins reads the pins and references what they protect. Remains of an
// interrupted write are removed; a file that is not a pin is an error that
// names it.
func (s *Store) loadPins(ctx context.Context) error {
	files, err := os.ReadDir(filepath.Join(s.dir, pinDir))
	if err != nil {
		return err
	}
	if len(files) > maxPins {
		return fmt.Errorf("%d pins, limit %d", len(files), maxPins)
	}
	for _, f := range files {
		path := filepath.Join(s.dir, pinDir, f.Name())
		if strings.HasPrefix(f.Name(), ".tmp-") {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		p, err := readPin(path)
		if err != nil {
			return fmt.Errorf("pin %s: %w (remove the file to unpin it)", path, err)
		}
		keys, missing, err := s.reference(ctx, p.Ref.CID())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.pins[p.Ref.CID()] = &pin{Pin: p, keys: keys, incomplete: missing > 0 || err != nil}
	}
	return nil
}

func readPin(path string) (Pin, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Pin{}, err
	}
	if info.Size() > maxPinFile {
		return Pin{}, fmt.Errorf("%w: %d bytes", ErrMalformed, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Pin{}, err
	}
	return decodePin(b, filepath.Base(path))
}

// decodePin reads the description of the pin of the root called name.
func decodePin(b []byte, name string) (Pin, error) {
	var p Pin
	if err := json.Unmarshal(b, &p); err != nil {
		return Pin{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if p.Ref.IsZero() || p.Ref.String() != name || p.Size < 0 {
		return Pin{}, fmt.Errorf("%w: not of the root it is named after", ErrMalformed)
	}
	return p, nil
}

// Complete fetches from src the blocks that a pin lacks and pins it again.
// The error is src's, or that of Pin.
func (s *Store) Complete(ctx context.Context, src Source, p Pin) error {
	h := s.hold()
	defer h.release()
	view := holdView{s, h}
	seen := make(map[string]bool)
	queue := []cid.Cid{p.Ref.CID()}
	for len(queue) > 0 {
		c := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if seen[keyOf(c)] {
			continue
		}
		if len(seen) >= s.maxBlocks {
			return fmt.Errorf("blocks: complete %s: %w: more than %d blocks", p.Ref, ErrTooLarge, s.maxBlocks)
		}
		seen[keyOf(c)] = true
		links, err := s.links(ctx, c)
		if ipld.IsNotFound(err) {
			if err = view.fetch(ctx, src, c); err == nil {
				links, err = s.links(ctx, c)
			}
		}
		if err != nil {
			return fmt.Errorf("blocks: complete %s: %w", p.Ref, err)
		}
		queue = append(queue, links...)
	}
	return s.Pin(ctx, p)
}

// fetch stores a block that src yields.
func (v holdView) fetch(ctx context.Context, src Source, c cid.Cid) error {
	b, err := src.GetBlock(ctx, c)
	if err != nil {
		return err
	}
	return v.Put(ctx, b)
}
