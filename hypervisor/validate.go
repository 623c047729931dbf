package hypervisor

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Validate tells whether a driver can try the spec at all; it does not look at
// the files it names. Errors wrap ErrBadSpec and name the field at fault.
func (s Spec) Validate() error {
	if err := ValidateID(s.ID); err != nil {
		return err
	}
	switch {
	case s.CPUs < 1 || s.CPUs > MaxCPUs:
		return bad("CPUs %d, want 1 to %d", s.CPUs, MaxCPUs)
	case s.CPUShare < 0 || s.CPUShare > 1000*s.CPUs:
		return bad("CPUShare %d ms/s, want 0 to %d for %d CPUs", s.CPUShare, 1000*s.CPUs, s.CPUs)
	case s.MemoryBytes < MinMemoryBytes || s.MemoryBytes > MaxMemoryBytes:
		return bad("MemoryBytes %d, want %d to %d", s.MemoryBytes, MinMemoryBytes, int64(MaxMemoryBytes))
	case s.DiskBytes > MaxDiskBytes:
		return bad("DiskBytes %d, want at most %d", s.DiskBytes, int64(MaxDiskBytes))
	case s.NetworkRate > MaxNetworkRate:
		return bad("NetworkRate %d, want at most %d", s.NetworkRate, int64(MaxNetworkRate))
	}
	switch s.Kind {
	case KindWASI:
		return s.validateWASI()
	case KindLinux:
		return s.validateLinux()
	}
	return bad("Kind %q, want %q or %q", s.Kind, KindWASI, KindLinux)
}

// ValidateID tells whether an ID is safe as a name of files, control groups
// and network interfaces. Errors wrap ErrBadSpec.
func ValidateID(id string) error {
	if id == "" || len(id) > MaxIDBytes {
		return bad("ID has %d bytes, want 1 to %d", len(id), MaxIDBytes)
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return bad("ID %q, want only digits, lower case letters and -", id)
		}
	}
	if id[0] == '-' { // would pass for an option
		return bad("ID %q begins with -", id)
	}
	return nil
}

func (s Spec) validateWASI() error {
	switch {
	case s.Kernel != "" || s.Initrd != "":
		return bad("Kernel and Initrd are for kind %q", KindLinux)
	case len(s.HostKey) > 0 || len(s.SSHKeys) > 0:
		return bad("HostKey and SSHKeys are for kind %q", KindLinux)
	case s.NetworkRate != 0:
		return bad("NetworkRate: kind %q has no network", KindWASI)
	case len(s.Stdin) > MaxStdinBytes:
		return bad("Stdin has %d bytes, want at most %d", len(s.Stdin), MaxStdinBytes)
	case s.Timeout < 0 || s.Timeout > MaxTimeout:
		return bad("Timeout %v, want 0 to %v", s.Timeout, MaxTimeout)
	}
	if err := validatePath("Module", s.Module); err != nil {
		return err
	}
	if err := validateStrings("Args", s.Args); err != nil {
		return err
	}
	if err := validateStrings("Env", s.Env); err != nil {
		return err
	}
	for _, v := range s.Env {
		if strings.IndexByte(v, '=') < 1 {
			return bad("Env: %q is not NAME=value", v)
		}
	}
	return nil
}

func (s Spec) validateLinux() error {
	switch {
	case s.Module != "" || len(s.Args) > 0 || len(s.Env) > 0 || len(s.Stdin) > 0 || s.Timeout != 0:
		return bad("Module, Args, Env, Stdin and Timeout are for kind %q", KindWASI)
	case s.MemoryBytes%MemoryUnit != 0:
		n := s.MemoryBytes / MemoryUnit
		return bad("MemoryBytes %d is not a whole number of MiB: ask for %dMiB or %dMiB", s.MemoryBytes, n, n+1)
	case s.DiskBytes%DiskUnit != 0:
		n := s.DiskBytes / DiskUnit
		return bad("DiskBytes %d is not a multiple of %d: ask for %d or %d", s.DiskBytes, DiskUnit, n*DiskUnit, (n+1)*DiskUnit)
	case len(s.HostKey) > MaxHostKeyBytes:
		return bad("HostKey has %d bytes, want at most %d", len(s.HostKey), MaxHostKeyBytes)
	case len(s.SSHKeys) > MaxSSHKeys:
		return bad("SSHKeys has %d lines, want at most %d", len(s.SSHKeys), MaxSSHKeys)
	}
	for i, key := range s.SSHKeys {
		if len(key) > MaxSSHKeyBytes || strings.ContainsAny(key, "\n\r\x00") {
			return bad("SSHKeys: line %d is longer than %d bytes or not one line", i+1, MaxSSHKeyBytes)
		}
	}
	if err := validatePath("Kernel", s.Kernel); err != nil {
		return err
	}
	return validatePath("Initrd", s.Initrd)
}

func validatePath(field, p string) error {
	switch {
	case p == "":
		return bad("%s is missing", field)
	case !path.IsAbs(p) || path.Clean(p) != p:
		return Explain(field+" is not a clean absolute path", bad("%s %q is not a clean absolute path", field, p))
	case len(p) > MaxPathBytes || strings.ContainsRune(p, 0):
		return bad("%s is longer than %d bytes or holds a zero byte", field, MaxPathBytes)
	}
	return nil
}

func validateStrings(field string, list []string) error {
	total := 0
	for _, s := range list {
		total += len(s) + 1
	}
	if len(list) > MaxArgs || total > MaxArgBytes {
		return bad("%s has %d entries of %d bytes, want at most %d of %d", field, len(list), total, MaxArgs, MaxArgBytes)
	}
	if i := slices.IndexFunc(list, func(s string) bool { return strings.ContainsRune(s, 0) || !utf8.ValidString(s) }); i >= 0 {
		return bad("%s: entry %d is not UTF-8 or holds a zero byte", field, i)
	}
	return nil
}

// bad makes an error about the spec, which the client may read.
func bad(format string, args ...any) error {
	return Explain(fmt.Sprintf(format, args...), fmt.Errorf("hypervisor: "+format+": %w", append(args, ErrBadSpec)...))
}
