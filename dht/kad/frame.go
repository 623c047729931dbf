package kad

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A frame is an unsigned varint, at most 5 bytes, and that many bytes.
//
// A request is one frame each way. The first byte of the answer's frame tells
// what follows: 0 the answer, 1 the text of an error.
const (
	statusOK    = 0
	statusError = 1
)

// errFrame reports a frame whose length cannot be read.
var errFrame = errors.New("kad: malformed frame")

// memoryScope is the part of a stream's resource scope that frames use.
type memoryScope interface {
	ReserveMemory(size int, prio uint8) error
	ReleaseMemory(size int)
}

// appendFrame appends the frame of prefix and body to b.
func appendFrame(b, prefix, body []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(prefix)+len(body)))
	b = append(b, prefix...)
	return append(b, body...)
}

// frameReader reads frames from a stream through a buffer that is smaller
// than a small message.
func frameReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 256) }

// readFrame returns the next frame's bytes. The limit is checked, and the
// memory reserved in scope (which may be nil), before anything is allocated;
// a frame cut short is io.ErrUnexpectedEOF, none at all io.EOF.
func readFrame(r *bufio.Reader, limit int, scope memoryScope) ([]byte, error) {
	size, err := readLength(r)
	if err != nil {
		return nil, err
	}
	if size > uint64(limit) {
		return nil, fmt.Errorf("frame of %d bytes, limit %d: %w", size, limit, ErrTooLarge)
	}
	if scope != nil {
		if err := scope.ReserveMemory(int(size), 255); err != nil {
			return nil, fmt.Errorf("kad: reserve %d bytes for a frame: %w", size, err)
		}
		defer scope.ReleaseMemory(int(size))
	}
	return readBody(r, int(size))
}

// readBody reads n bytes, growing as they come, so that a peer that
// announces much and sends little does not cost much.
func readBody(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	body := make([]byte, 0, min(n, step))
	for len(body) < n {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(n, 2*cap(body))), body...)
		}
		part := body[len(body):min(n, cap(body))]
		m, err := io.ReadFull(r, part)
		body = body[:len(body)+m]
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return body, nil
}

// readLength reads an unsigned varint of at most 5 bytes in its shortest form.
func readLength(r io.ByteReader) (uint64, error) {
	var size uint64
	for i := range 5 {
		b, err := r.ReadByte()
		if err != nil {
			if i > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		size |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				break
			}
			return size, nil
		}
	}
	return 0, errFrame
}
