package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "instance")
	if _, err := LockDir(t.Context(), dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lock of nothing: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := LockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if !OnlyLock(dir) {
		t.Error("a new directory holds more than its lock")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := LockDir(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked twice: %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := LockDir(t.Context(), dir)
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-waiting; !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lock of a directory that is gone: %v", err)
	}
}

func TestReplaceFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "record")
	for _, want := range []string{"longer than the next", "short"} {
		if err := ReplaceFile(name, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	if !OnlyLock(filepath.Dir(name)) { // one file alone
		t.Error("something is left beside the file")
	}
}
