package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/xenoserver/xeno/cmd/xeno/internal/access"
	"github.com/xenoserver/xeno/cmd/xeno/internal/statement"
	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// found makes XenoCorp, the one that everybody else has to know.
func (r *run) found(ctx context.Context) (string, error) {
	r.corp = &member{name: "xenocorp", cfg: node.Config{
		Network: node.Network{Name: "demo", Currency: "XEN", Renew: node.Duration(renewInterval)},
		Corp:    &node.CorpConfig{FeePermille: 10},
	}}
	if err := r.world.add(r.corp); err != nil {
		return "", err
	}
	if err := r.world.start(r.corp); err != nil {
		return "", err
	}
	s, err := r.corp.up(ctx, startTimeout, func(api.Status) bool { return true })
	return fmt.Sprintf("XenoCorp of network %s is %s, in %s", s.Network, s.ID, r.world.dir), err
}

// populate starts the XenoServers and the other participants.
func (r *run) populate(ctx context.Context) (string, error) {
	network := r.corp.cfg.Network
	for i := range r.opts.Servers {
		if err := r.world.add(server(i, r.opts.Env, network)); err != nil {
			return "", err
		}
	}
	for i := range r.opts.Participants {
		m := participant(i, network)
		if err := r.world.add(m); err != nil {
			return "", err
		}
		if i == 0 {
			r.client = m
		}
	}
	err := each(ctx, r.others(), func(ctx context.Context, m *member) error {
		if err := r.world.start(m); err != nil {
			return err
		}
		_, err := m.up(ctx, startTimeout, func(api.Status) bool { return true })
		return err
	})
	return fmt.Sprintf("%d XenoServers and %d other participants, each a process of its own", r.opts.Servers, r.opts.Participants), err
}

// others are all but XenoCorp.
func (r *run) others() []*member {
	return slices.DeleteFunc(slices.Clone(r.world.members), func(m *member) bool { return m == r.corp })
}

// servers are the XenoServers.
func (r *run) servers() []*member {
	return slices.DeleteFunc(slices.Clone(r.world.members), func(m *member) bool { return m.cfg.Server == nil })
}

