package store

import "time"

const (
	// MaxBlock bounds a block in bytes: what a bitswap message carries.
	// Chunks are 1 MiB, nodes of 1024 links below 128 KiB.
	MaxBlock = 2 << 20
	// maxRefText bounds the text of a reference before it is parsed: a CIDv1
	// over SHA-256 has 59 characters in base32, 78 in base16.
	maxRefText = 128

	// MaxLabel bounds the label of a name in bytes, for tables and logs.
	MaxLabel = 128
	// MaxValue bounds the inline value of a name: larger things are blocks,
	// and a name then links to them.
	MaxValue = 4 << 10
	// MaxRecord bounds the envelope of a name: value, label, link, signature
	// and at most 256 bytes for keys and numbers, rounded up.
	MaxRecord = 5 << 10
	// MaxLife bounds the time from a record's issue to its expiry, and so
	// how long a holder keeps something whose owner is gone.
	MaxLife = 7 * 24 * time.Hour
	// MaxSkew is how far the clocks of an owner and a holder may differ.
	MaxSkew = 2 * time.Minute
)

// TableLimits bound what one holder keeps for others. The zero value of a
// field means its default.
type TableLimits struct {
	Names      int // in all; default 16,384: their signatures are verified in 2 s when a holder restarts
	Bytes      int // of all records; default 16 MiB
	PerOwner   int // names of one owner at this holder; default 64
	PerCarrier int // names brought by one participant, whoever owns them; default 1,024, since identities cost nothing to make
}

func (l TableLimits) withDefaults() TableLimits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Names, 1<<14)
	def(&l.Bytes, 16<<20)
	def(&l.PerOwner, 64)
	def(&l.PerCarrier, 1<<10)
	return l
}
