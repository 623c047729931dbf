package api

import "net/http"

// NewClientOver returns a client whose calls go through transport.
func NewClientOver(transport http.RoundTripper, socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: transport}}
}

// CheckUID is checkUID.
var CheckUID = checkUID
