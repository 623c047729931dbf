package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const tableName = "xeno"

// The tables. Each call makes its own values: the library writes to them.
func inetTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
}

func netdevTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: tableName}
}

func egressSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: "egress", KeyType: nftables.TypeIFName}
}

// forbidden are the destinations that no guest reaches through NAT: private,
// shared, link-local and special ranges (RFC 6890), and multicast.
var forbidden = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
}

// probeRules asks the kernel for its tables.
func probeRules() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	_, err = c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	return err
}

// addRules writes the common rules anew and adds those of one tap, all in one
// transaction.
func addRules(tap Tap, rate uint64, egress bool) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("network: nftables: %w", err)
	}
	if err := addCommon(c); err != nil {
		return fmt.Errorf("network: rules: %w", err)
	}
	if egress {
		element := nftables.SetElement{Key: ifName(tap.Name)}
		if err := c.SetAddElements(egressSet(c.AddTable(inetTable())), []nftables.SetElement{element}); err != nil {
			return fmt.Errorf("network: rules of %s: %w", tap.Name, err)
		}
	}
	addGuest(c, tap, rate)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("network: rules of %s: %w", tap.Name, err)
	}
	return nil
}

// addCommon adds what holds for all guests:
//
//	table inet xeno {
//		set egress { type ifname }
//		chain input {
//			type filter hook input priority -10
//			iifname "xeno*" ct state established,related accept
//			iifname "xeno*" drop
//		}
//		chain forward {
//			type filter hook forward priority -10
//			iifname "xeno*" oifname "xeno*" drop
//			oifname "xeno*" ct state established,related accept
//			oifname "xeno*" drop
//			iifname "xeno*" iifname != @egress drop
//			iifname "xeno*" ip daddr 10.0.0.0/8 drop      # and the others
//		}
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			iifname "xeno*" masquerade
//		}
//	}
func addCommon(c *nftables.Conn) error {
	t := c.AddTable(inetTable())
	set := egressSet(t)
	if err := c.AddSet(set, nil); err != nil {
		return err
	}
	in, out := fromGuest(), toGuest()
	chain := func(name string, hook *nftables.ChainHook, kind nftables.ChainType, priority nftables.ChainPriority, rules ...[]expr.Any) {
		ch := c.AddChain(&nftables.Chain{
			Table: t, Name: name, Hooknum: hook, Type: kind, Priority: new(priority),
		})
		c.FlushChain(ch)
		for _, r := range rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: r})
		}
	}
	const before = -10 // before the rules that an administrator may have
	chain("input", nftables.ChainHookInput, nftables.ChainTypeFilter, before,
		join(in, established(), accept()),
		join(in, drop()),
	)
	forward := [][]expr.Any{
		join(in, out, drop()),
		join(out, established(), accept()),
		join(out, drop()),
		join(in, []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
		}, drop()),
	}
	for _, p := range forbidden {
		forward = append(forward, join(in, destination(netip.MustParsePrefix(p)), drop()))
	}
	chain("forward", nftables.ChainHookForward, nftables.ChainTypeFilter, before, forward...)
	chain("postrouting", nftables.ChainHookPostrouting, nftables.ChainTypeNAT, *nftables.ChainPriorityNATSource,
		join(in, []expr.Any{&expr.Masq{}}))
	return nil
}

// addGuest adds what holds for one guest:
//
//	table netdev xeno {
//		chain TAP {
//			type filter hook ingress device TAP priority -300; policy drop
//			ether saddr != MAC drop
//			limit rate over RATE bytes/second burst BURST bytes drop
//			ether type arp arp htype 1 ptype ip hlen 6 plen 4 saddr ether MAC saddr ip GUEST accept
//			ether type ip ip saddr GUEST accept
//		}
//	}
func addGuest(c *nftables.Conn, tap Tap, rate uint64) {
	t := c.AddTable(netdevTable())
	policy := nftables.ChainPolicyDrop
	ch := c.AddChain(&nftables.Chain{
		Table: t, Name: tap.Name, Device: tap.Name, Type: nftables.ChainTypeFilter, Policy: &policy,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityRaw,
	})
	c.FlushChain(ch)
	link, network := expr.PayloadBaseLLHeader, expr.PayloadBaseNetworkHeader
	guest := tap.Guest.Addr().AsSlice()
	rules := [][]expr.Any{join(load(link, 6, 6), compare(expr.CmpOpNeq, tap.MAC), drop())}
	if rate != 0 {
		rules = append(rules, join([]expr.Any{&expr.Limit{
			Type: expr.LimitTypePktBytes, Rate: max(rate, minRate), Over: true, Unit: expr.LimitTimeSecond, Burst: burstOf(rate),
		}}, drop()))
	}
	rules = append(rules,
		join(protocol(unix.ETH_P_ARP),
			load(network, 0, 6), compare(expr.CmpOpEq, []byte{0, 1, 8, 0, 6, 4}),
			load(network, 8, 6), compare(expr.CmpOpEq, tap.MAC),
			load(network, 14, 4), compare(expr.CmpOpEq, guest), accept()),
		join(protocol(unix.ETH_P_IP), load(network, 12, 4), compare(expr.CmpOpEq, guest), accept()),
	)
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: r})
	}
}

// removeRules removes what belongs to one tap. Rules that are gone already are
// no error; each removal is a transaction of its own for that.
func removeRules(name string) error {
	return errors.Join(
		commit(func(c *nftables.Conn) error {
			c.DelChain(&nftables.Chain{Table: netdevTable(), Name: name})
			return nil
		}),
		commit(func(c *nftables.Conn) error {
			return c.SetDeleteElements(egressSet(inetTable()), []nftables.SetElement{{Key: ifName(name)}})
		}),
	)
}

// removeTables removes all rules.
func removeTables() error {
	return errors.Join(
		commit(func(c *nftables.Conn) error { c.DelTable(inetTable()); return nil }),
		commit(func(c *nftables.Conn) error { c.DelTable(netdevTable()); return nil }),
	)
}

func commit(change func(*nftables.Conn) error) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("network: nftables: %w", err)
	}
	if err := change(c); err != nil {
		return fmt.Errorf("network: rules: %w", err)
	}
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("network: rules: %w", err)
	}
	return nil
}

// Parts of rules.

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any   { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func load(base expr.PayloadBase, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}}
}

func compare(op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: op, Register: 1, Data: data}}
}

// fromGuest matches packets that came in by a tap, toGuest those that go out
// by one: a comparison of the first bytes only is a wildcard.
func fromGuest() []expr.Any { return device(expr.MetaKeyIIFNAME) }
func toGuest() []expr.Any   { return device(expr.MetaKeyOIFNAME) }

func device(key expr.MetaKey) []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: key, Register: 1}}, compare(expr.CmpOpEq, []byte(namePrefix)))
}

func protocol(number uint16) []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}},
		compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(number)))
}

func established() []expr.Any {
	mask := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return join([]expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
	}, compare(expr.CmpOpNeq, make([]byte, 4)))
}

func destination(p netip.Prefix) []expr.Any {
	n := ipNet(p.Masked())
	return join(
		[]expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}}, compare(expr.CmpOpEq, []byte{unix.NFPROTO_IPV4}),
		load(expr.PayloadBaseNetworkHeader, 16, 4),
		[]expr.Any{&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: n.Mask, Xor: make([]byte, 4)}},
		compare(expr.CmpOpEq, n.IP.To4()),
	)
}

// ifName pads an interface's name as the kernel does.
func ifName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
