// Package market makes the servers of a simulation and what they advertise,
// the queries that people ask of them, and the oracle that knows every answer.
//
// Attributes lie in columns, so that a million servers fit and a scan of all
// of them takes milliseconds. The oracle (Matcher, Select, Count) is written
// independently of package search: what both agree on is right. It shares with
// it only the definitions of distance, predicted round trip time and server
// hash.
package market
