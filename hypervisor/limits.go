package hypervisor

import "time"

const (
	// MaxIDBytes holds the hexadecimal of a 20-byte hash; IDs become names of
	// directories and control groups.
	MaxIDBytes = 40
	// MaxCPUs is what KVM gives one guest on every distribution.
	MaxCPUs = 256
	// MinMemoryBytes is the least that is worth an own process.
	MinMemoryBytes = 1 << 20
	// MemoryUnit is what a virtual machine's memory is a multiple of: QEMU is
	// told it in MiB. More is refused, not rounded: what is billed is what was
	// agreed, and what the guest has.
	MemoryUnit = 1 << 20
	// DiskUnit is what its disk is a multiple of: a sector of virtio-blk.
	DiskUnit = 512
	// MaxMemoryBytes is above the largest machines of 2026.
	MaxMemoryBytes = 64 << 40
	// MaxDiskBytes is the largest file of ext4.
	MaxDiskBytes = 16 << 40
	// MaxArgs bounds the number of arguments, and of variables.
	MaxArgs = 1024
	// MaxArgBytes bounds the arguments, and the variables, together: far below
	// the 2 MiB that Linux takes in all.
	MaxArgBytes = 256 << 10
	// MaxStdinBytes bounds what travels within a proposal; larger input
	// belongs in the private directory or the image.
	MaxStdinBytes = 4 << 20
	// MaxTimeout is one leap year: a session never lasts longer.
	MaxTimeout = 366 * 24 * time.Hour
	// MaxPathBytes is Linux's PATH_MAX.
	MaxPathBytes = 4096
	// MaxHostKeyBytes holds an RSA key of 16384 bits in PEM.
	MaxHostKeyBytes = 16 << 10
	// MaxSSHKeys bounds the lines of authorized_keys.
	MaxSSHKeys = 64
	// MaxSSHKeyBytes is the longest line that sshd reads.
	MaxSSHKeyBytes = 8 << 10
	// MaxNetworkRate is a terabyte a second, above any interface.
	MaxNetworkRate = 1 << 40
)
