package ledger

import "time"

const (
	// MaxPayload bounds the payload of any document in bytes: an ad or an
	// agreement with its full argument list stays below a quarter of it.
	MaxPayload = 64 << 10
	// MaxEnvelope bounds an envelope: payload, kind and four signatures.
	MaxEnvelope = MaxPayload + 1<<10
	// maxSignatures bounds the verifications that one envelope can cost:
	// client, server and XenoCorp, and one to spare.
	maxSignatures = 4
	// MaxRevoked bounds a list of revocations: its serials fit one document.
	MaxRevoked = maxElements
	// maxNesting bounds the depth of a document; ours need five levels.
	maxNesting = 16
	// maxElements bounds arrays and maps: a list of revocations is the longest.
	maxElements = 4096
)

// Limits of documents. They keep every accepted document far below MaxPayload
// and every product of its numbers below 192 bits.
const (
	maxNetworkName = 63  // as a DNS label
	maxSubject     = 200 // a name for people
	maxRoles       = 8
	maxShort       = 64      // environment kinds, sources, reasons, roles
	maxServers     = 256     // that an order may name
	maxArgs        = 256     // arguments, and as many environment variables
	maxArg         = 4 << 10 // bytes of one
	maxStdin       = 32 << 10
	maxSSHKeys     = 16
	maxSSHKey      = 2 << 10 // an RSA key of 8192 bits has 1.4 KiB
	maxReadings    = 4
	maxCPUs        = 1 << 12
	maxMemoryBytes = 1 << 46
	maxDiskBytes   = 1 << 52
	maxNetworkRate = 1 << 40
	maxRevision    = 1000 // amendments of one agreement
	// maxLifetime bounds orders, agreements and credentials in seconds: ten years.
	maxLifetime = 10 * 366 * 24 * 3600
	// maxUnix bounds times, so that their nanoseconds fit 63 bits: year 2255.
	maxUnix = 9_000_000_000
)

// Limits of the state.
const (
	// maxTotal bounds all money in a ledger, so that no sum overflows.
	maxTotal Amount = 1 << 62
	// maxMembers bounds the registered participants: 400 MiB of them.
	maxMembers = 1_000_000
	// maxInvitations bounds the codes that are neither expired nor forgotten.
	maxInvitations = 100_000
	// maxOrders bounds the orders of one client that are not yet forgotten, and
	// with that the entries of its revocation.
	maxOrders = 1000
	// maxSessions bounds the live sessions on one order.
	maxSessions = 10_000
	// maxTick bounds the entries of one Tick, four a session, to one record.
	maxTick = 256
	// retention is how long, in seconds, closed orders and settled sessions are
	// remembered after their documents expired: seven days.
	retention = 7 * 24 * 3600
	// revokedKept is how long after its expiry a revoked credential stays on
	// the list, for nodes whose clocks lag.
	revokedKept = 24 * time.Hour
)
