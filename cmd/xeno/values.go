package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// amountFlag is an amount of money on the command line.
type amountFlag struct{ to *ledger.Amount }

func (f amountFlag) String() string {
	if f.to == nil || *f.to == 0 {
		return ""
	}
	return f.to.String()
}

func (f amountFlag) Set(s string) error {
	a, err := ledger.ParseAmount(s)
	if err != nil {
		return err
	}
	if a < 0 {
		return fmt.Errorf("%s is negative", s)
	}
	*f.to = a
	return nil
}

func (amountFlag) Type() string { return "amount" }

// sizeFlag is a number of bytes on the command line, such as 512MiB.
type sizeFlag struct{ to *uint64 }

func (f sizeFlag) String() string {
	if f.to == nil || *f.to == 0 {
		return ""
	}
	return formatSize(*f.to)
}

func (f sizeFlag) Set(s string) error {
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	*f.to = n
	return nil
}

func (sizeFlag) Type() string { return "size" }

// sizeUnits are the suffixes of sizes, largest first.
var sizeUnits = []struct {
	suffix string
	bytes  uint64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
	{"", 1},
}

func parseSize(s string) (uint64, error) {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || n > (1<<60)/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is not a size; write such as 512MiB or 2GiB", s)
}

func formatSize(n uint64) string {
	for _, u := range sizeUnits {
		if strings.HasSuffix(u.suffix, "iB") && n >= u.bytes {
			return strings.TrimSuffix(strconv.FormatFloat(float64(n)/float64(u.bytes), 'f', 1, 64), ".0") + " " + u.suffix
		}
	}
	return strconv.FormatUint(n, 10) + " B"
}

// formatNanos shows a duration with three digits after the point.
func formatNanos(n uint64) string {
	return strconv.FormatFloat(float64(n)/1e9, 'f', 3, 64) + " s"
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// shortID shows as much of an ID as people type.
func shortID(id ledger.ID) string { return id.String()[:8] }

// minPrefix is the fewest digits that name a session or order.
const minPrefix = 4

// resolveID finds the one of ids that text names, in full or by its first digits.
func resolveID(what, text string, ids []ledger.ID) (ledger.ID, error) {
	if id, err := ledger.ParseID(text); err == nil {
		return id, nil
	}
	text = strings.ToLower(text)
	if len(text) < minPrefix || strings.Trim(text, "0123456789abcdef") != "" {
		return ledger.ID{}, usagef("%.40q does not name a %s; give at least %d hexadecimal digits of its ID", text, what, minPrefix)
	}
	var found []ledger.ID
	for _, id := range ids {
		if strings.HasPrefix(id.String(), text) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return ledger.ID{}, api.Errorf(api.CodeNotFound, "no %s %s", what, text).WithHint("list them with xeno " + listVerb[what])
	default:
		return ledger.ID{}, usagef("%s names %d %ss; give more digits", text, len(found), what)
	}
}

// listVerb is how to list what an ID can name.
var listVerb = map[string]string{"session": "ps", "order": "order list"}

// sessionID finds the session that text names.
func sessionID(ctx context.Context, c *api.Client, text string) (ledger.ID, error) {
	if id, err := ledger.ParseID(text); err == nil {
		return id, nil
	}
	sessions, err := c.Sessions(ctx)
	if err != nil {
		return ledger.ID{}, err
	}
	ids := make([]ledger.ID, len(sessions))
	for i, s := range sessions {
		ids[i] = s.ID
	}
	return resolveID("session", text, ids)
}

// orderID finds the order that text names.
func orderID(ctx context.Context, c *api.Client, text string) (ledger.ID, error) {
	if id, err := ledger.ParseID(text); err == nil {
		return id, nil
	}
	orders, err := c.Orders(ctx)
	if err != nil {
		return ledger.ID{}, err
	}
	ids := make([]ledger.ID, len(orders))
	for i, o := range orders {
		ids[i] = o.ID
	}
	return resolveID("order", text, ids)
}

// completeSessions offers the sessions to the shell.
func completeSessions(a *app) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		sessions, err := a.client().Sessions(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []string
		for _, s := range sessions {
			found = append(found, fmt.Sprintf("%s\t%s on %s", shortID(s.ID), s.State, s.Server.Short()))
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// peers reads peer IDs from the command line.
func peers(texts []string) ([]dht.PeerID, error) {
	var ids []dht.PeerID
	for _, text := range texts {
		id, err := dht.ParsePeerID(text)
		if err != nil {
			return nil, usageError{err}
		}
		ids = append(ids, id)
	}
	return ids, nil
}
