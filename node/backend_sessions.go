package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/session"
	"github.com/xenoserver/xeno/search/cel"
)

// Defaults of a run that says nothing.
const (
	defaultDuration    = 10 * time.Minute
	defaultMemory      = 256 << 20
	defaultDisk        = 64 << 20
	defaultNetworkRate = 10 << 20 // bytes a second
	candidates         = 9        // servers proposed to at most: three rounds
)

// Run implements api.Sessions.
func (n *Node) Run(ctx context.Context, req api.RunRequest, progress func(api.RunEvent)) (api.Session, error) {
	if _, err := n.own(); err != nil {
		return api.Session{}, err
	}
	tell := func(stage api.Stage, message string) {
		progress(api.RunEvent{Time: time.Now(), Stage: stage, Message: message})
	}
	if req.Session.IsZero() {
		_, _ = rand.Read(req.Session[:]) // never fails
	}
	terms, err := termsOf(&req.Terms)
	if err != nil {
		return api.Session{}, err
	}
	if in, err := n.buyer.Session(req.Session); err == nil { // a repetition
		if t := in.Agreement.Terms; t.Environment != terms.Environment || !t.Image.Equals(terms.Image.Cid) || !slices.Equal(t.Args, terms.Args) {
			return api.Session{}, api.Errorf(api.CodeConflict, "id %s is that of a session that runs something else", req.Session).WithHint("take a new id for a new session")
		}
		in, err = n.buyer.Wait(ctx, in.ID, session.StateRunning)
		return n.bought(in), apiError(err)
	}
	if _, err := n.compile(api.SearchRequest{Query: req.Query, Order: req.OrderBy}, cel.NewHosts(n.hosts(ctx))); err != nil { // points into the user's own text
		return api.Session{}, err
	}
	dur := time.Duration(req.DurationSeconds) * time.Second
	if dur == 0 {
		dur = defaultDuration
	}
	var named *namedOrder
	if !req.Order.IsZero() { // before others are bothered
		if named, err = n.namedOrder(ctx, req.Order); err != nil {
			return api.Session{}, err
		}
	}
	tell(api.StageSearching, "asking the overlay for servers")
	found, err := n.candidates(ctx, &req, terms, dur)
	if err != nil {
		return api.Session{}, err
	}
	order, found, err := n.payFor(ctx, named, found)
	if err != nil {
		return api.Session{}, err
	}
	in, err := n.buyer.Buy(ctx, session.BuyRequest{
		Session: req.Session, Order: order, Terms: *terms, Duration: dur, Candidates: found,
	}, func(e session.Event) {
		progress(api.RunEvent{Time: time.Now(), Stage: api.Stage(e.Stage), Server: e.Server, Message: e.Message})
	})
	return n.bought(in), apiError(err)
}

// termsOf fills the defaults of what to run.
func termsOf(t *api.Terms) (*ledger.Terms, error) {
	out := &ledger.Terms{
		Environment: t.Environment, MemoryBytes: cmp.Or(t.MemoryBytes, defaultMemory), DiskBytes: cmp.Or(t.DiskBytes, defaultDisk),
		NetworkRate: t.NetworkRate, Args: t.Args, Env: t.Env, Stdin: t.Stdin, SSHKeys: t.SSHKeys,
	}
	if t.CPUs < 0 || t.CPUShare < 0 || t.CPUs > hypervisor.MaxCPUs || t.CPUShare > 1000*hypervisor.MaxCPUs {
		return nil, api.Errorf(api.CodeBadRequest, "cpus %d, cpu_share %d: out of range", t.CPUs, t.CPUShare)
	}
	out.CPUs = uint32(max(t.CPUs, 1)) //nolint:gosec // checked above
	out.CPUShare = uint32(t.CPUShare) //nolint:gosec // checked above
	if out.CPUShare == 0 {
		out.CPUShare = out.CPUs * 1000
	}
	switch hypervisor.Kind(t.Environment) {
	case hypervisor.KindLinux:
		out.NetworkRate = cmp.Or(out.NetworkRate, defaultNetworkRate)
		if len(out.SSHKeys) == 0 {
			return nil, api.Errorf(api.CodeBadRequest, "a linux environment needs ssh_keys, or nobody could log in")
		}
	case hypervisor.KindWASI:
	default:
		return nil, api.Errorf(api.CodeBadRequest, "environment %.40q: wasi or linux", t.Environment)
	}
	if t.Image == "" {
		return nil, api.Errorf(api.CodeBadRequest, "image is empty").WithHint("xeno store add FILE prints the CID to give")
	}
	root, err := cid.Decode(t.Image)
	if err != nil {
		return nil, api.Errorf(api.CodeBadRequest, "image %.100q is not a CID: %v", t.Image, err).WithHint("xeno store add FILE prints one")
	}
	out.Image = ledger.Link{Cid: root}
	return out, nil
}

