package network

import "time"

const (
	// minRate is the least limit, in bytes a second: below, no handshake ends
	// in time, and the kernel's clocks of a bucket overflow.
	minRate = 16 << 10
	// burstTime is how much of its rate a guest may send or get at once;
	// minBurst lets one offloaded segment of 64 KiB pass twice over, maxBurst
	// keeps the sums within 32 bits.
	burstTime = 50 * time.Millisecond
	minBurst  = 256 << 10
	maxBurst  = 64 << 20
	// maxQueueing is how long a packet to the guest may wait for its turn;
	// maxQueueBytes bounds the memory for that.
	maxQueueing   = 100 * time.Millisecond
	maxQueueBytes = 16 << 20
	// maxBanner is the longest line of an SSH server's greeting (RFC 4253,
	// section 4.2); maxBannerLines bounds what may come before it.
	maxBanner      = 255
	maxBannerLines = 16
)
