package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

const (
	// sshPort is where environments answer ssh.
	sshPort = 22
	// handshakeTimeout bounds the ssh handshake with a slow guest.
	handshakeTimeout = 30 * time.Second
)

// A Login says where to log in as whom.
type Login struct {
	// Home is the directory with the client's key.
	Home string
	// Session is the one whose environment to enter.
	Session ledger.ID
	// User is the name to log in as; empty: the session's.
	User string
}

// Dial logs in to a session's environment. The host key must be the one in the
// agreement.
func Dial(ctx context.Context, c *api.Client, l Login) (*ssh.Client, error) {
	id := l.Session
	s, err := c.Session(ctx, id)
	if err != nil {
		return nil, err
	}
	short := id.String()[:8]
	if s.HostKey == "" {
		return nil, api.Errorf(api.CodeConflict, "session %s has no ssh: its environment is %s", short, s.Terms.Environment).
			WithHint("see its output with xeno logs " + short)
	}
	if s.State != api.SessionRunning {
		return nil, api.Errorf(api.CodeConflict, "session %s is %s", short, s.State)
	}
	pinned, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s.HostKey))
	if err != nil {
		return nil, fmt.Errorf("host key of the agreement: %w", err)
	}
	key, err := ClientKey(l.Home)
	if err != nil {
		return nil, err
	}
	user := cmp.Or(l.User, s.User, "root")
	conn, err := c.Connect(ctx, id, sshPort)
	if err != nil {
		return nil, err
	}
	client, err := handshake(conn, &ssh.ClientConfig{
		User:            user,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: pin(pinned),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ssh to session %s: %w", short, err), conn.Close())
	}
	return client, nil
}

func handshake(conn net.Conn, config *ssh.ClientConfig) (*ssh.Client, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	sshConn, channels, requests, err := ssh.NewClientConn(conn, "xeno", config)
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(sshConn, channels, requests), conn.SetDeadline(time.Time{})
}

// pin accepts exactly one host key.
func pin(want ssh.PublicKey) ssh.HostKeyCallback {
	return func(_ string, _ net.Addr, got ssh.PublicKey) error {
		if string(got.Marshal()) != string(want.Marshal()) {
			return fmt.Errorf("the host key %s is not the agreed %s: somebody else answers", ssh.FingerprintSHA256(got), ssh.FingerprintSHA256(want))
		}
		return nil
	}
}
