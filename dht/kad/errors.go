package kad

import "errors"

var (
	// ErrClosed reports that the overlay was closed.
	ErrClosed = errors.New("kad: overlay is closed")
	// ErrListen reports that the node can listen on none of its addresses.
	ErrListen = errors.New("kad: cannot listen")
	// ErrUnreachable reports that no address of a peer answers.
	ErrUnreachable = errors.New("kad: peer cannot be reached")
	// ErrNotAdmitted reports that this node does not admit the peer.
	ErrNotAdmitted = errors.New("kad: peer is not admitted")
	// ErrRefused reports that the peer does not admit this node; the error's
	// text tells why.
	ErrRefused = errors.New("kad: peer refuses this node")
	// ErrNoProtocol reports that the peer does not serve the protocol.
	ErrNoProtocol = errors.New("kad: peer does not serve the protocol")
	// ErrBusy reports that the peer serves as many requests as it can; try
	// another or later.
	ErrBusy = errors.New("kad: peer is busy")
	// ErrTooLarge reports a message above its size limit.
	ErrTooLarge = errors.New("kad: message exceeds its size limit")
	// ErrNotFound reports that nobody knows the peer that was looked for.
	ErrNotFound = errors.New("kad: peer not found")
)

// A RemoteError is the error that the other side's handler returned: a text
// of at most 1024 bytes that a stranger wrote.
type RemoteError struct{ Message string }

// Error implements error.
func (e *RemoteError) Error() string { return "peer answers: " + e.Message }
