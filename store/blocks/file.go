package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/xenoserver/xeno/store"
)

// A Source yields verified blocks: this store (Local), or one over the
// network. Its method may be called at once.
type Source interface {
	// GetBlock returns the block that c names. ipld.IsNotFound holds for the
	// error where it is not to be had.
	GetBlock(ctx context.Context, c cid.Cid) (block.Block, error)
}

// Local returns the store itself as a source.
func (s *Store) Local() Source { return local{s} }

type local struct{ s *Store }

// GetBlock implements Source.
func (l local) GetBlock(ctx context.Context, c cid.Cid) (block.Block, error) { return l.s.Get(ctx, c) }

// A kind is what a UnixFS node is.
type kind int

const (
	kindFile kind = iota
	kindDir
	kindShard
	kindSymlink
)

// A node is a decoded and checked UnixFS node.
type node struct {
	kind   kind
	data   []byte // of a file, before that of its children; target of a symbolic link
	size   int64  // of a file: data and children
	links  []*ipld.Link
	sizes  []uint64 // of a file's children
	prefix int      // of a shard: digits before the names
}

// decodeNode reads a block. The error wraps ErrMalformed.
func decodeNode(b block.Block) (*node, error) {
	c := b.Cid()
	switch c.Prefix().Codec {
	case cid.Raw:
		return &node{data: b.RawData(), size: int64(len(b.RawData()))}, nil
	case cid.DagProtobuf:
	default:
		return nil, fmt.Errorf("%w: %s is not UnixFS", ErrMalformed, c)
	}
	pn, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, c, err)
	}
	fsn, err := unixfs.FSNodeFromBytes(pn.Data())
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, c, err)
	}
	n := &node{data: fsn.Data(), links: pn.Links()}
	for _, l := range n.links {
		if err := store.CheckCID(l.Cid); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, c, err)
		}
	}
	switch fsn.Type() {
	case unixfs.TFile, unixfs.TRaw:
		n.kind, n.sizes = kindFile, fsn.BlockSizes()
		return n, n.checkSizes(c, fsn.FileSize())
	case unixfs.TDirectory:
		n.kind = kindDir
	case unixfs.THAMTShard:
		n.kind = kindShard
		if n.prefix, err = shardPrefix(fsn.Fanout()); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, c, err)
		}
	case unixfs.TSymlink:
		n.kind = kindSymlink
	default:
		return nil, fmt.Errorf("%w: %s is of type %s", ErrMalformed, c, fsn.Type())
	}
	return n, nil
}

// checkSizes checks what a file's node says of its children, so that the root
// alone tells how much there will be, and so that no DAG is visited for nothing:
// every child has at least one byte.
func (n *node) checkSizes(c cid.Cid, total uint64) error {
	if len(n.sizes) != len(n.links) {
		return fmt.Errorf("%w: %s has %d children and %d sizes", ErrMalformed, c, len(n.links), len(n.sizes))
	}
	sum := uint64(len(n.data))
	for _, size := range n.sizes {
		if size == 0 || size > 1<<62-sum {
			return fmt.Errorf("%w: %s has a child of %d bytes", ErrMalformed, c, size)
		}
		sum += size
	}
	if sum != total {
		return fmt.Errorf("%w: %s says %d bytes and its children %d", ErrMalformed, c, total, sum)
	}
	n.size = int64(total)
	return nil
}

// A reader walks DAGs within limits.
type reader struct {
	src      Source
	maxBytes int64
	nodes    int
	done     int64            // bytes written
	progress func(done int64) // may be nil
}

// get fetches and decodes one block.
func (r *reader) get(ctx context.Context, c cid.Cid) (*node, error) {
	b, err := r.src.GetBlock(ctx, c)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return decodeNode(b)
}

// count bounds the blocks visited.
func (r *reader) count() error {
	if r.nodes++; r.nodes > maxNodes {
		return fmt.Errorf("%w: more than %d blocks", ErrTooLarge, maxNodes)
	}
	return nil
}

// file writes the file below n to w.
func (r *reader) file(ctx context.Context, n *node, w io.Writer, depth int) error {
	if err := r.count(); err != nil {
		return err
	}
	if n.kind != kindFile {
		return fmt.Errorf("%w: part of a file is none", ErrMalformed)
	}
	if depth > maxFileDepth {
		return fmt.Errorf("%w: file of more than %d levels", ErrTooLarge, maxFileDepth)
	}
	if depth == 0 && n.size > r.maxBytes-r.done {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, r.done+n.size)
	}
	if len(n.data) > 0 {
		if _, err := w.Write(n.data); err != nil {
			return err
		}
		r.done += int64(len(n.data))
		if r.progress != nil {
			r.progress(r.done)
		}
	}
	if len(n.links) == 0 {
		return nil
	}
	return r.ahead(ctx, n.links, prefetch, func(i int, child *node) error {
		if uint64(child.size) != n.sizes[i] {
			return fmt.Errorf("%w: %s has %d bytes, its parent says %d", ErrMalformed, n.links[i].Cid, child.size, n.sizes[i])
		}
		return r.file(ctx, child, w, depth+1)
	})
}

// ahead fetches links, width at once, and hands them over in order.
func (r *reader) ahead(ctx context.Context, links []*ipld.Link, width int, use func(int, *node) error) error {
	type result struct {
		n   *node
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	window := make([]chan result, min(width, len(links)))
	start := func(i int) {
		ch := make(chan result, 1)
		window[i%len(window)] = ch
		wg.Go(func() {
			n, err := r.get(ctx, links[i].Cid)
			ch <- result{n, err}
		})
	}
	for i := range window {
		start(i)
	}
	for i := range links {
		got := <-window[i%len(window)]
		if got.err != nil {
			return got.err
		}
		if next := i + len(window); next < len(links) {
			start(next)
		}
		if err := use(i, got.n); err != nil {
			return err
		}
	}
	return nil
}

// Copy writes the file root to w and returns its size. At most maxBytes are
// written: the error wraps ErrTooLarge before anything is, when the file says
// that it has more. Others wrap ErrMalformed, ErrNotFile, or are src's or w's.
func Copy(ctx context.Context, w io.Writer, src Source, root store.Ref, maxBytes int64) (int64, error) {
	r := &reader{src: src, maxBytes: maxBytes}
	n, err := r.get(ctx, root.CID())
	if err == nil && n.kind != kindFile {
		err = ErrNotFile
	}
	if err == nil {
		err = r.file(ctx, n, w, 0)
	}
	if err != nil {
		return r.done, fmt.Errorf("blocks: read %s: %w", root, err)
	}
	return r.done, nil
}

// Reader returns a reader of the file root, whose errors are those of Copy.
// Close ends the work behind it and waits for that.
func Reader(ctx context.Context, src Source, root store.Ref, maxBytes int64) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	o := &opened{PipeReader: pr, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		_, err := Copy(ctx, pw, src, root, maxBytes)
		pw.CloseWithError(err)
	}()
	return o
}

type opened struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Close implements io.Closer.
func (o *opened) Close() error {
	o.cancel()
	err := o.PipeReader.Close()
	<-o.done
	return err
}

var errFanout = errors.New("fan-out of a directory shard must be a power of two from 8 to 1024")

// shardPrefix returns how many hexadecimal digits precede names in a shard.
func shardPrefix(fanout uint64) (int, error) {
	if fanout < 8 || fanout > 1024 || fanout&(fanout-1) != 0 {
		return 0, errFanout
	}
	return len(fmt.Sprintf("%X", fanout-1)), nil
}
