package blocks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	"github.com/xenoserver/xeno/store"
)

// tree reads a directory into path → content; directories end in a slash,
// links begin with an arrow.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			all[name+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[name] = "-> " + target
			return err
		default:
			b, err := os.ReadFile(path)
			all[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// build makes files below dir from the form that tree returns.
func build(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, path)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTree(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	src := t.TempDir()
	build(t, src, map[string]string{
		"a": "alpha", "empty": "", "sub/b": string(content(1, 3<<20)), "sub/deep/er/c": "c", "hollow/": "",
		"link": "-> sub/b", "sub/up": "-> ../a", "sub/deep/er/top": "-> ../../..", "dir": "-> sub/deep/", "ünïcödé": "u", " ": "space",
	})
	for i := range 1500 { // enough to be sharded
		name := fmt.Sprintf("many/%s%d", strings.Repeat("long", 50), i)
		build(t, src, map[string]string{name: fmt.Sprint(i % 7)})
	}
	a, err := s.AddPath(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(t.TempDir(), "out")
	x, err := Extract(t.Context(), s.Local(), a.Ref, dest, ExtractOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree(t, dest), tree(t, src)); diff != "" {
		t.Errorf("got (-) and want (+) differ:\n%s", diff)
	}
	if x.Size != a.Size || x.Entries != a.Entries {
		t.Errorf("extracted %+v, added %+v", x, a)
	}
	b, err := s.AddPath(t.Context(), dest)
	if err != nil || b.Ref != a.Ref {
		t.Errorf("added again it is %s, %v, want %s", b.Ref, err, a.Ref)
	}
	if _, err := Extract(t.Context(), s.Local(), a.Ref, dest, ExtractOptions{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("onto an existing directory: %v, want ErrExist", err)
	}
	if _, err := Extract(t.Context(), s.Local(), a.Ref, filepath.Join(t.TempDir(), "x"), ExtractOptions{MaxEntries: 100}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("with an entry limit: %v, want ErrTooLarge", err)
	}
	if _, err := Extract(t.Context(), s.Local(), a.Ref, filepath.Join(t.TempDir(), "x"), ExtractOptions{MaxBytes: 1 << 20}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("with a size limit: %v, want ErrTooLarge", err)
	}
	if _, err := Copy(t.Context(), io.Discard, s.Local(), a.Ref, 1<<40); !errors.Is(err, ErrNotFile) {
		t.Errorf("copy of a directory: %v, want ErrNotFile", err)
	}
	check(t, s)
}

func TestAddRefuses(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	for name, prepare := range map[string]func(dir string) error{
		"link to the root":     func(d string) error { return os.Symlink("/etc/passwd", filepath.Join(d, "l")) },
		"link upwards":         func(d string) error { return os.Symlink("../x", filepath.Join(d, "l")) },
		"link down and out":    func(d string) error { return os.Symlink("a/../../x", filepath.Join(d, "l")) },
		"pipe":                 func(d string) error { return syscall.Mkfifo(filepath.Join(d, "p"), 0o600) },
		"name with backslash":  func(d string) error { return os.WriteFile(filepath.Join(d, `a\b`), nil, 0o600) },
		"name that is no text": func(d string) error { return os.WriteFile(filepath.Join(d, "a\xff"), nil, 0o600) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := s.AddPath(t.Context(), dir); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v, want ErrUnsafe", name, err)
		}
	}
	deep := t.TempDir()
	if err := os.MkdirAll(filepath.Join(deep, strings.Repeat("d/", maxTreeDepth+1)), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddPath(t.Context(), deep); !errors.Is(err, ErrTooLarge) {
		t.Errorf("directories too deep: %v, want ErrTooLarge", err)
	}
	if _, err := s.AddPath(t.Context(), filepath.Join(deep, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
	if _, err := s.AddPath(t.Context(), "/dev/null"); !errors.Is(err, ErrUnsafe) {
		t.Errorf("device: %v, want ErrUnsafe", err)
	}
	if n := len(s.Pins()); n != 0 {
		t.Errorf("%d pins are left", n)
	}
}

// memory is a source of hand-made blocks.
type memory map[string]block.Block

func (m memory) GetBlock(_ context.Context, c cid.Cid) (block.Block, error) {
	b, ok := m[keyOf(c)]
	if !ok {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	return block.NewBlockWithCid(b.RawData(), c)
}

func (m memory) raw(b string) cid.Cid {
	blk := rawBlock([]byte(b))
	m[keyOf(blk.Cid())] = blk
	return blk.Cid()
}

// node makes a dag-pb node.
func (m memory) node(data []byte, links ...*ipld.Link) cid.Cid {
	n := merkledag.NodeWithData(data)
	if err := n.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}); err != nil {
		panic(err)
	}
	if err := n.SetLinks(links); err != nil {
		panic(err)
	}
	m[keyOf(n.Cid())] = n
	return n.Cid()
}

func to(name string, c cid.Cid) *ipld.Link { return &ipld.Link{Name: name, Cid: c} }

// file makes a file's node with those sizes of its children.
func (m memory) file(sizes []uint64, links ...cid.Cid) cid.Cid {
	f := unixfs.NewFSNode(unixfs.TFile)
	for _, s := range sizes {
		f.AddBlockSize(s)
	}
	b, err := f.GetBytes()
	if err != nil {
		panic(err)
	}
	var all []*ipld.Link
	for _, l := range links {
		all = append(all, to("", l))
	}
	return m.node(b, all...)
}

func (m memory) dir(links ...*ipld.Link) cid.Cid { return m.node(unixfs.FolderPBData(), links...) }

func (m memory) symlink(target string) cid.Cid {
	b, err := unixfs.SymlinkData(target)
	if err != nil {
		panic(err)
	}
	return m.node(b)
}

func (m memory) shard(fanout uint64, links ...*ipld.Link) cid.Cid {
	b, err := unixfs.HAMTShardData(nil, fanout, 0x22)
	if err != nil {
		panic(err)
	}
	return m.node(b, links...)
}

// overflow is two sizes whose sum wraps around.
func overflow() []uint64 { return []uint64{1<<63 + 1, 1 << 63} }

// TestHostileContent extracts hand-made DAGs: each must end in an error, soon,
// and leave nothing behind, inside or outside.
func TestHostileContent(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(m memory) cid.Cid
		want error
	}{
		{"parent directory", func(m memory) cid.Cid { return m.dir(to("..", m.raw("x"))) }, ErrUnsafe},
		{"this directory", func(m memory) cid.Cid { return m.dir(to(".", m.raw("x"))) }, ErrUnsafe},
		{"path", func(m memory) cid.Cid { return m.dir(to("../../x", m.raw("x"))) }, ErrUnsafe},
		{"absolute path", func(m memory) cid.Cid { return m.dir(to("/tmp/x", m.raw("x"))) }, ErrUnsafe},
		{"nameless", func(m memory) cid.Cid { return m.dir(to("", m.raw("x"))) }, ErrUnsafe},
		{"zero byte", func(m memory) cid.Cid { return m.dir(to("a\x00b", m.raw("x"))) }, ErrUnsafe},
		{"long name", func(m memory) cid.Cid { return m.dir(to(strings.Repeat("n", 256), m.raw("x"))) }, ErrUnsafe},
		{"twice the same", func(m memory) cid.Cid { return m.dir(to("a", m.raw("x")), to("a", m.raw("y"))) }, ErrUnsafe},
		{"link and directory of one name", func(m memory) cid.Cid {
			return m.dir(to("a", m.symlink("b")), to("a", m.dir(to("x", m.raw("x")))))
		}, ErrUnsafe},
		{"link to the root", func(m memory) cid.Cid { return m.dir(to("a", m.symlink("/etc"))) }, ErrUnsafe},
		{"link upwards", func(m memory) cid.Cid { return m.dir(to("a", m.symlink("../x"))) }, ErrUnsafe},
		{"link upwards from below", func(m memory) cid.Cid { return m.dir(to("d", m.dir(to("a", m.symlink("../../x"))))) }, ErrUnsafe},
		{"link through a link", func(m memory) cid.Cid {
			return m.dir(to("d", m.dir(to("up", m.symlink("..")))), to("x", m.symlink("d/up/../../etc")))
		}, ErrUnsafe},
		{"empty link", func(m memory) cid.Cid { return m.dir(to("a", m.symlink(""))) }, ErrUnsafe},
		{"a link alone", func(m memory) cid.Cid { return m.symlink("x") }, ErrUnsafe},
		{"directory in itself many times", func(m memory) cid.Cid { // 1000^5 files
			c := m.raw("x")
			for range 5 {
				var links []*ipld.Link
				for i := range 1000 {
					links = append(links, to(fmt.Sprint(i), c))
				}
				c = m.dir(links...)
			}
			return c
		}, ErrTooLarge},
		{"deep directories", func(m memory) cid.Cid {
			c := m.raw("x")
			for range maxTreeDepth + 2 {
				c = m.dir(to("d", c))
			}
			return c
		}, ErrTooLarge},
		{"deep file", func(m memory) cid.Cid {
			c := m.raw("x")
			for range maxFileDepth + 2 {
				c = m.file([]uint64{1}, c)
			}
			return c
		}, ErrTooLarge},
		{"large file of few blocks", func(m memory) cid.Cid { // 1024^5 bytes
			c, size := m.raw("x"), uint64(1)
			for range 5 {
				links, sizes := make([]cid.Cid, 1024), make([]uint64, 1024)
				for i := range links {
					links[i], sizes[i] = c, size
				}
				c, size = m.file(sizes, links...), size*1024
			}
			return c
		}, ErrTooLarge},
		{"nothing, many times", func(m memory) cid.Cid {
			c := m.raw("")
			for range 5 {
				links := make([]cid.Cid, 1024)
				for i := range links {
					links[i] = c
				}
				c = m.file(make([]uint64, 1024), links...)
			}
			return c
		}, ErrMalformed},
		{"child larger than said", func(m memory) cid.Cid { return m.file([]uint64{1}, m.raw("xyz")) }, ErrMalformed},
		{"child smaller than said", func(m memory) cid.Cid { return m.file([]uint64{9}, m.raw("xyz")) }, ErrMalformed},
		{"sizes that wrap around", func(m memory) cid.Cid { return m.file(overflow(), m.raw("a"), m.raw("b")) }, ErrMalformed},
		{"more children than sizes", func(m memory) cid.Cid { return m.file([]uint64{1}, m.raw("a"), m.raw("b")) }, ErrMalformed},
		{"directory in a file", func(m memory) cid.Cid { return m.file([]uint64{1}, m.dir()) }, ErrMalformed},
		{"not UnixFS", func(m memory) cid.Cid { return m.node([]byte("garbage\xff")) }, ErrMalformed},
		{"without data", func(m memory) cid.Cid { return m.node(nil) }, ErrMalformed},
		{"dag-cbor", func(m memory) cid.Cid { return cid.NewCidV1(cid.DagCBOR, m.raw("\xa0").Hash()) }, ErrMalformed},
		{"garbage as dag-pb", func(m memory) cid.Cid { return cid.NewCidV1(cid.DagProtobuf, m.raw("\xff\xff").Hash()) }, ErrMalformed},
		{"identity link", func(m memory) cid.Cid {
			mh, err := multihash.Sum([]byte("x"), multihash.IDENTITY, -1)
			if err != nil {
				panic(err)
			}
			return m.dir(to("a", cid.NewCidV1(cid.Raw, mh)))
		}, ErrMalformed},
		{"shard with a short name", func(m memory) cid.Cid { return m.shard(256, to("0", m.raw("x"))) }, ErrMalformed},
		{"shard with a nameless file", func(m memory) cid.Cid { return m.shard(256, to("00", m.raw("x"))) }, ErrMalformed},
		{"shard with a path", func(m memory) cid.Cid { return m.shard(256, to("00../x", m.raw("x"))) }, ErrUnsafe},
		{"shard with an odd fan-out", func(m memory) cid.Cid { return m.shard(24, to("00a", m.raw("x"))) }, ErrMalformed},
		{"deep shards", func(m memory) cid.Cid {
			c := m.shard(8)
			for range maxShardDepth + 2 {
				c = m.shard(8, to("0", c))
			}
			return c
		}, ErrTooLarge},
		{"missing block", func(m memory) cid.Cid { return m.dir(to("a", rawBlock([]byte("gone")).Cid())) }, ipld.ErrNotFound{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := memory{}
			ref, err := store.RefOf(tc.make(m))
			if err != nil {
				t.Fatal(err)
			}
			parent := t.TempDir()
			inside := filepath.Join(parent, "in")
			if err := os.Mkdir(inside, 0o700); err != nil {
				t.Fatal(err)
			}
			opt := ExtractOptions{MaxEntries: 500, MaxBytes: 1 << 20}
			if _, err := Extract(t.Context(), m, ref, filepath.Join(inside, "dest"), opt); !errors.Is(err, tc.want) {
				t.Errorf("extract: %v, want %v", err, tc.want)
			}
			if left := tree(t, parent); len(left) != 2 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestDeepDAGIsPinned: pinning walks a long chain without recursion.
func TestDeepDAGIsPinned(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	m := memory{}
	c := m.raw("x")
	for range 500 {
		c = m.file([]uint64{1}, c)
	}
	for _, b := range m {
		if err := s.Put(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := store.RefOf(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Pin(t.Context(), Pin{Ref: ref}); err != nil {
		t.Error(err)
	}
	if _, err := read(s, ref); !errors.Is(err, ErrTooLarge) {
		t.Errorf("read: %v, want ErrTooLarge", err)
	}
	s.Collect(t.Context(), 0)
	if st := s.Stats(); st.Blocks != 501 {
		t.Errorf("%d blocks are left of a pinned chain of 501", st.Blocks)
	}
}

func TestReaderClose(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	b := content(1, 4<<20)
	ref := add(t, s, b)
	r := Reader(t.Context(), s.Local(), ref, 1<<30)
	part := make([]byte, 1000)
	if _, err := io.ReadFull(r, part); err != nil || !bytes.Equal(part, b[:1000]) {
		t.Errorf("first bytes: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(part); err == nil {
		t.Error("read after close succeeds")
	}
	if _, err := io.ReadAll(Reader(t.Context(), s.Local(), ref, 10)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("with a limit: %v, want ErrTooLarge", err)
	}
}

// FuzzExtract extracts DAGs whose root is arbitrary bytes, over a few good
// blocks. Whatever it is, nothing may appear but the destination.
func FuzzExtract(f *testing.F) {
	m := memory{}
	leaf := m.raw("xyz")
	good := []cid.Cid{leaf, m.file([]uint64{3, 3}, leaf, leaf), m.dir(to("a", leaf)), m.symlink("a"), m.shard(256, to("00a", leaf))}
	good = append(good, m.dir(to("d", good[2]), to("l", good[3]), to("f", good[1])))
	for _, c := range good {
		f.Add(m[keyOf(c)].RawData(), c.Prefix().Codec == cid.Raw)
	}
	f.Fuzz(func(t *testing.T, b []byte, isRaw bool) {
		blk := rawBlock(b)
		codec := uint64(cid.DagProtobuf)
		if isRaw {
			codec = cid.Raw
		}
		own := maps.Clone(m)
		own[keyOf(blk.Cid())] = blk
		ref, err := store.RefOf(cid.NewCidV1(codec, blk.Cid().Hash()))
		if err != nil {
			t.Fatal(err)
		}
		parent := t.TempDir()
		_, err = Extract(t.Context(), own, ref, filepath.Join(parent, "dest"), ExtractOptions{MaxEntries: 50, MaxBytes: 1 << 16})
		entries, rerr := os.ReadDir(parent)
		if rerr != nil {
			t.Fatal(rerr)
		}
		if err != nil && len(entries) != 0 || err == nil && (len(entries) != 1 || entries[0].Name() != "dest") {
			t.Errorf("error %v, and there is %v", err, entries)
		}
	})
}

func FuzzDecodePin(f *testing.F) {
	name := rawBlock([]byte("x")).Cid().String()
	f.Add(fmt.Appendf(nil, `{"ref":%q,"name":"n","size":1,"added":2}`, name))
	f.Add(binary.BigEndian.AppendUint64(nil, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePin(b, name)
		if err == nil && (p.Ref.String() != name || p.Size < 0) {
			t.Errorf("accepted %+v", p)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	const size = 64 << 20
	data := content(1, size)
	b.SetBytes(size)
	for i := range b.N {
		binary.BigEndian.PutUint64(data, uint64(i))
		a, err := s.Add(b.Context(), "x", bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Unpin(a.Ref); err != nil {
			b.Fatal(err)
		}
		s.Collect(b.Context(), 0)
		b.StartTimer()
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	const size = 64 << 20
	ref := add(b, s, content(1, size))
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Copy(b.Context(), io.Discard, s.Local(), ref, size); err != nil {
			b.Fatal(err)
		}
	}
}
