package search

import (
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A Placement says where in the trees a publisher puts its ad: the cell at
// Level on the way to the ad's key in Tree. The record in the information
// service is the placement in tree "".
type Placement struct {
	Tree  string
	Level uint8
	// Settled tells that a cell below, or one above, has the ad already, so
	// that an inner cell need not keep it meanwhile.
	Settled bool
	// Hint asks an inner cell who holds the cell below on the ad's way.
	Hint bool
}

// A Verdict is what a holder made of a placement.
type Verdict uint8

// The verdicts.
const (
	// VerdictLeaf: the cell is a leaf and leases the ad.
	VerdictLeaf Verdict = iota + 1
	// VerdictInner: the cell is inner; publish farther down, at Next.
	VerdictInner
	// VerdictRise: leased, but a cell above is or should be a leaf; publish
	// there, at Next.
	VerdictRise
	// VerdictRefused: a limit stands against it; try again later.
	VerdictRefused
)

// A Placed answers one placement.
type Placed struct {
	Verdict Verdict
	Held    bool // the ad is leased here, as member, as sample, or on its way down
	// Next is the level to go to where the verdict is inner or rise.
	Next uint8
	// Below are holders of the cell below, if they were asked for and told of
	// themselves: the publisher need not look them up.
	Below []dht.Contact
	// Mirrors are those of a root, so that publishers can tell others nearby.
	Mirrors Mirrors
}

// A Cursor is where a reply stopped: the value to order by, none where the
// last ad lacks it, and the hash of its server.
type Cursor struct {
	Value Value
	Hash  Hash
}

// A CellQuery asks one cell.
type CellQuery struct {
	Cell    CellID
	Query   Query
	After   *Cursor // only ads that come after it
	Explain bool    // return some of the excluded ads too
	Whole   bool    // return all children, also those that cannot match
	Sample  bool    // return the sample too, whether it matches or not
	Count   bool    // only how many match: return the sample of an inner cell instead of matches
}

// A Child is a range summary as a parent knows it.
type Child struct {
	Index   int // slot of Prefix.Child
	Summary Summary
	Holders []dht.Contact
	Mirrors Mirrors // where the cell is hot
	// Sampled is how many ads of the cell's sample lie in the child, Matched
	// how many of them match the query.
	Sampled, Matched uint32
}

// A Glimpse is what somebody knows of a cell without holding it: hints, which
// save messages and never decide what is found.
type Glimpse struct {
	Cell     CellID
	Holders  []dht.Contact
	Mirrors  Mirrors     // which a guide names, or holders named to this participant
	Children []Child     // of an inner cell, all of them, without mirrors; none: not known
	Told     []Testimony // of mirrors of the cell and of those below, the last first
}

// A Testimony is what one holder of a cell answers for of its mirrors and those
// of the cells below. Two answers about a cell may rest on what two say, not
// on what one does.
type Testimony struct {
	Teller dht.PeerID // zero: each holder for its own
	At     time.Time
	About  []About
}

// About are mirrors of a child, or of the cell itself.
type About struct {
	Index   int // slot of Prefix.Child, or Itself
	Mirrors Mirrors
}

// Itself stands for the cell of a Testimony.
const Itself = -1

// A CellReply is what one holder says of one cell.
type CellReply struct {
	Known bool // the holder has such a cell
	// Mirrored tells that this is from a copy which a holder keeps fresh: not
	// younger than MirrorTTL.
	Mirrored bool
	Mirrors  Mirrors // that the holder recruited
	Inner    bool    // publishers are sent down
	// Gathered tells that this is for all cells below, too, whose ads the holder has.
	Gathered bool
	Age      time.Duration // since the holder has it; young cells may lack ads
	Total    uint32        // ads evaluated
	// Matched is how many of them match, also those in earlier or later replies.
	Matched uint32
	// Digest is the exclusive or over all matches of their servers' hashes: equal
	// sets of servers have equal digests. Their ads may be of different age, as
	// holders are not told at the same time; the newest counts.
	Digest   uint64
	Ads      []*Signed // matches in order, at most the limit
	More     bool      // further matches come after the last of Ads
	Children []Child   // those that can hold matches; all, if Whole
	// Passed are slots of children that need not be read, as those of the cells
	// below them that can hold matches are Below.
	Passed []int
	Below  []Child
	// Excluded counts, for each conjunct, the ads that fail it.
	Excluded []uint32
	// Pruned counts, for each conjunct, the ads below children that were left
	// out because nothing there can satisfy it.
	Pruned      []uint32
	ExcludedAds []*Signed
	// Sample has the ads with the smallest server hashes, if asked for.
	Sample []*Signed
}

// A Sample is what a query saw of all ads, to judge others by.
type Sample struct {
	Ads   []*Signed // those with the smallest server hashes
	Total int       // how many there are in all, about
}
