package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

func newRegister(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "register CODE",
		Short: "Register the daemon with XenoCorp by an invitation code",
		Long: `Register presents a one-time invitation code to the network's XenoCorp, which answers
with a credential: its signed word who stands behind the daemon's key and what it may do.
Without a credential a daemon is dropped by every other participant. The name in it is the
one that the operator gave to the invitation.`,
		Example: "  xeno register K7QF-2M9T-XW4C-8HJN",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cred, err := a.client().Register(cmd.Context(), api.RegisterRequest{Code: args[0]})
			if err != nil {
				return err
			}
			return a.print(cred, func(w io.Writer) {
				fmt.Fprintf(w, "Registered %s as %s until %s.\n", cred.Subject, roleList(cred.Roles), formatTime(cred.Expires))
			})
		},
	}
}

func roleList(roles []ledger.Role) string {
	text := make([]string, len(roles))
	for i, r := range roles {
		text[i] = string(r)
	}
	return strings.Join(text, ", ")
}

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the daemon and its place in the network",
		Example: "  xeno status\n  xeno status --json | jq '.peers | length'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { printStatus(w, s) })
		},
	}
}

func printStatus(w io.Writer, s api.Status) {
	fmt.Fprintf(w, "identity\t%s\n", s.ID)
	if s.Name != "" {
		fmt.Fprintf(w, "name\t%s\n", s.Name)
	}
	fmt.Fprintf(w, "network\t%s\n", s.Network)
	if s.IsXenoCorp {
		fmt.Fprintf(w, "xenocorp\tthis daemon\n")
	} else {
		fmt.Fprintf(w, "xenocorp\t%s\n", s.XenoCorp)
	}
	if c := s.Credential; c != nil {
		fmt.Fprintf(w, "registered\t%s (%s) until %s\n", c.Subject, roleList(c.Roles), formatTime(c.Expires))
	} else {
		fmt.Fprintf(w, "registered\tno: run xeno register CODE\n")
	}
	fmt.Fprintf(w, "ready\t%v\n", s.Ready)
	fmt.Fprintf(w, "up since\t%s\n", formatTime(s.Started))
	for _, addr := range s.Addrs {
		fmt.Fprintf(w, "address\t%s\n", addr)
	}
	if v := s.Server; v != nil {
		fmt.Fprintf(w, "offers\t%s by %s, metered by %s\n", strings.Join(v.Environments, ", "), strings.Join(v.Drivers, ", "), v.Meter)
		fmt.Fprintf(w, "free\t%s of %s\n", formatCapacity(v.Free), formatCapacity(v.Total))
		fmt.Fprintf(w, "sessions\t%d\n", v.Sessions)
	}
	fmt.Fprintf(w, "peers\t%d\n", len(s.Peers))
	for _, p := range s.Peers {
		fmt.Fprintf(w, "  %s\t%s %.1f ms\n", p.ID, p.Direction, p.RTTMillis)
	}
}

func formatCapacity(c api.Capacity) string {
	return fmt.Sprintf("%d CPUs, %s memory, %s disk", c.CPUs, formatSize(c.MemoryBytes), formatSize(c.DiskBytes))
}

func newAccount(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "account",
		Short:   "Show the own balances at XenoCorp",
		Example: "  xeno account",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			acc, err := a.client().Account(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(acc, func(w io.Writer) { printAccount(w, acc) })
		},
	}
}

func printAccount(w io.Writer, acc api.Account) {
	fmt.Fprintf(w, "subject\t%s\n", acc.Subject)
	fmt.Fprintf(w, "available\t%s\n", acc.Available)
	fmt.Fprintf(w, "reserved\t%s\n", acc.Reserved)
	fmt.Fprintf(w, "held\t%s\n", acc.Held)
	fmt.Fprintf(w, "pending\t%s\n", acc.Pending)
}
