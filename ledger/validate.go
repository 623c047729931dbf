package ledger

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Validate returns an error that wraps ErrMalformed if a field is out of its
// bounds. Whether the credential holds now is CheckTime's to say.
func (c *Credential) Validate() error {
	var v validator
	v.text("network", c.Network, 1, maxNetworkName)
	v.that(c.Serial > 0, "serial", "is zero")
	v.that(!c.Peer.IsZero(), "peer", "is missing")
	v.text("subject", c.Subject, 1, maxSubject)
	v.roles(c.Roles)
	v.window(c.Issued, c.Expires)
	return v.err("credential")
}

// Validate returns an error that wraps ErrMalformed if a field is out of its bounds.
func (r *Revocations) Validate() error {
	var v validator
	v.text("network", r.Network, 1, maxNetworkName)
	v.that(r.Seq > 0, "seq", "is zero")
	v.that(r.Issued > 0 && r.Issued <= maxUnix, "issued", "is out of range")
	v.that(len(r.Serials) <= MaxRevoked, "serials", "are too many")
	for i := 1; i < len(r.Serials); i++ {
		v.that(r.Serials[i-1] < r.Serials[i], "serials", "are not ascending")
	}
	return v.err("revocations")
}

// Validate returns an error that wraps ErrMalformed if a field is out of its bounds.
func (o *Order) Validate() error {
	var v validator
	v.text("network", o.Network, 1, maxNetworkName)
	v.that(!o.ID.IsZero(), "id", "is missing")
	v.that(!o.Client.IsZero(), "client", "is missing")
	v.that(o.Amount > 0 && o.Amount <= MaxAmount, "amount", "is not above zero and within bounds")
	v.that(o.MaxCap >= 0 && o.MaxCap <= MaxAmount, "max_cap", "is out of range")
	v.window(o.Issued, o.Expires)
	v.that(len(o.Servers) <= maxServers, "servers", "are too many")
	return v.err("order")
}

// Validate returns an error that wraps ErrMalformed if a field is out of its bounds.
func (r *Rates) Validate() error {
	var v validator
	for _, rate := range []struct {
		name   string
		amount Amount
	}{{"session", r.Session}, {"cpu", r.CPU}, {"memory", r.Memory}, {"disk", r.Disk}, {"network", r.Network}} {
		v.that(rate.amount >= 0 && rate.amount <= MaxAmount, rate.name, "is out of range")
	}
	return v.err("rates")
}

// Validate returns an error that wraps ErrMalformed if a field is out of its bounds.
func (t *Terms) Validate() error {
	var v validator
	v.text("environment", t.Environment, 1, maxShort)
	v.that(t.CPUs > 0 && t.CPUs <= maxCPUs, "cpus", "are out of range")
	v.that(uint64(t.CPUShare) <= 1000*uint64(t.CPUs), "cpu_share", "is more than the CPUs can give")
	v.that(t.MemoryBytes <= maxMemoryBytes, "memory_bytes", "is out of range")
	v.that(t.DiskBytes <= maxDiskBytes, "disk_bytes", "is out of range")
	v.that(t.NetworkRate <= maxNetworkRate, "network_rate", "is out of range")
	v.list("args", t.Args, maxArgs, maxArg)
	v.list("env", t.Env, maxArgs, maxArg)
	for _, e := range t.Env {
		v.that(strings.Index(e, "=") > 0, "env", "is not NAME=value")
	}
	v.that(len(t.Stdin) <= maxStdin, "stdin", "is too long")
	v.list("ssh_keys", t.SSHKeys, maxSSHKeys, maxSSHKey)
	v.that(len(t.HostKey) <= maxSSHKey, "host_key", "is too long")
	return v.err("terms")
}

// Validate returns an error that wraps ErrMalformed if a field is out of its bounds.
func (a *Agreement) Validate() error {
	var v validator
	v.text("network", a.Network, 1, maxNetworkName)
	v.that(!a.ID.IsZero(), "id", "is missing")
	v.that(!a.Client.IsZero(), "client", "is missing")
	v.that(!a.Server.IsZero(), "server", "is missing")
	v.that(a.Order.Defined(), "order", "is missing")
	v.that(a.Revision <= maxRevision, "revision", "is out of range")
	v.that(a.Prev.Defined() == (a.Revision > 0), "prev", "does not go with the revision")
	v.that(a.Cap > 0 && a.Cap <= MaxAmount, "cap", "is not above zero and within bounds")
	v.window(a.Issued, a.Expires)
	v.nested(a.Terms.Validate())
	v.nested(a.Rates.Validate())
	return v.err("agreement")
}

// Validate returns an error that wraps ErrMalformed if a field is out of its
// bounds. Whether the agreement allows the receipt is Check's to say.
func (r *Receipt) Validate() error {
	var v validator
	v.text("network", r.Network, 1, maxNetworkName)
	v.that(r.Agreement.Defined(), "agreement", "is missing")
	v.that(!r.Server.IsZero(), "server", "is missing")
	v.that(r.Seq > 0, "seq", "is zero")
	v.that(r.Prev.Defined() == (r.Seq > 1), "prev", "does not go with seq")
	v.that(r.From > 0 && r.From <= r.To && r.To <= maxUnix*1000, "from_ms", "and to_ms are no span of time")
	v.that(len(r.Readings) > 0 && len(r.Readings) <= maxReadings, "readings", "are none or too many")
	for i := range r.Readings {
		v.text("source", r.Readings[i].Source, 1, maxShort)
	}
	v.that(r.Amount >= 0 && r.Amount <= MaxAmount, "amount", "is out of range")
	v.that(r.Final == (r.Reason != ""), "reason", "does not go with final")
	v.text("reason", string(r.Reason), 0, maxShort)
	return v.err("receipt")
}

// A validator keeps the first fault of a document.
type validator struct{ fault error }

func (v *validator) that(ok bool, field, fault string) {
	if !ok && v.fault == nil {
		v.fault = fmt.Errorf("%s %s", field, fault)
	}
}

func (v *validator) nested(err error) {
	if v.fault == nil {
		v.fault = err
	}
}

func (v *validator) err(document string) error {
	if v.fault == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrMalformed, document, v.fault)
}

// text checks a line that people read: its length in bytes, and that it is
// UTF-8 without control characters.
func (v *validator) text(field, s string, least, most int) {
	v.that(len(s) >= least, field, "is missing")
	v.that(len(s) <= most, field, "is too long")
	v.that(utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl), field, "has characters that do not print")
}

func (v *validator) list(field string, list []string, most, longest int) {
	v.that(len(list) <= most, field, "are too many")
	for _, s := range list {
		v.that(len(s) <= longest, field, "is too long")
		v.that(!strings.Contains(s, "\x00"), field, "has a zero byte")
	}
}

func (v *validator) roles(roles []Role) {
	v.that(len(roles) > 0, "roles", "are missing")
	v.that(len(roles) <= maxRoles, "roles", "are too many")
	for _, r := range roles {
		v.text("roles", string(r), 1, maxShort)
	}
}

func (v *validator) window(issued, expires int64) {
	v.that(issued > 0 && issued <= maxUnix, "issued", "is out of range")
	v.that(expires > issued, "expires", "is not after issued")
	v.that(expires-issued <= maxLifetime, "expires", "is too far away")
}
