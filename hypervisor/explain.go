package hypervisor

import "errors"

// An ExplainedError has two texts. Error is for the owner of this machine and
// its log, with paths and what programs said. Text is for the client, who is a
// stranger: what is wrong with the request or what to do, and nothing of this
// machine.
type ExplainedError struct {
	Text string
	Err  error
}

// Error implements error.
func (e *ExplainedError) Error() string { return e.Err.Error() }

// Unwrap returns what happened.
func (e *ExplainedError) Unwrap() error { return e.Err }

// Explain adds a text for the client to what happened.
func Explain(text string, err error) error { return &ExplainedError{Text: text, Err: err} }

// Explanation returns the outermost text for the client, false if err has
// none: then nothing of it is for strangers.
func Explanation(err error) (string, bool) {
	if e, ok := errors.AsType[*ExplainedError](err); ok {
		return e.Text, true
	}
	return "", false
}
