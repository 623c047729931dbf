package kad

import (
	"math"
	"time"
)

const (
	// helloTimeout bounds the exchange of hellos: a round trip across the
	// world on a bad link takes a second.
	helloTimeout = 5 * time.Second
	// maxHello bounds a hello, of which the credential is the greater part; a
	// stranger can make us allocate that much.
	maxHello = 32 << 10
	// maxHellos and maxPeerHellos bound the hellos served at once: each holds
	// a goroutine and maxHello bytes for at most helloTimeout.
	maxHellos, maxPeerHellos = 128, 2
	// maxReason bounds the reason of a refusal, in bytes.
	maxReason = 256
	// maxAgent bounds the name of a peer's program, in bytes.
	maxAgent = 64
	// maxSkew bounds how far the clocks of two peers may be apart: leases and
	// revocations are a minute's matter.
	maxSkew = 60 * time.Second
	// strangerGrace and registrarGrace are how long a connection to a peer
	// that is not admitted lasts: long enough for it to read why, and for a
	// registration that waits for a person's directory server.
	strangerGrace, registrarGrace = 10 * time.Second, 2 * time.Minute
	// maxStrangers and maxRegistrants bound such connections: a handshake
	// each costs about 100 KiB.
	maxStrangers, maxRegistrants = 128, 512
)

const (
	// defaultTimeout ends a request whose context has no deadline.
	defaultTimeout = 10 * time.Second
	// dialTimeout bounds one dial.
	dialTimeout = 5 * time.Second
	// maxServed and maxPeerServed bound the requests and streams of one
	// protocol served at once, in all and for one peer: a peer that asks faster
	// than it is served is told so (ErrBusy) instead of being queued.
	maxServed, maxPeerServed = 1024, 64
	// maxRemoteError bounds a RemoteError's message, in bytes.
	maxRemoteError = 1024
	// maxOverlayMessage bounds a message of /xeno/overlay/1: 20 contacts of
	// 16 addresses of 60 bytes take 20 KiB.
	maxOverlayMessage = 64 << 10
	// maxRequestLimit bounds the limit that a service may choose: what does
	// not fit belongs into a stream or a block.
	maxRequestLimit = 64 << 20
)

const (
	// warmInterval is how often the routing table is compared with the
	// connections: all its peers connected, none that is not admitted.
	warmInterval = 15 * time.Second
	// maxWarmDials bounds the dials of one such pass under way at once: a
	// third of a large routing table that died at once takes half a minute.
	maxWarmDials = 16
	// refreshInterval is how often kad-dht looks for random keys in each of its
	// buckets, about 30 messages each; its own default.
	refreshInterval = 10 * time.Minute
	// pingInterval is how often one peer, chosen at random, is pinged, for
	// its coordinate and round trip time: 20 peers take 1 packet in 5 s.
	pingInterval = 5 * time.Second
	// firstPause and lastPause bound the pause between two attempts to reach a
	// bootstrap peer while nobody is connected.
	firstPause, lastPause = time.Second, time.Minute
	// joinWait bounds how long Bootstrap waits for the first peer to enter the
	// routing table.
	joinWait = 5 * time.Second
	// lookupTimeout and lookupSlow are when a peer asked in a lookup counts as
	// dead and as slow: a cold contact takes three round trips, and a busy
	// machine a second to get around to it.
	lookupTimeout, lookupSlow = 3 * time.Second, 400 * time.Millisecond
	// connsLow and connsHigh are the marks between which the connection
	// manager keeps the number of connections: a routing table of a million
	// participants holds about 320.
	connsLow, connsHigh = 384, 512
	// publicConns is how many connections one public address may hold, the
	// library's own figure; unlimitedConns is for loopback.
	publicConns, unlimitedConns = 8, math.MaxInt
	// hostMemory bounds, in bytes, what the host's connections and streams
	// may hold together.
	hostMemory = 1 << 30
	// findWidth is how many nearest live peers Find asks before it gives up.
	findWidth = 8
	// hintTTL is how long an address that somebody else told is remembered.
	hintTTL = 10 * time.Minute
)

// maxServing is how long beyond defaultTimeout a handler may take: opening a
// session waits for an environment to start.
const maxServing = 2 * time.Minute
