package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/store/blocks"
)

// images keeps materialised files and trees in a directory, each named by
// its reference, within a limit.
type images struct {
	dir    string
	max    int64
	flight singleflight.Group

	mu    sync.Mutex // guards the following
	files map[store.Ref]*image
	used  int64
}

type image struct {
	dir  bool
	size int64
	used time.Time // handed out last
}

// newImages lists what is in dir, and removes the remains of interrupted
// writes.
func newImages(dir string, limit int64) (*images, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // environments read it
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	im := &images{dir: dir, max: limit, files: make(map[store.Ref]*image)}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".xeno-get-") {
			if err := os.RemoveAll(path); err != nil {
				return nil, err
			}
			continue
		}
		ref, err := store.ParseRef(e.Name())
		if err != nil || !e.Type().IsRegular() && !e.IsDir() {
			return nil, fmt.Errorf("%s is not an image: remove it", path)
		}
		f, err := readImage(path)
		if err != nil {
			return nil, err
		}
		im.files[ref] = f
		im.used += f.size
	}
	return im, nil
}

// readImage describes the file or tree at path.
func readImage(path string) (*image, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	f := &image{dir: info.IsDir(), used: info.ModTime()}
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			f.size += info.Size()
		}
		return err
	})
	return f, err
}

func (im *images) path(ref store.Ref) string { return filepath.Join(im.dir, ref.String()) }

// A writeFunc makes the file or tree dest and returns its size.
type writeFunc func(ctx context.Context, dest string) (int64, error)

// get returns the path of ref's file, or tree if dir. If it is not there, it is
// made by write, once for all callers that ask meanwhile; fresh tells whether
// it was.
func (im *images) get(ctx context.Context, ref store.Ref, dir bool, write writeFunc) (path string, fresh bool, err error) {
	for {
		if is, ok := im.touch(ref); ok && is != dir {
			if is {
				return "", false, blocks.ErrNotFile
			}
			return "", false, blocks.ErrNotDir
		} else if ok {
			return im.path(ref), fresh, nil
		}
		// The work ends with the caller that began it; the others then begin again.
		ch := im.flight.DoChan(fmt.Sprint(ref, dir), func() (any, error) { return nil, im.make(ctx, ref, dir, write) })
		select {
		case r := <-ch:
			others := r.Shared && ctx.Err() == nil && (errors.Is(r.Err, context.Canceled) || errors.Is(r.Err, context.DeadlineExceeded))
			if r.Err != nil && !others {
				return "", false, r.Err
			}
			fresh = r.Err == nil
		case <-ctx.Done():
			return "", false, context.Cause(ctx)
		}
	}
}

// touch tells whether ref's file or tree is there, and keeps it from being
// removed for a while.
func (im *images) touch(ref store.Ref) (dir, ok bool) {
	im.mu.Lock()
	defer im.mu.Unlock()
	f := im.files[ref]
	if f == nil {
		return false, false
	}
	info, err := os.Lstat(im.path(ref))
	whole := err == nil && (f.dir && info.IsDir() || !f.dir && info.Mode().IsRegular() && info.Size() == f.size)
	if !whole {
		delete(im.files, ref) // changed from outside: make it again
		im.used -= f.size
		_ = os.RemoveAll(im.path(ref)) // an error shows when it is written
		return false, false
	}
	f.used = time.Now()
	return f.dir, true
}

// make writes ref's file and makes room for it.
func (im *images) make(ctx context.Context, ref store.Ref, dir bool, write writeFunc) error {
	if _, ok := im.touch(ref); ok {
		return nil
	}
	size, err := write(ctx, im.path(ref))
	if err != nil {
		return err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.files[ref] = &image{dir: dir, size: size, used: time.Now()}
	im.used += size
	if err := im.evictLocked(); err != nil {
		delete(im.files, ref)
		im.used -= size
		return errors.Join(err, os.RemoveAll(im.path(ref)))
	}
	return nil
}

// evictLocked removes the files not handed out for longest until the limit
// holds, but none that was handed out a short while ago.
func (im *images) evictLocked() error {
	if im.used <= im.max {
		return nil
	}
	refs := im.refsLocked()
	slices.SortFunc(refs, func(a, b store.Ref) int { return im.files[a].used.Compare(im.files[b].used) })
	for _, ref := range refs {
		if im.used <= im.max {
			return nil
		}
		f := im.files[ref]
		if time.Since(f.used) < imageGrace {
			break
		}
		if err := os.RemoveAll(im.path(ref)); err != nil {
			return err
		}
		delete(im.files, ref)
		im.used -= f.size
	}
	if im.used > im.max {
		return fmt.Errorf("%w: images in use leave no room within %d bytes", blocks.ErrFull, im.max)
	}
	return nil
}

func (im *images) refsLocked() []store.Ref {
	refs := make([]store.Ref, 0, len(im.files))
	for ref := range im.files {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b store.Ref) int { return cmp.Compare(a.String(), b.String()) })
	return refs
}

// refs lists the files that are there.
func (im *images) refs() []store.Ref {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.refsLocked()
}

func (im *images) size() int64 {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.used
}
