package wasi

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"pgregory.net/rapid"
)

// consumed counts what is really on a disk: entries and contents.
func consumed(t interface{ Fatal(...any) }, dir string) (total uint64) {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		if e.Type()&fs.ModeSymlink != 0 {
			t.Fatal("symbolic link", path)
		}
		total += entryBytes
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += uint64(info.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// TestDiskAccounts does random things to a disk and compares its account with
// what is there: equal when no nameless file is open, never over the limit.
func TestDiskAccounts(t *testing.T) {
	names := []string{"a", "b", "d", "d/a", "d/b", "d/d", "../a", "/", ".", "d/../b", "x\x00", strings.Repeat("n", 300)}
	base, run := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(base, strconv.Itoa(run))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		const limit = 20 * entryBytes
		full := 0
		d := newDisk(sysfs.DirFS(dir), limit, func() {}, func() { full++ })
		var open []experimentalsys.File
		name := rapid.SampledFrom(names)
		size := rapid.IntRange(0, limit*5/4)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			case 0, 1:
				flag := rapid.SampledFrom([]experimentalsys.Oflag{
					experimentalsys.O_RDONLY, experimentalsys.O_RDWR | experimentalsys.O_CREAT,
					experimentalsys.O_WRONLY | experimentalsys.O_CREAT | experimentalsys.O_TRUNC,
					experimentalsys.O_RDWR | experimentalsys.O_APPEND | experimentalsys.O_CREAT,
					experimentalsys.O_WRONLY | experimentalsys.O_CREAT | experimentalsys.O_EXCL,
				}).Draw(t, "flag")
				if f, errno := d.OpenFile(name.Draw(t, "name"), flag, 0o644); errno == 0 {
					open = append(open, f)
				}
			case 2:
				_ = d.Mkdir(name.Draw(t, "name"), 0o755)
			case 3:
				_ = d.Unlink(name.Draw(t, "name"))
			case 4:
				_ = d.Rmdir(name.Draw(t, "name"))
			case 5:
				_ = d.Rename(name.Draw(t, "from"), name.Draw(t, "to"))
			case 6, 7, 8:
				if len(open) == 0 {
					continue
				}
				f := open[rapid.IntRange(0, len(open)-1).Draw(t, "file")]
				switch rapid.IntRange(0, 4).Draw(t, "what") {
				case 0:
					_, _ = f.Write(make([]byte, size.Draw(t, "size")))
				case 1:
					_, _ = f.Pwrite(make([]byte, size.Draw(t, "size")), int64(size.Draw(t, "off")))
				case 2:
					_ = f.Truncate(int64(size.Draw(t, "size")))
				case 3:
					_, _ = f.Seek(int64(size.Draw(t, "off")), 0)
				case 4:
					_ = f.SetAppend(rapid.Bool().Draw(t, "append"))
				}
			case 9:
				if len(open) > 0 {
					_ = open[0].Close()
					_ = open[0].Close()
					open = open[1:]
				}
			}
			if d.used > limit || consumed(t, dir) > d.used {
				t.Fatalf("used %d of %d, on disk %d", d.used, limit, consumed(t, dir))
			}
		}
		for _, f := range open {
			_ = f.Close()
		}
		if got := consumed(t, dir); got != d.used {
			t.Fatalf("account %d, on disk %d", d.used, got)
		}
		if outside, err := os.ReadDir(base); err != nil || len(outside) != 1 {
			t.Fatal("outside", outside, err)
		}
	})
}

// TestDiskLinks checks that no link can be made, and none that is there is
// followed.
func TestDiskLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	d := newDisk(sysfs.DirFS(dir), 1<<20, func() {}, func() {})
	if errno := d.Symlink("/etc", "new"); errno != experimentalsys.ENOTSUP {
		t.Error(errno)
	}
	if errno := d.Link("link", "new"); errno != experimentalsys.ENOTSUP {
		t.Error(errno)
	}
	if f, errno := d.OpenFile("link", experimentalsys.O_RDONLY, 0); errno == 0 {
		_ = f.Close()
		t.Error("followed a link")
	}
	if st, errno := d.Stat("link"); errno != 0 || st.Mode&fs.ModeSymlink == 0 {
		t.Errorf("followed a link: %v %v", st, errno)
	}
}

func FuzzLocal(f *testing.F) {
	for _, s := range []string{"", "/", "..", "../../etc/passwd", "a/../../b", "/..//..", "a\x00", "./a/."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, errno := local(name)
		if errno == 0 && !filepath.IsLocal(got) {
			t.Fatalf("%q becomes %q", name, got)
		}
	})
}
