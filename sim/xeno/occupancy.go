package xeno

import (
	"math"
	"math/bits"
	"sync"
)

// occupancies are what every ad adds to summaries, two bytes for each word of
// 64 bits: most words have one bit, and few others differ. A million ads are
// read once for each tree, from memory.
type occupancies struct {
	words int
	codes []uint16 // word by word of each ad

	mu    sync.Mutex
	table [][]uint64 // of each word, what the codes from oneBit on stand for
	known []map[uint64]uint16
}

// oneBit is the number of codes for words with no bit and with one: 0, and one
// more than the bit.
const oneBit = 65

func newOccupancies(ads, words int) *occupancies {
	o := &occupancies{words: words, codes: make([]uint16, ads*words), table: make([][]uint64, words), known: make([]map[uint64]uint16, words)}
	for w := range o.known {
		o.known[w] = make(map[uint64]uint16)
	}
	return o
}

// set notes the occupancy of one ad. Several goroutines may, of different ads;
// what codes are given in what order shows nowhere.
func (o *occupancies) set(ad int, occupancy []uint64) {
	own := o.codes[ad*o.words : (ad+1)*o.words]
	for w, b := range occupancy {
		if b&(b-1) == 0 {
			own[w] = uint16(bits.Len64(b))
		} else {
			own[w] = o.code(w, b)
		}
	}
}

// code returns the code of a word of several bits. There are fewer of them
// than a market has different values of a dimension, for which it has 16 bits.
func (o *occupancies) code(w int, b uint64) uint16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	code, ok := o.known[w][b]
	if !ok {
		next := oneBit + len(o.table[w])
		if next > math.MaxUint16 {
			panic("xeno: more different occupancies than codes")
		}
		code = uint16(next)
		o.table[w], o.known[w][b] = append(o.table[w], b), code
	}
	return code
}

// unite widens an occupancy by that of an ad.
func (o *occupancies) unite(occupancy []uint64, ad int) {
	for w, code := range o.codes[ad*o.words : (ad+1)*o.words] {
		if code < oneBit {
			occupancy[w] |= 1 << (code - 1) // 0 for code 0
		} else {
			occupancy[w] |= o.table[w][code-oneBit]
		}
	}
}
