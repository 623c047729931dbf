package main

import (
	"fmt"
	"io"
	"time"

	"github.com/xenoserver/xeno/node/api"
)

// A progress shows the stages of a run on standard error: as one line that
// changes on a terminal, as lines elsewhere, not at all beside --json.
type progress struct {
	w        io.Writer
	terminal bool
	begin    time.Time
	shown    bool
}

func newProgress(a *app) *progress {
	p := &progress{w: a.stderr, terminal: onTerminal(a.stderr), begin: time.Now()}
	if a.json {
		p.w = io.Discard
	}
	return p
}

// event shows one stage. The last, which carries the session, is not shown:
// whoever waits for it shows the session itself.
func (p *progress) event(e api.RunEvent) {
	if e.Session != nil {
		return
	}
	text := string(e.Stage)
	if !e.Server.IsZero() {
		text += " " + e.Server.Short()
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if !p.terminal {
		fmt.Fprintln(p.w, text)
		return
	}
	p.clear()
	if e.Stage == api.StageRefused {
		fmt.Fprintln(p.w, text) // stays
		return
	}
	fmt.Fprintf(p.w, "%4.1f s  %s", time.Since(p.begin).Seconds(), text)
	p.shown = true
}

// end clears the line that changes.
func (p *progress) end() {
	if p.terminal {
		p.clear()
	}
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
