// Package store holds XenoStore's formats and decisions: references to
// content, signed mutable names, and the table of names that a holder keeps.
// It is pure: no clock, goroutine, disk or network. Package blocks below it
// keeps blocks on a disk; node/storage carries both over the overlay.
//
// # Formats
//
// Content is a UnixFS DAG of blocks: CIDv1, SHA-256, raw leaves of 1 MiB,
// dag-pb above them with at most 1024 links, balanced (the profile
// unixfs-v1-2025 of IPIP-499, so that other tools derive the same CIDs).
//
// A name is a Name as deterministic DAG-CBOR in a ledger.Envelope of kind
// ledger.KindName with exactly one signature, its owner's. It lives with the
// participants nearest to Key(owner, label).
package store
