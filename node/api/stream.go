package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// lines answers with one JSON value a line as they come.
type lines struct {
	w     http.ResponseWriter
	begun bool
}

func (l *lines) send(v any) {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", typeLines)
	}
	_ = json.NewEncoder(l.w).Encode(filled(v)) // who does not read any more ends the context
	_ = http.NewResponseController(l.w).Flush()
}

// run answers with one RunEvent a line as they happen. The last line has a
// session or an error. A run that fails before its first event is answered
// like any other call that fails.
func run(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req RunRequest
		if !readRequest(w, r, &req) {
			return
		}
		out := &lines{w: w}
		emit := func(e RunEvent) {
			if e.Time.IsZero() {
				e.Time = time.Now().UTC()
			}
			out.send(e)
		}
		session, err := b.Run(r.Context(), req, emit)
		switch {
		case err == nil && session.State.Stopped():
			emit(RunEvent{Stage: StageEnded, Server: session.Server, Session: &session})
		case err == nil:
			emit(RunEvent{Stage: StageRunning, Server: session.Server, Session: &session})
		case out.begun:
			emit(RunEvent{Stage: StageFailed, Error: asError(err)})
		default:
			writeError(w, err)
		}
	}
}

// searchAll answers with one SearchLine a result as it is found. The last line
// has the answer or an error. A search that fails before its first result is
// answered like any other call that fails.
func searchAll(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req SearchRequest
		if !readRequest(w, r, &req) {
			return
		}
		out := &lines{w: w}
		answer, err := b.SearchAll(r.Context(), req, func(found Result) { out.send(SearchLine{Result: &found}) })
		switch {
		case err == nil:
			out.send(SearchLine{Answer: &answer})
		case out.begun:
			out.send(SearchLine{Error: asError(err)})
		default:
			writeError(w, err)
		}
	}
}

// connect turns the HTTP connection into one to a port of the environment.
func connect(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, ok := pathID(w, r)
		if !ok {
			return
		}
		port, err := queryInt(r.URL.Query(), "port", 0, 1, 65535)
		if err == nil && port == 0 {
			err = Errorf(CodeBadRequest, "parameter port: missing")
		}
		if err == nil && !strings.EqualFold(r.Header.Get("Upgrade"), upgradeTCP) {
			err = Errorf(CodeBadRequest, "send Connection: Upgrade and Upgrade: %s", upgradeTCP)
		}
		if err != nil {
			writeError(w, err)
			return
		}
		inner, err := b.Connect(r.Context(), id, port)
		if err != nil {
			writeError(w, err)
			return
		}
		defer inner.Close()
		outer, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			writeError(w, err)
			return
		}
		defer outer.Close()
		stop := make(chan struct{})
		defer close(stop)
		go func() { // ends the splice when the server closes
			select {
			case <-r.Context().Done():
				_ = outer.Close()
				_ = inner.Close()
			case <-stop:
			}
		}()
		_ = outer.SetDeadline(time.Time{})
		const answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeTCP + "\r\n\r\n"
		if _, err := io.WriteString(outer, answer); err != nil {
			return
		}
		// Reading on through buffered would end the request's context at the
		// end of the caller's half; take only what it has already.
		early, _ := buffered.Peek(buffered.Reader.Buffered())
		Splice(&halfCloser{Conn: outer, r: io.MultiReader(bytes.NewReader(early), outer)}, inner)
	}
}

// Splice copies between a and b both ways until both sides are done, passing
// the end of one direction on where the connection can close one half. It
// closes both.
func Splice(a, b net.Conn) {
	var wg sync.WaitGroup
	half := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		c, can := to.(interface{ CloseWrite() error })
		if err != nil || !can || c.CloseWrite() != nil {
			_ = a.Close()
			_ = b.Close()
		}
	}
	wg.Go(func() { half(a, b) })
	half(b, a)
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}

// A halfCloser is a connection some of whose bytes are in a buffer already.
type halfCloser struct {
	net.Conn
	r io.Reader
}

func (h *halfCloser) Read(p []byte) (int, error) { return h.r.Read(p) }

func (h *halfCloser) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return fmt.Errorf("close one half of %T: %w", h.Conn, errors.ErrUnsupported)
}
