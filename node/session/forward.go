package session

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// maxForwardHeader bounds the messages that open a forwarded connection.
const maxForwardHeader = 4 << 10

// forwardOpenTime bounds the exchange of those messages.
const forwardOpenTime = 30 * time.Second

// forward connects a client's stream to a TCP port of its environment.
func (h *Host) forward(ctx context.Context, from dht.PeerID, stream net.Conn) {
	defer stream.Close()
	_ = stream.SetDeadline(time.Now().Add(forwardOpenTime))
	r := bufio.NewReader(stream)
	req := new(wire.SessionForward)
	if err := readMessage(r, req); err != nil {
		return
	}
	s, guest, err := h.dialGuest(ctx, from, req)
	reply := new(wire.SessionForwardReply)
	if err != nil {
		reply.Refusal = asRefusal(err).wire()
	}
	if werr := writeMessage(stream, reply); werr != nil || err != nil {
		if guest != nil {
			_ = guest.Close()
			s.forwarded(-1)
		}
		return
	}
	_ = stream.SetDeadline(time.Time{})
	defer s.forwarded(-1)
	stop := context.AfterFunc(h.ctx, func() { _ = guest.Close(); _ = stream.Close() })
	defer stop()
	splice(stream, r, guest)
}

// forwarded counts connections; it reports whether one more is allowed.
func (s *hosted) forwarded(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > 0 && s.forwards >= maxForwards {
		return false
	}
	s.forwards += n
	return true
}

func (h *Host) dialGuest(ctx context.Context, from dht.PeerID, req *wire.SessionForward) (*hosted, net.Conn, error) {
	id, err := wireID(req.GetId())
	if err != nil {
		return nil, nil, err
	}
	if req.GetPort() < 1 || req.GetPort() > 65535 {
		return nil, nil, refuse(CodeMalformed, "port %d; ports are 1 to 65535", req.GetPort())
	}
	s, err := h.get(id, from)
	if err != nil {
		return nil, nil, err
	}
	if st := s.state(); st != StateRunning {
		return nil, nil, refuse(CodeState, "the session is %s, not running", st)
	}
	in, err := h.instance(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	if in.Guest == (netip.Addr{}) {
		return nil, nil, refuse(CodeState, "this environment has no network (%s); read its output with xeno logs", in.Kind)
	}
	if !s.forwarded(1) {
		return nil, nil, refuse(CodeBusy, "%d connections are open into this session; close one", maxForwards)
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(in.Guest.String(), strconv.Itoa(int(req.GetPort()))))
	if err != nil {
		s.forwarded(-1)
		h.cfg.Logger.Info("forward", slog.String("session", id.String()), slog.Any("err", err))
		return nil, nil, refuse(CodeState, "nothing answers on port %d of the environment", req.GetPort())
	}
	return s, conn, nil
}

// splice copies both ways until both directions are done.
func splice(stream net.Conn, buffered io.Reader, guest net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(guest, buffered)
		closeWrite(guest)
	})
	_, err := io.Copy(stream, guest)
	closeWrite(stream)
	if err != nil {
		_ = guest.Close()
		_ = stream.Close()
	}
	wg.Wait()
	_ = guest.Close()
}

// closeWrite ends one direction, or the whole connection where it cannot.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	_ = c.Close()
}

// Dial opens a TCP connection to a port of a bought session's environment,
// through the overlay. The caller closes it. Errors are *Refusal where the
// server said no.
func (b *Buyer) Dial(ctx context.Context, id ledger.ID, port int) (net.Conn, error) {
	s, err := b.get(id)
	if err != nil {
		return nil, err
	}
	to, err := b.cfg.Overlay.Find(ctx, s.server)
	if err != nil {
		return nil, fmt.Errorf("session: find server: %w", err)
	}
	stream, err := b.cfg.Overlay.OpenStream(ctx, to, ForwardProtocol)
	if err != nil {
		return nil, fmt.Errorf("session: reach server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	r := bufio.NewReader(stream)
	reply := new(wire.SessionForwardReply)
	_ = stream.SetDeadline(time.Now().Add(forwardOpenTime))
	err = writeMessage(stream, &wire.SessionForward{Id: id[:], Port: uint32(port)}) //nolint:gosec // checked by the server
	if err == nil {
		err = readMessage(r, reply)
	}
	if err == nil && reply.GetRefusal() != nil {
		err = refusalFromWire(reply.GetRefusal())
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = stream.Close()
		return nil, err
	}
	_ = stream.SetDeadline(time.Time{})
	return &bufferedConn{Conn: stream, r: r}, nil
}

// A bufferedConn is a connection some of which was read ahead.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (c *bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// CloseWrite ends the direction to the environment.
func (c *bufferedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// readMessage reads a message preceded by its length as an unsigned varint.
func readMessage(r *bufio.Reader, m proto.Message) error {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	if n > maxForwardHeader {
		return fmt.Errorf("session: message of %d bytes, limit %d", n, maxForwardHeader)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return proto.Unmarshal(b, m)
}

func writeMessage(w io.Writer, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...))
	return err
}
