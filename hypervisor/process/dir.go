package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockFile is what LockDir locks in a directory.
const lockFile = "lock"

// Lock waits for the lock of a file, which it makes if need be. Whoever dies
// lets it go.
func Lock(ctx context.Context, name string) (held *os.File, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for %s: %w", name, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// LockDir waits for the lock of an instance's directory, which it makes a file
// of in dir. Errors wrap os.ErrNotExist when there is no such directory, or no
// more.
func LockDir(ctx context.Context, dir string) (unlock func(), err error) {
	name := filepath.Join(dir, lockFile)
	f, err := Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	// The file may have been deleted, with its directory, before it was ours.
	held, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(name); err == nil && !os.SameFile(held, now) {
			err = os.ErrNotExist
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// OnlyLock tells whether dir holds nothing but the file of its lock, which the
// caller has.
func OnlyLock(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 1
}

// ReplaceFile writes a file anew: after a crash it has the old content or the
// new, and the new once ReplaceFile has returned.
func ReplaceFile(name string, data []byte) error {
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
