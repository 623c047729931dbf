package ledger

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// A Link is a CID inside a document: DAG-CBOR tag 42 over a zero byte and the
// binary CID. The zero Link encodes as null.
type Link struct{ cid.Cid }

// LinkTo returns the link to the document in e.
func LinkTo(e *Envelope) Link { return Link{e.CID()} }

const tagLink = 42

// encMode writes DAG-CBOR: map keys by length and then bytes, shortest
// integers, 64-bit floats, no NaN or infinity, no indefinite lengths.
var encMode = must(cbor.EncOptions{
	Sort:          cbor.SortLengthFirst,
	ShortestFloat: cbor.ShortestFloatNone,
	NaNConvert:    cbor.NaNConvertReject,
	InfConvert:    cbor.InfConvertReject,
	IndefLength:   cbor.IndefLengthForbidden,
	NilContainers: cbor.NilContainerAsEmpty,
	TextMarshaler: cbor.TextMarshalerNone,
}.EncMode())

// decMode reads it back, bounded in depth and size. What it would let pass
// although DAG-CBOR forbids it, checkStrict has refused before.
var decMode = must(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	IndefLength:       cbor.IndefLengthForbidden,
	MaxNestedLevels:   maxNesting,
	MaxArrayElements:  maxElements,
	MaxMapPairs:       maxElements,
	UTF8:              cbor.UTF8RejectInvalid,
	NaN:               cbor.NaNDecodeForbidden,
	Inf:               cbor.InfDecodeForbidden,
	DefaultMapType:    reflect.TypeFor[map[string]any](),
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	BignumTag:         cbor.BignumTagForbidden,
}.DecMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// encode writes v, and refuses what DAG-CBOR cannot say, such as 32-bit floats.
func encode(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, err
	}
	if err := checkStrict(b); err != nil {
		return nil, fmt.Errorf("%T: %w", v, err)
	}
	return b, nil
}

// decode reads strict DAG-CBOR into v. A second encoding of the same content
// is refused: one document, one CID. Fields unknown to v take part in that.
func decode(b []byte, v any) error {
	if err := checkStrict(b); err != nil {
		return fmt.Errorf("not strict DAG-CBOR: %w", err)
	}
	return decMode.Unmarshal(b, v)
}

// Encode returns v as deterministic DAG-CBOR, for documents that other
// packages declare and for blocks of XenoStore.
func Encode(v any) ([]byte, error) { return encode(v) }

// Decode reads deterministic DAG-CBOR of at most MaxPayload bytes into v.
// The error wraps ErrMalformed.
func Decode(b []byte, v any) error {
	if len(b) > MaxPayload {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrMalformed, len(b), MaxPayload)
	}
	if err := decode(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// MarshalCBOR implements cbor.Marshaler.
func (l Link) MarshalCBOR() ([]byte, error) {
	if !l.Defined() {
		return []byte{headNull}, nil
	}
	return encMode.Marshal(cbor.Tag{Number: tagLink, Content: append([]byte{0}, l.Bytes()...)})
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (l *Link) UnmarshalCBOR(b []byte) error {
	if len(b) == 1 && b[0] == headNull {
		*l = Link{}
		return nil
	}
	var raw cbor.RawTag
	if err := decMode.Unmarshal(b, &raw); err != nil {
		return err
	}
	var content []byte
	if err := decMode.Unmarshal(raw.Content, &content); err != nil {
		return err
	}
	if raw.Number != tagLink || len(content) < 2 || content[0] != 0 {
		return errors.New("not a link (tag 42 over a zero byte and a CID)")
	}
	c, err := cid.Cast(content[1:])
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	*l = Link{c}
	return nil
}

// payloadCID returns the CID of a dag-cbor block.
func payloadCID(b []byte) cid.Cid {
	sum := must(multihash.Sum(b, multihash.SHA2_256, -1))
	return cid.NewCidV1(cid.DagCBOR, sum)
}
