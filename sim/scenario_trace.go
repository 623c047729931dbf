package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/xenoserver/xeno/sim/network"
)

// A Transition is one line of a churn trace: a node comes or goes.
type Transition struct {
	At   time.Duration // since the first query
	Node network.NodeID
	Up   bool
}

// ReadTrace reads a churn trace, lines of seconds,node,up or seconds,node,down
// in the order of time. A first line that begins with "seconds", empty lines
// and those that begin with # are skipped. name stands in errors, which wrap
// ErrBadScenario and say file, line, column and remedy, or are those of r.
func ReadTrace(r io.Reader, name string) ([]Transition, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxTraceBytes+1))
	var trace []Transition
	read := 0
	for line := 1; lines.Scan(); line++ {
		read += len(lines.Bytes()) + 1
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' || line == 1 && strings.HasPrefix(text, "seconds") {
			continue
		}
		t, column, err := parseTransition(text)
		switch {
		case err != nil:
		case len(trace) > 0 && t.At < trace[len(trace)-1].At:
			err = errors.New("earlier than the line before: sort the file by its first column")
		case len(trace) == maxTrace || read > maxTraceBytes:
			err = fmt.Errorf("more than %d lines or %d MiB: shorten the trace", maxTrace, maxTraceBytes>>20)
		}
		if err != nil {
			return nil, &mistake{name, place{line, max(1, column)}, err.Error()}
		}
		trace = append(trace, t)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(trace) == 0 {
		return nil, &mistake{name, place{1, 1}, "nobody comes or goes: write lines such as 60,17,down"}
	}
	return trace, nil
}

// parseTransition reads one line; column is where a mistake is.
func parseTransition(text string) (t Transition, column int, err error) {
	cells := strings.Split(text, ",")
	if len(cells) != 3 {
		return t, 1, fmt.Errorf("%d columns, expected three: seconds,node,up or seconds,node,down", len(cells))
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(cells[0]), 64)
	if err != nil || !(seconds >= 0 && seconds < math.MaxInt32) {
		return t, 1, fmt.Errorf("%q is no time: give seconds from 0", cells[0])
	}
	node, err := strconv.ParseUint(strings.TrimSpace(cells[1]), 10, 32)
	if err != nil || node >= maxNodes {
		return t, 2 + len(cells[0]), fmt.Errorf("%q is no node: give a number from 0", cells[1])
	}
	t = Transition{At: time.Duration(seconds * float64(time.Second)), Node: network.NodeID(node)}
	switch strings.TrimSpace(cells[2]) {
	case "up":
		t.Up = true
	case "down":
	default:
		return t, 3 + len(cells[0]) + len(cells[1]), fmt.Errorf("%q is neither up nor down", cells[2])
	}
	return t, 0, nil
}

func loadTrace(path string) ([]Transition, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadTrace(f, path)
}
