package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/cmd/xeno/internal/statement"
	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

func newCorp(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "corp",
		Short:   "Operate a XenoCorp",
		Long:    "These verbs belong to the operator of the network's XenoCorp; use --home of its daemon.",
		Example: "  xeno corp invite 'Ada Lovelace'\n  xeno corp accounts",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(newInvite(a), newAccounts(a), newJournal(a), newRevoke(a))
	return cmd
}

func newInvite(a *app) *cobra.Command {
	var (
		roles []string
		ttl   time.Duration
	)
	cmd := &cobra.Command{
		Use:   "invite SUBJECT",
		Short: "Make a one-time invitation code for an entity you have identified",
		Example: `  xeno corp invite 'Ada Lovelace'
  xeno corp invite 'Oslo Hosting AS' --role server --ttl 72h`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.InviteRequest{Subject: args[0], TTLSeconds: int64(ttl / time.Second)}
			for _, r := range roles {
				req.Roles = append(req.Roles, ledger.Role(r))
			}
			inv, err := a.client().Invite(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(inv, func(w io.Writer) {
				fmt.Fprintf(w, "%s\nfor %s as %s until %s; it works once and is not shown again\n", inv.Code, inv.Subject, roleList(inv.Roles), formatTime(inv.Expires))
			})
		},
	}
	cmd.Flags().StringSliceVar(&roles, "role", []string{"participant", "client"}, "`roles` the credential allows: participant, client, server, operator")
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the code may be used")
	return cmd
}

func newAccounts(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "accounts",
		Short:   "Show every account and their sum, which is zero",
		Example: "  xeno corp accounts",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			books, err := a.client().Accounts(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(books, func(w io.Writer) { _ = statement.Write(w, books) })
		},
	}
}

func newJournal(a *app) *cobra.Command {
	var (
		after uint64
		limit int
	)
	cmd := &cobra.Command{
		Use:     "journal",
		Short:   "Show entries of the journal, oldest first",
		Example: "  xeno corp journal\n  xeno corp journal --after 100 --limit 20",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			entries, err := a.client().Journal(cmd.Context(), after, limit)
			if err != nil {
				return err
			}
			return a.print(entries, func(w io.Writer) {
				fmt.Fprintln(w, "SEQ\tTIME\tKIND\tACCOUNT\tAMOUNT\tNOTE")
				for _, e := range entries {
					fmt.Fprintf(w, "%d\t%s\t%s\t\t\t%s\n", e.Seq, formatTime(e.Time), e.Kind, e.Note)
					for _, p := range e.Postings {
						fmt.Fprintf(w, "\t\t\t%s\t%s\t\n", p.Account, p.Amount)
					}
				}
			})
		},
	}
	cmd.Flags().Uint64Var(&after, "after", 0, "number of the last `entry` not to show")
	cmd.Flags().IntVar(&limit, "limit", 1000, "most entries")
	return cmd
}

func newRevoke(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "revoke PEER",
		Short:   "End the credentials of a participant before their time",
		Example: "  xeno corp revoke 12D3KooWQ… --reason 'key stolen'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			peer, err := dht.ParsePeerID(args[0])
			if err != nil {
				return usageError{err}
			}
			answer, err := a.client().Revoke(cmd.Context(), api.RevokeRequest{Peer: peer, Reason: reason})
			if err != nil {
				return err
			}
			return a.print(answer, func(w io.Writer) {
				fmt.Fprintf(w, "Revoked credentials %v with list %d; every node honours it within a minute.\n", answer.Serials, answer.Seq)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`why`, kept in the journal")
	return cmd
}

func newDeposit(a *app) *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:     "deposit PEER AMOUNT",
		Short:   "Credit a participant with money that reached XenoCorp (operator)",
		Example: "  xeno deposit 12D3KooWQ… 100 --note 'bank transfer 4711'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			peer, err := dht.ParsePeerID(args[0])
			if err != nil {
				return usageError{err}
			}
			amount, err := ledger.ParseAmount(args[1])
			if err != nil {
				return usageError{err}
			}
			acc, err := a.client().Deposit(cmd.Context(), api.DepositRequest{Peer: peer, Amount: amount, Note: note})
			if err != nil {
				return err
			}
			return a.print(acc, func(w io.Writer) { printAccount(w, acc) })
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "`reference` of the payment")
	return cmd
}
