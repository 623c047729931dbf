package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
)

// Major types of CBOR (RFC 8949, section 3.1).
const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

// Heads of the values of major type 7 that DAG-CBOR allows.
const (
	headFalse   = 0xf4
	headNull    = 0xf6
	headFloat64 = 0xfb
)

// Departures from DAG-CBOR (IPLD, specs/codecs/dag-cbor), by what is wrong.
var (
	errTruncated  = errors.New("truncated")
	errTrailing   = errors.New("bytes after the end")
	errLongForm   = errors.New("integer or length not in its shortest form")
	errIndefinite = errors.New("indefinite length")
	errDepth      = errors.New("nested too deeply")
	errMapKey     = errors.New("map keys not strings in ascending order, by length and then bytes")
	errUTF8       = errors.New("text is not UTF-8")
	errTag        = errors.New("tag other than 42 over a zero byte and a CID")
	errSimple     = errors.New("simple value other than false, true, null and 64-bit floats")
	errFloat      = errors.New("float is not a number or infinite")
)

// checkStrict returns an error unless b is exactly one data item in the strict
// form of DAG-CBOR, in which every content has one encoding.
func checkStrict(b []byte) error {
	rest, err := skipItem(b, 0)
	if err == nil && len(rest) > 0 {
		err = errTrailing
	}
	return err
}

// skipItem checks the first data item of b and returns what follows it.
func skipItem(b []byte, depth int) ([]byte, error) {
	if depth > maxNesting {
		return nil, errDepth
	}
	if len(b) == 0 {
		return nil, errTruncated
	}
	if b[0]>>5 == majorSimple {
		return skipSimple(b)
	}
	major, n, rest, err := readHead(b)
	if err != nil {
		return nil, err
	}
	switch major {
	case majorUint, majorNegative:
		return rest, nil
	case majorBytes, majorText:
		content, rest, err := take(rest, n)
		if err == nil && major == majorText && !utf8.Valid(content) {
			err = errUTF8
		}
		return rest, err
	case majorTag:
		if n != tagLink {
			return nil, errTag
		}
		return skipLink(rest)
	case majorMap:
		return skipMap(rest, n, depth)
	default:
		return skipArray(rest, n, depth)
	}
}

// readHead reads a head with its argument in shortest form.
func readHead(b []byte) (major byte, n uint64, rest []byte, err error) {
	major, info, b := b[0]>>5, b[0]&0x1f, b[1:]
	if info < 24 {
		return major, uint64(info), b, nil
	}
	if info > 27 {
		return 0, 0, nil, errIndefinite
	}
	size := 1 << (info - 24)
	if len(b) < size {
		return 0, 0, nil, errTruncated
	}
	var wide [8]byte
	copy(wide[8-size:], b[:size])
	n = binary.BigEndian.Uint64(wide[:])
	least := uint64(24)
	if size > 1 {
		least = 1 << (4 * size)
	}
	if n < least {
		return 0, 0, nil, errLongForm
	}
	return major, n, b[size:], nil
}

// take splits b after n bytes.
func take(b []byte, n uint64) (content, rest []byte, err error) {
	if n > uint64(len(b)) {
		return nil, nil, errTruncated
	}
	return b[:n], b[n:], nil
}

func skipSimple(b []byte) ([]byte, error) {
	switch {
	case b[0] >= headFalse && b[0] <= headNull:
		return b[1:], nil
	case b[0] != headFloat64:
		return nil, errSimple
	}
	content, rest, err := take(b[1:], 8)
	if err != nil {
		return nil, err
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(content))
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errFloat
	}
	return rest, nil
}

// skipLink checks what follows the head of tag 42.
func skipLink(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0]>>5 != majorBytes {
		return nil, errTag
	}
	_, n, rest, err := readHead(b)
	if err != nil {
		return nil, err
	}
	content, rest, err := take(rest, n)
	if err != nil {
		return nil, err
	}
	if len(content) < 2 || content[0] != 0 {
		return nil, errTag
	}
	if _, err := cid.Cast(content[1:]); err != nil {
		return nil, errTag
	}
	return rest, nil
}

func skipArray(b []byte, n uint64, depth int) ([]byte, error) {
	if n > uint64(len(b)) {
		return nil, errTruncated
	}
	var err error
	for range n {
		if b, err = skipItem(b, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func skipMap(b []byte, n uint64, depth int) ([]byte, error) {
	if n > uint64(len(b)) {
		return nil, errTruncated
	}
	var last []byte // encoded, so that its length comes first
	for i := range n {
		if len(b) == 0 || b[0]>>5 != majorText {
			return nil, errMapKey
		}
		rest, err := skipItem(b, depth+1)
		if err != nil {
			return nil, err
		}
		key := b[:len(b)-len(rest)]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return nil, errMapKey
		}
		last = key
		if b, err = skipItem(rest, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}
