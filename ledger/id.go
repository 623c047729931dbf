package ledger

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// An ID names a command, order or session. Whoever starts it draws it at
// random, so that a repetition is recognised.
type ID [16]byte

// ErrBadID reports text that is not an ID.
var ErrBadID = errors.New("ledger: an ID is 32 hexadecimal digits")

// ParseID reads the text form.
func ParseID(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(ID{}) {
		return ID{}, fmt.Errorf("parse %.40q: %w", s, ErrBadID)
	}
	return ID(b), nil
}

// IsZero tells whether id was never set.
func (id ID) IsZero() bool { return id == ID{} }

// String returns 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// UnmarshalCBOR implements cbor.Unmarshaler: a byte string of exactly 16 bytes,
// where the library alone would fill up or cut off.
func (id *ID) UnmarshalCBOR(b []byte) error {
	if len(b) != 1+len(id) || b[0] != majorBytes<<5|byte(len(id)) {
		return errors.New("an ID is a byte string of 16 bytes")
	}
	*id = ID(b[1:])
	return nil
}

// checkWindow returns an error that wraps ErrExpired unless now lies within
// issued (less skew) and expires.
func checkWindow(now time.Time, issued, expires int64, skew time.Duration) error {
	if now.Add(skew).Unix() < issued {
		return fmt.Errorf("%w: valid from %s", ErrExpired, time.Unix(issued, 0).UTC().Format(time.RFC3339))
	}
	if now.Unix() >= expires {
		return fmt.Errorf("%w at %s", ErrExpired, time.Unix(expires, 0).UTC().Format(time.RFC3339))
	}
	return nil
}
