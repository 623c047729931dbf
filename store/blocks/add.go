package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/boxo/blockservice"
	chunker "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	"github.com/xenoserver/xeno/store"
)

// Added is what an add made.
type Added struct {
	Ref     store.Ref
	Size    int64 // content in bytes
	Entries int   // files, directories and links in a tree; 1 for a file
}

// Add stores what r yields as a file and pins it under name. Nothing stays
// pinned after an error; blocks that were written are left to collection.
// Errors wrap ErrFull, or are r's.
func (s *Store) Add(ctx context.Context, name string, r io.Reader) (Added, error) {
	return s.add(ctx, name, func(a *adder) (ipld.Node, error) { return a.file(r) })
}

// AddPath stores the file or directory at p and pins it under its base name.
// Symbolic links inside a directory are kept if they stay inside; sockets,
// devices and pipes are refused, by an error that wraps ErrUnsafe.
func (s *Store) AddPath(ctx context.Context, p string) (Added, error) {
	info, err := os.Stat(p)
	if err != nil {
		return Added{}, fmt.Errorf("blocks: add: %w", err)
	}
	name := filepath.Base(p)
	switch {
	case info.IsDir():
		root, err := os.OpenRoot(p)
		if err != nil {
			return Added{}, fmt.Errorf("blocks: add: %w", err)
		}
		defer root.Close()
		return s.add(ctx, name, func(a *adder) (ipld.Node, error) { return a.dir(root, ".", 0) })
	case info.Mode().IsRegular():
		f, err := os.Open(p)
		if err != nil {
			return Added{}, fmt.Errorf("blocks: add: %w", err)
		}
		defer f.Close()
		return s.Add(ctx, name, f)
	}
	return Added{}, fmt.Errorf("blocks: add %s: %w: neither a file nor a directory", p, ErrUnsafe)
}

// An adder builds one DAG.
type adder struct {
	ctx     context.Context //nolint:containedctx // of one call of Store.add
	nodes   ipld.DAGService
	buffer  *ipld.BufferedDAG
	builder cid.Builder
	size    int64
	entries int
}

// add builds a DAG whose blocks are protected from collection until its root
// is pinned.
func (s *Store) add(ctx context.Context, name string, build func(*adder) (ipld.Node, error)) (Added, error) {
	h := s.hold()
	defer h.release()
	ctx, cancel := context.WithCancel(ctx) // the buffer commits in the background
	defer cancel()
	// Written through, so that blocks that are here already are held as well.
	nodes := merkledag.NewDAGService(blockservice.New(holdView{s, h}, nil, blockservice.WriteThrough(true)))
	a := &adder{
		ctx: ctx, nodes: nodes, buffer: ipld.NewBufferedDAG(ctx, nodes),
		builder: cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256},
	}
	root, err := build(a)
	if err == nil {
		err = a.buffer.Commit()
	}
	if err == nil {
		err = a.nodes.Add(ctx, root)
	}
	if err != nil {
		return Added{}, fmt.Errorf("blocks: add %s: %w", name, err)
	}
	ref, err := store.RefOf(root.Cid())
	if err != nil {
		return Added{}, fmt.Errorf("blocks: add %s: %w", name, err)
	}
	if err := s.Pin(ctx, Pin{Ref: ref, Name: name, Size: a.size}); err != nil {
		return Added{}, err
	}
	return Added{Ref: ref, Size: a.size, Entries: a.entries}, nil
}

// count bounds the entries of a tree.
func (a *adder) count() error {
	if a.entries++; a.entries > defaultMaxEntries {
		return fmt.Errorf("%w: more than %d files and directories", ErrTooLarge, defaultMaxEntries)
	}
	return nil
}

func (a *adder) file(r io.Reader) (ipld.Node, error) {
	if err := a.count(); err != nil {
		return nil, err
	}
	counted := &countingReader{ctx: a.ctx, r: r}
	params := helpers.DagBuilderParams{Maxlinks: fileWidth, RawLeaves: true, CidBuilder: a.builder, Dagserv: a.buffer}
	builder, err := params.New(chunker.NewSizeSplitter(counted, chunkBytes))
	if err != nil {
		return nil, err
	}
	node, err := balanced.Layout(builder)
	a.size += counted.n
	return node, err
}

// A countingReader counts bytes and ends with its context.
type countingReader struct {
	ctx context.Context //nolint:containedctx // of one call of Store.add
	r   io.Reader
	n   int64
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// dir adds the directory name below root. The root handle keeps everything
// that is opened inside, whatever the file system does meanwhile.
func (a *adder) dir(root *os.Root, name string, depth int) (ipld.Node, error) {
	if err := a.count(); err != nil {
		return nil, err
	}
	if depth > maxTreeDepth {
		return nil, fmt.Errorf("%s: %w: more than %d directories deep", name, ErrTooLarge, maxTreeDepth)
	}
	entries, err := readDir(root, name)
	if err != nil {
		return nil, err
	}
	dir, err := uio.NewDirectory(a.nodes, uio.WithCidBuilder(a.builder), uio.WithSizeEstimationMode(uio.SizeEstimationBlock))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		child, err := a.entry(root, path.Join(name, e.Name()), e.Type(), depth)
		if err != nil {
			return nil, err
		}
		if err := dir.AddChild(a.ctx, e.Name(), child); err != nil {
			return nil, err
		}
	}
	node, err := dir.GetNode()
	if err != nil {
		return nil, err
	}
	return node, a.nodes.Add(a.ctx, node)
}

func (a *adder) entry(root *os.Root, name string, kind fs.FileMode, depth int) (ipld.Node, error) {
	if err := checkEntry(path.Base(name)); err != nil {
		return nil, err
	}
	switch {
	case kind.IsDir():
		return a.dir(root, name, depth+1)
	case kind.IsRegular():
		f, err := root.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, errors.Join(err, fmt.Errorf("%s: %w: not a regular file", name, ErrUnsafe))
		}
		return a.file(f)
	case kind&fs.ModeSymlink != 0:
		return a.symlink(root, name)
	}
	return nil, fmt.Errorf("%s: %w: neither a file, a directory nor a link", name, ErrUnsafe)
}

func (a *adder) symlink(root *os.Root, name string) (ipld.Node, error) {
	if err := a.count(); err != nil {
		return nil, err
	}
	target, err := root.Readlink(name)
	if err != nil {
		return nil, err
	}
	if err := checkSymlink(name, target); err != nil {
		return nil, err
	}
	data, err := unixfs.SymlinkData(target)
	if err != nil {
		return nil, err
	}
	node := merkledag.NodeWithData(data)
	if err := node.SetCidBuilder(a.builder); err != nil {
		return nil, err
	}
	return node, a.nodes.Add(a.ctx, node)
}

// readDir lists a directory in the order of names, within the entry limit.
func readDir(root *os.Root, name string) ([]fs.DirEntry, error) {
	d, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(defaultMaxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > defaultMaxEntries {
		return nil, fmt.Errorf("%s: %w: more than %d entries", name, ErrTooLarge, defaultMaxEntries)
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return strings.Compare(x.Name(), y.Name()) })
	return entries, nil
}
