package index

import (
	"time"

	"github.com/xenoserver/xeno/search"
)

const (
	// maxRequest bounds a request: an update of a mirror, 128 KiB and the last
	// ad or child in it.
	maxRequest = 256 << 10
	// maxCopied bounds the ads of such an update, and the hashes of those that are
	// gone: 34 bytes each.
	maxCopied = 4096
	// maxReply bounds an answer: 192 KiB of ads, as much of excluded ads,
	// and children of 40 dimensions, 8 balls, 4 holders and 8 mirrors with
	// their addresses: 64, and as many below them.
	maxReply = 1 << 20
	// maxListed bounds how many cells, contacts or children a message may
	// list before it is taken for hostile.
	maxListed = 256
	// maxHave bounds the leases of a cell: four leaves' worth.
	maxHave = 4 * search.LeafAds
	// askTimeout bounds a request to a holder; a second holder is asked long
	// before.
	askTimeout = 2 * time.Second
	// publishTimeout bounds a publish, withdraw or push.
	publishTimeout = 4 * time.Second
	// verifyTimeout bounds the wait for a server's current ad: a dial across
	// the world and back.
	verifyTimeout = 2 * time.Second
	// searchTimeout bounds a query whose context has no deadline.
	searchTimeout = 30 * time.Second
	// maxLocated bounds the cells whose holders are remembered.
	maxLocated = 4096
	// maxVerifiedAds bounds the ads whose signatures need no second look.
	maxVerifiedAds = 4096
	// consultTimeout bounds a question to a participant nearby.
	consultTimeout = time.Second
	// maxConsulted bounds the cells of such a question.
	maxConsulted = 64
	// maxSeen bounds the cells that are remembered: inner ones take 20 to 70 KB each.
	maxSeen = 512
	// changeInterval is the shortest time between two ads of this node: a
	// server whose load moves every moment need not tell every moment.
	changeInterval = 250 * time.Millisecond
	// currentTTL is how long an answer to a request for the current ad is
	// repeated rather than signed anew.
	currentTTL = 200 * time.Millisecond
)
