package crashtest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 1, "of the random delays before and after each kill")

// A crash is one daemon killed at one step.
type crash struct {
	victim role
	at     step
	delay  time.Duration // from the step to the kill
	down   time.Duration // from the kill to the restart
}

// crashes is every daemon at every step, some a moment later than others.
func crashes() []crash {
	r := rand.New(rand.NewPCG(*seed, 0))
	var all []crash
	for _, s := range steps {
		for _, victim := range []role{corp, server, client} {
			c := crash{victim: victim, at: s}
			if r.IntN(2) == 0 {
				c.delay = time.Duration(r.IntN(20_000)) * time.Microsecond
			}
			c.down = time.Duration(r.IntN(500)) * time.Millisecond
			all = append(all, c)
		}
	}
	return all
}

// TestKill kills every daemon at every step of the flow and starts it again.
func TestKill(t *testing.T) {
	t.Parallel()
	all := crashes()
	if testing.Short() || raceEnabled {
		for i := range all { // one victim a step
			all[i/3] = all[i/3*3+i/3%3]
		}
		all = all[:len(steps)]
	}
	if raceEnabled { // the steps of the session's own states
		all = []crash{all[5], all[7], all[9], all[11]}
	}
	lanes(t, lanesAtOnce(), all, func(c crash) string { return fmt.Sprintf("%s/%s", c.at, c.victim) }, func(t *testing.T, c crash) {
		newFlow(t, "wasi", long).suffer(c)
	})
}

// suffer goes the whole way with one crash on it.
func (f *flow) suffer(c crash) {
	f.t.Helper()
	done := f.sabotage(c)
	err := f.prepare()
	if err == nil {
		err = f.open()
	}
	if err != nil {
		f.t.Errorf("the flow: %v", err)
	}
	if err := <-done; err != nil {
		f.t.Fatal(err)
	}
	f.checkEnd()
}

// TestOutage leaves a killed daemon down until all that its session holds has
// expired: what was bound returns by itself, to the last unit, and who comes
// back finds that it is over.
func TestOutage(t *testing.T) {
	t.Parallel()
	all := []crash{
		{victim: server, at: launching},
		{victim: server, at: running},
		{victim: server, at: metering},
		{victim: client, at: agreed},
		{victim: client, at: running},
		{victim: corp, at: running},
		{victim: corp, at: metering},
	}
	for i := range all {
		all[i].down = short.lease + short.grace + 2*time.Second
	}
	if testing.Short() || raceEnabled {
		all = all[2:4]
	}
	lanes(t, lanesAtOnce(), all, func(c crash) string { return fmt.Sprintf("%s/%s", c.at, c.victim) }, func(t *testing.T, c crash) {
		l := short
		l.late = c.victim != client // the server claims though its client is gone
		newFlow(t, "wasi", l).suffer(c)
	})
}

// lanesAtOnce is how many worlds are worth having at once: they wait most of
// the time.
func lanesAtOnce() int { return min(3*runtime.GOMAXPROCS(0), 12) }

// lanes runs a subtest for each case, some at once: more than go test's own
// parallelism allows.
func lanes[T any](t *testing.T, n int, all []T, name func(T) string, run func(*testing.T, T)) {
	next := make(chan T)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for c := range next {
				t.Run(name(c), func(t *testing.T) { run(t, c) })
			}
		})
	}
	for _, c := range all {
		next <- c
	}
	close(next)
	wg.Wait()
}

// sabotage kills the victim as soon as the flow has reached the step, and
// starts it again.
func (f *flow) sabotage(c crash) <-chan error {
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for late := time.After(time.Minute); !f.reached(c.at); {
			select {
			case <-tick.C:
			case <-late:
				done <- fmt.Errorf("the flow does not reach %s", c.at)
				return
			case <-f.t.Context().Done():
				done <- f.t.Context().Err()
				return
			}
		}
		time.Sleep(c.delay)
		m := f.members[c.victim]
		f.t.Logf("%s killed: bought %q, hosted %q", c.victim, f.state(client, "bought"), f.state(server, "hosted"))
		f.crash(m)
		time.Sleep(c.down)
		done <- f.tryStart(m)
	}()
	return done
}
