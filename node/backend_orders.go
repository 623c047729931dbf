package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/session"
)

// A namedOrder is the purchase order that a run asked for.
type namedOrder struct {
	env   *ledger.Envelope
	id    ledger.ID
	limit ledger.Amount // most that one session may hold of it now
	doc   ledger.Order
}

// namedOrder looks up the order that a run names, here and at XenoCorp. It
// refuses one that no session could draw on, so that nobody gets a proposal in
// vain.
func (n *Node) namedOrder(ctx context.Context, id ledger.ID) (*namedOrder, error) {
	env, err := n.orderEnvelope(id)
	if err != nil {
		return nil, err
	}
	if env == nil {
		return nil, api.Errorf(api.CodeNotFound, "no purchase order %s on this node", id).WithHint("xeno order list shows those that may be drawn on; orders of others may not")
	}
	o := &namedOrder{env: env, id: id}
	if err := env.Open(ledger.KindOrder, &o.doc, n.id); err != nil {
		return nil, api.Errorf(api.CodeForbidden, "purchase order %s is not this node's own: %v", id, err).WithHint("xeno order list shows those that may be drawn on")
	}
	st, err := n.corpClient.Order(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrUnknown):
		return nil, api.Errorf(api.CodeNotFound, "XenoCorp does not know purchase order %s of this node", id).WithHint("xeno order create AMOUNT makes one; xeno order list shows those there are")
	case err != nil:
		return nil, apiError(err)
	case st.Closed || !time.Now().Before(st.Expires):
		return nil, api.Errorf(api.CodeConflict, "purchase order %s is closed: it was cancelled or has expired", id).WithHint("xeno order create AMOUNT makes another; without --order an open one is taken")
	case st.Link != ledger.LinkTo(env):
		return nil, api.Errorf(api.CodeConflict, "purchase order %s is another one at XenoCorp than on this node", id).WithHint("xeno order create AMOUNT makes a new one")
	}
	o.limit = st.Free
	if st.MaxCap > 0 {
		o.limit = min(o.limit, st.MaxCap)
	}
	return o, nil
}

// payFor returns the order to draw on, and the candidates that may draw on it.
// Without a named order it takes the one that expires first of those with
// enough free money whose signed form is here.
func (n *Node) payFor(ctx context.Context, named *namedOrder, found []session.Candidate) (*ledger.Envelope, []session.Candidate, error) {
	if named != nil {
		found, err := named.affords(found)
		return named.env, found, err
	}
	var need ledger.Amount
	for _, c := range found {
		need = max(need, c.Cap)
	}
	list, err := n.corpClient.Orders(ctx)
	if err != nil {
		return nil, nil, apiError(err)
	}
	slices.SortFunc(list, func(a, b ledger.OrderStatus) int { return a.Expires.Compare(b.Expires) })
	for _, st := range list {
		if st.Closed || st.Free < need || (st.MaxCap > 0 && st.MaxCap < need) {
			continue
		}
		if env, err := n.orderEnvelope(st.ID); err == nil && env != nil {
			return env, found, nil
		}
	}
	return nil, nil, api.Errorf(api.CodeFunds, "no open purchase order has %s free", need).WithHint("xeno order create AMOUNT, or ask for less with --cap or --for")
}

// affords returns the candidates that the order allows and has money for.
func (o *namedOrder) affords(found []session.Candidate) ([]session.Candidate, error) {
	if len(o.doc.Servers) > 0 {
		found = slices.DeleteFunc(found, func(c session.Candidate) bool { return !slices.Contains(o.doc.Servers, c.Server) })
		if len(found) == 0 {
			return nil, api.Errorf(api.CodeNoMatch, "purchase order %s is for other servers than those found", o.id).WithHint("xeno order show ORDER has its servers; without --order another is taken")
		}
	}
	least := ledger.MaxAmount
	for _, c := range found {
		least = min(least, c.Cap)
	}
	found = slices.DeleteFunc(found, func(c session.Candidate) bool { return c.Cap > o.limit })
	if len(found) == 0 {
		return nil, api.Errorf(api.CodeFunds, "purchase order %s has %s for a session, which needs %s", o.id, o.limit, least).WithHint("xeno order create AMOUNT, or ask for less with --cap or --for")
	}
	return found, nil
}
