package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// handleReceipt answers a server that puts a receipt before its client: with
// the client's signature where the receipt is plausible, with a dispute where
// it is not.
func (b *Buyer) handleReceipt(_ context.Context, from dht.PeerID, request []byte) ([]byte, error) {
	req := new(wire.SessionReceipt)
	if err := proto.Unmarshal(request, req); err != nil {
		return nil, errors.New("not a receipt")
	}
	reply := new(wire.SessionReceiptReply)
	r, err := b.examine(from, req.GetReceipt())
	if err != nil {
		b.cfg.Logger.Warn("dispute receipt", slog.String("server", from.String()), slog.Any("err", err))
		reply.Dispute = clip(err.Error())
	} else {
		reply.Receipt = r.env.Marshal()
	}
	return proto.Marshal(reply)
}

// examine checks a receipt against the agreement, the receipts before it and
// the client's own clock, and returns it countersigned and on disk.
func (b *Buyer) examine(from dht.PeerID, sealed []byte) (sealedReceipt, error) {
	env, err := ledger.UnmarshalEnvelope(sealed)
	if err != nil {
		return sealedReceipt{}, err
	}
	r := sealedReceipt{env: env}
	if err := env.Open(ledger.KindReceipt, &r.receipt, from); err != nil {
		return r, err
	}
	s, a := b.sessionOf(r.receipt.Agreement)
	if s == nil || s.server != from {
		return r, errors.New("no agreement of ours with you")
	}
	if err := b.plausible(s, &a, &r); err != nil {
		return r, err
	}
	r.env.Countersign(b.cfg.Key)
	return r, s.log.append(r)
}

// sessionOf returns the session that has the linked revision.
func (b *Buyer) sessionOf(link ledger.Link) (*bought, ledger.Agreement) {
	for _, s := range b.all() {
		s.mu.Lock()
		found, a := slices.Contains(s.links, link), s.agreement
		s.mu.Unlock()
		if found {
			return s, a
		}
	}
	return nil, ledger.Agreement{}
}

// plausible refuses a receipt that the agreement or this node's own clock
// rules out.
func (b *Buyer) plausible(s *bought, a *ledger.Agreement, r *sealedReceipt) error {
	prev := s.log.newest()
	if prev.env != nil && r.receipt.Seq <= prev.receipt.Seq {
		if r.env.CID() == prev.env.CID() {
			return nil // a repetition
		}
		return fmt.Errorf("receipt %d after receipt %d", r.receipt.Seq, prev.receipt.Seq)
	}
	now := b.cfg.Clock()
	var (
		before *ledger.Receipt
		link   ledger.Link
	)
	if prev.env != nil {
		before, link = &prev.receipt, ledger.LinkTo(prev.env)
	}
	if err := r.receipt.Check(now, a, before, link); err != nil {
		return err
	}
	s.mu.Lock()
	created := s.rec.Created
	s.mu.Unlock()
	if most := nanos(now.Sub(time.UnixMilli(created))); r.receipt.Usage.RunNanos > most {
		return fmt.Errorf("it bills %s of running, the agreement is %s old", time.Duration(r.receipt.Usage.RunNanos), time.Duration(most)) //nolint:gosec // for people
	}
	return nil
}

// fetchReceipts takes over receipts that the server sealed while this node
// could not be reached. They are kept as they are; the newest is examined.
func (b *Buyer) fetchReceipts(ctx context.Context, s *bought) error {
	for {
		have := s.log.newest()
		resp, err := b.ask(ctx, s.server, &wire.SessionRequest{Call: &wire.SessionRequest_Receipts{
			Receipts: &wire.SessionReceiptsQuery{Id: s.id[:], After: have.receipt.Seq},
		}})
		if err != nil {
			return err
		}
		for _, sealed := range resp.GetReceipts() {
			r, err := openReceipt(sealed)
			if err != nil {
				return err
			}
			if err := r.env.Verify(ledger.KindReceipt, s.server); err != nil {
				return err
			}
			s.mu.Lock()
			ours := slices.Contains(s.links, r.receipt.Agreement)
			s.mu.Unlock()
			if !ours {
				return fmt.Errorf("session: server sent receipt %d of another agreement", r.receipt.Seq)
			}
			if err := s.log.extend(r); err != nil {
				return err
			}
		}
		if len(resp.GetReceipts()) < maxReceiptPage {
			return nil
		}
	}
}
