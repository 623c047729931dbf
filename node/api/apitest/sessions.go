package apitest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// price is what every fake session costs.
const price = ledger.Unit / 4

// Run implements api.Sessions.
func (b *Backend) Run(ctx context.Context, req api.RunRequest, progress func(api.RunEvent)) (api.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := b.findLocked(req.Session); i >= 0 && !req.Session.IsZero() {
		return b.sessions[i], nil
	}
	if req.Session.IsZero() {
		req.Session = b.drawLocked()
	}
	if req.Cap == 0 {
		req.Cap = ledger.Unit
	}
	order := slices.IndexFunc(b.orders, func(o api.Order) bool {
		return o.Free >= req.Cap && (req.Order.IsZero() || o.ID == req.Order)
	})
	if order < 0 {
		return api.Session{}, api.Errorf(api.CodeFunds, "no open order holds %s", req.Cap).WithHint("run xeno order create AMOUNT")
	}
	name := "cambridge"
	if req.Server.IsZero() {
		progress(api.RunEvent{Time: Epoch, Stage: api.StageSearching, Message: "asking the overlay"})
		answer, err := b.Search(ctx, api.SearchRequest{Query: req.Query, Limit: 1})
		if err != nil {
			return api.Session{}, err
		}
		if len(answer.Results) == 0 {
			return api.Session{}, api.Errorf(api.CodeNoMatch, "no server fits").WithHint("loosen the query; xeno search --explain shows what excludes most")
		}
		req.Server, name = answer.Results[0].Server, answer.Results[0].Name
	}
	for _, stage := range []api.Stage{api.StageProposing, api.StageAgreed, api.StageAuthorising, api.StageLaunching} {
		progress(api.RunEvent{Time: Epoch, Stage: stage, Server: req.Server})
	}
	b.orders[order].Free -= req.Cap
	b.orders[order].Held += req.Cap
	s := api.Session{
		ID: req.Session, State: api.SessionRunning, Client: Peer("self"), Server: req.Server, ServerName: name, ServerPlace: name, ServerCountry: "GB",
		Agreement: "bafyagreement", Order: b.orders[order].CID, Terms: req.Terms, Rates: rates(0), Cap: req.Cap,
		HostKey: b.HostKey, User: "root", Driver: "fake", Created: Epoch, Started: Epoch.Add(time.Second), Expires: Epoch.Add(time.Hour),
	}
	b.sessions = append([]api.Session{s}, b.sessions...)
	if req.Terms.Environment == "wasi" && !b.Hold {
		b.settleLocked(0, ledger.ReasonDone)
	}
	return b.sessions[0], nil
}

func (b *Backend) findLocked(id ledger.ID) int {
	return slices.IndexFunc(b.sessions, func(s api.Session) bool { return s.ID == id })
}

func (b *Backend) settleLocked(i int, reason ledger.Reason) {
	s := &b.sessions[i]
	if s.State.Over() {
		return
	}
	code := 0
	s.State, s.Reason, s.ExitCode, s.Spent, s.Ended = api.SessionSettled, string(reason), &code, price, Epoch.Add(2*time.Second)
	s.Settlement = &api.Settlement{Paid: price, Fee: price / 100, Released: s.Cap - price, Time: s.Ended}
	for j := range b.orders {
		if o := &b.orders[j]; o.CID == s.Order && o.Held >= s.Cap {
			o.Held -= s.Cap
			o.Spent += price
			o.Free += s.Cap - price
			break
		}
	}
}

// Sessions implements api.Sessions.
func (b *Backend) Sessions(context.Context) ([]api.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sessions), nil
}

// Session implements api.Sessions.
func (b *Backend) Session(_ context.Context, id ledger.ID) (api.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := b.findLocked(id); i >= 0 {
		return b.sessions[i], nil
	}
	return api.Session{}, api.Errorf(api.CodeNotFound, "no session %s", id).WithHint("see xeno ps")
}

// StopSession implements api.Sessions.
func (b *Backend) StopSession(ctx context.Context, id ledger.ID) (api.Session, error) {
	b.mu.Lock()
	if i := b.findLocked(id); i >= 0 {
		b.settleLocked(i, ledger.ReasonStopped)
	}
	b.mu.Unlock()
	return b.Session(ctx, id)
}

// ExtendSession implements api.Sessions.
func (b *Backend) ExtendSession(ctx context.Context, id ledger.ID, req api.ExtendRequest) (api.Session, error) {
	b.mu.Lock()
	if i := b.findLocked(id); i >= 0 {
		b.sessions[i].Expires = b.sessions[i].Expires.Add(time.Duration(req.Seconds) * time.Second)
		b.sessions[i].Cap += req.Cap
	}
	b.mu.Unlock()
	return b.Session(ctx, id)
}

// Logs implements api.Access.
func (b *Backend) Logs(ctx context.Context, id ledger.ID, limit int) (api.Logs, error) {
	if _, err := b.Session(ctx, id); err != nil {
		return api.Logs{}, err
	}
	out := []byte("hello from the fake\n")
	if b.Lines == 0 {
		return api.Logs{Stdout: out[:min(limit, len(out))]}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.written = min(b.written+1, b.Lines)
	if b.written == b.Lines {
		b.settleLocked(b.findLocked(id), ledger.ReasonDone)
	}
	out = nil
	for i := range b.written {
		out = fmt.Appendf(out, "line %d\n", i+1)
	}
	return api.Logs{Stdout: out[len(out)-min(limit, len(out)):]}, nil
}

// Usage implements api.Access.
func (b *Backend) Usage(ctx context.Context, id ledger.ID) (api.Usage, error) {
	s, err := b.Session(ctx, id)
	return api.Usage{Session: id, Readings: readings(), Amount: s.Spent, Cap: s.Cap, Settlement: s.Settlement}, err
}

func readings() []api.Reading {
	return []api.Reading{
		{Source: "ebpf", RunNanos: 1e9, CPUNanos: 5e8, RxBytes: 100, TxBytes: 200},
		{Source: "cgroup", RunNanos: 1e9, CPUNanos: 5e8 + 1000, RxBytes: 100, TxBytes: 200},
	}
}

// Receipts implements api.Access.
func (b *Backend) Receipts(ctx context.Context, id ledger.ID) ([]api.Receipt, error) {
	s, err := b.Session(ctx, id)
	if err != nil || !s.State.Stopped() {
		return nil, err
	}
	return []api.Receipt{{
		CID: "bafyreceipt", Seq: 1, From: s.Started, To: s.Ended, Readings: readings(), Amount: s.Spent,
		Final: true, Reason: s.Reason, Countersigned: true, Claimed: true,
	}}, nil
}

// Connect implements api.Access.
func (b *Backend) Connect(ctx context.Context, id ledger.ID, port int) (net.Conn, error) {
	if _, err := b.Session(ctx, id); err != nil {
		return nil, err
	}
	if b.Dial == nil {
		return nil, api.Errorf(api.CodeUnavailable, "port %d does not answer", port)
	}
	return b.Dial(ctx, id, port)
}
