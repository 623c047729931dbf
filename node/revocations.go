package node

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// revocationsProtocol hands the newest list of revocations from participant to
// participant, for the time when XenoCorp cannot be reached. The request is
// the Seq that the caller has, 8 bytes big-endian; the response is a newer
// list's envelope, or nothing.
const revocationsProtocol = "/xeno/revocations/1"

// askedPeers is how many peers are asked where XenoCorp does not answer.
const askedPeers = 3

func (n *Node) handleRevocations(_ context.Context, _ dht.PeerID, request []byte) ([]byte, error) {
	if len(request) != 8 {
		return nil, errors.New("a request has 8 bytes")
	}
	if n.creds.revocationSeq() <= binary.BigEndian.Uint64(request) {
		return nil, nil
	}
	list, err := n.creds.read(revocationsFile)
	if err != nil {
		n.log.Error("read revocations", slog.Any("err", err))
		return nil, errors.New("the list cannot be read; ask another") // to a stranger
	}
	return list, nil
}

func (n *Node) pullRevocationsFromPeers(ctx context.Context) {
	peers := n.overlay.Peers()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	have := binary.BigEndian.AppendUint64(nil, n.creds.revocationSeq())
	for _, p := range peers[:min(askedPeers, len(peers))] {
		list, err := n.overlay.Request(ctx, p.Contact, revocationsProtocol, have, ledger.MaxEnvelope)
		if err != nil {
			n.log.Debug("ask a peer for revocations", slog.String("peer", p.ID.String()), slog.Any("err", err))
			continue
		}
		if len(list) > 0 {
			n.takeRevocations(list)
			return
		}
	}
}
