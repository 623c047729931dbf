package session

import "time"

// Protocols, with their major version.
const (
	Protocol        = "/xeno/session/1" // client to server
	ReceiptProtocol = "/xeno/receipt/1" // server to client
	ForwardProtocol = "/xeno/forward/1" // client to server, a stream
)

const (
	// HoldTime is how long a proposal keeps resources without a confirmation.
	HoldTime = 60 * time.Second
	// maxRequest bounds a request: two envelopes of a confirmation, and terms.
	maxRequest = 256 << 10
	// maxResponse bounds a response: an agreement, a page of receipts or the
	// newest output.
	maxResponse = 1 << 20
	// maxLogs bounds the output returned at once, for each stream.
	maxLogs = 256 << 10
	// maxReceiptPage bounds the receipts returned at once.
	maxReceiptPage = 100
	// maxHeld bounds soft holds for one client, so that one client cannot
	// lock a server by proposing and never confirming.
	maxHeld = 8
	// maxHosted bounds the sessions of a host, ended ones that are not yet
	// settled included.
	maxHosted = 1024
	// keepEnded is how long an ended session's record is kept for its client.
	keepEnded = 7 * 24 * time.Hour
	// maxDuration bounds one agreement; longer use extends it.
	maxDuration = 31 * 24 * time.Hour
	// maxWait bounds a status request that waits for a change.
	maxWait = 20 * time.Second
	// clockSkew is how far the clocks of two participants may differ.
	clockSkew = 30 * time.Second
	// maxForwards bounds concurrent forwarded connections of one session.
	maxForwards = 64
	// dialTimeout bounds the connection from a server to its own guest.
	dialTimeout = 10 * time.Second
	// stopGrace is what an environment gets between the request to end and
	// its end by force.
	stopGrace = 3 * time.Second
	// claimRetry is the longest pause between attempts to claim while
	// XenoCorp does not answer.
	claimRetry = 30 * time.Second
)
