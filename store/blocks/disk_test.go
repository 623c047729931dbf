package blocks

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/internal/testenv"
)

// TestDiskFull fills a real file system: the add is refused, nothing is left
// half written, and what was there stays readable.
func TestDiskFull(t *testing.T) {
	testenv.Require(t, "root", testenv.Root())
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := open(t, Config{Dir: dir})
	kept := add(t, s, content(1, 3<<20))
	if _, err := s.Add(t.Context(), "x", bytes.NewReader(content(2, 8<<20))); !errors.Is(err, ErrFull) {
		t.Errorf("add on a full disk: %v, want ErrFull", err)
	}
	check(t, s)
	if b, err := read(s, kept); err != nil || !bytes.Equal(b, content(1, 3<<20)) {
		t.Errorf("what was there: %d bytes, %v", len(b), err)
	}
	add(t, s, content(3, 3<<20)) // the remains of the refused add make room
	check(t, s)
}
