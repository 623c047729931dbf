package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

const (
	// maxLogs is the most output that is fetched of a session.
	maxLogs = 1 << 20
	// followWindow is what logs --follow fetches each time: as much as a
	// server keeps after the end.
	followWindow = 128 << 10
	// followPause and followIdle bound the pause between two fetches; it grows
	// while nothing is written.
	followPause = 200 * time.Millisecond
	followIdle  = 2 * time.Second
	// followPatience is how long a server may be out of reach.
	followPatience = time.Minute
)

func newLogs(a *app) *cobra.Command {
	var limit int
	var follow bool
	cmd := sessionVerb(a, "logs SESSION", "Show the newest output of an environment",
		"  xeno logs 1f2e3d4c\n  xeno logs 1f2e3d4c --limit 1000\n  xeno logs 1f2e3d4c --follow",
		func(ctx context.Context, c *api.Client, id ledger.ID) error {
			if follow && a.json {
				return usagef("--follow writes what the environment writes, not JSON; leave one of both out")
			}
			if follow {
				return (&follower{app: a, client: c, id: id, limit: limit}).run(ctx)
			}
			logs, err := c.Logs(ctx, id, limit)
			if err != nil {
				return err
			}
			if a.json {
				return a.print(logs, nil)
			}
			_, _ = a.stderr.Write(logs.Stderr)
			_, err = a.stdout.Write(logs.Stdout)
			return err
		})
	cmd.Long = `Logs shows the newest output: both outputs of a WASI module, or the console of a virtual
machine. With --follow it goes on with what is written until the session ends or it is
interrupted. It asks again and again for the newest 128 KiB and shows what follows the part
already seen: it says so where more than that was written at once, and cannot see what
repeats more than that exactly.`
	cmd.Flags().IntVar(&limit, "limit", 64<<10, "most `bytes` of each output; with --follow, of what was written before")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the session ends")
	return cmd
}

// A follower shows the output of a session as it is written.
type follower struct {
	app    *app
	client *api.Client
	id     ledger.ID
	limit  int // bytes to show of what was written before

	begun          bool
	stdout, stderr []byte // the windows already shown
}

// run returns when the session has ended and all its output is shown.
func (f *follower) run(ctx context.Context) error {
	pause, reached := followPause, time.Now()
	for {
		more, over, err := f.step(ctx)
		code := api.CodeOf(err)
		switch {
		case err == nil && over:
			return nil
		case err == nil:
			reached = time.Now()
		case ctx.Err() != nil:
			return ctx.Err()
		case code != api.CodeUnavailable && code != api.CodeTimeout || time.Since(reached) > followPatience:
			return err
		}
		pause = min(2*pause, followIdle)
		if more {
			pause = followPause
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// step shows what is new. What was written before the end is there once the
// session is seen to be over.
func (f *follower) step(ctx context.Context) (more, over bool, err error) {
	s, err := f.client.Session(ctx, f.id)
	if err != nil {
		return false, false, err
	}
	logs, err := f.client.Logs(ctx, f.id, followWindow)
	if err != nil {
		return false, false, err
	}
	stderr, lostErr := f.fresh(f.stderr, logs.Stderr)
	stdout, lostOut := f.fresh(f.stdout, logs.Stdout)
	f.begun = true
	if lostErr || lostOut {
		fmt.Fprintln(f.app.stderr, "xeno: more was written than is kept; output is missing here")
	}
	if len(logs.Stderr) > 0 {
		f.stderr = logs.Stderr
	}
	if len(logs.Stdout) > 0 {
		f.stdout = logs.Stdout
	}
	_, _ = f.app.stderr.Write(stderr)
	_, err = f.app.stdout.Write(stdout)
	return len(stdout)+len(stderr) > 0, s.State.Stopped(), err
}

// fresh returns what to show of a window after the one before.
func (f *follower) fresh(before, now []byte) (fresh []byte, lost bool) {
	if !f.begun {
		return now[len(now)-min(max(f.limit, 0), len(now)):], false
	}
	known := overlap(before, now)
	return now[known:], known == 0 && len(before) > 0 && len(now) > 0
}

// overlap returns the length of the longest end of before that now begins with
// (the prefix function of Knuth, Morris and Pratt).
func overlap(before, now []byte) int {
	before = before[max(len(before)-len(now), 0):]
	next := make([]int, len(now)+1) // length of the longest border of now[:i]
	for i, k := 1, 0; i < len(now); i++ {
		for k > 0 && now[i] != now[k] {
			k = next[k]
		}
		if now[i] == now[k] {
			k++
		}
		next[i+1] = k
	}
	k := 0
	for _, c := range before {
		for k > 0 && (k == len(now) || now[k] != c) {
			k = next[k]
		}
		if k < len(now) && now[k] == c {
			k++
		}
	}
	return k
}
