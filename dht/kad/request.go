package kad

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/xenoserver/xeno/dht"
)

// A Handler answers one request. ctx ends when the overlay closes, and at
// defaultTimeout; the response is the handler's until it returns, the
// overlay's afterwards. The text of an error reaches the asker as a
// RemoteError, so it must hold nothing that a stranger may not know. Calls are
// concurrent. A panic is not caught.
type Handler func(ctx context.Context, from dht.PeerID, request []byte) (response []byte, err error)

// service is a registered protocol.
type service struct {
	handler Handler
	limit   int
	served  *quota
}

// Handle serves a protocol to admitted peers: requests of at most limit
// bytes, each in a stream of its own. To be called before Bootstrap, since
// peers may ask as soon as they are connected. It panics if the protocol is
// served already or the limit is out of range.
func (o *Overlay) Handle(proto string, limit int, h Handler) {
	o.serve(proto, limit, h, o.gated)
}

// HandleOpen is Handle for a protocol that is also served to connected peers
// that are not admitted: registration. The handler must mind whom it serves.
func (o *Overlay) HandleOpen(proto string, limit int, h Handler) {
	o.serve(proto, limit, h, func(handle network.StreamHandler) network.StreamHandler { return handle })
}

func (o *Overlay) serve(proto string, limit int, h Handler, gated func(network.StreamHandler) network.StreamHandler) {
	if limit < 0 || limit > maxRequestLimit {
		panic(fmt.Sprintf("kad: handle %s: limit %d, at most %d", proto, limit, maxRequestLimit))
	}
	sv := &service{handler: h, limit: limit, served: newQuota(maxServed, maxPeerServed)}
	o.servicesMu.Lock()
	defer o.servicesMu.Unlock()
	if o.services[proto] != nil {
		panic("kad: handle " + proto + ": served already")
	}
	o.services[proto] = sv
	o.base.SetStreamHandler(protocol.ID(proto), gated(func(s network.Stream) { o.serveRequest(sv, s) }))
}

// serveRequest answers the one request of a stream.
func (o *Overlay) serveRequest(sv *service, s network.Stream) {
	if !o.enter() {
		_ = s.ResetWithError(network.StreamShutdown)
		return
	}
	defer o.wg.Done()
	id, err := fromPeer(s.Conn().RemotePeer())
	if err != nil {
		_ = s.ResetWithError(network.StreamGated)
		return
	}
	if !sv.served.acquire(id) {
		o.counts.busy.Add(1)
		_ = s.ResetWithError(network.StreamRateLimited)
		return
	}
	defer sv.served.release(id)
	if err := o.answer(sv, id, s); err != nil {
		o.log.Debug("request broken", logPeer(id), logProtocol(string(s.Protocol())), logErr(err))
		code := network.StreamProtocolViolation
		if errors.Is(err, network.ErrResourceLimitExceeded) {
			code = network.StreamResourceLimitExceeded
		}
		_ = s.ResetWithError(code)
	}
}

func (o *Overlay) answer(sv *service, id dht.PeerID, s network.Stream) error {
	deadline := time.Now().Add(defaultTimeout)
	if err := s.SetReadDeadline(deadline); err != nil {
		return err
	}
	request, err := readFrame(frameReader(s), sv.limit, s.Scope())
	if err != nil {
		return err
	}
	if err := s.Scope().ReserveMemory(len(request), network.ReservationPriorityAlways); err != nil {
		return err
	}
	defer s.Scope().ReleaseMemory(len(request))

	ctx, cancel := context.WithDeadline(o.ctx, deadline.Add(maxServing))
	defer cancel()
	status := byte(statusOK)
	response, err := sv.handler(ctx, id, request)
	if err != nil {
		status, response = statusError, []byte(clip(err.Error(), maxRemoteError))
	}
	if err := s.SetWriteDeadline(time.Now().Add(defaultTimeout)); err != nil {
		return err
	}
	if _, err := s.Write(appendFrame(nil, []byte{status}, response)); err != nil {
		return err
	}
	o.counts.served.Add(1)
	_ = s.Close() // the asker may be gone already
	return nil
}

// Request asks to, which is dialled if it is not connected, and returns its
// answer of at most limit bytes. A context without a deadline gets 10 s. What
// the handler returned as an error comes back as a *RemoteError; other errors
// wrap ErrUnreachable, ErrNotAdmitted, ErrRefused, ErrBusy, ErrNoProtocol,
// ErrTooLarge or the context's. The request may have been carried out even
// then, and is never sent twice. A request to this node itself is answered by
// its own handler.
func (o *Overlay) Request(ctx context.Context, to dht.Contact, proto string, request []byte, limit int) ([]byte, error) {
	ctx, leave, err := o.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultTimeout)
		defer cancel()
	}
	var response []byte
	if to.ID == o.id {
		response, err = o.requestSelf(ctx, proto, request, limit)
	} else {
		response, err = o.requestPeer(ctx, to, proto, request, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("request %s of %s: %w", proto, to.ID, err)
	}
	return response, nil
}

