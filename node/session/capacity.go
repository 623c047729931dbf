package session

import (
	"fmt"

	"github.com/xenoserver/xeno/ledger"
)

// A Capacity is an amount of resources: what a host has, or what a session
// takes of it.
type Capacity struct {
	CPUs        uint32 // virtual CPUs
	CPUShare    uint32 // CPU milliseconds a second
	MemoryBytes uint64
	DiskBytes   uint64
	NetworkRate uint64 // bytes a second
	Sessions    uint32
}

// capacityOf returns what terms take.
func capacityOf(t *ledger.Terms) Capacity {
	return Capacity{
		CPUs: t.CPUs, CPUShare: t.CPUShare, MemoryBytes: t.MemoryBytes,
		DiskBytes: t.DiskBytes, NetworkRate: t.NetworkRate, Sessions: 1,
	}
}

// plus returns c and d together.
func (c Capacity) plus(d Capacity) Capacity {
	c.CPUs += d.CPUs
	c.CPUShare += d.CPUShare
	c.MemoryBytes += d.MemoryBytes
	c.DiskBytes += d.DiskBytes
	c.NetworkRate += d.NetworkRate
	c.Sessions += d.Sessions
	return c
}

// minus returns what c leaves of total, never below zero.
func (c Capacity) minus(d Capacity) Capacity {
	return Capacity{
		CPUs: c.CPUs - min(c.CPUs, d.CPUs), CPUShare: c.CPUShare - min(c.CPUShare, d.CPUShare),
		MemoryBytes: c.MemoryBytes - min(c.MemoryBytes, d.MemoryBytes), DiskBytes: c.DiskBytes - min(c.DiskBytes, d.DiskBytes),
		NetworkRate: c.NetworkRate - min(c.NetworkRate, d.NetworkRate), Sessions: c.Sessions - min(c.Sessions, d.Sessions),
	}
}

// admits returns nil if want fits into free, or a refusal naming the first
// resource that is short, with what is left of it.
func (c Capacity) admits(want Capacity) error {
	short := func(what string, want, free uint64) error {
		return refuse(CodeCapacity, "%s: %d wanted, %d free", what, want, free)
	}
	switch {
	case want.Sessions > c.Sessions:
		return refuse(CodeCapacity, "no further session fits")
	case want.CPUs > c.CPUs:
		return short("virtual CPUs", uint64(want.CPUs), uint64(c.CPUs))
	case want.CPUShare > c.CPUShare:
		return short("CPU milliseconds a second", uint64(want.CPUShare), uint64(c.CPUShare))
	case want.MemoryBytes > c.MemoryBytes:
		return short("bytes of memory", want.MemoryBytes, c.MemoryBytes)
	case want.DiskBytes > c.DiskBytes:
		return short("bytes of disk", want.DiskBytes, c.DiskBytes)
	case want.NetworkRate > c.NetworkRate:
		return short("bytes a second of network", want.NetworkRate, c.NetworkRate)
	}
	return nil
}

// String returns the capacity for people.
func (c Capacity) String() string {
	return fmt.Sprintf("%d vCPU (%d ms/s), %d MiB memory, %d MiB disk", c.CPUs, c.CPUShare, c.MemoryBytes>>20, c.DiskBytes>>20)
}
