package network

import (
	"context"
	"time"
)

// An Engine lets virtual time pass: it does what was planned in the order of
// time, and of planning where times are equal. It belongs to one goroutine.
type Engine struct {
	now  time.Duration
	seq  uint64
	done uint64
	heap []event // 4-ary, the earliest first
}

// An event is something planned.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (e event) before(f event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// Now returns the time since the start.
func (e *Engine) Now() time.Duration { return e.now }

// Events returns how many events were done.
func (e *Engine) Events() uint64 { return e.done }

// Pending returns how many events are planned.
func (e *Engine) Pending() int { return len(e.heap) }

// After plans do for d from now; a negative d is now.
func (e *Engine) After(d time.Duration, do func()) {
	e.seq++
	e.heap = append(e.heap, event{e.now + max(d, 0), e.seq, do})
	e.rise(len(e.heap) - 1)
}

// heapArity is the fan-out of the heap: with four children it is half as deep
// as with two, and the children lie in two cache lines.
const heapArity = 4

func (e *Engine) rise(i int) {
	moved := e.heap[i]
	for i > 0 {
		up := (i - 1) / heapArity
		if !moved.before(e.heap[up]) {
			break
		}
		e.heap[i] = e.heap[up]
		i = up
	}
	e.heap[i] = moved
}

// next takes the earliest event out.
func (e *Engine) next() event {
	first, last := e.heap[0], len(e.heap)-1
	moved := e.heap[last]
	e.heap[last] = event{}
	e.heap = e.heap[:last]
	if last == 0 {
		return first
	}
	i := 0
	for {
		child := i*heapArity + 1
		if child >= last {
			break
		}
		least := child
		for c := child + 1; c < min(child+heapArity, last); c++ {
			if e.heap[c].before(e.heap[least]) {
				least = c
			}
		}
		if !e.heap[least].before(moved) {
			break
		}
		e.heap[i] = e.heap[least]
		i = least
	}
	e.heap[i] = moved
	return first
}

// checkEvery is after how many events a run looks whether it was cancelled.
const checkEvery = 4096

// Run does what is planned until nothing is, or until a time, and then stands
// at that time. It returns early with the context's error.
func (e *Engine) Run(ctx context.Context, until time.Duration) error {
	for n := 0; len(e.heap) > 0 && e.heap[0].at <= until; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ev := e.next()
		e.now = ev.at
		e.done++
		ev.do()
	}
	e.now = max(e.now, until)
	return nil
}

// RunWhile does what is planned as long as busy says so and something is.
func (e *Engine) RunWhile(ctx context.Context, busy func() bool) error {
	for n := 0; len(e.heap) > 0 && busy(); n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ev := e.next()
		e.now = ev.at
		e.done++
		ev.do()
	}
	return nil
}
