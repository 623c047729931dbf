// Package ledger holds XenoCorp's documents, with their exact signed bytes,
// and its double-entry state machine. It is pure: no clock, goroutine, disk or
// network; package sqlite below it keeps the journal.
//
// # Formats
//
// A document is deterministic DAG-CBOR. A signature covers, each preceded by
// its length as 8 bytes big-endian: the domain "xeno-document-v1", the kind,
// the payload. An envelope is the DAG-CBOR map {kind, payload, sigs}; the CID
// of a document is that of its payload, so links between documents do not
// depend on who countersigned later.
package ledger
