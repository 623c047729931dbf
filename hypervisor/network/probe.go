package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// ErrNotSSH reports that something answers, but no SSH server.
var ErrNotSSH = errors.New("no SSH server")

// Probe connects to an SSH server and returns its identification, such as
// "SSH-2.0-OpenSSH_9.2": a guest is up when it answers. It ends with ctx.
func Probe(ctx context.Context, addr netip.AddrPort) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return "", fmt.Errorf("network: probe: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	banner, err := readBanner(conn)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("network: probe %v: %w", addr, err)
	}
	return banner, nil
}

// readBanner reads the lines of RFC 4253, section 4.2, up to the
// identification.
func readBanner(r io.Reader) (string, error) {
	in := bufio.NewReaderSize(r, maxBanner)
	for range maxBannerLines {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return "", fmt.Errorf("line of more than %d bytes: %w", maxBanner, ErrNotSSH)
		}
		if err != nil {
			return "", err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if !strings.HasPrefix(text, "SSH-") {
			continue
		}
		if strings.HasPrefix(text, "SSH-2.0-") || strings.HasPrefix(text, "SSH-1.99-") {
			return text, nil
		}
		break
	}
	return "", ErrNotSSH
}
