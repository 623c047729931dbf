package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"
)

//go:generate go test -run TestOpenAPIDocument -rewrite .

//go:embed openapi.json
var openapi []byte

// A Server serves a Backend on a socket until it is closed.
type Server struct {
	http  *http.Server
	calls sync.WaitGroup // hijacked connections too
	done  chan struct{}
	err   error // of Serve; read after done
}

// Serve starts to answer calls on l, from Listen, and returns at once.
func Serve(l net.Listener, b Backend, log *slog.Logger) *Server {
	s := &Server{done: make(chan struct{})}
	base, cancel := context.WithCancel(context.Background())
	handler := newHandler(b, log)
	s.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.calls.Add(1)
			defer s.calls.Done()
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, caller{asked: true, err: mayCall(c)})
		},
	}
	s.http.RegisterOnShutdown(cancel)
	go func() {
		defer close(s.done)
		s.err = s.http.Serve(l)
	}()
	return s
}

// Close ends the calls under way, stops listening, removes the socket and
// waits for all that. Closing again is no error.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-s.done
	s.calls.Wait()
	if !errors.Is(s.err, http.ErrServerClosed) {
		err = errors.Join(err, s.err)
	}
	return err
}

// A caller is the verdict on the process that made a connection.
type caller struct {
	asked bool  // by mayCall; never so for calls that came another way
	err   error // why it may not call
}

type callerKey struct{}

// newHandler returns the API over b. Calls that came over anything but a
// socket of Serve are refused.
func newHandler(b Backend, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes(b) {
		mux.Handle(r.method+" "+r.path, withDeadline(r.timeout, r.handle))
	}
	mux.HandleFunc("GET /v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openapi)
	})
	if m := b.Metrics(); m != nil {
		mux.Handle("GET /metrics", m)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, Errorf(CodeNotFound, "no call %s %s", r.Method, r.URL.Path).WithHint("see /v1/openapi.json"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _ := r.Context().Value(callerKey{}).(caller)
		if !from.asked || from.err != nil {
			log.Warn("api call refused", slog.Any("err", from.err))
			writeError(w, Errorf(CodeForbidden, "only the daemon's own user and root may command it"))
			return
		}
		begin := time.Now()
		mux.ServeHTTP(w, r)
		log.Debug("api call", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Duration("took", time.Since(begin)))
	})
}

// withDeadline bounds one call.
func withDeadline(limit time.Duration, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if limit == 0 {
			h(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		deadline := time.Now().Add(limit)
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(deadline) // in tests w has none
		_ = rc.SetWriteDeadline(deadline.Add(shutdownTimeout))
		h(w, r.WithContext(ctx))
	})
}

// readJSON reads the one JSON object of the request's body, strictly.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	body := http.MaxBytesReader(w, r.Body, maxBody)
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return badBody(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Errorf(CodeBadRequest, "request body: more than one JSON value")
	}
	return nil
}

func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return Errorf(CodeTooLarge, "request body: more than %d bytes", tooLarge.Limit)
	case errors.Is(err, io.EOF):
		return Errorf(CodeBadRequest, "request body: empty, expected a JSON object")
	default:
		return Errorf(CodeBadRequest, "request body: %v", err)
	}
}

// writeJSON answers with v, or with err. v belongs to writeJSON.
func writeJSON(w http.ResponseWriter, v any, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(filled(v)) // a caller that went away is its own affair
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.httpStatus())
	_ = json.NewEncoder(w).Encode(ErrorAnswer{Error: e})
}

// filled returns v with every nil slice in it made empty, so that lists are
// lists in JSON, never null. It writes into the slices of v.
func filled(v any) any {
	p := reflect.New(reflect.TypeOf(v))
	p.Elem().Set(reflect.ValueOf(v))
	fill(p.Elem())
	return p.Interface()
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				fill(v.Index(i))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Elem().Kind() == reflect.Struct {
			fill(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	default:
	}
}
