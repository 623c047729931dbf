package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
)

// A host is an environment's ssh server, in memory. It knows three commands:
// "uname -a", "cat" and "exit N".
type host struct {
	ts     *testscript.TestScript
	signer ssh.Signer
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newHost(ts *testscript.TestScript) *host { return &host{ts: ts, signer: newSigner(ts)} }

func newSigner(ts *testscript.TestScript) ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	signer, err := ssh.NewSignerFromKey(key)
	ts.Check(err)
	return signer
}

// agreed is the host key that agreements name; a stranger's is another.
func (h *host) agreed(stranger bool) string {
	signer := h.signer
	if stranger {
		signer = newSigner(h.ts)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// pipe returns the near end of a connection that serve holds the far end of.
func (h *host) pipe(serve func(net.Conn)) net.Conn {
	near, far := net.Pipe()
	h.mu.Lock()
	h.conns = append(h.conns, near, far)
	h.mu.Unlock()
	h.wg.Go(func() { serve(far) })
	return near
}

// dialEcho connects to a server that says back what it is told.
func (h *host) dialEcho() net.Conn {
	return h.pipe(func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// dial connects to the ssh server, which lets in who has one of keys.
func (h *host) dial(keys []string) net.Conn {
	config := &ssh.ServerConfig{PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		if meta.User() != "root" || !slices.Contains(keys, line) {
			return nil, fmt.Errorf("%s with %s may not log in", meta.User(), line)
		}
		return &ssh.Permissions{}, nil
	}}
	config.AddHostKey(h.signer)
	return h.pipe(func(c net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		defer conn.Close()
		h.wg.Go(func() { ssh.DiscardRequests(requests) })
		for offer := range channels {
			ch, reqs, err := offer.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { h.session(ch, reqs) })
		}
	})
}

func (h *host) session(ch ssh.Channel, requests <-chan *ssh.Request) {
	defer ch.Close()
	for req := range requests {
		switch req.Type {
		case "exec":
			var cmd struct{ Line string }
			_ = ssh.Unmarshal(req.Payload, &cmd)
			_ = req.Reply(true, nil)
			status := command(ch, cmd.Line)
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			return
		case "shell":
			_ = req.Reply(true, nil)
			line, _ := io.ReadAll(ch)
			status := command(ch, strings.TrimSpace(string(line)))
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			return
		default:
			_ = req.Reply(false, nil)
		}
	}
}

func command(ch ssh.Channel, line string) (status uint32) {
	switch line {
	case "uname -a":
		_, _ = io.WriteString(ch, "Linux guest 6.1.0 x86_64\n")
	case "cat":
		_, _ = io.Copy(ch, ch)
	default:
		if _, err := fmt.Sscanf(line, "exit %d", &status); err != nil {
			_, _ = fmt.Fprintf(ch.Stderr(), "%s: not found\n", line)
			return 127
		}
	}
	return status
}

func (h *host) close() {
	h.mu.Lock()
	for _, c := range h.conns {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}
