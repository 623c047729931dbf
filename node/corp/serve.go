package corp

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// ServeRegister answers a request on ProtocolRegister.
func (s *Service) ServeRegister(ctx context.Context, from dht.PeerID, request []byte) ([]byte, error) {
	return s.serve(request, func(req *wire.CorpRequest) (*wire.CorpResponse, error) {
		call := req.GetRegister()
		if call == nil {
			return nil, fmt.Errorf("%w: only registration is served here", ledger.ErrMalformed)
		}
		return s.register(ctx, from, call)
	})
}

// Serve answers a request on Protocol.
func (s *Service) Serve(ctx context.Context, from dht.PeerID, request []byte) ([]byte, error) {
	return s.serve(request, func(req *wire.CorpRequest) (*wire.CorpResponse, error) {
		return s.dispatch(ctx, from, req)
	})
}

// serve decodes a request and encodes its response, or why it was refused.
func (s *Service) serve(request []byte, answer func(*wire.CorpRequest) (*wire.CorpResponse, error)) ([]byte, error) {
	req := new(wire.CorpRequest)
	var resp *wire.CorpResponse
	err := proto.Unmarshal(request, req)
	if err != nil {
		err = fmt.Errorf("%w: request: %w", ledger.ErrMalformed, err)
	} else {
		resp, err = answer(req)
	}
	s.served.Add(1)
	if err != nil {
		s.refused.Add(1)
		s.conf.Logger.Debug("xenocorp refused a call", slog.String("call", fmt.Sprintf("%T", req.GetCall())), slog.Any("error", err))
		resp = &wire.CorpResponse{Error: refusal(err)}
	}
	return proto.Marshal(resp)
}

func (s *Service) dispatch(ctx context.Context, from dht.PeerID, req *wire.CorpRequest) (*wire.CorpResponse, error) {
	switch call := req.GetCall().(type) {
	case *wire.CorpRequest_Register:
		return s.register(ctx, from, call.Register)
	case *wire.CorpRequest_Renew:
		result, err := s.command(ctx, &ledger.Renew{By: from})
		return s.sealed(ledger.KindCredential, result.Credential, err)
	case *wire.CorpRequest_CreateOrder:
		return s.createOrder(ctx, from, call.CreateOrder)
	case *wire.CorpRequest_CancelOrder:
		return s.cancelOrder(ctx, from, call.CancelOrder)
	case *wire.CorpRequest_ListOrders:
		return s.listOrders(ctx, from, call.ListOrders)
	case *wire.CorpRequest_Authorise:
		return s.authorise(ctx, from, call.Authorise)
	case *wire.CorpRequest_Claim:
		return s.claim(ctx, from, call.Claim)
	case *wire.CorpRequest_Release:
		return s.release(ctx, from, call.Release)
	case *wire.CorpRequest_ShowSession:
		return s.showSession(ctx, from, call.ShowSession)
	case *wire.CorpRequest_ShowAccount:
		balances, err := ask(ctx, s, func(o *owner) (ledger.Balances, error) { return o.state.Balances(from), nil })
		return balancesResponse(&balances, err)
	case *wire.CorpRequest_ShowRevocations:
		return s.showRevocations(call.ShowRevocations)
	default:
		return s.operate(ctx, from, req)
	}
}

func (s *Service) register(ctx context.Context, from dht.PeerID, call *wire.CorpRegister) (*wire.CorpResponse, error) {
	if !s.attempts.allow(from, s.conf.Clock()) {
		return nil, fmt.Errorf("%w: %d registrations in %s", ErrThrottled, registerAttempts, registerWindow)
	}
	result, err := s.command(ctx, &ledger.Register{
		By: from, Code: ledger.HashCode(call.GetCode()), Name: call.GetName(), Roles: rolesFromWire(call.GetRoles()),
	})
	if err == nil && result.Changed {
		s.conf.Logger.Info("xenocorp registered a peer",
			slog.String("peer", from.String()), slog.String("subject", result.Credential.Subject), slog.Uint64("serial", result.Credential.Serial))
	}
	return s.sealed(ledger.KindCredential, result.Credential, err)
}

func (s *Service) createOrder(ctx context.Context, from dht.PeerID, call *wire.CorpCreateOrder) (*wire.CorpResponse, error) {
	order, err := ledger.UnmarshalEnvelope(call.GetOrder())
	if err != nil {
		return nil, err
	}
	result, err := s.command(ctx, &ledger.CreateOrder{By: from, Order: order})
	return orderResponse(result.Order, err)
}

func (s *Service) cancelOrder(ctx context.Context, from dht.PeerID, call *wire.CorpCancelOrder) (*wire.CorpResponse, error) {
	id, err := idFromWire(call.GetId())
	if err != nil {
		return nil, err
	}
	result, err := s.command(ctx, &ledger.CancelOrder{By: from, Order: id})
	return orderResponse(result.Order, err)
}

