package api

import (
	"context"
	"log/slog"
	"net/http"
)

// NewClientOver returns a client whose calls go through transport.
func NewClientOver(transport http.RoundTripper, socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: transport}}
}

// CheckUID is checkUID.
var CheckUID = checkUID

// OpenHandler returns the API over b for any caller.
func OpenHandler(b Backend) http.Handler {
	h := newHandler(b, slog.New(slog.DiscardHandler))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{asked: true})))
	})
}
