// Package boot declares what a guest must know about its session, and how it
// gets it: as a small cpio archive put in front of the shared initrd, so that
// keys are neither in the image nor on the kernel's command line.
//
// The archive (SVR4 "newc", not compressed, padded with zeros to 512 bytes)
// holds one directory, "xeno" (0700), and one file, "xeno/session.json"
// (0400): a Config. Linux unpacks concatenated archives in order, so
// Archive(c) followed by the bytes of an initrd is an initrd.
package boot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"

	"github.com/cavaliergopher/cpio"
)

// Path is where the guest finds its Config.
const Path = "/xeno/session.json"

// SSHPort is where the guest's SSH server listens.
const SSHPort = 22

// CheckFlag on the kernel's command line asks the guest to print CheckPassed
// on the console and to power off at once: the probe of an accelerator.
const (
	CheckFlag   = "xeno.check"
	CheckPassed = "xeno: check passed"
)

// ErrBadConfig reports a Config that no guest can start with.
var ErrBadConfig = errors.New("bad guest configuration")

// version is the format of Config. History: 1, the first.
const version = 1

// A Config is one session's part of a guest.
type Config struct {
	Version  int          `json:"version"`
	Hostname string       `json:"hostname"` // 1 to 63 of [0-9a-z-]
	Address  netip.Prefix `json:"address"`  // of eth0; zero: no network
	Gateway  netip.Addr   `json:"gateway"`  // zero: no default route
	MTU      int          `json:"mtu"`      // 0: the device's own
	DNS      []netip.Addr `json:"dns"`      // for resolv.conf
	Port     uint16       `json:"port"`     // of the SSH server
	HostKey  string       `json:"host_key"` // OpenSSH private key, PEM; "": no SSH server
	Keys     []string     `json:"keys"`     // authorized_keys lines
	Disk     bool         `json:"disk"`     // format /dev/vda, if it is empty, and mount it at /data
}

var hostnameRE = regexp.MustCompile(`^[0-9a-z][0-9a-z-]{0,62}$`)

func (c Config) validate() error {
	switch {
	case c.Version != version:
		return fmt.Errorf("boot: version is %d, not %d: %w", c.Version, version, ErrBadConfig)
	case !hostnameRE.MatchString(c.Hostname):
		return fmt.Errorf("boot: hostname %q: %w", c.Hostname, ErrBadConfig)
	case c.Address.IsValid() && !c.Address.Addr().Is4():
		return fmt.Errorf("boot: address %v is not IPv4: %w", c.Address, ErrBadConfig)
	case c.Gateway.IsValid() && !c.Gateway.Is4():
		return fmt.Errorf("boot: gateway %v is not IPv4: %w", c.Gateway, ErrBadConfig)
	case c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU):
		return fmt.Errorf("boot: MTU %d is not in %d..%d: %w", c.MTU, minMTU, maxMTU, ErrBadConfig)
	case len(c.DNS) > maxDNS:
		return fmt.Errorf("boot: %d name servers, at most %d: %w", len(c.DNS), maxDNS, ErrBadConfig)
	case len(c.Keys) > maxKeys:
		return fmt.Errorf("boot: %d authorized keys, at most %d: %w", len(c.Keys), maxKeys, ErrBadConfig)
	case c.HostKey != "" && (c.Port == 0 || !c.Address.IsValid()):
		return fmt.Errorf("boot: a host key, but no address and port to show it at: %w", ErrBadConfig)
	}
	return nil
}

// Parse reads the JSON of a Config. Unknown fields are errors, as are missing
// keys and addresses. Errors wrap ErrBadConfig.
func Parse(data []byte) (Config, error) {
	if len(data) > maxConfigBytes {
		return Config{}, fmt.Errorf("boot: %d bytes, at most %d: %w", len(data), maxConfigBytes, ErrBadConfig)
	}
	var c Config
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("boot: %w: %w", ErrBadConfig, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Config{}, fmt.Errorf("boot: data after the configuration: %w", ErrBadConfig)
	}
	return c, c.validate()
}

// Archive returns the archive that carries c; it fills in c.Version. The same
// c gives the same bytes.
func Archive(c Config) ([]byte, error) {
	c.Version = version
	if err := c.validate(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("boot: %w: %w", ErrBadConfig, err)
	}
	if len(data) > maxConfigBytes {
		return nil, fmt.Errorf("boot: %d bytes, at most %d: %w", len(data), maxConfigBytes, ErrBadConfig)
	}
	var out bytes.Buffer
	w := cpio.NewWriter(&out)
	for _, h := range []*cpio.Header{
		{Name: "xeno", Mode: cpio.TypeDir | 0o700, Links: 2, Inode: 1},
		{Name: Path[1:], Mode: cpio.TypeReg | 0o400, Links: 1, Inode: 2, Size: int64(len(data))},
	} {
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("boot: write archive: %w", err)
		}
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("boot: write archive: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("boot: write archive: %w", err)
	}
	out.Write(make([]byte, (padding-out.Len()%padding)%padding))
	return out.Bytes(), nil
}