// register invites everybody and has them present their code, after which they
// join the overlay.
func (r *run) register(ctx context.Context) (string, error) {
	var note string
	err := each(ctx, r.others(), func(ctx context.Context, m *member) error {
		inv, err := r.corp.api.Invite(ctx, api.InviteRequest{Subject: subject(m), Roles: m.roles})
		if err != nil {
			return fmt.Errorf("invite %s: %w", m.name, err)
		}
		cred, err := m.api.Register(ctx, api.RegisterRequest{Code: inv.Code, Name: inv.Subject})
		if err != nil {
			return fmt.Errorf("register %s: %w", m.name, err)
		}
		if m == r.client {
			note = fmt.Sprintf("the client showed invitation %s… and is now %s, until %s", inv.Code[:min(4, len(inv.Code))],
				cred.Subject, cred.Expires.Format(time.DateOnly))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	err = each(ctx, r.world.members, func(ctx context.Context, m *member) error {
		_, err := m.up(ctx, joinTimeout, func(s api.Status) bool { return s.Ready })
		return err
	})
	return note, err
}

// subject is the real-world name behind a member.
func subject(m *member) string {
	switch {
	case m.cfg.Server != nil:
		return m.place.city + " Hosting"
	case m.name == "client":
		return "Ada Lovelace"
	default:
		return strings.ToUpper(m.name[:1]) + m.name[1:]
	}
}

// deposit has XenoCorp's operator credit the client.
func (r *run) deposit(ctx context.Context) (string, error) {
	acc, err := r.corp.api.Deposit(ctx, api.DepositRequest{Peer: r.client.id, Amount: deposit, Note: "bank transfer 1"})
	return fmt.Sprintf("%s available to %s", acc.Available, acc.Subject), err
}

// createOrder ring-fences money for sessions.
func (r *run) createOrder(ctx context.Context) (note string, err error) {
	r.order, err = r.client.api.CreateOrder(ctx, api.OrderRequest{Amount: budget})
	return fmt.Sprintf("%s of it set aside by purchase order %s", r.order.Amount, r.order.ID), err
}

// search waits until all servers are found, and then asks for what the client
// wants, which not all can give.
func (r *run) search(ctx context.Context) (string, error) {
	begin := time.Now()
	err := retry(ctx, findTimeout, func(ctx context.Context) error {
		all, err := r.client.api.Search(ctx, api.SearchRequest{Limit: maxServers})
		if err == nil && len(all.Results) < r.opts.Servers {
			err = fmt.Errorf("%d of %d servers are searchable", len(all.Results), r.opts.Servers)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	ready := time.Since(begin)
	query := fmt.Sprintf("%q in environments && free_cpu >= 1.0 && price_cpu <= %s", r.terms.Environment, maxPrice)
	answer, err := r.client.api.Search(ctx, api.SearchRequest{Query: query, Order: "price_cpu", Limit: maxServers, Explain: true})
	if err != nil {
		return "", err
	}
	if len(answer.Results) == 0 {
		return "", errors.New("no server fits the query")
	}
	r.best = answer.Results[0]
	return r.describe(query, ready, answer), nil
}

// describe shows the answer of a search.
func (r *run) describe(query string, ready time.Duration, answer api.SearchAnswer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", query)
	for _, res := range answer.Results {
		fmt.Fprintf(&b, "  fits      %-26s %2d CPUs, %s an hour of CPU\n", r.label(res.Server), res.Free.CPUs, res.Rates.CPU)
	}
	for _, x := range answer.Excluded {
		fmt.Fprintf(&b, "  excluded  %-26s %s\n", r.label(x.Server), x.Reason)
	}
	if len(answer.Excluded) == 0 {
		b.WriteString("  excluded  none: with more servers some would be\n")
	}
	fmt.Fprintf(&b, "%d requests, %.1f ms; all servers were searchable after %.1f s", answer.Requests, answer.Millis, ready.Seconds())
	return b.String()
}

// label names a member for people.
func (r *run) label(id dht.PeerID) string {
	for _, m := range r.world.members {
		if m.id == id && m.cfg.Server != nil {
			return fmt.Sprintf("%s (%s, %s)", m.name, m.place.city, m.place.country)
		}
		if m.id == id {
			return m.name
		}
	}
	return id.Short()
}

// lease opens the session.
func (r *run) lease(ctx context.Context) (string, error) {
	var b strings.Builder
	if r.terms.Environment == EnvLinux {
		key, err := access.ClientKey(r.client.cfg.Home)
		if err != nil {
			return "", err
		}
		r.terms.SSHKeys = []string{key.Authorized()}
	}
	begin := time.Now()
	req := api.RunRequest{Server: r.best.Server, Order: r.order.ID, Cap: limit, DurationSeconds: int64(lease.Seconds()), Terms: r.terms}
	s, err := r.client.api.Run(ctx, req, func(e api.RunEvent) {
		if e.Session == nil {
			fmt.Fprintf(&b, "  %5.2f s  %-11s  %s\n", time.Since(begin).Seconds(), e.Stage, e.Message)
		}
	})
	if err != nil {
		return "", err
	}
	r.sess = s
	r.result.Server = Server{ID: s.Server, Name: r.nameOf(s.Server)}
	for _, m := range r.servers() {
		if m.id == s.Server {
			r.result.Server.Place = m.place.city + ", " + m.place.country
		}
	}
	fmt.Fprintf(&b, "session %s on %s, agreement %s, at most %s", s.ID.String()[:8], r.label(s.Server), s.Agreement, s.Cap)
	return b.String(), nil
}

func (r *run) nameOf(id dht.PeerID) string {
	for _, m := range r.world.members {
		if m.id == id {
			return m.name
		}
	}
	return ""
}

// work runs the job: over ssh in a Linux guest; a module is the job itself.
func (r *run) work(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var output []byte
	if r.terms.Environment == EnvLinux {
		client, err := access.Dial(ctx, r.client.api, access.Login{Home: r.client.cfg.Home, Session: r.sess.ID})
		if err != nil {
			return "", err
		}
		defer client.Close()
		stop := context.AfterFunc(ctx, func() { _ = client.Close() })
		defer stop()
		s, err := client.NewSession()
		if err != nil {
			return "", err
		}
		if output, err = s.CombinedOutput(linuxJob); err != nil {
			return "", fmt.Errorf("%s: %w", linuxJob, errors.Join(err, ctx.Err()))
		}
	} else {
		s, err := r.client.api.WaitSession(ctx, r.sess.ID, func(s api.Session) bool { return s.State.Stopped() })
		if err != nil {
			return "", err
		}
		logs, err := r.client.api.Logs(ctx, r.sess.ID, maxOutput)
		if err != nil {
			return "", err
		}
		output = logs.Stdout
		if s.State == api.SessionFailed || s.ExitCode != nil && *s.ExitCode != 0 {
			return "", fmt.Errorf("the module failed: %s\n%s", s.Error, logs.Stderr)
		}
	}
	r.result.Output = string(output)
	return strings.TrimRight(r.result.Output, "\n"), nil
}

// settle ends the session and fetches what it was billed for.
func (r *run) settle(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	c := r.client.api
	if _, err := c.StopSession(ctx, r.sess.ID); err != nil {
		return "", err
	}
	s, err := c.WaitSession(ctx, r.sess.ID, func(s api.Session) bool { return s.State.Over() })
	if err != nil {
		return "", fmt.Errorf("the session is %s: %w", s.State, err)
	}
	if s.State != api.SessionSettled || s.Settlement == nil {
		return "", fmt.Errorf("the session is %s, not settled: %s", s.State, s.Error)
	}
	if r.result.Receipts, err = c.Receipts(ctx, s.ID); err != nil {
		return "", err
	}
	usage, err := c.Usage(ctx, s.ID)
	if err != nil {
		return "", err
	}
	if len(usage.Readings) == 0 {
		return "", errors.New("no meter read anything")
	}
	r.result.Usage = Usage{Billed: usage.Readings[0], Amount: s.Settlement.Paid}
	if len(usage.Readings) > 1 {
		r.result.Usage.Second = &usage.Readings[1]
	}
	var b strings.Builder
	for i, m := range usage.Readings {
		fmt.Fprintf(&b, "%s by %-7s %8.3f s of CPU, %8.3f s running, %d bytes in, %d out\n", [...]string{"billed", "second"}[min(i, 1)],
			m.Source, float64(m.CPUNanos)/1e9, float64(m.RunNanos)/1e9, m.RxBytes, m.TxBytes)
	}
	fmt.Fprintf(&b, "%d receipts, signed by both; paid %s (fee %s), %s released to the order", len(r.result.Receipts),
		s.Settlement.Paid, s.Settlement.Fee, s.Settlement.Released)
	return b.String(), nil
}

// statement fetches XenoCorp's books and checks their sum.
func (r *run) statement(ctx context.Context) (string, error) {
	books, err := r.corp.api.Accounts(ctx)
	if err != nil {
		return "", err
	}
	r.result.Accounts = books.Accounts
	for _, a := range books.Accounts {
		r.result.Sum += a.Balance
	}
	var b strings.Builder
	if err := statement.Write(&b, books); err != nil {
		return "", err
	}
	if r.result.Sum != 0 || books.Sum != 0 {
		return "", fmt.Errorf("the accounts sum to %s, XenoCorp says %s: not zero\n%s", r.result.Sum, books.Sum, b.String())
	}
	return b.String(), nil
}

// retry calls f until it succeeds, within a bound; it returns the last error.
func retry(ctx context.Context, within time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(retryInterval):
		}
	}
}

// indent shifts the lines of a note to the right.
func indent(note string) string {
	var b bytes.Buffer
	for line := range strings.Lines(note) {
		_, _ = io.WriteString(&b, "      "+line)
	}
	if b.Len() > 0 && !strings.HasSuffix(note, "\n") {
		b.WriteByte('\n')
	}
	return b.String()
}
