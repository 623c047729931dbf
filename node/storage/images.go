package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// images keeps materialised files in a directory, each named by its
// reference, within a limit.
type images struct {
	dir    string
	max    int64
	flight singleflight.Group

	mu    sync.Mutex // guards the following
	files map[store.Ref]*image
	used  int64 // including what is being written
}

type image struct {
	size int64
	used time.Time // handed out last
}

// newImages lists what is in dir, and removes the remains of interrupted
// writes.
func newImages(dir string, limit int64) (*images, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
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
		if err != nil || !e.Type().IsRegular() {
			return nil, fmt.Errorf("%s is not an image: remove it", path)
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		im.files[ref] = &image{size: info.Size(), used: info.ModTime()}
		im.used += info.Size()
	}
	return im, nil
}

func (im *images) path(ref store.Ref) string { return filepath.Join(im.dir, ref.String()) }

// get returns the path of ref's file. If it is not there, it is made by
// write, once for all callers that ask meanwhile; fresh tells whether it was.
func (im *images) get(ctx context.Context, ref store.Ref, write func(ctx context.Context, dest string, room int64) (int64, error)) (path string, fresh bool, err error) {
	for {
		if im.touch(ref) {
			return im.path(ref), fresh, nil
		}
		// The work ends with the caller that began it; the others then begin again.
		ch := im.flight.DoChan(ref.String(), func() (any, error) { return nil, im.make(ctx, ref, write) })
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

// touch tells whether ref's file is there, and keeps it from being removed
// for a while.
func (im *images) touch(ref store.Ref) bool {
	im.mu.Lock()
	defer im.mu.Unlock()
	f := im.files[ref]
	if f == nil {
		return false
	}
	info, err := os.Lstat(im.path(ref))
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.size {
		delete(im.files, ref) // changed from outside: make it again
		im.used -= f.size
		_ = os.RemoveAll(im.path(ref)) // an error shows when it is written
		return false
	}
	f.used = time.Now()
	return true
}

// make writes ref's file and makes room for it.
func (im *images) make(ctx context.Context, ref store.Ref, write func(ctx context.Context, dest string, room int64) (int64, error)) error {
	if im.touch(ref) {
		return nil
	}
	size, err := write(ctx, im.path(ref), im.max)
	if err != nil {
		return err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.files[ref] = &image{size: size, used: time.Now()}
	im.used += size
	if err := im.evictLocked(); err != nil {
		delete(im.files, ref)
		im.used -= size
		return errors.Join(err, os.Remove(im.path(ref)))
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
		if err := os.Remove(im.path(ref)); err != nil && !errors.Is(err, os.ErrNotExist) {
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
