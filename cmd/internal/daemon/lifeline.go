package daemon

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
)

// A lifeline is the daemon's end of a pipe that its parent holds.
type lifeline struct {
	pipe   *os.File
	ended  atomic.Bool
	cancel context.CancelFunc
	done   chan struct{}
}

// watchLifeline returns a context that ends with ctx or with the pipe at fd.
func watchLifeline(ctx context.Context, fd int) (context.Context, *lifeline) {
	ctx, cancel := context.WithCancel(ctx)
	l := &lifeline{cancel: cancel, done: make(chan struct{})}
	if fd <= 0 {
		close(l.done)
		return ctx, l
	}
	syscall.CloseOnExec(fd)
	_ = syscall.SetNonblock(fd, true) // so that close ends the read
	l.pipe = os.NewFile(uintptr(fd), "lifeline")
	go func() {
		defer close(l.done)
		var b [1]byte
		for {
			// The parent never writes; its death is an end of file, close
			// is os.ErrClosed.
			if _, err := l.pipe.Read(b[:]); err != nil {
				l.ended.Store(!errors.Is(err, os.ErrClosed))
				cancel()
				return
			}
		}
	}()
	return ctx, l
}

// cut tells whether the parent is gone.
func (l *lifeline) cut() bool { return l.ended.Load() }

func (l *lifeline) close() {
	l.cancel()
	if l.pipe != nil {
		_ = l.pipe.Close()
	}
	<-l.done
}
