// Package corp is XenoCorp as a service on the overlay, and the client that
// everybody else calls it with.
//
// # Protocols
//
// One request and one response a stream, protobuf messages of package wire
// (corp.proto). /xeno/register/1 is open to peers without a credential and
// carries registration alone; /xeno/corp/1 carries every other call and is
// for admitted peers. The peer that the overlay authenticated is the caller;
// documents inside carry signatures of their own. A refusal is an Error with a
// code, in the response.
package corp
