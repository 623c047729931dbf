package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// children starts processes and collects every dead child of process 1,
// orphans included. (os/exec would lose statuses to the collector.)
type children struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus // mu guards it; by process ID
}

func newChildren() *children {
	c := &children{waiting: make(map[int]chan syscall.WaitStatus)}
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, syscall.SIGCHLD)
	go func() {
		for range dead {
			c.collect()
		}
	}()
	return c
}

// start runs a program and returns its process ID and a channel that gets its
// status.
func (c *children) start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, &os.PathError{Op: "start", Path: path, Err: err}
	}
	done := make(chan syscall.WaitStatus, 1)
	c.waiting[pid] = done
	return pid, done, nil
}

func (c *children) collect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if done, ok := c.waiting[pid]; ok {
			done <- status
			delete(c.waiting, pid)
		}
	}
}
