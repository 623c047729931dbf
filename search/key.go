package search

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

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

// fraction returns where among all hashes it is, 0 to 1.
func (h Hash) fraction() float64 { return float64(binary.BigEndian.Uint64(h[:8])) / (1 << 64) }

// String returns the first eight bytes in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:8]) }

const (
	// keyLayout tells how keys are made: whoever makes others would look for ads
	// where they are not. 2: bands of coordinates that are narrow near the origin.
	keyLayout = 2
	// keyBytes is the length of a key: 4 to 24 bits of values, and at least
	// 72 bits of hash, more than anybody can collide on purpose 256 times.
	keyBytes = 12
	// maxLevel is the deepest level of a tree: a prefix of all bits.
	maxLevel = 8 * keyBytes
	// singleBits is how many bits of a key come from the value of a tree's
	// only dimension. More would make equal values share longer chains of
	// inner cells before their hashes tell them apart.
	singleBits = 12
	// coordinateBits is the same for network coordinates: three bits an axis.
	coordinateBits = 24
	// placeBits is the same for places: cells finer than the circles that are
	// asked for, and than the distances that round trips tell apart.
	placeBits = 16
	// classBits is the same for sets and versions, classBits/2 for short
	// enumerations: they have few values, so the chains must be short.
	classBits = 8
	// compositeBits is how many come from all dimensions of a composite together.
	compositeBits = 24
)

// A Key orders ads in one tree: bits of the value (0 for ads that lack it),
// then of the server's hash.
type Key [keyBytes]byte

// bits returns n bits of the key from bit i on; n is at most 8.
func (k Key) bits(i, n int) (v int) {
	for ; n > 0; n-- {
		v = v<<1 | int(k[i/8]>>(7-i%8)&1)
		i++
	}
	return v
}

