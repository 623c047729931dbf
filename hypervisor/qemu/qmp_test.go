package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor/vmm"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// fakeQEMU answers on the monitor's socket in dir: each answer is sent when a
// command came, and $ID in it becomes the command's number.
func fakeQEMU(t *testing.T, dir, greeting string, answers ...string) {
	t.Helper()
	f, err := vmm.Listen(filepath.Join(dir, "qmp"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, greeting)
		in := bufio.NewScanner(conn)
		for i, a := range answers {
			if !in.Scan() {
				return
			}
			fmt.Fprintln(conn, strings.ReplaceAll(a, "$ID", fmt.Sprint(i+1)))
		}
		in.Scan()
	}()
}

const capable = `{"return": {}, "id": $ID}`

func TestMonitor(t *testing.T) {
	type status struct {
		Running bool `json:"running"`
	}
	for _, tt := range []struct {
		name, greeting string
		answers        []string
		want           bool
		err            string
	}{
		{name: "answer", answers: []string{capable, `{"return": {"running": true}, "id": $ID}`}, want: true},
		{name: "events first", answers: []string{capable, "{\"event\": \"RESUME\", \"timestamp\": {}}\n{\"return\": {\"running\": true}, \"id\": $ID}"}, want: true},
		{name: "stale answer first", answers: []string{capable, "{\"return\": {}, \"id\": 1}\n{\"return\": {\"running\": true}, \"id\": $ID}"}, want: true},
		{name: "refusal", answers: []string{capable, `{"error": {"class": "GenericError", "desc": "no such thing"}, "id": $ID}`}, err: "no such thing"},
		{name: "no JSON", answers: []string{capable, `return`}, err: "bad answer"},
		{name: "wrong type", answers: []string{capable, `{"return": [], "id": $ID}`}, err: "bad answer"},
		{name: "no greeting", greeting: `{"return": {}}`, err: "no greeting"},
		{name: "too long", answers: []string{capable, strings.Repeat("x", maxMessage+1)}, err: "more than"},
		{name: "too many events", answers: []string{capable, strings.Repeat("{\"event\": \"X\"}\n", maxEvents)}, err: "no answer among"},
		{name: "end", answers: []string{capable, `{"return"`}, err: "bad answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			hello := tt.greeting
			if hello == "" {
				hello = greeting
			}
			fakeQEMU(t, dir, hello, tt.answers...)
			var got status
			m, err := openMonitor(t.Context(), filepath.Join(dir, "qmp"), 10*time.Second)
			if err == nil {
				err = m.execute("query-status", &got)
				m.close()
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if got.Running != tt.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestMonitorIsCancelled connects to a monitor that never speaks, at a path
// too long for a socket address.
func TestMonitorIsCancelled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := vmm.Listen(filepath.Join(dir, "qmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := openMonitor(ctx, filepath.Join(dir, "qmp"), time.Minute); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func FuzzMonitor(f *testing.F) {
	f.Add([]byte(greeting + "\n"))
	f.Add([]byte("{\"event\": \"STOP\"}\r\n{\"return\": {}, \"id\": 1}\n"))
	f.Add([]byte("{\"error\": {\"class\": 1}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bufio.NewReader(strings.NewReader(string(data)))
		for range len(data) + 1 {
			if _, err := readMessage(in); err != nil && !errors.Is(err, errMonitor) {
				return // the end
			}
		}
		t.Fatal("messages without end")
	})
}
