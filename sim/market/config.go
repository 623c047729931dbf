package market

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// ErrBadConfig reports a configuration that makes no market.
var ErrBadConfig = errors.New("market: bad configuration")

// Config says what to make. The functions are called once for each server, in
// order, and PeerOf again for its ads.
type Config struct {
	Servers int
	Seed    uint64
	// PeerOf returns the identity of server i.
	PeerOf func(i int) dht.PeerID
	// PlaceOf returns where server i is; nil or ok false: it does not say.
	// Degrees, ISO 3166 code and city, which may be empty.
	PlaceOf func(i int) (lat, lon float64, country, city string, ok bool)
	// CoordinateOf returns the network coordinate of server i; nil: none has
	// one. Adjustments are left out, as predictions leave them out.
	CoordinateOf func(i int) dht.Coordinate
	// Types are machine types to draw servers from, as from ReadTypes; none:
	// correlated hardware is made up.
	Types []MachineType
	// Zipf is how much more popular the first types are than the last: the
	// k-th of a random order has weight 1/k^Zipf. Zero: 0.8; negative: 0.
	Zipf float64
	// OwnerZipf is the same for owners. Zero: 1; negative: 0.
	OwnerZipf float64
	// Owners is how many subjects own the servers. Zero: one for four servers.
	Owners int
	// PriceNoise is the deviation of the logarithm of the prices of equal
	// machines. Zero: 0.25; negative: 0.
	PriceNoise float64
	// Diurnal is the amplitude of the load over the day, 0 to 1: 0.5 is half
	// as much more at three in the afternoon local time, half as much less at
	// three at night. It takes the place's longitude for the time.
	Diurnal float64
	Hour    float64 // hour of the day, UTC
}

func (c *Config) validate() error {
	defaulted := func(x *float64, zero float64) {
		if *x == 0 {
			*x = zero
		}
		*x = max(0, *x)
	}
	defaulted(&c.Zipf, 0.8)
	defaulted(&c.OwnerZipf, 1)
	defaulted(&c.PriceNoise, 0.25)
	if c.Owners == 0 {
		c.Owners = c.Servers/4 + 1
	}
	switch {
	case c.Servers < 1 || c.Servers > MaxServers:
		return fmt.Errorf("%w: %d servers, 1 to %d", ErrBadConfig, c.Servers, MaxServers)
	case c.PeerOf == nil:
		return fmt.Errorf("%w: PeerOf is missing: say which identity each server has", ErrBadConfig)
	case c.Owners < 1 || c.Owners > MaxServers:
		return fmt.Errorf("%w: %d owners, 1 to %d", ErrBadConfig, c.Owners, MaxServers)
	case !(c.Diurnal >= 0 && c.Diurnal <= 1):
		return fmt.Errorf("%w: Diurnal is %v, 0 to 1", ErrBadConfig, c.Diurnal)
	case !(c.Hour >= 0 && c.Hour <= 24):
		return fmt.Errorf("%w: Hour is %v, 0 to 24", ErrBadConfig, c.Hour)
	case !(c.Zipf <= 5 && c.OwnerZipf <= 5 && c.PriceNoise <= 3):
		return fmt.Errorf("%w: Zipf %v and OwnerZipf %v are at most 5, PriceNoise %v at most 3", ErrBadConfig, c.Zipf, c.OwnerZipf, c.PriceNoise)
	}
	for k := range c.Types {
		if err := c.Types[k].check(); err != nil {
			return fmt.Errorf("%w: type %d, %.40q: %w", ErrBadConfig, k+1, c.Types[k].Name, err)
		}
	}
	return nil
}

// check tells why servers cannot be of a type.
func (m *MachineType) check() error {
	for _, x := range []struct {
		name  string
		value float64
		least float64
	}{
		{"CPU", m.CPU, math.SmallestNonzeroFloat64},
		{"MemMiB", m.MemMiB, math.SmallestNonzeroFloat64},
		{"USDPerHour", m.USDPerHour, math.SmallestNonzeroFloat64},
		{"NetMbps", m.NetMbps, 0},
		{"GPUs", m.GPUs, 0},
		{"GPUMemMiB", m.GPUMemMiB, 0},
	} {
		if !(x.value >= x.least && x.value <= maxNumber) {
			return fmt.Errorf("%s is %v, %g to %g", x.name, x.value, x.least, float64(maxNumber))
		}
	}
	d, _ := search.DefaultSchema().Dimension("arch")
	if m.Arch != "" && !slices.Contains(d.Values, m.Arch) {
		return fmt.Errorf("architecture %.20q: take one of %v", m.Arch, d.Values)
	}
	return nil
}
