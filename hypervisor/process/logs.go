package process

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Streams.
const (
	stdoutName = "stdout"
	stderrName = "stderr"
	oldSuffix  = ".old"
)

// A capped is a writer to a file that keeps the newest bytes: when the file
// is half full it becomes the old one, and the one before is forgotten. It
// never fails, so that the child never waits: what cannot be written is lost.
type capped struct {
	path string
	half int64
	size int64
	f    *os.File
}

func newCapped(path string, limit int64) *capped {
	return &capped{path: path, half: max(limit/2, 1)}
}

// Write implements io.Writer.
func (c *capped) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		n := c.append(rest)
		if n == 0 {
			break
		}
		rest = rest[n:]
	}
	return len(data), nil
}

// append writes as much as fits into the file, and returns how much it was: 0
// when the file cannot be written.
func (c *capped) append(data []byte) int {
	if c.f == nil && !c.open() {
		return 0
	}
	n, _ := c.f.Write(data[:min(int64(len(data)), c.half-c.size)])
	c.size += int64(n)
	if c.size >= c.half {
		c.rotate()
	}
	return n
}

func (c *capped) open() bool {
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false
	}
	c.f, c.size = f, 0
	return true
}

func (c *capped) rotate() {
	c.Close()
	_ = os.Rename(c.path, c.path+oldSuffix)
}

// Close closes the file.
func (c *capped) Close() error {
	if c.f == nil {
		return nil
	}
	err := c.f.Close()
	c.f = nil
	return err
}

// ReadLogs returns the newest limit bytes of both streams of the process of
// dir, also when its start was cut short.
func ReadLogs(dir string, limit int) (stdout, stderr []byte, err error) {
	stdout, err = readStream(filepath.Join(dir, stdoutName), limit)
	if err != nil {
		return nil, nil, err
	}
	stderr, err = readStream(filepath.Join(dir, stderrName), limit)
	return stdout, stderr, err
}

func readStream(path string, limit int) ([]byte, error) {
	limit = min(max(limit, 0), maxLogBytes)
	// A rotation in between can only show bytes twice or not at all at the
	// seam; the newest are read first.
	newest, err := readTail(path, limit)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(newest) == limit {
		return newest, nil
	}
	old, err := readTail(path+oldSuffix, limit-len(newest))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return append(old, newest...), nil
}

// readTail returns the last limit bytes of a file.
func readTail(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	offset := max(info.Size()-int64(limit), 0)
	return io.ReadAll(io.NewSectionReader(f, offset, int64(limit)))
}
