package main

import (
	"io"
	"net"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// forward serves a direct-tcpip channel (RFC 4254, section 7.2): to this
// machine's own ports only, so that a lease gives no way into other networks
// that the host did not give.
func (s *server) forward(nc ssh.NewChannel) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil || m.Port == 0 || m.Port > 65535 {
		_ = nc.Reject(ssh.ConnectionFailed, "bad address")
		return
	}
	if !slices.Contains(s.locals, m.Host) {
		_ = nc.Reject(ssh.Prohibited, "only ports of this machine: use localhost")
		return
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))), dialTimeout)
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go ssh.DiscardRequests(requests)
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(ch, conn); _ = ch.CloseWrite() })
	both.Go(func() {
		_, _ = io.Copy(conn, ch)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	})
	both.Wait()
}
