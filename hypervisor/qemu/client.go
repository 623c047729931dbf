package qemu

import (
	"context"
	"fmt"
	"time"
)

// A client speaks to the QEMU that listens on a socket. It is a vmm.Monitor.
type client struct{ socket string }

// A runState is the answer to query-status.
type runState struct {
	Running bool `json:"running"` // the guest's CPUs run
}

// execute runs one command, on a connection of its own, and stores its result
// in out, if that is not nil.
func (c client) execute(ctx context.Context, command string, out any) error {
	m, err := openMonitor(ctx, c.socket, commandTimeout)
	if err != nil {
		return err
	}
	defer m.close()
	return m.execute(command, out)
}

func (c client) Running(ctx context.Context) (bool, error) {
	var s runState
	err := c.execute(ctx, "query-status", &s)
	return s.Running, err
}

func (c client) Pause(ctx context.Context) error  { return c.execute(ctx, "stop", nil) }
func (c client) Resume(ctx context.Context) error { return c.execute(ctx, "cont", nil) }
func (c client) PowerButton(ctx context.Context) error {
	return c.execute(ctx, "system_powerdown", nil)
}
func (c client) Quit(ctx context.Context) error { return c.execute(ctx, "quit", nil) }

// awaitGuest returns when QEMU has loaded the guest and runs it.
func (c client) awaitGuest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	m, err := openMonitor(ctx, c.socket, readyTimeout)
	if err != nil {
		return err
	}
	defer m.close()
	for {
		var s runState
		if err := m.execute("query-status", &s); err != nil {
			return err
		}
		if s.Running {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the guest to run: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}
