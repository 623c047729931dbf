package main

import (
	"fmt"
	"io"
	"time"

	"github.com/xenoserver/xeno/sim"
)

// A progress shows how far a run has come on standard error: as one line that
// changes on a terminal, as a line now and then elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	every    time.Duration
	clock    func() time.Duration
	parts    int // runs of a sweep
	at       int
	title    string
	began    time.Duration // of this part
	last     time.Duration // shown
	shown    bool
}

func (a *app) progress(show bool, parts int) *progress {
	p := &progress{w: a.stderr, terminal: onTerminal(a.stderr), every: 5 * time.Second, clock: a.clock, parts: parts, last: -time.Hour}
	if p.terminal {
		p.every = 100 * time.Millisecond
	}
	if !show {
		p.w = nil
	}
	p.began = p.clock()
	return p
}

// part begins another run of a sweep.
func (p *progress) part(at int, title string) {
	p.at, p.title, p.began = at, title, p.clock()
}

// show is called by the run.
func (p *progress) show(now sim.Progress) {
	if p.w == nil || p.clock()-p.last < p.every {
		return
	}
	p.last = p.clock()
	line := fmt.Sprintf("%6s  %s  %s", p.clock().Round(time.Second), share(now), now.Stage)
	if now.Seed > 0 {
		line += fmt.Sprintf(", seed %d", now.Seed)
	}
	if p.parts > 1 {
		line = fmt.Sprintf("[%d/%d] %s  %s", p.at+1, p.parts, p.title, line)
	}
	if left := remaining(now, p.clock()-p.began); left > 0 {
		line += fmt.Sprintf(", about %s left", left)
	}
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	fmt.Fprint(p.w, "\r\x1b[K"+line)
	p.shown = true
}

func share(now sim.Progress) string {
	if now.Total <= 0 {
		return "    "
	}
	return fmt.Sprintf("%3d%%", min(100, 100*now.Done/now.Total))
}

// remaining estimates how long a run still takes, from how long it took so
// far; zero: unknown.
func remaining(now sim.Progress, took time.Duration) time.Duration {
	if now.Done < now.Total/50 || now.Done == 0 || now.Total <= now.Done || took < time.Second {
		return 0
	}
	left := time.Duration(float64(took) / float64(now.Done) * float64(now.Total-now.Done))
	return max(time.Second, left.Round(time.Second))
}

// end clears the line that changes.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
