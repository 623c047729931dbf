package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

// A server is the SSH server. The machine has one account; every user name
// means root, for the machine is the client's alone.
type server struct {
	config   *ssh.ServerConfig
	children *children
	shell    string
	home     string
	locals   []string // addresses that forwarding may dial
	slots    chan struct{}
}

// newServer makes a server that shows the session's host key and lets in
// whoever proves one of the session's client keys.
func newServer(cfg boot.Config, c *children) (*server, error) {
	host, err := ssh.ParsePrivateKey([]byte(cfg.HostKey))
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	var keys [][]byte
	for i, line := range cfg.Keys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("authorized key %d: %w", i+1, err)
		}
		keys = append(keys, key.Marshal())
	}
	config := &ssh.ServerConfig{
		MaxAuthTries:  maxAuthTries,
		ServerVersion: "SSH-2.0-Xeno_1",
		PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
			for _, key := range keys {
				if bytes.Equal(key, offered.Marshal()) {
					return &ssh.Permissions{}, nil
				}
			}
			return nil, errors.New("not a key of this session")
		},
	}
	config.AddHostKey(host)
	return &server{
		config:   config,
		children: c,
		shell:    "/bin/sh",
		home:     "/root",
		locals:   []string{"localhost", "127.0.0.1", "::1", cfg.Address.Addr().String(), cfg.Hostname},
		slots:    make(chan struct{}, maxConns),
	}, nil
}

// listen accepts connections in the background.
func (s *server) listen(port uint16) error {
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	go s.accept(l)
	return nil
}

func (s *server) accept(l net.Listener) {
	for {
		s.slots <- struct{}{}
		conn, err := l.Accept()
		if err != nil {
			logf("ssh: %v", err)
			return
		}
		go func() {
			defer func() { <-s.slots }()
			s.serve(conn)
		}()
	}
}

// serve runs one connection to its end.
func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return
	}
	sc, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		logf("ssh: refuse %v: %v", conn.RemoteAddr(), err)
		return
	}
	defer sc.Close()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	sessions, forwards := make(chan struct{}, maxSessions), make(chan struct{}, maxForwards)
	for nc := range channels {
		switch nc.ChannelType() {
		case "session":
			admit(nc, sessions, s.session)
		case "direct-tcpip":
			admit(nc, forwards, s.forward)
		default:
			_ = nc.Reject(ssh.UnknownChannelType, "unknown channel type")
		}
	}
}

// admit runs serve in the background if there is a free slot.
func admit(nc ssh.NewChannel, slots chan struct{}, serve func(ssh.NewChannel)) {
	select {
	case slots <- struct{}{}:
		go func() {
			defer func() { <-slots }()
			serve(nc)
		}()
	default:
		_ = nc.Reject(ssh.ResourceShortage, "too many channels")
	}
}
