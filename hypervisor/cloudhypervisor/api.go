package cloudhypervisor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor/vmm"
)

// The types below are the part of Cloud Hypervisor's API (version 0.3.0, path
// prefix /api/v1) that the driver uses.

type pingResponse struct {
	Version string `json:"version"` // 53.0.0
	PID     int64  `json:"pid"`
}

type vmConfig struct {
	CPUs     cpusConfig    `json:"cpus"`
	Memory   memoryConfig  `json:"memory"`
	Payload  payloadConfig `json:"payload"`
	Disks    []diskConfig  `json:"disks,omitempty"`
	RNG      rngConfig     `json:"rng"`
	Serial   consoleConfig `json:"serial"`
	Console  consoleConfig `json:"console"`
	Landlock bool          `json:"landlock_enable"`
}

type cpusConfig struct {
	Boot   int  `json:"boot_vcpus"`
	Max    int  `json:"max_vcpus"`
	Nested bool `json:"nested"` // virtualisation inside the guest
}

type memoryConfig struct {
	Size uint64 `json:"size"` // bytes
}

type payloadConfig struct {
	Kernel    string `json:"kernel"`
	Initramfs string `json:"initramfs"`
	Cmdline   string `json:"cmdline"`
}

type diskConfig struct {
	ID   string `json:"id"`
	Path string `json:"path"`
	// ImageType is never left to be guessed from what the guest wrote
	// (CVE-2026-27211).
	ImageType string `json:"image_type"`
}

type netConfig struct {
	ID  string `json:"id"`
	MAC string `json:"mac"`
}

type rngConfig struct {
	Source string `json:"src"`
}

type consoleConfig struct {
	Mode string `json:"mode"`
}

const (
	imageRaw   = "Raw"
	consoleTTY = "Tty" // standard output; input only from a terminal
	consoleOff = "Off"
)

type vmInfo struct {
	State string `json:"state"`
}

// vmRunning is the state of a virtual machine that is not paused.
const vmRunning = "Running"

// An APIError is a refusal.
type APIError struct {
	Method, Endpoint string
	Status           int
	Message          string // what the monitor said
}

func (e *APIError) Error() string {
	return fmt.Sprintf("%s %s: %s: %s", e.Method, e.Endpoint, http.StatusText(e.Status), e.Message)
}

// A client talks to one monitor, as a vmm.Monitor does. It holds no connection;
// all methods may be called at once.
type client struct {
	socket string // path
}

func (c client) ping(ctx context.Context) (p pingResponse, err error) {
	return p, c.do(ctx, http.MethodGet, "vmm.ping", nil, &p)
}

func (c client) create(ctx context.Context, vm vmConfig) error {
	return c.do(ctx, http.MethodPut, "vm.create", vm, nil)
}

// addNet adds a network device whose tap goes along as an open file.
func (c client) addNet(ctx context.Context, n netConfig, tap *os.File) error {
	return c.do(ctx, http.MethodPut, "vm.add-net", n, nil, tap)
}

// Running implements vmm.Monitor.
func (c client) Running(ctx context.Context) (bool, error) {
	i, err := c.info(ctx)
	return i.State == vmRunning, err
}

func (c client) info(ctx context.Context) (i vmInfo, err error) {
	return i, c.do(ctx, http.MethodGet, "vm.info", nil, &i)
}

func (c client) boot(ctx context.Context) error { return c.put(ctx, "vm.boot") }

// Pause implements vmm.Monitor.
func (c client) Pause(ctx context.Context) error { return c.put(ctx, "vm.pause") }

// Resume implements vmm.Monitor.
func (c client) Resume(ctx context.Context) error { return c.put(ctx, "vm.resume") }

// PowerButton implements vmm.Monitor.
func (c client) PowerButton(ctx context.Context) error { return c.put(ctx, "vm.power-button") }

// Quit implements vmm.Monitor. Each step writes back more of what the guest
// wrote; a step that fails leaves it to the next.
func (c client) Quit(ctx context.Context) error {
	_ = c.put(ctx, "vm.shutdown")
	_ = c.put(ctx, "vm.delete")
	return c.put(ctx, "vmm.shutdown")
}

func (c client) put(ctx context.Context, endpoint string) error {
	return c.do(ctx, http.MethodPut, endpoint, nil, nil)
}

// do makes one request on a connection of its own. Files travel with its first
// byte. A refusal is an *APIError.
func (c client) do(ctx context.Context, method, endpoint string, in, out any, files ...*os.File) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := c.exchange(ctx, method, endpoint, in, out, files)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", endpoint, err)
	}
	return nil
}

func (c client) exchange(ctx context.Context, method, endpoint string, in, out any, files []*os.File) error {
	request, err := encodeRequest(ctx, method, endpoint, in)
	if err != nil {
		return err
	}
	conn, err := vmm.Dial(ctx, c.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	n, _, err := conn.WriteMsgUnix(request, rights, nil)
	if err == nil && n < len(request) {
		_, err = conn.Write(request[n:])
	}
	if err != nil {
		return err
	}
	return decodeResponse(bufio.NewReader(conn), method, endpoint, out)
}

func encodeRequest(ctx context.Context, method, endpoint string, in any) ([]byte, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost/api/v1/"+endpoint, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	var wire bytes.Buffer
	err = r.Write(&wire)
	return wire.Bytes(), err
}

// decodeResponse reads an answer of at most maxBody bytes. out, if not nil,
// must be filled from it.
func decodeResponse(from *bufio.Reader, method, endpoint string, out any) error {
	limited := bufio.NewReader(io.LimitReader(from, maxBody))
	r, err := http.ReadResponse(limited, &http.Request{Method: method})
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	defer r.Body.Close()
	if r.StatusCode/100 != 2 {
		data, _ := io.ReadAll(io.LimitReader(r.Body, maxErrorBody))
		return &APIError{Method: method, Endpoint: endpoint, Status: r.StatusCode, Message: message(data)}
	}
	if out == nil {
		return nil
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// message makes one line of a refusal: a JSON list of causes, outermost first,
// or text.
func message(body []byte) string {
	var causes []string
	if json.Unmarshal(body, &causes) == nil {
		return strings.Join(causes, ": ")
	}
	return strings.Join(strings.Fields(string(body)), " ")
}
