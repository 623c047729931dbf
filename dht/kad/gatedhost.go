package kad

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// A gatedHost is a host whose streams, in and out, reach admitted peers only.
// It is the one hook of libp2p that keeps an intruder out of kad-dht's routing
// table and out of its records.
type gatedHost struct {
	host.Host
	o *Overlay
}

// SetStreamHandler implements host.Host.
func (h *gatedHost) SetStreamHandler(pid protocol.ID, handler network.StreamHandler) {
	h.Host.SetStreamHandler(pid, h.o.gated(handler))
}

// SetStreamHandlerMatch implements host.Host.
func (h *gatedHost) SetStreamHandlerMatch(pid protocol.ID, match func(protocol.ID) bool, handler network.StreamHandler) {
	h.Host.SetStreamHandlerMatch(pid, match, h.o.gated(handler))
}

// NewStream implements host.Host.
func (h *gatedHost) NewStream(ctx context.Context, p peer.ID, pids ...protocol.ID) (network.Stream, error) {
	if noDial, _ := network.GetNoDial(ctx); noDial {
		id, err := fromPeer(p)
		if err != nil {
			return nil, err
		}
		if err := h.o.gate.wait(ctx, id); err != nil {
			return nil, err
		}
	} else if err := h.Connect(ctx, peer.AddrInfo{ID: p}); err != nil {
		return nil, err
	}
	return h.Host.NewStream(network.WithNoDial(ctx, "gated"), p, pids...)
}

// Connect implements host.Host: it returns once the peer is admitted.
func (h *gatedHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	id, err := fromPeer(info.ID)
	if err != nil {
		return err
	}
	if err := h.Host.Connect(ctx, info); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return h.o.gate.wait(ctx, id)
}

// gated lets streams through once their peer is admitted, and resets those of
// others. A stream that overtakes its connection's hello waits for it.
func (o *Overlay) gated(handler network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		id, err := fromPeer(s.Conn().RemotePeer())
		if err == nil {
			err = o.gate.wait(o.ctx, id)
		}
		if err != nil {
			o.counts.gated.Add(1)
			_ = s.ResetWithError(network.StreamGated)
			return
		}
		handler(s)
	}
}
