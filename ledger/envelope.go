package ledger

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/xenoserver/xeno/dht"
)

// A Kind names a type of document. Kinds are never reused.
type Kind string

// Errors of envelopes and documents.
var (
	ErrMalformed    = errors.New("ledger: malformed document")
	ErrUnknownKind  = errors.New("ledger: unknown kind of document")
	ErrWrongKind    = errors.New("ledger: document of another kind")
	ErrBadSignature = errors.New("ledger: signature does not verify")
	ErrNotSigned    = errors.New("ledger: required signature is missing")
	ErrExpired      = errors.New("ledger: document has expired")
	ErrWrongNetwork = errors.New("ledger: document of another network")
)

// A Signature is one participant's Ed25519 signature over an envelope's
// domain, kind and payload.
type Signature struct {
	Key dht.PeerID `cbor:"key"`
	Sig []byte     `cbor:"sig"` // 64 bytes
}

// An Envelope is a signed document: the exact payload bytes, and signatures
// over them. The payload is never re-encoded and never decoded before the
// signatures were verified (Open does both, in that order).
type Envelope struct {
	Kind       Kind        `cbor:"kind"`
	Payload    []byte      `cbor:"payload"` // deterministic DAG-CBOR
	Signatures []Signature `cbor:"sigs"`    // 1 to maxSignatures, distinct keys
}

// signDomain separates document signatures from every other use of the key.
const signDomain = "xeno-document-v1"

// signedBytes is what a signature covers: domain, kind and payload, each
// preceded by its length as 8 bytes, big-endian.
func signedBytes(kind Kind, payload []byte) []byte {
	b := make([]byte, 0, len(signDomain)+len(kind)+len(payload)+24)
	for _, part := range [][]byte{[]byte(signDomain), []byte(kind), payload} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

// Seal encodes doc as deterministic DAG-CBOR and signs it with key.
// Other parties add their signatures with Countersign.
func Seal(kind Kind, doc any, key ed25519.PrivateKey) (*Envelope, error) {
	payload, err := encode(doc)
	if err != nil {
		return nil, fmt.Errorf("ledger: seal %s: %w", kind, err)
	}
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("ledger: seal %s of %d bytes, limit %d: %w", kind, len(payload), MaxPayload, ErrMalformed)
	}
	e := &Envelope{Kind: kind, Payload: payload}
	e.Countersign(key)
	return e, nil
}

// Countersign adds key's signature, unless the envelope carries one already.
// The document's CID does not change.
func (e *Envelope) Countersign(key ed25519.PrivateKey) {
	id := dht.PeerIDFromKey(key.Public().(ed25519.PublicKey))
	if e.SignedBy(id) {
		return
	}
	e.Signatures = append(e.Signatures, Signature{Key: id, Sig: ed25519.Sign(key, signedBytes(e.Kind, e.Payload))})
}

// SignedBy tells whether the envelope carries a signature by id. It does not
// verify it: Verify does.
func (e *Envelope) SignedBy(id dht.PeerID) bool {
	for _, s := range e.Signatures {
		if s.Key == id {
			return true
		}
	}
	return false
}

// Verify checks that the envelope is of the given kind, that every signature
// it carries verifies, and that each of signers is among them. Errors wrap
// ErrWrongKind, ErrBadSignature, ErrNotSigned or ErrMalformed.
func (e *Envelope) Verify(kind Kind, signers ...dht.PeerID) error {
	if e.Kind != kind {
		return fmt.Errorf("%w: %q, expected %q", ErrWrongKind, e.Kind, kind)
	}
	if len(e.Payload) > MaxPayload || len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures {
		return fmt.Errorf("%w: %s with %d bytes and %d signatures", ErrMalformed, kind, len(e.Payload), len(e.Signatures))
	}
	signed := signedBytes(kind, e.Payload)
	for i, s := range e.Signatures {
		for _, earlier := range e.Signatures[:i] {
			if earlier.Key == s.Key {
				return fmt.Errorf("%w: %s signed twice by %s", ErrMalformed, kind, s.Key)
			}
		}
		if !ed25519.Verify(s.Key.PublicKey(), signed, s.Sig) {
			return fmt.Errorf("%w: %s by %s", ErrBadSignature, kind, s.Key)
		}
	}
	for _, id := range signers {
		if !e.SignedBy(id) {
			return fmt.Errorf("%w: %s by %s", ErrNotSigned, kind, id)
		}
	}
	return nil
}

// Open verifies e as Verify does and only then decodes its payload into doc,
// a pointer to the document type of that kind. Unknown fields are ignored;
// anything that is not deterministic DAG-CBOR is ErrMalformed.
func (e *Envelope) Open(kind Kind, doc any, signers ...dht.PeerID) error {
	if err := e.Verify(kind, signers...); err != nil {
		return err
	}
	if err := decode(e.Payload, doc); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, kind, err)
	}
	return nil
}

// CID is the identity of the document: CIDv1, dag-cbor, SHA-256 of the payload.
// It does not depend on who signed.
func (e *Envelope) CID() cid.Cid { return payloadCID(e.Payload) }

// Marshal returns the envelope itself as deterministic DAG-CBOR, as it goes
// over the wire and to disk.
func (e *Envelope) Marshal() []byte {
	b, err := encode(e)
	if err != nil {
		panic("ledger: an envelope always encodes: " + err.Error())
	}
	return b
}

// UnmarshalEnvelope reads what Marshal wrote. It verifies nothing but the
// form; the error wraps ErrMalformed.
func UnmarshalEnvelope(b []byte) (*Envelope, error) {
	if len(b) > MaxEnvelope {
		return nil, fmt.Errorf("%w: envelope of %d bytes, limit %d", ErrMalformed, len(b), MaxEnvelope)
	}
	e := new(Envelope)
	if err := decode(b, e); err != nil {
		return nil, fmt.Errorf("%w: envelope: %w", ErrMalformed, err)
	}
	if len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures || len(e.Payload) > MaxPayload {
		return nil, fmt.Errorf("%w: envelope with %d signatures over %d bytes", ErrMalformed, len(e.Signatures), len(e.Payload))
	}
	return e, nil
}
