package ledger

const (
	// MaxPayload bounds the payload of any document in bytes: an ad or an
	// agreement with its full argument list stays below a quarter of it.
	MaxPayload = 64 << 10
	// MaxEnvelope bounds an envelope: payload, kind and four signatures.
	MaxEnvelope = MaxPayload + 1<<10
	// maxSignatures bounds the verifications that one envelope can cost:
	// client, server and XenoCorp, and one to spare.
	maxSignatures = 4
)
