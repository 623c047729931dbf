// Package session is the control plane of a participant: Host carries out the
// sessions that others bought from it, Buyer those that it bought.
//
// A session goes through these steps. The client proposes (terms, cap,
// duration, purchase order); the server checks admission, holds the resources
// for HoldTime and answers with an agreement it signed; the client
// countersigns, has XenoCorp authorise it, and confirms with both documents;
// the server verifies them offline and only then starts the environment. It
// is running once it was seen to work from outside. While it runs, and at its
// end, the server seals cumulative receipts, the client's node countersigns
// them, and the server claims them from XenoCorp.
//
// Every step is on disk before it is acknowledged, each session in a file of
// its own, so that either side can be killed at any instant: a Host adopts
// what still runs and settles what does not, a Buyer picks up where it was.
package session
