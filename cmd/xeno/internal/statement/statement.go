// Package statement shows the books of a XenoCorp to people.
package statement

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// kinds are the accounts that every participant has, in the order of a
// payment's way.
var kinds = [...]string{"available", "reserved", "held", "pending"}

// An owner is a participant's row.
type owner struct {
	peer    dht.PeerID
	subject string
	amounts [len(kinds)]ledger.Amount
}

// Write shows every account, one row an owner, then those of XenoCorp itself
// and the sum.
func Write(w io.Writer, books api.Books) error {
	var owners []*owner
	byPeer := map[dht.PeerID]*owner{}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "OWNER\tAVAILABLE\tRESERVED\tHELD\tPENDING\tPEER")
	var own []api.BookAccount
	for _, a := range books.Accounts {
		i := slices.Index(kinds[:], a.Kind)
		if a.Peer.IsZero() || i < 0 {
			own = append(own, a)
			continue
		}
		o := byPeer[a.Peer]
		if o == nil {
			o = &owner{peer: a.Peer, subject: cmp.Or(a.Subject, "-")}
			byPeer[a.Peer] = o
			owners = append(owners, o)
		}
		o.amounts[i] += a.Balance
	}
	slices.SortStableFunc(owners, func(a, b *owner) int { return cmp.Compare(a.subject, b.subject) })
	for _, o := range owners {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", o.subject, o.amounts[0], o.amounts[1], o.amounts[2], o.amounts[3], o.peer.Short())
	}
	for _, a := range own {
		fmt.Fprintf(tw, "%s\t%s\n", label(a), a.Balance)
	}
	fmt.Fprintf(tw, "sum\t%s\n", books.Sum)
	return tw.Flush()
}

// label names an account of XenoCorp's own.
func label(a api.BookAccount) string {
	switch a.Kind {
	case "fee":
		return "XenoCorp: fees"
	case "dispute":
		return "XenoCorp: disputed"
	case "world":
		return "outside world"
	default:
		return a.Name
	}
}
