package ledger

import (
	"crypto/sha256"
	"strings"
)

// A CodeHash is what XenoCorp keeps of an invitation code.
type CodeHash [sha256.Size]byte

// codeDomain separates hashes of codes from every other use of SHA-256 here.
const codeDomain = "xeno-invitation-v1\x00"

// HashCode returns the hash of an invitation code. White space, dashes and
// case are ignored, since people retype codes.
func HashCode(code string) CodeHash {
	plain := strings.NewReplacer(" ", "", "-", "", "\n", "", "\t", "").Replace(code)
	return sha256.Sum256([]byte(codeDomain + strings.ToUpper(plain)))
}
