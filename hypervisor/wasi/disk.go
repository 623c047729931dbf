package wasi

import (
	"io/fs"
	"path"
	"strings"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/sys"
)

// errFull stands for ENOSPC, which wazero has no number for.
const errFull = experimentalsys.EIO

// A disk is the private directory: a directory of the host that is empty at
// first, has no other user, and may not grow over its limit. Links of both
// sorts are refused, so that no path leads out of it, and every file has one
// name. It has one user, the module's thread, and no lock.
type disk struct {
	experimentalsys.UnimplementedFS
	host  experimentalsys.FS
	limit uint64
	used  uint64 // contents, also of open files without a name, and entries
	files map[sys.Inode]*node
	tick  func()
	full  func() // called when something did not fit
}

// A node is a regular file that has a name, or is open, or both.
type node struct {
	inode sys.Inode
	size  uint64
	opens int
	named bool
}

func newDisk(host experimentalsys.FS, limit uint64, tick, full func()) *disk {
	return &disk{host: host, limit: limit, files: make(map[sys.Inode]*node), tick: tick, full: full}
}

// local makes a path relative to the directory: what would lead above it
// stays in it, as the root's parent is the root.
func local(name string) (string, experimentalsys.Errno) {
	if strings.ContainsRune(name, 0) {
		return "", experimentalsys.EINVAL
	}
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if clean == "" {
		clean = "."
	}
	return clean, 0
}

// reserve takes space, or says that there is none.
func (d *disk) reserve(n uint64) bool {
	if n > d.limit-d.used {
		d.full()
		return false
	}
	d.used += n
	return true
}

// OpenFile implements experimentalsys.FS.
func (d *disk) OpenFile(name string, flag experimentalsys.Oflag, _ fs.FileMode) (experimentalsys.File, experimentalsys.Errno) {
	d.tick()
	name, errno := local(name)
	if errno != 0 {
		return nil, errno
	}
	_, missing := d.host.Lstat(name)
	creates := missing == experimentalsys.ENOENT && flag&experimentalsys.O_CREAT != 0
	if creates && !d.reserve(entryBytes) {
		return nil, errFull
	}
	if name != "." { // which is a link, in /proc
		flag |= experimentalsys.O_NOFOLLOW
	}
	f, errno := d.host.OpenFile(name, flag&^experimentalsys.O_APPEND, 0o600)
	if errno != 0 {
		if creates {
			d.used -= entryBytes
		}
		return nil, errno
	}
	st, errno := f.Stat()
	if errno != 0 {
		_ = f.Close()
		return nil, errno
	}
	if !st.Mode.IsRegular() {
		return f, 0
	}
	n := d.files[st.Ino]
	if n == nil {
		n = &node{inode: st.Ino, named: true}
		d.files[st.Ino] = n
	}
	d.used -= n.size - uint64(st.Size) // smaller only when just truncated
	n.size = uint64(st.Size)
	n.opens++
	return &file{File: f, disk: d, node: n, appends: flag&experimentalsys.O_APPEND != 0}, 0
}

// release forgets a file that nothing leads to any more.
func (d *disk) release(n *node) {
	if n.opens == 0 && !n.named {
		d.used -= n.size
		delete(d.files, n.inode)
	}
}

// unname notes that an entry is gone.
func (d *disk) unname(inode sys.Inode) {
	d.used -= entryBytes
	if n := d.files[inode]; n != nil {
		n.named = false
		d.release(n)
	}
}

// Lstat implements experimentalsys.FS.
func (d *disk) Lstat(name string) (sys.Stat_t, experimentalsys.Errno) {
	d.tick()
	name, errno := local(name)
	if errno != 0 {
		return sys.Stat_t{}, errno
	}
	if name == "." {
		return d.host.Stat(name)
	}
	return d.host.Lstat(name)
}

// Stat implements experimentalsys.FS.
func (d *disk) Stat(name string) (sys.Stat_t, experimentalsys.Errno) { return d.Lstat(name) }

// Mkdir implements experimentalsys.FS.
func (d *disk) Mkdir(name string, _ fs.FileMode) experimentalsys.Errno {
	d.tick()
	name, errno := local(name)
	if errno != 0 {
		return errno
	}
	if !d.reserve(entryBytes) {
		return errFull
	}
	errno = d.host.Mkdir(name, 0o700)
	if errno != 0 {
		d.used -= entryBytes
	}
	return errno
}

// Rmdir implements experimentalsys.FS.
func (d *disk) Rmdir(name string) experimentalsys.Errno {
	d.tick()
	name, errno := local(name)
	if errno != 0 {
		return errno
	}
	if name == "." {
		return experimentalsys.EINVAL
	}
	errno = d.host.Rmdir(name)
	if errno == 0 {
		d.used -= entryBytes
	}
	return errno
}

