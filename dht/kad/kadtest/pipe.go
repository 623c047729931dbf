package kadtest

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// window is how many bytes a direction of a stream holds before its writer
// waits, about what QUIC begins with.
const window = 256 << 10

// errWriteClosed reports a write after CloseWrite.
var errWriteClosed = errors.New("kadtest: write on a closed stream")

// A chunk is what one Write gave, readable from due on.
type chunk struct {
	bytes []byte
	due   time.Time
}

// A pipe is one direction of a stream.
type pipe struct {
	mu            sync.Mutex // guards the following
	queue         []chunk
	size          int
	eof           bool  // the writer is done
	err           error // reset, by either side
	changed       chan struct{}
	readDeadline  time.Time
	writeDeadline time.Time
}

// changeLocked wakes everybody who waits.
func (p *pipe) changeLocked() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// waitLocked releases mu until something changes or the time comes (never,
// if it is zero).
func (p *pipe) waitLocked(until time.Time) {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	if until.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

func expired(deadline time.Time) bool { return !deadline.IsZero() && !deadline.After(time.Now()) }

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.err != nil {
			return 0, p.err
		}
		wake := p.readDeadline
		if len(p.queue) > 0 {
			head := &p.queue[0]
			if !head.due.After(time.Now()) {
				return p.takeLocked(head, b), nil
			}
			if wake.IsZero() || head.due.Before(wake) {
				wake = head.due
			}
		} else if p.eof {
			return 0, io.EOF
		}
		if expired(p.readDeadline) {
			return 0, os.ErrDeadlineExceeded
		}
		p.waitLocked(wake)
	}
}

func (p *pipe) takeLocked(head *chunk, b []byte) int {
	n := copy(b, head.bytes)
	head.bytes = head.bytes[n:]
	p.size -= n
	if len(head.bytes) == 0 {
		p.queue[0] = chunk{}
		if p.queue = p.queue[1:]; len(p.queue) == 0 {
			p.queue = nil
		}
	}
	p.changeLocked()
	return n
}

// write sends b, which arrives after delay; it is lost on the way if lost
// says so.
func (p *pipe) write(b []byte, delay time.Duration, lost func() bool) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for {
		switch {
		case p.err != nil:
			return written, p.err
		case p.eof:
			return written, errWriteClosed
		case written == len(b):
			return written, nil
		case expired(p.writeDeadline):
			return written, os.ErrDeadlineExceeded
		case lost():
			return len(b), nil
		}
		room := window - p.size
		if room <= 0 {
			p.waitLocked(p.writeDeadline)
			continue
		}
		part := b[written:min(len(b), written+room)]
		p.queue = append(p.queue, chunk{append([]byte(nil), part...), time.Now().Add(delay)})
		p.size += len(part)
		written += len(part)
		p.changeLocked()
	}
}

func (p *pipe) closeWrite() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eof = true
	p.changeLocked()
}

func (p *pipe) reset(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.queue, p.size = nil, 0
	p.changeLocked()
}

func (p *pipe) setReadDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readDeadline = t
	p.changeLocked()
}

func (p *pipe) setWriteDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeDeadline = t
	p.changeLocked()
}
