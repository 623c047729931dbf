package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

func newOrder(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "order",
		Short:   "Set money aside for sessions",
		Long:    "A purchase order ring-fences money of the account for sessions, with constraints and an expiry.",
		Example: "  xeno order create 10\n  xeno order list",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(newOrderCreate(a), newOrderShow(a), newOrderList(a), newOrderCancel(a))
	return cmd
}

func newOrderCreate(a *app) *cobra.Command {
	var (
		req     api.OrderRequest
		ttl     time.Duration
		id      string
		servers []string
	)
	cmd := &cobra.Command{
		Use:     "create AMOUNT",
		Short:   "Create a purchase order",
		Example: "  xeno order create 10\n  xeno order create 25.50 --ttl 72h --max-cap 5",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Amount, err = ledger.ParseAmount(args[0]); err != nil {
				return usageError{err}
			}
			if id != "" {
				if req.ID, err = ledger.ParseID(id); err != nil {
					return usageError{err}
				}
			}
			if req.Servers, err = peers(servers); err != nil {
				return err
			}
			req.TTLSeconds = int64(ttl / time.Second)
			o, err := a.client().CreateOrder(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) { printOrder(w, o) })
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long it holds")
	cmd.Flags().Var(amountFlag{&req.MaxCap}, "max-cap", "most one session may hold, default no bound")
	cmd.Flags().StringSliceVar(&servers, "server", nil, "only these `servers` may draw on it")
	cmd.Flags().StringVar(&id, "id", "", "idempotency `key`: 32 hexadecimal digits")
	return cmd
}

func printOrder(w io.Writer, o api.Order) {
	fmt.Fprintf(w, "order\t%s\n", o.ID)
	fmt.Fprintf(w, "state\t%s\n", o.State)
	fmt.Fprintf(w, "amount\t%s\n", o.Amount)
	fmt.Fprintf(w, "free\t%s\n", o.Free)
	fmt.Fprintf(w, "held\t%s\n", o.Held)
	fmt.Fprintf(w, "spent\t%s\n", o.Spent)
	fmt.Fprintf(w, "expires\t%s\n", formatTime(o.Expires))
	for _, s := range o.Servers {
		fmt.Fprintf(w, "server\t%s\n", s)
	}
}

func newOrderShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show ORDER",
		Short:   "Show one purchase order",
		Example: "  xeno order show 1f2e3d4c",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			id, err := orderID(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			o, err := c.Order(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) { printOrder(w, o) })
		},
	}
}

func newOrderList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the own purchase orders, newest first",
		Example: "  xeno order list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			orders, err := a.client().Orders(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(orders, func(w io.Writer) {
				fmt.Fprintln(w, "ORDER\tSTATE\tAMOUNT\tFREE\tHELD\tSPENT\tEXPIRES")
				for _, o := range orders {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shortID(o.ID), o.State, o.Amount, o.Free, o.Held, o.Spent, formatTime(o.Expires))
				}
			})
		},
	}
}

func newOrderCancel(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "cancel ORDER",
		Short:   "Return to the account what no session holds",
		Example: "  xeno order cancel 1f2e3d4c",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			id, err := orderID(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			o, err := c.CancelOrder(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) { printOrder(w, o) })
		},
	}
}
