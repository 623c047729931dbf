package session

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// propose answers a proposal with the agreement that this host signs, and
// holds the resources for HoldTime. A repetition gets the same agreement.
func (h *Host) propose(from dht.PeerID, req *wire.SessionPropose) (*wire.SessionResponse, error) {
	id, err := wireID(req.GetId())
	if err != nil {
		return nil, err
	}
	now := h.cfg.Clock()
	digest := proposalDigest(req)
	a, err := h.draft(from, id, req, now)
	if err != nil {
		return nil, err
	}
	priv, pub, err := newHostKey()
	if err != nil {
		return nil, err
	}
	a.Terms.HostKey = pub
	env, err := ledger.Seal(ledger.KindAgreement, a, h.cfg.Key)
	if err != nil {
		return nil, refuse(CodeMalformed, "the terms are too large for an agreement")
	}
	sealed := env.Marshal()
	s := &hosted{
		id: id, client: from, takes: capacityOf(&a.Terms), agreement: *a, link: ledger.LinkTo(env),
		changed: make(chan struct{}), stop: make(chan struct{}),
		rec: hostedRecord{State: StateProposed, Proposal: digest, Proposed: now.UnixMilli(), Agreement: sealed, HostKey: priv},
	}
	if s.log, err = openReceiptLog(h.receipts, id); err != nil {
		return nil, err
	}
	held, err := h.hold(s)
	if err != nil {
		return nil, err
	}
	if held != s { // said before
		held.mu.Lock()
		defer held.mu.Unlock()
		return &wire.SessionResponse{Agreement: held.rec.Agreement}, nil
	}
	if err := h.records.save(id, s.rec); err != nil {
		h.mu.Lock()
		delete(h.sessions, id)
		h.mu.Unlock()
		return nil, err
	}
	h.cfg.Changed()
	return &wire.SessionResponse{Agreement: sealed}, nil
}

// hold enters s if it fits, or returns the session that the same proposal
// made before.
func (h *Host) hold(s *hosted) (*hosted, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.sessions[s.id]; old != nil {
		old.mu.Lock()
		defer old.mu.Unlock()
		if old.client != s.client || old.rec.Proposal != s.rec.Proposal {
			return nil, refuse(CodeConflict, "session ID %s stands for another proposal; draw a new one", s.id)
		}
		return old, nil
	}
	if h.draining {
		return nil, refuse(CodeDraining, "this server takes no new sessions")
	}
	if len(h.sessions) >= maxHosted {
		return nil, refuse(CodeBusy, "this server keeps %d sessions and takes no more", maxHosted)
	}
	held := 0
	for _, other := range h.sessions {
		if other.client == s.client && other.state() == StateProposed {
			held++
		}
	}
	if held >= maxHeld {
		return nil, refuse(CodeBusy, "%d proposals of yours wait for confirmation here; confirm, decline or wait %s", held, HoldTime)
	}
	if err := h.freeLocked().admits(s.takes); err != nil {
		return nil, err
	}
	h.sessions[s.id] = s
	return s, nil
}

// draft checks a proposal against what is offered and writes the agreement.
func (h *Host) draft(from dht.PeerID, id ledger.ID, req *wire.SessionPropose, now time.Time) (*ledger.Agreement, error) {
	cred, ok := h.cfg.Credential(from)
	if !ok || !cred.Has(ledger.RoleClient) {
		return nil, refuse(CodeRole, "your credential does not have the role %q; register as a client", ledger.RoleClient)
	}
	order, link, err := h.checkOrder(from, req.GetOrder(), now)
	if err != nil {
		return nil, err
	}
	dur := time.Duration(req.GetSeconds()) * time.Second
	if req.GetSeconds() < 1 || req.GetSeconds() > int64(maxDuration/time.Second) {
		return nil, refuse(CodeTerms, "duration of %d s; between 1 s and %s, extend for longer", req.GetSeconds(), maxDuration)
	}
	limit := ledger.Amount(req.GetCap())
	switch {
	case limit <= 0 || limit > order.Amount:
		return nil, refuse(CodeOrder, "cap %s outside the order's %s", limit, order.Amount)
	case order.MaxCap > 0 && limit > order.MaxCap:
		return nil, refuse(CodeOrder, "cap %s above %s, the most that one session may hold of this order", limit, order.MaxCap)
	}
	var terms ledger.Terms
	if err := ledger.Decode(req.GetTerms(), &terms); err != nil {
		return nil, refuse(CodeMalformed, "terms: %v", err)
	}
	if err := h.checkTerms(id, &terms); err != nil {
		return nil, err
	}
	return &ledger.Agreement{
		Network: h.cfg.Network, ID: id, Client: from, Server: h.id, Order: link,
		Terms: terms, Rates: h.cfg.Rates, Cap: limit,
		Issued: now.Unix(), Expires: now.Add(dur).Unix(),
	}, nil
}