func (s *Service) listOrders(ctx context.Context, from dht.PeerID, call *wire.CorpListOrders) (*wire.CorpResponse, error) {
	id, err := optionalID(call.GetId())
	if err != nil {
		return nil, err
	}
	orders, err := ask(ctx, s, func(o *owner) ([]ledger.OrderStatus, error) {
		if id.IsZero() {
			return o.state.Orders(from, MaxOrdersListed), nil
		}
		order, err := o.state.Order(from, id)
		return []ledger.OrderStatus{order}, err
	})
	if err != nil {
		return nil, err
	}
	list := new(wire.CorpOrders)
	for _, order := range orders {
		list.Orders = append(list.Orders, orderToWire(order))
	}
	return &wire.CorpResponse{Result: &wire.CorpResponse_Orders{Orders: list}}, nil
}

func (s *Service) authorise(ctx context.Context, from dht.PeerID, call *wire.CorpAuthorise) (*wire.CorpResponse, error) {
	agreement, err := ledger.UnmarshalEnvelope(call.GetAgreement())
	if err != nil {
		return nil, err
	}
	result, err := s.command(ctx, &ledger.Authorise{By: from, Agreement: agreement})
	return s.sealed(ledger.KindAuthorization, result.Authorization, err)
}

func (s *Service) claim(ctx context.Context, from dht.PeerID, call *wire.CorpClaim) (*wire.CorpResponse, error) {
	receipt, err := ledger.UnmarshalEnvelope(call.GetReceipt())
	if err != nil {
		return nil, err
	}
	result, err := s.command(ctx, &ledger.Claim{By: from, Receipt: receipt})
	return s.sessionResponse(result.Session, result.Settlement, err)
}

func (s *Service) release(ctx context.Context, from dht.PeerID, call *wire.CorpRelease) (*wire.CorpResponse, error) {
	id, err := idFromWire(call.GetSession())
	if err != nil {
		return nil, err
	}
	result, err := s.command(ctx, &ledger.Release{By: from, Session: id})
	return s.sessionResponse(result.Session, result.Settlement, err)
}

func (s *Service) showSession(ctx context.Context, from dht.PeerID, call *wire.CorpShowSession) (*wire.CorpResponse, error) {
	id, err := idFromWire(call.GetSession())
	if err != nil {
		return nil, err
	}
	type session struct {
		status     ledger.SessionStatus
		settlement *ledger.Settlement
	}
	found, err := ask(ctx, s, func(o *owner) (session, error) {
		status, settlement, err := o.state.Session(from, id)
		return session{status, settlement}, err
	})
	return s.sessionResponse(&found.status, found.settlement, err)
}

func (s *Service) showRevocations(call *wire.CorpShowRevocations) (*wire.CorpResponse, error) {
	list := s.revocations.Load()
	var doc ledger.Revocations
	if err := list.Open(ledger.KindRevocations, &doc, s.self); err != nil {
		return nil, err
	}
	document := new(wire.CorpDocument)
	if doc.Seq > call.GetHave() {
		document.Envelope = list.Marshal()
	}
	return &wire.CorpResponse{Result: &wire.CorpResponse_Document{Document: document}}, nil
}

// sealed returns a document of XenoCorp. Sealing the same document again gives
// the same bytes, so a repeated call gets the same answer.
func (s *Service) sealed(kind ledger.Kind, doc any, err error) (*wire.CorpResponse, error) {
	if err != nil {
		return nil, err
	}
	e, err := ledger.Seal(kind, doc, s.conf.Key)
	if err != nil {
		return nil, err
	}
	return &wire.CorpResponse{Result: &wire.CorpResponse_Document{Document: &wire.CorpDocument{Envelope: e.Marshal()}}}, nil
}

func orderResponse(order *ledger.OrderStatus, err error) (*wire.CorpResponse, error) {
	if err != nil {
		return nil, err
	}
	return &wire.CorpResponse{Result: &wire.CorpResponse_Orders{
		Orders: &wire.CorpOrders{Orders: []*wire.CorpOrder{orderToWire(*order)}},
	}}, nil
}

func (s *Service) sessionResponse(status *ledger.SessionStatus, settlement *ledger.Settlement, err error) (*wire.CorpResponse, error) {
	if err != nil {
		return nil, err
	}
	var e *ledger.Envelope
	if settlement != nil {
		if e, err = ledger.Seal(ledger.KindSettlement, settlement, s.conf.Key); err != nil {
			return nil, err
		}
	}
	return &wire.CorpResponse{Result: &wire.CorpResponse_Session{Session: sessionToWire(*status, e)}}, nil
}