// common returns how many leading bits two keys share.
func (k Key) common(l Key) int {
	for i := range k {
		if d := k[i] ^ l[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return maxLevel
}

// A Prefix is the beginning of a key: Level bits, the rest is zero.
type Prefix struct {
	Level uint8
	Key   Key
}

// PrefixOf returns the first level bits of k.
func PrefixOf(k Key, level int) Prefix {
	p := Prefix{Level: uint8(level)}
	copy(p.Key[:], k[:level/8])
	if level%8 != 0 {
		p.Key[level/8] = k[level/8] & (0xff << (8 - level%8))
	}
	return p
}

// Contains tells whether k begins with p.
func (p Prefix) Contains(k Key) bool { return PrefixOf(k, int(p.Level)) == p }

// Half returns the prefix one bit longer, which is 0 or 1.
func (p Prefix) Half(bit int) Prefix {
	h := Prefix{Level: p.Level + 1, Key: p.Key}
	h.Key[p.Level/8] |= byte(bit << (7 - p.Level%8))
	return h
}

// table tells whether an inner cell at p keeps the table of those below; one
// that does not only sends publishers on.
func (p Prefix) table() bool { return p.Level%tableBits == 0 }

// Child returns the prefix at a slot of p's table: slots 0 and 1 are the
// halves, 2 to 5 the quarters, and so on down to the sixteenths.
func (p Prefix) Child(slot int) Prefix {
	n := bits.Len(uint(slot+2)) - 1
	v := slot + 2 - 1<<n
	c := p
	for n--; n >= 0; n-- {
		c = c.Half(v >> n & 1)
	}
	return c
}

// Parent returns the prefix whose table has p, and p's slot there. p must not
// be the root.
func (p Prefix) Parent() (Prefix, int) {
	above := PrefixOf(p.Key, (int(p.Level)-1)/tableBits*tableBits)
	return above, above.slotOf(p)
}

// up returns the prefix one bit shorter.
func (p Prefix) up() Prefix { return PrefixOf(p.Key, int(p.Level)-1) }

// valid tells whether p is one that PrefixOf could have made.
func (p Prefix) valid() bool { return p.Level <= maxLevel && PrefixOf(p.Key, int(p.Level)) == p }

// String returns the nibbles in hexadecimal and what bits remain, "*" for the
// root.
func (p Prefix) String() string {
	if p.Level == 0 {
		return "*"
	}
	text := hex.EncodeToString(p.Key[:])[:p.Level/4]
	if n := int(p.Level % 4); n > 0 {
		text += fmt.Sprintf(".%0*b", n, p.Key.bits(int(p.Level)-n, n))
	}
	return text
}

// A CellID names a cell: a tree and a prefix of its keys. The record of a
// single server in the information service is the cell of tree "" whose
// prefix is all zero and whose Server is set.
type CellID struct {
	Tree   string
	Prefix Prefix
	Server dht.PeerID
}

// RecordOf names the record of a server in the information service (XIS).
func RecordOf(server dht.PeerID) CellID { return CellID{Server: server} }

// Root names the root cell of a tree.
func Root(tree string) CellID { return CellID{Tree: tree} }

// Above returns the cell whose table has c; false for roots and records.
func (c CellID) Above() (CellID, bool) {
	if c.Tree == "" || c.Prefix.Level == 0 {
		return CellID{}, false
	}
	prefix, _ := c.Prefix.Parent()
	return CellID{Tree: c.Tree, Prefix: prefix}, true
}

// Key returns where the cell lies in the DHT: keyspace of its tree, label of
// one byte for the level and the prefix; or keyspace XIS and the server.
func (c CellID) Key() dht.Key {
	if c.Tree == "" {
		return dht.KeyspaceXIS.Key(c.Server[:])
	}
	return Tree{Name: c.Tree}.Keyspace().Key(append([]byte{c.Prefix.Level}, c.Prefix.Key[:]...))
}

// String returns tree and prefix for people.
func (c CellID) String() string {
	if c.Tree == "" {
		return "xis/" + c.Server.Short()
	}
	return c.Tree + "/" + c.Prefix.String()
}

// CheckCell returns an error that wraps ErrBadQuery unless the schema has such
// a cell.
func (s *Schema) CheckCell(c CellID) error {
	if _, ok := s.Tree(c.Tree); c.Tree != "" && !ok {
		return fmt.Errorf("%w: no tree %.40q in the schema of this network", ErrBadQuery, c.Tree)
	}
	if !c.Prefix.valid() || c.Tree == "" && (c.Prefix.Level != 0 || c.Server.IsZero()) {
		return fmt.Errorf("%w: malformed cell", ErrBadQuery)
	}
	return nil
}

// keyBits is how many bits of a key come from the dimension's value.
func (d Dimension) keyBits() int {
	switch {
	case d.Kind == KindEnum && len(d.Values) < shortEnum:
		return classBits / 2
	case d.Kind == KindEnum || d.Kind == KindSet || d.Kind == KindVersion:
		return classBits
	case d.Kind == KindCoordinate:
		return coordinateBits
	case d.Kind == KindPlace:
		return placeBits
	default:
		return singleBits
	}
}

// KeyOf returns the key of an ad in a tree. Where it has the bits of one value,
// the first nibble is 0 for ads that lack it, and their hash follows at once.
func (s *Schema) KeyOf(t Tree, ad *Signed) Key {
	if bits, ok := s.interleaved(t); ok {
		return s.interleavedKey(t, bits, ad)
	}
	d, _ := s.Dimension(t.Dims[0])
	v, ok := ad.Ad.Attribute(d.Name)
	if !ok {
		return appendHash(Key{}, 4, ad.hash)
	}
	bits := d.keyBits()
	low := uint32(1) << (bits - 4)
	position := low + min(uint32(d.fraction(v)*float64(15*low)), 15*low-1)
	position <<= 24 - bits
	k := Key{byte(position >> 16), byte(position >> 8), byte(position)}
	return appendHash(k, bits, ad.hash)
}

// interleaved returns how many bits of the keys of a tree those of several
// dimensions or axes share in turn; false where they are those of one value.
func (s *Schema) interleaved(t Tree) (bits int, ok bool) {
	if len(t.Dims) > 1 {
		return compositeBits, true
	}
	d, _ := s.Dimension(t.Dims[0])
	return d.keyBits(), d.Kind == KindPlace || d.Kind == KindCoordinate
}

// interleavedKey takes bits of the dimensions' positions in turn. Cells are
// thus boxes, and those of places and coordinates halves of boxes.
func (s *Schema) interleavedKey(t Tree, bits int, ad *Signed) (k Key) {
	each := bits / len(t.Dims)
	var positions [maxTreeDims]uint32
	for i, name := range t.Dims {
		d, _ := s.Dimension(name)
		if v, ok := ad.Ad.Attribute(name); ok {
			positions[i] = keyPosition(d.fraction(v), each)
		}
	}
	for bit := range bits {
		from := positions[bit%len(t.Dims)]
		if from>>(each-1-bit/len(t.Dims))&1 == 1 {
			k[bit/8] |= 0x80 >> (bit % 8)
		}
	}
	return appendHash(k, bits, ad.hash)
}

// appendHash fills the key behind its first bits from the hash. bits is a
// multiple of 4.
func appendHash(k Key, bits int, h Hash) Key {
	at := bits / 8
	if bits%8 == 0 {
		copy(k[at:], h[:])
		return k
	}
	for i, b := range h[:keyBytes-at] {
		k[at+i] |= b >> 4
		if at+i+1 < keyBytes {
			k[at+i+1] = b << 4
		}
	}
	return k
}

// keyPosition maps a fraction of a dimension's range to 1 … 2^bits-1, keeping
// the order; 0 is for ads without a value.
func keyPosition(fraction float64, bits int) uint32 {
	most := float64(uint32(1)<<bits - 1)
	return 1 + min(uint32(fraction*most), uint32(most)-1)
}