func (h *Host) checkOrder(from dht.PeerID, sealed []byte, now time.Time) (*ledger.Order, ledger.Link, error) {
	env, err := ledger.UnmarshalEnvelope(sealed)
	if err != nil {
		return nil, ledger.Link{}, refuse(CodeMalformed, "order: %v", err)
	}
	var order ledger.Order
	if err := env.Open(ledger.KindOrder, &order, from); err != nil {
		return nil, ledger.Link{}, refuse(CodeOrder, "order: %v", err)
	}
	switch {
	case order.Network != h.cfg.Network:
		err = refuse(CodeOrder, "the order is of network %q, this is %q", order.Network, h.cfg.Network)
	case order.Client != from:
		err = refuse(CodeOrder, "the order belongs to %s", order.Client)
	case now.Unix() >= order.Expires:
		err = refuse(CodeOrder, "the order expired at %s; create a new one", time.Unix(order.Expires, 0).UTC().Format(time.RFC3339))
	case len(order.Servers) > 0 && !slices.Contains(order.Servers, h.id):
		err = refuse(CodeOrder, "the order does not name this server")
	}
	return &order, ledger.LinkTo(env), err
}

// checkTerms fills defaults and refuses what this host does not offer.
func (h *Host) checkTerms(id ledger.ID, t *ledger.Terms) error {
	kind := hypervisor.Kind(t.Environment)
	if h.cfg.Drivers[kind] == nil {
		var offered []string
		for k := range h.cfg.Drivers {
			offered = append(offered, string(k))
		}
		slices.Sort(offered)
		return refuse(CodeEnvironment, "environment %.40q is not offered here (%s)", t.Environment, strings.Join(offered, ", "))
	}
	if t.HostKey != "" {
		return refuse(CodeMalformed, "host_key is the server's to set")
	}
	if !t.Image.Defined() {
		return refuse(CodeTerms, "no image named; add one with xeno store add and give its CID")
	}
	if t.CPUShare == 0 {
		t.CPUShare = t.CPUs * 1000
	}
	if t.CPUs < 1 || t.CPUShare > t.CPUs*1000 {
		return refuse(CodeTerms, "cpu_share %d ms/s does not fit %d CPUs", t.CPUShare, t.CPUs)
	}
	if kind == hypervisor.KindLinux && (t.NetworkRate == 0 || len(t.SSHKeys) == 0) {
		return refuse(CodeTerms, "a linux environment needs network_rate and at least one ssh key")
	}
	spec := specOf(id, t, "/image", nil)
	if err := spec.Validate(); err != nil {
		return refuse(CodeTerms, "%s", tell(err))
	}
	return nil
}

// proposalDigest identifies what was asked, whoever asks again.
func proposalDigest(req *wire.SessionPropose) [32]byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %d %d:", req.GetCap(), req.GetSeconds(), len(req.GetTerms()))
	b.Write(req.GetTerms())
	b.Write(req.GetOrder())
	return sha256.Sum256(b.Bytes())
}

// newHostKey draws an SSH host key: OpenSSH private key in PEM, and the public
// key in authorized_keys form.
func newHostKey() (private []byte, public string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("session: draw host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return nil, "", fmt.Errorf("session: encode host key: %w", err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, "", fmt.Errorf("session: encode host key: %w", err)
	}
	return pem.EncodeToMemory(block), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPub))), nil
}

func wireID(b []byte) (ledger.ID, error) {
	if len(b) != len(ledger.ID{}) {
		return ledger.ID{}, refuse(CodeMalformed, "a session ID has %d bytes, not %d", len(ledger.ID{}), len(b))
	}
	id := ledger.ID(b)
	if id.IsZero() {
		return id, refuse(CodeMalformed, "the session ID is zero; draw one at random")
	}
	return id, nil
}