// capFor is the cap where the request gives none: the duration with every CPU
// busy, and traffic of one GiB, at the server's rates.
func capFor(r ledger.Rates, t *ledger.Terms, d time.Duration) ledger.Amount {
	u := t.MaxUsage(d)
	if t.NetworkRate > 0 {
		u.RxBytes, u.TxBytes = min(u.RxBytes, 1<<29), min(u.TxBytes, 1<<29)
	}
	return max(r.Cost(t, &u), 1)
}

// Sessions implements api.Sessions.
func (n *Node) Sessions(context.Context) ([]api.Session, error) {
	out := []api.Session{}
	for _, in := range n.buyer.Sessions() {
		out = append(out, n.bought(in))
	}
	if n.server != nil {
		for _, in := range n.server.host.Hosted() {
			out = append(out, n.hosted(in))
		}
	}
	slices.SortFunc(out, func(a, b api.Session) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// Session implements api.Sessions.
func (n *Node) Session(_ context.Context, id ledger.ID) (api.Session, error) {
	in, err := n.buyer.Session(id)
	if err == nil {
		return n.bought(in), nil
	}
	if in, ok := n.hostedInfo(id); ok {
		return n.hosted(in), nil
	}
	return api.Session{}, apiError(err)
}

func (n *Node) hostedInfo(id ledger.ID) (session.Info, bool) {
	if n.server == nil {
		return session.Info{}, false
	}
	return n.server.host.Session(id)
}

// ExtendSession implements api.Sessions.
func (n *Node) ExtendSession(ctx context.Context, id ledger.ID, req api.ExtendRequest) (api.Session, error) {
	if req.Seconds <= 0 && req.Cap <= 0 {
		return api.Session{}, api.Errorf(api.CodeBadRequest, "nothing to extend: give seconds or cap")
	}
	if req.Seconds < 0 || req.Cap < 0 || req.Seconds > 366*86400 {
		return api.Session{}, api.Errorf(api.CodeBadRequest, "seconds and cap only grow, by at most a year")
	}
	in, err := n.buyer.Extend(ctx, id, time.Duration(req.Seconds)*time.Second, req.Cap)
	if err != nil {
		return api.Session{}, apiError(err)
	}
	return n.bought(in), nil
}

// StopSession implements api.Sessions.
func (n *Node) StopSession(ctx context.Context, id ledger.ID) (api.Session, error) {
	if in, ok := n.hostedInfo(id); ok {
		if _, err := n.buyer.Session(id); errors.Is(err, session.ErrUnknown) {
			in, err = n.server.host.Evict(ctx, in.ID)
			return n.hosted(in), apiError(err)
		}
	}
	if err := n.buyer.Stop(ctx, id); err != nil {
		return api.Session{}, apiError(err)
	}
	waiting, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	in, err := n.buyer.Wait(waiting, id, session.StateEnded)
	if err != nil && in.State == session.StateSettling && ctx.Err() == nil {
		err = nil // it is over; the settlement comes when XenoCorp answers
	}
	return n.bought(in), apiError(err)
}

// settleWait is how long a stop waits for the settlement of what has ended.
const settleWait = 10 * time.Second

// bought translates a session that this node bought.
func (n *Node) bought(in session.Info) api.Session {
	s := n.sessionOf(in)
	s.Client, s.Server = n.id, in.Peer
	s.ServerName, s.ServerPlace, s.ServerCountry = in.Label.Name, in.Label.City, in.Label.Country
	return s
}

// hosted translates a session that this node carries out.
func (n *Node) hosted(in session.Info) api.Session {
	s := n.sessionOf(in)
	s.Hosted, s.Client, s.Server, s.ServerName = true, in.Peer, n.id, n.cfg.Name
	s.ServerPlace, s.ServerCountry = n.cfg.Server.City, n.cfg.Server.Country
	if d := n.server.drivers[hypervisor.Kind(in.Agreement.Terms.Environment)]; d != nil {
		s.Driver = d.Name()
	}
	return s
}

func (n *Node) sessionOf(in session.Info) api.Session {
	a := in.Agreement
	s := api.Session{
		ID: in.ID, State: stateOf(in), Reason: string(in.Reason), Terms: apiTerms(&a.Terms), Rates: apiRates(a.Rates),
		Cap: a.Cap, Spent: in.Amount, HostKey: a.Terms.HostKey, Created: time.Unix(a.Issued, 0).UTC(),
		Started: in.Started, Ended: in.Ended, Expires: time.Unix(a.Expires, 0).UTC(),
	}
	if in.Link.Defined() {
		s.Agreement, s.Order = in.Link.String(), a.Order.String()
	}
	if a.Terms.Environment == string(hypervisor.KindLinux) {
		s.User = "root"
	}
	if in.Reason == ledger.ReasonFailed || s.State == api.SessionFailed {
		s.Error = in.Detail
	}
	if a.Terms.Environment == string(hypervisor.KindWASI) && s.State.Stopped() && !in.Started.IsZero() {
		code := in.ExitCode
		s.ExitCode = &code
	}
	s.Settlement = settlementOf(&in)
	return s
}

func settlementOf(in *session.Info) *api.Settlement {
	st := in.Settlement
	if st == nil {
		return nil
	}
	return &api.Settlement{Paid: st.Paid, Fee: st.Fee, Released: st.Released, Time: time.Unix(st.Issued, 0).UTC()}
}

func stateOf(in session.Info) api.SessionState {
	switch in.State {
	case session.StateProposed:
		return api.SessionProposed
	case session.StateAgreed:
		return api.SessionAgreed
	case session.StateAuthorised:
		return api.SessionAuthorised
	case session.StateStarting:
		return api.SessionLaunching
	case session.StateRunning:
		return api.SessionRunning
	case session.StateEnding:
		return api.SessionStopping
	case session.StateSettling:
		return api.SessionEnded
	case session.StateEnded:
	}
	if in.Settlement != nil {
		return api.SessionSettled
	}
	return api.SessionFailed
}

func apiTerms(t *ledger.Terms) api.Terms {
	return api.Terms{
		Environment: t.Environment, Image: t.Image.String(), CPUs: int(t.CPUs), CPUShare: int(t.CPUShare),
		MemoryBytes: t.MemoryBytes, DiskBytes: t.DiskBytes, NetworkRate: t.NetworkRate,
		Args: t.Args, Env: t.Env, Stdin: t.Stdin, SSHKeys: t.SSHKeys,
	}
}

func apiRates(r ledger.Rates) api.Rates {
	return api.Rates{Session: r.Session, CPU: r.CPU, Memory: r.Memory, Disk: r.Disk, Network: r.Network}
}

// Logs implements api.Access.
func (n *Node) Logs(ctx context.Context, id ledger.ID, limit int) (api.Logs, error) {
	stdout, stderr, err := n.buyer.Logs(ctx, id, limit)
	if errors.Is(err, session.ErrUnknown) && n.server != nil {
		err = fmt.Errorf("%w (the output of hosted sessions belongs to their clients)", err)
	}
	return api.Logs{Stdout: stdout, Stderr: stderr}, apiError(err)
}

// Usage implements api.Access.
func (n *Node) Usage(_ context.Context, id ledger.ID) (api.Usage, error) {
	in, err := n.buyer.Session(id)
	if err != nil {
		hosted, ok := n.hostedInfo(id)
		if !ok {
			return api.Usage{}, apiError(err)
		}
		in = hosted
	}
	readings := in.Readings
	if len(readings) == 0 && in.Usage != (ledger.Usage{}) {
		readings = []ledger.Reading{{Source: "server", Usage: in.Usage}}
	}
	return api.Usage{Session: id, Readings: apiReadings(readings), Amount: in.Amount, Cap: in.Agreement.Cap, Settlement: settlementOf(&in)}, nil
}

func apiReadings(rs []ledger.Reading) []api.Reading {
	out := make([]api.Reading, len(rs))
	for i, r := range rs {
		u := r.Usage
		out[i] = api.Reading{Source: r.Source, RunNanos: u.RunNanos, CPUNanos: u.CPUNanos, RxBytes: u.RxBytes, TxBytes: u.TxBytes}
	}
	return out
}

// Receipts implements api.Access.
func (n *Node) Receipts(_ context.Context, id ledger.ID) ([]api.Receipt, error) {
	page := n.buyer.Receipts
	in, err := n.buyer.Session(id)
	if err != nil {
		hosted, ok := n.hostedInfo(id)
		if !ok {
			return nil, apiError(err)
		}
		in, page = hosted, n.server.host.Receipts
	}
	out := []api.Receipt{}
	for after := uint64(0); ; {
		envs, err := page(id, after)
		if err != nil {
			return nil, apiError(err)
		}
		if len(envs) == 0 {
			return out, nil
		}
		for _, env := range envs {
			r, err := apiReceipt(env, &in)
			if err != nil {
				return nil, err
			}
			after = r.Seq
			out = append(out, r)
		}
	}
}

func apiReceipt(env *ledger.Envelope, in *session.Info) (api.Receipt, error) {
	var r ledger.Receipt
	if err := env.Open(ledger.KindReceipt, &r, in.Agreement.Server); err != nil {
		return api.Receipt{}, fmt.Errorf("node: stored receipt: %w", err)
	}
	out := api.Receipt{
		CID: env.CID().String(), Seq: r.Seq, From: time.UnixMilli(r.From).UTC(), To: time.UnixMilli(r.To).UTC(),
		Readings: apiReadings(r.Readings), Amount: r.Amount, Final: r.Final, Reason: string(r.Reason),
		Countersigned: env.SignedBy(in.Agreement.Client), Claimed: in.Settlement != nil,
	}
	if r.Prev.Defined() {
		out.Prev = r.Prev.String()
	}
	return out, nil
}

// Connect implements api.Access.
func (n *Node) Connect(ctx context.Context, id ledger.ID, port int) (net.Conn, error) {
	if port < 1 || port > 65535 {
		return nil, api.Errorf(api.CodeBadRequest, "port %d: ports are 1 to 65535", port)
	}
	conn, err := n.buyer.Dial(ctx, id, port)
	if err != nil {
		return nil, apiError(err)
	}
	return conn, nil
}
