// Package rival holds the algorithms that XenoSearch is compared with, each
// after its paper, over the same simulated network and the same market: every
// message is sent through network.Request or network.Find, so that it costs
// virtual time, meets losses and dead nodes, and is counted.
//
//	kademlia  one plain value lookup: the unit L
//	bloom     the original XenoSearch: aggregation points and Bloom filters
//	walk      rings of full records, a walk along the best dimension
//	pht       prefix hash tree
//	kdtree    one kd-tree over all dimensions, every node one lookup away
//	cid       one content identifier a value, provider records
//	crawl     every node is asked
//	central   one server knows everything; central3: three sites do
//
// # What all rivals are granted
//
// Where a paper leaves something open, or another overlay is meant, the rival
// gets the better of it:
//
//   - Values are mapped to keys by their rank among all servers, as if every
//     participant knew the distribution exactly. Leaves are full, and no value
//     is crowded; equal values are divided by the hashes of the servers.
//   - Leaves hold up to 1,024 ads, as many as Xeno's. In the rings of the papers
//     every node would hold its own, much smaller, part.
//   - Whoever holds ads evaluates the whole predicate and returns matches only,
//     as many as there are in one message.
//   - A record is held by the four answering nodes that are nearest to its key
//     at that moment: hand-over and repair take no time and no message. Ads of
//     servers that are dead or cannot be reached are gone at once, so that those
//     who verify nothing return none of them. Holders know changed values at
//     once; ads that changed move to where they belong all together, every
//     minute.
//   - A lookup ends with the first answer of one of these four, also with the
//     answer that there is no such record.
//   - Lookups are those of go-libp2p-kad-dht, as the unit L: ten requests under
//     way, the lowest latency. A task that has more than 64 of them under way
//     makes the others with three, for a third of the messages.
//   - A search that stops at a limit begins with eight requests under way and
//     goes on with as many as were answered in vain, where its paper does not
//     say how many.
//   - Of lookups that nobody waits for any more, only messages that arrived are
//     counted. An answer that goes back another way than the request came
//     counts with the request.
//   - The dimension, tree or index that a query uses is chosen by exact counts,
//     for which papers have histograms or nothing.
//
// Dimensions that have a tree in the schema are indexed; a place is two
// dimensions, a network coordinate its eight components, a set one entry a
// member.
package rival
