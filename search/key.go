package search

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"

	"github.com/xenoserver/xeno/dht"
)

// A Hash is what orders servers at random, the same for everybody: SHA-256 of
// a domain and the server's key. Equal values are split by it, and the ads
// with the smallest hashes of a cell are its coordinated sample.
type Hash [sha256.Size]byte

const hashDomain = "xeno-server-hash-v1"

// HashOf returns the hash of a server.
func HashOf(server dht.PeerID) Hash {
	return sha256.Sum256(append([]byte(hashDomain), server[:]...))
}

// Compare orders hashes as big-endian numbers.
func (h Hash) Compare(g Hash) int { return bytes.Compare(h[:], g[:]) }

// String returns the first eight bytes in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:8]) }
