package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/xenoserver/xeno/sim"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"xeno-sim": main})
}

// TestScripts runs the command lines in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// TestHelp checks that every verb has help, an example that begins with its
// own name, and --json.
func TestHelp(t *testing.T) {
	for _, cmd := range commands() {
		if cmd.Short == "" || cmd.Long == "" || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: short help %q, example %q", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
		if cmd.InheritedFlags().Lookup("json") == nil {
			t.Errorf("%s has no --json", cmd.CommandPath())
		}
	}
}

// TestInterrupted interrupts a run in its midst: what there is comes out,
// marked.
func TestInterrupted(t *testing.T) {
	for _, args := range [][]string{
		{"run", "small", "--nodes", "200", "--progress", "--json"},
		{"sweep", "growth", "--set", "sweep.values=[100, 200]", "--set", "queries.count=20", "--progress", "--json"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var stdout, stderr bytes.Buffer
		calls := 0
		a := &app{stdout: &stdout, stderr: &stderr, clock: func() time.Duration {
			if calls++; calls == 500 {
				cancel()
			}
			return time.Duration(calls) * time.Millisecond
		}}
		args = append(args, "--out", t.TempDir())
		if code := a.run(ctx, args); code != exitInterrupted {
			t.Errorf("%s: code %d: %s", args[0], code, stderr.String())
		}
		var got struct {
			Partial bool   `json:"partial"`
			Why     string `json:"why"`
			Points  []struct {
				Partial bool   `json:"partial"`
				Why     string `json:"why"`
			} `json:"points"`
		}
		if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
			t.Fatalf("%v in %q", err, stdout.String())
		}
		if !got.Partial || got.Why+lastWhy(got.Points) != "interrupted" {
			t.Errorf("%s: %+v", args[0], got)
		}
		if !strings.Contains(stderr.String(), `"code":130`) {
			t.Errorf("%s: %s", args[0], stderr.String())
		}
	}
}

func lastWhy(points []struct {
	Partial bool   `json:"partial"`
	Why     string `json:"why"`
},
) string {
	if len(points) == 0 {
		return ""
	}
	return points[len(points)-1].Why
}

// TestMemory refuses what does not fit before anything is made.
func TestMemory(t *testing.T) {
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stderr, clock: func() time.Duration { return 0 }}
	code := a.run(t.Context(), []string{"run", "growth", "--nodes", "10000000", "--set", "network.tables=maintained"})
	if code != exitMemory || !strings.Contains(stderr.String(), "reduce network.nodes") || !strings.Contains(stderr.String(), "--force") {
		t.Errorf("code %d: %s", code, stderr.String())
	}
}

func TestRemaining(t *testing.T) {
	for _, tt := range []struct {
		done, total int
		took, want  time.Duration
	}{
		{0, 100, time.Minute, 0},
		{1, 100, time.Minute, 0}, // too early to say
		{50, 100, time.Minute, time.Minute},
		{90, 100, 9 * time.Second, time.Second},
		{100, 100, time.Minute, 0},
		{10, 0, time.Minute, 0},
	} {
		if got := remaining(sim.Progress{Done: tt.done, Total: tt.total}, tt.took); got != tt.want {
			t.Errorf("%d of %d after %s: %s, want %s", tt.done, tt.total, tt.took, got, tt.want)
		}
	}
}
