// Package wire holds the protobuf messages of the overlay's protocols, one
// .proto file a service, and nothing else. What is signed travels inside them
// as exact bytes (ledger.Envelope). Field numbers are never reused.
package wire

//go:generate go run ./protogen overlay.proto session.proto corp.proto store.proto search.proto
