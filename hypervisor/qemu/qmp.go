package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/xenoserver/xeno/hypervisor/vmm"
)

// errMonitor reports an answer that no QEMU gives.
var errMonitor = errors.New("bad answer of the monitor")

// A commandError is the monitor's refusal.
type commandError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// Error implements error.
func (e *commandError) Error() string { return e.Desc }

// A monitor is a connection to QEMU's machine protocol (QMP; QEMU manual,
// "QEMU Machine Protocol Specification"): one JSON object a line. QEMU serves
// one connection at a time, so each operation opens and closes its own.
type monitor struct {
	conn net.Conn
	in   *bufio.Reader
	id   int
	stop func() bool // ends the watch of the context
}

// A message is any line that QEMU sends.
type message struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *commandError   `json:"error"`
	Event  string          `json:"event"`
	ID     *int            `json:"id"`
}

// openMonitor connects and negotiates. The whole conversation ends with ctx or
// after timeout.
func openMonitor(ctx context.Context, socket string, timeout time.Duration) (*monitor, error) {
	conn, err := vmm.Dial(ctx, socket)
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("monitor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	m, err := negotiate(conn)
	if err != nil {
		stop()
		conn.Close()
		return nil, fmt.Errorf("monitor: %w", err)
	}
	m.stop = stop
	return m, nil
}

// negotiate reads the greeting and leaves negotiation mode.
func negotiate(conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, in: bufio.NewReader(conn)}
	greeting, err := readMessage(m.in)
	if err != nil {
		return nil, err
	}
	if len(greeting.QMP) == 0 {
		return nil, fmt.Errorf("no greeting: %w", errMonitor)
	}
	return m, m.execute("qmp_capabilities", nil)
}

func (m *monitor) close() {
	m.stop()
	_ = m.conn.Close()
}

// execute runs a command and stores its result in out, if that is not nil. A
// refusal is a *commandError.
func (m *monitor) execute(command string, out any) error {
	m.id++
	line, err := json.Marshal(struct {
		Execute string `json:"execute"`
		ID      int    `json:"id"`
	}{command, m.id})
	if err != nil {
		return err
	}
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for range maxEvents {
		answer, err := readMessage(m.in)
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		switch {
		case answer.Event != "" || answer.ID == nil && answer.Error == nil || answer.ID != nil && *answer.ID != m.id:
			continue
		case answer.Error != nil:
			return fmt.Errorf("%s: %w", command, answer.Error)
		case out == nil:
			return nil
		}
		if err := json.Unmarshal(answer.Return, out); err != nil {
			return fmt.Errorf("%s: %w: %w", command, errMonitor, err)
		}
		return nil
	}
	return fmt.Errorf("%s: no answer among %d messages: %w", command, maxEvents, errMonitor)
}

// readMessage reads one line of at most maxMessage bytes.
func readMessage(in *bufio.Reader) (message, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxMessage {
			return message{}, fmt.Errorf("message of more than %d bytes: %w", maxMessage, errMonitor)
		}
		line = append(line, part...)
		if err == nil {
			break
		}
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return message{}, err
		}
	}
	return parseMessage(line)
}

func parseMessage(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(bytes.TrimSpace(line), &m); err != nil {
		return message{}, fmt.Errorf("%w: %w", errMonitor, err)
	}
	return m, nil
}