func (o *Overlay) requestSelf(ctx context.Context, proto string, request []byte, limit int) ([]byte, error) {
	o.servicesMu.Lock()
	sv := o.services[proto]
	o.servicesMu.Unlock()
	switch {
	case sv == nil:
		return nil, ErrNoProtocol
	case len(request) > sv.limit:
		return nil, fmt.Errorf("%d bytes, limit %d: %w", len(request), sv.limit, ErrTooLarge)
	}
	response, err := sv.handler(ctx, o.id, request)
	if err != nil {
		return nil, &RemoteError{Message: clip(err.Error(), maxRemoteError)}
	}
	if len(response) > limit {
		return nil, fmt.Errorf("answer of %d bytes, limit %d: %w", len(response), limit, ErrTooLarge)
	}
	return response, nil
}

func (o *Overlay) requestPeer(ctx context.Context, to dht.Contact, proto string, request []byte, limit int) ([]byte, error) {
	s, err := o.open(ctx, to, proto)
	if err != nil {
		return nil, err
	}
	response, err := o.roundTrip(ctx, s, request, limit)
	if err != nil {
		return nil, o.explain(ctx, to.ID, err)
	}
	return response, nil
}

// roundTrip writes the request and reads the answer, and ends the stream.
func (o *Overlay) roundTrip(ctx context.Context, s network.Stream, request []byte, limit int) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if _, err := s.Write(appendFrame(nil, nil, request)); err != nil {
		return nil, reset(s, ctxError(ctx, err))
	}
	answer, err := readFrame(frameReader(s), limit+1, s.Scope())
	if err != nil {
		return nil, reset(s, ctxError(ctx, err))
	}
	if len(answer) == 0 || answer[0] > statusError {
		return nil, reset(s, errFrame)
	}
	_ = s.Close()
	if answer[0] == statusError {
		return nil, &RemoteError{Message: clip(string(answer[1:]), maxRemoteError)}
	}
	return answer[1:], nil
}

// ctxError prefers the context's error: it caused the stream's.
func ctxError(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	return err
}

// explain adds to a refusal what the peer's hello said, or is about to say.
func (o *Overlay) explain(ctx context.Context, id dht.PeerID, err error) error {
	err = streamError(err)
	if !errors.Is(err, ErrRefused) {
		return err
	}
	if told := o.gate.consent(ctx, id); errors.Is(told, ErrRefused) {
		return told
	}
	return err
}

// open returns a stream to a peer that is connected and admitted, dialling
// it if need be.
func (o *Overlay) open(ctx context.Context, to dht.Contact, proto string) (network.Stream, error) {
	if err := o.reach(ctx, to); err != nil {
		return nil, err
	}
	ctx = network.WithAllowLimitedConn(ctx, proto)
	s, err := o.base.Network().NewStream(network.WithNoDial(ctx, "reached"), toPeer(to.ID))
	if err != nil {
		if errors.Is(err, network.ErrResourceLimitExceeded) {
			return nil, fmt.Errorf("%w: too many streams of ours: %w", ErrBusy, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return lazily(s, proto)
}

// HandleStream serves a protocol whose streams last: h has the stream until it
// returns, which closes it. ctx ends when the overlay closes. Only admitted
// peers get there. The net.Conn is a *Stream.
func (o *Overlay) HandleStream(proto string, h func(ctx context.Context, from dht.PeerID, s net.Conn)) {
	served := newQuota(maxServed, maxPeerServed)
	o.base.SetStreamHandler(protocol.ID(proto), o.gated(func(s network.Stream) {
		if !o.enter() {
			_ = s.ResetWithError(network.StreamShutdown)
			return
		}
		defer o.wg.Done()
		id, err := fromPeer(s.Conn().RemotePeer())
		if err != nil || !served.acquire(id) {
			o.counts.busy.Add(1)
			_ = s.ResetWithError(network.StreamRateLimited)
			return
		}
		defer served.release(id)
		stop := context.AfterFunc(o.ctx, func() { _ = s.ResetWithError(network.StreamShutdown) })
		defer stop()
		stream := o.newStream(s)
		h(o.ctx, id, stream)
		_ = stream.Close()
	}))
}

// OpenStream opens a stream to a peer's HandleStream. The context bounds the
// dial and the opening only. Since the protocol is proposed together with
// the first bytes, a peer that does not serve it shows at the first Read
// (ErrNoProtocol). The caller closes the stream; it cannot lead to this node
// itself. The net.Conn is a *Stream.
func (o *Overlay) OpenStream(ctx context.Context, to dht.Contact, proto string) (net.Conn, error) {
	ctx, leave, err := o.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	s, err := o.open(ctx, to, proto)
	if err != nil {
		return nil, fmt.Errorf("open %s to %s: %w", proto, to.ID, err)
	}
	return o.newStream(s), nil
}
