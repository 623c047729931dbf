package image

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"
)

// An entry is a file of the initrd.
type entry struct {
	mode cpio.FileMode // type and permissions
	data []byte        // content, or target of a link
}

// initrd returns the compressed archive.
func (in inputs) initrd() ([]byte, error) {
	tree := map[string]entry{
		"init":        {cpio.TypeReg | 0o755, in.init},
		"bin/busybox": {cpio.TypeReg | 0o755, in.busybox},
		"etc/passwd":  {cpio.TypeReg | 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		"etc/group":   {cpio.TypeReg | 0o644, []byte("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")},
		"etc/profile": {cpio.TypeReg | 0o644, []byte("PS1='\\u@\\h:\\w\\$ '\n")},
		"root":        {cpio.TypeDir | 0o700, nil},
		"tmp":         {cpio.TypeDir | 0o1777, nil},
	}
	for i, m := range in.modules {
		tree[fmt.Sprintf("lib/modules/boot/%02d-%s.ko", i, m.name)] = entry{cpio.TypeReg | 0o644, m.data}
	}
	for _, a := range in.applets {
		if _, taken := tree[a]; !taken {
			tree[a] = entry{cpio.TypeSymlink | 0o777, []byte("/bin/busybox")}
		}
	}
	for _, d := range []string{"dev", "proc", "sys", "run", "home", "var/log"} {
		tree[d] = entry{cpio.TypeDir | 0o755, nil}
	}
	for name := range tree {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			if _, ok := tree[d]; !ok {
				tree[d] = entry{cpio.TypeDir | 0o755, nil}
			}
		}
	}
	var out bytes.Buffer
	z, err := in.compressor(&out)
	if err != nil {
		return nil, fmt.Errorf("image: compress: %w", err)
	}
	if err := writeArchive(z, tree); err != nil {
		return nil, fmt.Errorf("image: write archive: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("image: compress: %w", err)
	}
	return out.Bytes(), nil
}

func (in inputs) compressor(w io.Writer) (io.WriteCloser, error) {
	if in.zstd {
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	}
	return gzip.NewWriterLevel(w, gzip.BestCompression)
}

// writeArchive writes the tree in the order of its names, which puts
// directories before what they hold.
func writeArchive(w io.Writer, tree map[string]entry) error {
	names := make([]string, 0, len(tree))
	for name := range tree {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	a := cpio.NewWriter(w)
	for i, name := range names {
		e := tree[name]
		h := &cpio.Header{Name: name, Mode: e.mode, Links: 1, Inode: int64(i + 1), Size: int64(len(e.data))}
		if e.mode.IsDir() {
			h.Links = 2
		}
		if err := a.WriteHeader(h); err != nil {
			return err
		}
		if _, err := a.Write(e.data); err != nil {
			return err
		}
	}
	return a.Close()
}
