// Package search is XenoSearch: what servers advertise, what clients ask, and
// how the one finds the other without a central index (DESIGN, XenoSearch).
//
// A Schema says which attributes there are. An Ad is a server's signed claim
// about them; a Predicate is a condition on ads; a Query adds order and limit.
// Ads are ordered by one tree for each important dimension; a tree is divided
// into cells, each held by the participants closest to its key in the DHT.
// Four machines do the work, each a pure Step(now, input) []Effect: Holder
// keeps cells, Publisher puts one server's ad where it belongs, Seeker answers
// one query, Counter estimates how many ads match. Package node/index carries
// them over the overlay; package cel reads queries as text.
//
// # Formats
//
// An ad is the payload of a ledger envelope of KindAd: the DAG-CBOR map of the
// fields of Ad. A predicate is a DAG-CBOR array whose first member names its
// kind: ["and", p…], ["or", p…], ["not", p], ["cmp", dim, op, value],
// ["range", dim, low, high], ["in", dim, value…], ["contains", dim, member],
// ["within", dim, lat, lon, km], ["rtt", dim, nanoseconds, [vec…, height]…],
// ["has", dim].
package search
