package boot

const (
	// maxConfigBytes bounds session.json: 64 keys of 8 KiB and a host key of
	// 16 KiB fit.
	maxConfigBytes = 1 << 20
	// maxKeys bounds authorized keys: one user with a key on each machine.
	maxKeys = 64
	// maxDNS is what resolv.conf holds (MAXNS in resolv.h).
	maxDNS = 3
	// minMTU is the least that IPv4 allows (RFC 791, section 3.2).
	minMTU = 576
	// maxMTU is what a tap device carries.
	maxMTU = 65521
	// padding aligns what follows the archive; Linux needs 4.
	padding = 512
)
