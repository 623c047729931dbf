package cloudhypervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/process"
	"github.com/xenoserver/xeno/internal/testenv"
)

// The test binary plays keeper and, when called like it, Cloud Hypervisor.
func TestMain(m *testing.M) {
	process.MaybeRun()
	if arg := os.Getenv(daemonVar); arg != "" {
		runDaemon(arg)
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("cloud-hypervisor v53.0")
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "--api-socket" {
		if err := runFake(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	specFile       = "spec.yaml"
	violationsFile = "violations"
	specVar        = "XENO_CH_SPEC"
)

// newFake makes a directory with a copy of this test binary, which plays Cloud
// Hypervisor there, and of the specification that it checks every request and
// answer against. It returns the binary.
func newFake(t *testing.T) string {
	t.Helper()
	path := os.Getenv(specVar)
	if path == "" {
		path = "../../../shared/specs/cloud-hypervisor-v53.yaml"
	}
	spec, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: name Cloud Hypervisor's OpenAPI document in %s: %w", hypervisor.ErrNotSupported, specVar, err)
	}
	testenv.Require(t, "chspec", err)
	dir, err := os.MkdirTemp("", "xeno-fake-") //nolint:usetesting // open to guests' users, as t.TempDir is not
	must(t, err)
	t.Cleanup(func() {
		if data, err := os.ReadFile(filepath.Join(dir, violationsFile)); err != nil || len(data) > 0 {
			t.Errorf("against the specification: %s, %v", data, err)
		}
		os.RemoveAll(dir)
	})
	must(t, os.Chmod(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, specFile), spec, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, violationsFile), nil, 0o666))
	must(t, os.Chmod(filepath.Join(dir, violationsFile), 0o666))
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	binary := filepath.Join(dir, "cloud-hypervisor")
	must(t, os.WriteFile(binary, self, 0o755))
	return binary
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A fake is a monitor without a machine.
type fake struct {
	router     routers.Router
	violations *os.File
	done       chan struct{}
	end        sync.Once // closes done
	sum        int       // what work works at

	mu    sync.Mutex
	state string // of the virtual machine: "", Created, Running, Paused, Shutdown
	vm    map[string]any
}

// runFake serves the API until it is told to end.
func runFake(args []string) error {
	if want := []string{"--api-socket", "fd=3", "--seccomp", "true"}; !slices.Equal(args, want) {
		return fmt.Errorf("arguments %q, want %q", args, want)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Dir(exe)
	f := &fake{done: make(chan struct{})}
	if f.violations, err = os.OpenFile(filepath.Join(dir, violationsFile), os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	if f.router, err = loadSpec(filepath.Join(dir, specFile)); err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(3, "api"))
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: f,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	go func() { _ = server.Serve(rightsListener{l.(*net.UnixListener)}) }()
	go f.work()
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	select {
	case <-f.done:
	case <-terminated:
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

func loadSpec(path string) (routers.Router, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		return nil, err
	}
	// The document leaves additional properties open: a misspelt name would
	// pass unseen.
	closed := false
	for name, schema := range doc.Components.Schemas {
		if schema.Value.Properties != nil && name != "VmInfo" {
			schema.Value.AdditionalProperties = openapi3.BoolSchema{Has: &closed}
		}
	}
	return legacy.NewRouter(doc)
}

// work uses CPU time as long as the machine runs.
func (f *fake) work() {
	for {
		f.mu.Lock()
		running := f.state == vmRunning
		f.mu.Unlock()
		if running {
			sum := 0
			for i := range 5_000_000 {
				sum += i
			}
			f.sum = sum
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (f *fake) violation(format string, args ...any) {
	fmt.Fprintf(f.violations, format+"\n", args...)
}

// ServeHTTP checks a request, answers it, and checks the answer.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.violation("%s: %v", r.URL, err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.URL.Scheme, r.URL.Host = "http", r.Host
	route, params, err := f.router.FindRoute(r)
	if err != nil {
		f.violation("%s %s: %v", r.Method, r.URL, err)
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateRequest(ctx, in); err != nil {
		f.violation("request %s: %v", r.URL, err)
	}
	if _, declared := bodyOf(route); !declared && len(body) > 0 {
		f.violation("request %s: a body where none is specified", r.URL)
	}
	if conn, ok := ctx.Value(connKey{}).(*rightsConn); ok {
		f.receive(conn, strings.TrimPrefix(r.URL.Path, "/api/v1/"))
	}
	status, answer := f.answer(strings.TrimPrefix(r.URL.Path, "/api/v1/"), body)
	header := http.Header{}
	if len(answer) > 0 {
		header.Set("Content-Type", "application/json")
	}
	if status < 400 || status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
		out := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: in, Status: status, Header: header, Options: in.Options,
		}
		out.SetBodyBytes(answer)
		if err := openapi3filter.ValidateResponse(ctx, out); err != nil {
			f.violation("answer %d to %s: %v", status, r.URL, err)
		}
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(status)
	_, _ = w.Write(answer)
	if strings.HasSuffix(r.URL.Path, "/vmm.shutdown") || strings.HasSuffix(r.URL.Path, "/vm.power-button") && status < 300 {
		f.end.Do(func() { close(f.done) })
	}
}

func bodyOf(route *routers.Route) (*openapi3.RequestBodyRef, bool) {
	return route.Operation.RequestBody, route.Operation.RequestBody != nil
}

// receive takes the files that came with a request: one with a network device,
// none otherwise.
func (f *fake) receive(conn *rightsConn, endpoint string) {
	fds := conn.take()
	want := 0
	if endpoint == "vm.add-net" {
		want = 1
	}
	if len(fds) != want {
		f.violation("%s: %d files, want %d", endpoint, len(fds), want)
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			f.violation("%s: %v", endpoint, err)
		}
	}
}

type connKey struct{}

// A rightsListener accepts connections that keep the files sent over them.
type rightsListener struct{ *net.UnixListener }

func (l rightsListener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &rightsConn{UnixConn: c}, nil
}

type rightsConn struct {
	*net.UnixConn
	mu  sync.Mutex // guards the following
	fds []int
}

func (c *rightsConn) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(64))
	n, oobn, _, _, err := c.ReadMsgUnix(p, oob)
	messages, parseErr := unix.ParseSocketControlMessage(oob[:oobn])
	if parseErr == nil {
		for _, m := range messages {
			if fds, err := unix.ParseUnixRights(&m); err == nil {
				c.mu.Lock()
				c.fds = append(c.fds, fds...)
				c.mu.Unlock()
			}
		}
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (c *rightsConn) take() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	fds := c.fds
	c.fds = nil
	return fds
}