// Unlink implements experimentalsys.FS.
func (d *disk) Unlink(name string) experimentalsys.Errno {
	d.tick()
	name, errno := local(name)
	if errno != 0 {
		return errno
	}
	st, errno := d.host.Lstat(name)
	if errno != 0 {
		return errno
	}
	errno = d.host.Unlink(name)
	if errno == 0 {
		d.unname(st.Ino)
	}
	return errno
}

// Rename implements experimentalsys.FS.
func (d *disk) Rename(from, to string) experimentalsys.Errno {
	d.tick()
	from, errno := local(from)
	if errno != 0 {
		return errno
	}
	if to, errno = local(to); errno != 0 {
		return errno
	}
	source, errno := d.host.Lstat(from)
	if errno != 0 {
		return errno
	}
	target, missing := d.host.Lstat(to)
	errno = d.host.Rename(from, to)
	if errno == 0 && missing == 0 && target.Ino != source.Ino {
		d.unname(target.Ino)
	}
	return errno
}

// Link implements experimentalsys.FS.
func (d *disk) Link(_, _ string) experimentalsys.Errno { return experimentalsys.ENOTSUP }

// Symlink implements experimentalsys.FS.
func (d *disk) Symlink(_, _ string) experimentalsys.Errno { return experimentalsys.ENOTSUP }

// Readlink implements experimentalsys.FS.
func (d *disk) Readlink(string) (string, experimentalsys.Errno) { return "", experimentalsys.EINVAL }

// Chmod implements experimentalsys.FS.
func (d *disk) Chmod(string, fs.FileMode) experimentalsys.Errno { return experimentalsys.ENOTSUP }

// Utimens implements experimentalsys.FS.
func (d *disk) Utimens(name string, atim, mtim int64) experimentalsys.Errno {
	d.tick()
	name, errno := local(name)
	if errno != 0 {
		return errno
	}
	return d.host.Utimens(name, atim, mtim)
}

// A file is an open regular file whose growth is counted.
type file struct {
	experimentalsys.File
	disk    *disk
	node    *node
	appends bool
	closed  bool
}

// IsAppend implements experimentalsys.File.
func (f *file) IsAppend() bool { return f.appends }

// SetAppend implements experimentalsys.File. wazero's own would open the path
// again, which may be another file by now.
func (f *file) SetAppend(enable bool) experimentalsys.Errno {
	f.appends = enable
	return 0
}

// room cuts a write at off down to what fits.
func (f *file) room(buf []byte, off uint64) ([]byte, experimentalsys.Errno) {
	end := f.node.size + (f.disk.limit - f.disk.used) // as far as the file may reach
	if len(buf) > 0 && off >= end {
		f.disk.full()
		return nil, errFull
	}
	return buf[:min(uint64(len(buf)), end-min(off, end))], 0
}

// grown counts n bytes that were written at off.
func (f *file) grown(off uint64, n int) {
	if end := off + uint64(max(n, 0)); n > 0 && end > f.node.size {
		f.disk.used += end - f.node.size
		f.node.size = end
	}
}

// Write implements experimentalsys.File.
func (f *file) Write(buf []byte) (int, experimentalsys.Errno) {
	f.disk.tick()
	whence := 1 // from where the file is
	if f.appends {
		whence = 2 // from its end
	}
	pos, errno := f.Seek(0, whence)
	if errno != 0 {
		return 0, errno
	}
	off := uint64(pos)
	buf, errno = f.room(buf, off)
	if errno != 0 {
		return 0, errno
	}
	n, errno := f.File.Write(buf)
	f.grown(off, n)
	return n, errno
}

// Pwrite implements experimentalsys.File.
func (f *file) Pwrite(buf []byte, off int64) (int, experimentalsys.Errno) {
	f.disk.tick()
	if off < 0 {
		return 0, experimentalsys.EINVAL
	}
	buf, errno := f.room(buf, uint64(off))
	if errno != 0 {
		return 0, errno
	}
	n, errno := f.File.Pwrite(buf, off)
	f.grown(uint64(off), n)
	return n, errno
}

// Truncate implements experimentalsys.File.
func (f *file) Truncate(size int64) experimentalsys.Errno {
	f.disk.tick()
	if size < 0 {
		return experimentalsys.EINVAL
	}
	old, next := f.node.size, uint64(size)
	if next > old && !f.disk.reserve(next-old) {
		return errFull
	}
	errno := f.File.Truncate(size)
	switch {
	case errno != 0 && next > old:
		f.disk.used -= next - old
	case errno == 0:
		f.node.size = next
		if next < old {
			f.disk.used -= old - next
		}
	}
	return errno
}

// Read implements experimentalsys.File.
func (f *file) Read(buf []byte) (int, experimentalsys.Errno) {
	f.disk.tick()
	return f.File.Read(buf)
}

// Close implements experimentalsys.File.
func (f *file) Close() experimentalsys.Errno {
	if f.closed {
		return 0
	}
	f.closed = true
	f.node.opens--
	f.disk.release(f.node)
	return f.File.Close()
}
