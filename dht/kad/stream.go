package kad

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	manet "github.com/multiformats/go-multiaddr/net"
	msmux "github.com/multiformats/go-multistream"
)

// A lazyStream proposes its protocol together with the first bytes, which
// saves a round trip: whether the peer serves it shows at the first read.
type lazyStream struct {
	network.Stream
	mux msmux.LazyConn
}

// openOn opens a stream for one protocol on a connection.
func openOn(ctx context.Context, conn network.Conn, proto string) (network.Stream, error) {
	s, err := conn.NewStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return lazily(s, proto)
}

func lazily(s network.Stream, proto string) (network.Stream, error) {
	id := protocol.ID(proto)
	if err := s.SetProtocol(id); err != nil {
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return &lazyStream{Stream: s, mux: msmux.NewMSSelect(s, id)}, nil
}

// Read implements io.Reader.
func (s *lazyStream) Read(b []byte) (int, error) { return s.mux.Read(b) }

// Write implements io.Writer.
func (s *lazyStream) Write(b []byte) (int, error) { return s.mux.Write(b) }

// Close implements io.Closer. It finishes the negotiation first, for which a
// peer that does not answer gets helloTimeout.
func (s *lazyStream) Close() error {
	_ = s.SetReadDeadline(time.Now().Add(helloTimeout))
	return s.mux.Close()
}

// CloseWrite ends our direction, after the proposal was sent.
func (s *lazyStream) CloseWrite() error {
	if f, ok := s.mux.(interface{ Flush() error }); ok {
		_ = f.Flush() // an error shows at the next read
	}
	return s.Stream.CloseWrite()
}

// reset gives a stream up and returns err.
func reset(s network.Stream, err error) error {
	_ = s.Reset()
	return err
}

// streamError translates what a broken stream says about its other end.
func streamError(err error) error {
	if remote, ok := errors.AsType[*network.StreamError](err); ok && remote.Remote {
		switch remote.ErrorCode {
		case network.StreamGated:
			return fmt.Errorf("%w: %w", ErrRefused, err)
		case network.StreamRateLimited, network.StreamResourceLimitExceeded:
			return fmt.Errorf("%w: %w", ErrBusy, err)
		case network.StreamProtocolNegotiationFailed: // it gave up on what followed our proposal
			return fmt.Errorf("%w: %w", ErrNoProtocol, err)
		default:
		}
	}
	if _, ok := errors.AsType[msmux.ErrNotSupported[protocol.ID]](err); ok {
		return fmt.Errorf("%w: %w", ErrNoProtocol, err)
	}
	return err
}

// A Stream is the net.Conn that HandleStream and OpenStream give. Beyond
// net.Conn it can end one direction (CloseWrite), and be torn down (Reset).
// While it is open, the connection manager leaves its connection alone.
type Stream struct {
	network.Stream
	release func() // may be called again
}

// newStream protects the connection of a stream.
func (o *Overlay) newStream(s network.Stream) *Stream {
	p, tag := s.Conn().RemotePeer(), "xeno-stream-"+s.ID()
	o.base.ConnManager().Protect(p, tag)
	return &Stream{s, sync.OnceFunc(func() { o.base.ConnManager().Unprotect(p, tag) })}
}

// Close implements net.Conn.
func (s *Stream) Close() error {
	s.release()
	return s.Stream.Close()
}

// Reset tears both directions down.
func (s *Stream) Reset() error {
	s.release()
	return s.Stream.Reset()
}

// LocalAddr implements net.Conn: the connection's own address.
func (s *Stream) LocalAddr() net.Addr {
	if a, err := manet.ToNetAddr(s.Conn().LocalMultiaddr()); err == nil {
		return a
	}
	return textAddr(s.Conn().LocalMultiaddr().String())
}

// RemoteAddr implements net.Conn: the address of the peer, or of the relay
// between.
func (s *Stream) RemoteAddr() net.Addr {
	if a, err := manet.ToNetAddr(s.Conn().RemoteMultiaddr()); err == nil {
		return a
	}
	return textAddr(s.Conn().RemoteMultiaddr().String())
}

// Read implements net.Conn. A peer that does not serve the protocol, or
// refuses this node, shows here at the latest (ErrNoProtocol, ErrRefused).
func (s *Stream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	if err != nil {
		err = streamError(err)
	}
	return n, err
}

// textAddr is the address of a peer behind a relay.
type textAddr string

// Network implements net.Addr.
func (textAddr) Network() string { return "libp2p" }

// String implements net.Addr.
func (a textAddr) String() string { return string(a) }
