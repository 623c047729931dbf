package index

import "time"

const (
	// maxRequest bounds a request: an ad and 256 placements, or a predicate.
	maxRequest = 64 << 10
	// maxReply bounds an answer: 192 KiB of ads, as much of excluded ads,
	// and 16 children of 40 dimensions and 4 holders with their addresses.
	maxReply = 1 << 20
	// maxListed bounds how many cells, contacts or children a message may
	// list before it is taken for hostile.
	maxListed = 256
	// askTimeout bounds a request to a holder; a second holder is asked long
	// before.
	askTimeout = 2 * time.Second
	// publishTimeout bounds a publish, withdraw or push.
	publishTimeout = 4 * time.Second
	// verifyTimeout bounds the wait for a server's current ad: a dial across
	// the world and back.
	verifyTimeout = 2 * time.Second
	// locateTimeout bounds a lookup of holders.
	locateTimeout = 4 * time.Second
	// withdrawTimeout bounds what Close spends on withdrawing the ads.
	withdrawTimeout = time.Second
	// searchTimeout bounds a query whose context has no deadline.
	searchTimeout = 30 * time.Second
	// withdrawTries and withdrawPause are how often a withdrawal is sent to a
	// holder that does not answer, and the first pause between; what is not
	// withdrawn stays until its lease ends.
	withdrawTries, withdrawPause = 3, 200 * time.Millisecond
	// locateTTL is how long the holders of a cell are remembered while they
	// answer. A participant that joined closer to a cell is found after that.
	locateTTL = time.Minute
	// locateTTLLeast is the same right after the start, when it is half of the
	// time since then.
	locateTTLLeast = time.Second
	// maxLocated bounds the cells whose holders are remembered.
	maxLocated = 4096
	// maxVerifiedAds bounds the ads whose signatures need no second look.
	maxVerifiedAds = 4096
	// recallTTL is how long others are told of them: twice the interval at
	// which publishers look holders up.
	recallTTL = 10 * time.Minute
	// guides is how many participants nearby a query may ask.
	guides = 2
	// consultTimeout bounds a question to a participant nearby.
	consultTimeout = time.Second
	// maxConsulted bounds the cells of such a question.
	maxConsulted = 64
	// glimpseTTL is how long the summaries of inner cells steer queries; they
	// never decide what is found.
	glimpseTTL = 60 * time.Second
	// maxSeen bounds the inner cells that are remembered: 20 KB each.
	maxSeen = 512
	// maxPushes bounds the summaries that wait to be sent up; those beyond it
	// are repeated a minute later.
	maxPushes = 1024
	// pushWorkers is how many are sent at once.
	pushWorkers = 4
	// maxCalls bounds the requests of all publishers here that are under way:
	// an ad goes to at most 80 holders, and peers refuse the 65th at once.
	maxCalls = 32
	// changeInterval is the shortest time between two ads of this node: a
	// server whose load moves every moment need not tell every moment.
	changeInterval = 250 * time.Millisecond
	// currentTTL is how long an answer to a request for the current ad is
	// repeated rather than signed anew.
	currentTTL = 200 * time.Millisecond
	// holderTick is how often leases end and summaries go up.
	holderTick = time.Second
)
