package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/xenoserver/xeno/store"
)

// ExtractOptions bound what Extract writes. The zero value of a limit means
// its default.
type ExtractOptions struct {
	MaxBytes   int64            // content; default 1 TiB
	MaxEntries int              // files, directories and links; default 1,048,576
	FileOnly   bool             // refuse a directory with ErrNotFile
	DirOnly    bool             // refuse a file with ErrNotDir
	Mode       os.FileMode      // of files; default 0644
	Sync       bool             // make everything durable before it appears
	Progress   func(done int64) // called with the bytes written so far, by one goroutine at a time; may be nil
}

const defaultExtractBytes = 1 << 40

// Extracted is what Extract wrote.
type Extracted struct {
	Size    int64 // content in bytes
	Entries int
}

// Extract writes the file or directory root to dest, which must not exist: it
// appears whole, or not at all. Nothing outside dest is written or followed.
// Errors wrap os.ErrExist, ErrUnsafe, ErrTooLarge, ErrMalformed, ErrNotFile, or
// are src's or the file system's.
func Extract(ctx context.Context, src Source, root store.Ref, dest string, opt ExtractOptions) (Extracted, error) {
	x := newExtractor(src, opt)
	if err := x.run(ctx, root, dest); err != nil {
		return Extracted{}, fmt.Errorf("blocks: get %s: %w", root, err)
	}
	return Extracted{Size: x.done, Entries: x.entries}, nil
}

// An extractor writes one tree.
type extractor struct {
	reader
	opt     ExtractOptions
	root    *os.Root // temporary directory beside dest
	entries int
}

func newExtractor(src Source, opt ExtractOptions) *extractor {
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = defaultExtractBytes
	}
	if opt.MaxEntries <= 0 {
		opt.MaxEntries = defaultMaxEntries
	}
	if opt.Mode == 0 {
		opt.Mode = 0o644
	}
	return &extractor{reader: reader{src: src, maxBytes: opt.MaxBytes, progress: opt.Progress}, opt: opt}
}

// run writes into a temporary directory beside dest and moves the result.
func (x *extractor) run(ctx context.Context, root store.Ref, dest string) (err error) {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s: %w", dest, os.ErrExist)
	}
	first, err := x.get(ctx, root.CID())
	if err != nil {
		return err
	}
	if x.opt.FileOnly && first.kind != kindFile {
		return ErrNotFile
	}
	if x.opt.DirOnly && first.kind == kindFile {
		return ErrNotDir
	}
	if first.kind == kindSymlink {
		return fmt.Errorf("%w: a link alone", ErrUnsafe)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dest), ".xeno-get-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if x.root, err = os.OpenRoot(temp); err != nil {
		return err
	}
	defer x.root.Close()
	if err := x.node(ctx, first, "out", 0); err != nil {
		return err
	}
	if err := moveNew(filepath.Join(temp, "out"), dest, first.kind == kindFile); err != nil {
		return err
	}
	if x.opt.Sync {
		return syncDir(filepath.Dir(dest))
	}
	return nil
}

// moveNew moves from to dest without replacing anything. A file is linked,
// which fails if dest exists; a directory cannot be, but rename replaces none
// that has content.
func moveNew(from, dest string, file bool) error {
	if file {
		if err := os.Link(from, dest); err == nil || errors.Is(err, os.ErrExist) {
			return err
		} // file systems without links: rename
	}
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s: %w", dest, os.ErrExist)
	}
	return os.Rename(from, dest)
}

// node writes n under name, which is relative to the temporary directory.
func (x *extractor) node(ctx context.Context, n *node, name string, depth int) error {
	if x.entries++; x.entries > x.opt.MaxEntries {
		return fmt.Errorf("%w: more than %d files and directories", ErrTooLarge, x.opt.MaxEntries)
	}
	if depth > maxTreeDepth {
		return fmt.Errorf("%w: more than %d directories deep", ErrTooLarge, maxTreeDepth)
	}
	switch n.kind {
	case kindFile:
		return x.writeFile(ctx, n, name)
	case kindSymlink:
		target := string(n.data)
		// The first element is the tree's own name.
		_, inside, _ := strings.Cut(name, "/")
		if err := checkSymlink(inside, target); err != nil {
			return err
		}
		return unsafeIfExists(x.root.Symlink(target, name))
	case kindDir, kindShard:
	}
	if err := x.root.Mkdir(name, 0o755); err != nil {
		return unsafeIfExists(err)
	}
	if err := x.dir(ctx, n, name, depth, 0); err != nil {
		return err
	}
	if !x.opt.Sync {
		return nil
	}
	d, err := x.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dir writes the entries of a directory, or of the shard of one.
func (x *extractor) dir(ctx context.Context, n *node, name string, depth, shard int) error {
	if err := x.count(); err != nil {
		return err
	}
	if shard > maxShardDepth {
		return fmt.Errorf("%w: directory of more than %d levels of shards", ErrTooLarge, maxShardDepth)
	}
	return x.ahead(ctx, n.links, prefetchEntries, func(i int, child *node) error {
		entry := n.links[i].Name
		if n.kind == kindShard {
			if len(entry) < n.prefix {
				return fmt.Errorf("%w: shard with an entry %q", ErrMalformed, entry)
			}
			if entry = entry[n.prefix:]; entry == "" {
				if child.kind != kindShard {
					return fmt.Errorf("%w: shard with a nameless entry", ErrMalformed)
				}
				return x.dir(ctx, child, name, depth, shard+1)
			}
		}
		if err := checkEntry(entry); err != nil {
			return err
		}
		return x.node(ctx, child, path.Join(name, entry), depth+1)
	})
}

func (x *extractor) writeFile(ctx context.Context, n *node, name string) (err error) {
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return unsafeIfExists(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := x.file(ctx, n, io.Writer(f), 0); err != nil {
		return err
	}
	if err := f.Chmod(x.opt.Mode); err != nil {
		return err
	}
	if x.opt.Sync {
		return f.Sync()
	}
	return nil
}

// unsafeIfExists turns the second of two entries with one name, which a
// hand-made directory may hold, into what it is.
func unsafeIfExists(err error) error {
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: two entries with one name: %s", ErrUnsafe, err.Error())
	}
	return err
}

// checkEntry refuses names that are no single path element.
func checkEntry(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || len(name) > maxName,
		strings.ContainsAny(name, "/\\\x00"), !utf8.ValidString(name):
		return fmt.Errorf("%w: name %.80q", ErrUnsafe, name)
	}
	return nil
}

// checkSymlink refuses targets that could lead out of the tree that holds
// name (slash-separated, relative to its root). ".." is allowed at the
// beginning only, and not above the root: there it steps through real
// directories, whereas after another link it would not.
func checkSymlink(name, target string) error {
	up := strings.Count(name, "/")
	if target == "" || len(target) > maxSymlink || strings.HasPrefix(target, "/") ||
		strings.ContainsAny(target, "\\\x00") || !utf8.ValidString(target) || name == "" {
		return fmt.Errorf("%w: link %.80q to %.80q", ErrUnsafe, name, target)
	}
	down := false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			down = true
		case down || up == 0:
			return fmt.Errorf("%w: link %.80q to %.80q leads outside", ErrUnsafe, name, target)
		default:
			up--
		}
	}
	return nil
}
