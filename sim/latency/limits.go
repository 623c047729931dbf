package latency

import "time"

const (
	// MaxSites bounds a matrix: 4,000 rows are 64 MB of memory, and eight
	// times the largest published one of whole hosts.
	MaxSites = 4000
	// maxMatrixBytes bounds the text of a matrix: 16 characters a cell of the
	// largest one.
	maxMatrixBytes = 256 << 20
	// maxLineBytes bounds one row: 64 characters a cell of the largest matrix.
	maxLineBytes = 64 * MaxSites
	// maxMillis bounds one cell in milliseconds. More is a time-out, or another
	// unit.
	maxMillis = 10_000
	// maxAccess bounds an access link: what is slower is no participant.
	maxAccess = 2 * time.Second
	// EmbedRounds is how often every site measures a neighbour before its
	// coordinate is used: the median error has settled then.
	EmbedRounds = 200
	// embedNeighbours bounds the sites that one measures, as a node measures
	// those in its routing table, and so the memory of Embed.
	embedNeighbours = 64
)