func balancesResponse(balances *ledger.Balances, err error) (*wire.CorpResponse, error) {
	if err != nil {
		return nil, err
	}
	return &wire.CorpResponse{Result: &wire.CorpResponse_Balances{Balances: balancesToWire(*balances)}}, nil
}

// operate answers the calls of operators. Commands check the caller
// themselves; what only reads is checked here.
func (s *Service) operate(ctx context.Context, from dht.PeerID, req *wire.CorpRequest) (*wire.CorpResponse, error) {
	switch call := req.GetCall().(type) {
	case *wire.CorpRequest_Invite:
		return s.invite(ctx, from, call.Invite)
	case *wire.CorpRequest_Deposit:
		t, err := transferFromWire(call.Deposit)
		if err != nil {
			return nil, err
		}
		result, err := s.command(ctx, &ledger.Deposit{ID: t.ID, By: from, Peer: t.Peer, Amount: t.Amount, Note: t.Note})
		return balancesResponse(result.Balances, err)
	case *wire.CorpRequest_Withdraw:
		t, err := transferFromWire(call.Withdraw)
		if err != nil {
			return nil, err
		}
		result, err := s.command(ctx, &ledger.Withdraw{ID: t.ID, By: from, Peer: t.Peer, Amount: t.Amount, Note: t.Note})
		return balancesResponse(result.Balances, err)
	case *wire.CorpRequest_Revoke:
		return s.revoke(ctx, from, call.Revoke)
	case *wire.CorpRequest_ListAccounts:
		accounts, err := ask(ctx, s, func(o *owner) (ledger.Accounts, error) {
			return o.state.Accounts(), o.state.MayOperate(s.conf.Clock(), from)
		})
		if err != nil {
			return nil, err
		}
		return &wire.CorpResponse{Result: &wire.CorpResponse_Accounts{Accounts: accountsToWire(&accounts)}}, nil
	case *wire.CorpRequest_ListJournal:
		return s.listJournal(ctx, from, call.ListJournal)
	default:
		return nil, fmt.Errorf("%w: unknown call", ledger.ErrMalformed)
	}
}

func (s *Service) invite(ctx context.Context, from dht.PeerID, call *wire.CorpInvite) (*wire.CorpResponse, error) {
	id, err := idFromWire(call.GetId())
	if err != nil {
		return nil, err
	}
	if len(call.GetCodeHash()) != len(ledger.CodeHash{}) {
		return nil, fmt.Errorf("%w: hash of %d bytes", ledger.ErrMalformed, len(call.GetCodeHash()))
	}
	expires := call.GetExpires()
	if expires == 0 {
		expires = s.conf.Clock().Add(DefaultInvitationTTL).Unix()
	}
	_, err = s.command(ctx, &ledger.Invite{
		ID: id, By: from, Code: ledger.CodeHash(call.GetCodeHash()), Roles: rolesFromWire(call.GetRoles()),
		Note: call.GetNote(), Expires: expires,
	})
	if err != nil {
		return nil, err
	}
	return &wire.CorpResponse{Result: &wire.CorpResponse_Invited{Invited: &wire.CorpInvited{Expires: expires}}}, nil
}

func (s *Service) revoke(ctx context.Context, from dht.PeerID, call *wire.CorpRevoke) (*wire.CorpResponse, error) {
	id, err := idFromWire(call.GetId())
	if err != nil {
		return nil, err
	}
	peer, err := peerFromWire(call.GetPeer())
	if err != nil {
		return nil, err
	}
	result, err := s.command(ctx, &ledger.Revoke{ID: id, By: from, Peer: peer, Note: call.GetNote()})
	if err == nil && result.Changed {
		s.conf.Logger.Info("xenocorp revoked a peer",
			slog.String("peer", peer.String()), slog.String("by", from.String()), slog.Uint64("seq", result.Revocations.Seq))
	}
	return s.sealed(ledger.KindRevocations, result.Revocations, err)
}

func (s *Service) listJournal(ctx context.Context, from dht.PeerID, call *wire.CorpListJournal) (*wire.CorpResponse, error) {
	limit := int(min(call.GetLimit(), MaxEntriesListed))
	if limit == 0 {
		limit = MaxEntriesListed
	}
	entries, err := ask(ctx, s, func(o *owner) ([]ledger.Entry, error) {
		if err := o.state.MayOperate(s.conf.Clock(), from); err != nil {
			return nil, err
		}
		return o.journal.Entries(ctx, call.GetAfter(), limit)
	})
	if err != nil {
		return nil, err
	}
	list := new(wire.CorpJournal)
	for _, e := range entries {
		list.Entries = append(list.Entries, entryToWire(e))
	}
	return &wire.CorpResponse{Result: &wire.CorpResponse_Journal{Journal: list}}, nil
}
