package rival

import (
	"time"

	"github.com/xenoserver/xeno/search"
)

// Loops of this package are bounded by the number of leaves of an index or of
// nodes of the network, and by these.
const (
	// leafAds is how many ads a leaf holds: as many as in Xeno.
	leafAds = search.LeafAds
	// replicas is how many nodes hold a record where a paper does not say:
	// as many as in Xeno.
	replicas = 4
	// tries is how often a lookup is made, or a message sent again, before it
	// counts as failed; holders are tried once each.
	tries = 4
	// zBits bounds the bits of a key that interleaves dimensions.
	zBits = 63
	// bulk is how many lookups a task has under way before further ones are
	// made thriftily.
	bulk = 64
	// flight is how many requests of a search that stops at a limit are under
	// way at once in the beginning: as many as Xeno has.
	flight = 8
	// renewal is how often servers renew their ads: as often as Xeno's.
	renewal = time.Minute
	// driftSample is of how many servers it is seen whether the market drifts.
	driftSample = 256
	// links is how many leaves a prefix hash tree is followed along one after
	// another before several are read at once.
	links = 8
)
