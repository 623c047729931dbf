package search

import (
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Limits of what a stranger may make us hold, decode or evaluate.
const (
	// MaxAd bounds the payload of an ad in bytes: forty attributes, eight
	// addresses and a credential stay below a quarter of it.
	MaxAd = 8 << 10
	// MaxAdEnvelope bounds the signed ad: payload, kind and signature.
	MaxAdEnvelope = MaxAd + 512
	// MaxAdLife bounds how far ahead an ad may expire, and so how long a
	// replayed one can mislead.
	MaxAdLife = time.Hour
	// MaxClockSkew is how far ahead an ad may have been issued.
	MaxClockSkew = 2 * time.Minute
	// maxAttributes bounds the attributes of an ad.
	maxAttributes = 64
	// maxAddrs bounds the addresses of an ad: a host has a handful for each
	// transport and address family.
	maxAddrs = 16
	// maxAddr bounds one address in bytes; relayed multiaddrs are about 200.
	maxAddr = 512
	// maxText bounds one text, version or member of a set in bytes.
	maxText = 256
	// maxSet bounds the members of a set.
	maxSet = 64

	// MaxPredicate bounds an encoded predicate in bytes.
	MaxPredicate = 8 << 10
	// maxDepth bounds the nesting of a predicate; the codec's own limit on
	// nested arrays lies a little above it.
	maxDepth = 10
	// maxNodes bounds the nodes of a predicate, and so the time one ad costs.
	maxNodes = 256
	// MaxList bounds the values of one In.
	MaxList = 128
	// MaxTargets bounds the coordinates of one RTT.
	MaxTargets = 8

	// MaxLimit bounds how many results a query may ask for.
	MaxLimit = 10_000
	// MaxFound bounds those of a query that wants everything: 150 MB of ads.
	MaxFound = 50_000

	// maxDimensions bounds a schema: one byte counts them on the wire.
	maxDimensions = 128
	// maxName bounds the name of a dimension in bytes.
	maxName = 40
	// maxTreeDims bounds the dimensions that a tree interleaves.
	maxTreeDims = 3

	// Replicas is how many holders keep each cell: with half the sessions
	// under two hours, four of the closest outlive any minute between renewals.
	Replicas = 4
	// tableBits is how many levels below itself an inner cell knows: a query
	// goes down four bits with each answer.
	tableBits = 4
	// Slots is how many cells those can be: 2 + 4 + 8 + 16.
	Slots = 1<<(tableBits+1) - 2
	// maxBelow is how many cells a table has below at most that is passed over,
	// maxListed how many are listed at most where others are, and as many that one
	// query shall read there, and maxDepthBelow how many levels below those may be: a
	// reply with all of them takes 60 KB, or twice that.
	maxBelow, maxListed, maxDepthBelow = 64, 64, 24
	// maxBelowBytes bounds what a table tells of the cells below, maxListedBytes what
	// another one lists in the place of such tables, and for one query: addresses may
	// be long.
	maxBelowBytes, maxListedBytes = 64 << 10, 256 << 10
	// MaxChildren bounds the cells below that one reply lists.
	MaxChildren = max(maxListed, Slots)
	// MaxIndex bounds the slot of one of them: see Prefix.Child.
	MaxIndex = 1<<(maxDepthBelow+1) - 3
	// maxToldBelow bounds the cells that tables to be passed over told of here, about
	// 1 KB each. With more these are read.
	maxToldBelow = 16_384
	// settleTicks is for how many ticks a table that is passed over may have an ad
	// which is on its way down.
	settleTicks = 5
	// shortEnum is how many values an enumeration has that need four bits.
	shortEnum = 16
	// lingering is how long an inner cell keeps an ad that a cell below has:
	// until the table above has heard of that.
	lingering = 5 * time.Second
	// LeafAds is how many ads a leaf cell holds before it becomes inner. Only
	// matches travel, so a large leaf costs its holders memory and those who hand
	// it on bandwidth, about 0.5 MB, and an ask 0.4 ms, or 5 ms with the largest
	// predicate there may be. It saves whoever asks messages: with a quarter of it
	// long queries read three times as many cells.
	LeafAds = 1024
	// GatherLeaves is how many full leaves' ads a table gathers at most, so that it
	// answers for all of them: few participants have a table so full, which takes
	// 120 MB where every ad claims all dimensions, 3.7 KB each (BenchmarkOpen and the
	// envelope), and 30 ms for an ask (BenchmarkAsk). With half as many ads the
	// slowest of a hundred cold queries among a million servers took 50 and 56
	// requests where they take 35 and 44, by latency and selective ones.
	GatherLeaves = 32
	// GatherAds is how many ads those are.
	GatherAds = GatherLeaves * LeafAds
	// maxGatheredBytes bounds the envelopes of the ads that tables gather here: those
	// of two full ones, of 1 KB an ad, and with what else is kept of each about 160 MB.
	// With more the next ones answer as tables.
	maxGatheredBytes = 64 << 20
	// maxGatheredAsks is how many asks a holder answers for all ads below a table in
	// a second, beside the mean of AsksPerCopy.
	maxGatheredAsks = 4
	// maxGatheredNodes bounds the conditions of a query that is answered for all of
	// them.
	maxGatheredNodes = 32
	// maxGatherAsks bounds the cells below a table whose holders are asked to tell of
	// their ads in one tick, gatherPause is how long they may take to begin.
	maxGatherAsks = 8
	gatherPause   = 4 * time.Second
	// maxFed bounds those who gather the ads of one cell here: the holders of the
	// table above, and those who were holders before.
	maxFed = 2 * Replicas
	// feedRefresh is how often those who gather are told that nothing changed.
	// After feedPatience without a word they ask another holder, and after feedTTL
	// they do not answer for the cell any more.
	feedRefresh, feedPatience, feedTTL = 20 * time.Second, 30 * time.Second, 75 * time.Second
	// MaxBalls bounds the balls of a summary for each dimension of coordinates.
	MaxBalls = 8
	// BallBytes is how many bytes a ball has on the wire: dimension, radius, centre.
	BallBytes = 1 + 2 + 2*dht.CoordinateDims
	// mergeShare is which part of a leaf the ads below an inner cell must fit
	// into to make it a leaf again: a quarter, so that it does not split again
	// at once.
	mergeShare = 4
	// maxOverflow is how many leaves' worth of ads a cell holds at most, those
	// that are moving down included; beyond it publishers are refused until
	// leases run out.
	maxOverflow = 4
	// maxEntries bounds the holders that a parent remembers for one child:
	// twice the replicas, for those that came and went.
	maxEntries = 2 * Replicas
	// maxInFlight bounds the cells that a long query reads at once, two or three
	// messages each.
	maxInFlight = 32
	// maxVerifying bounds the servers that a query asks at once for their ads.
	maxVerifying = 64
	// guidesAsked is how many guides a query asks: one may be slow, or lie.
	guidesAsked = 2
	// maxGlimpses bounds what one of them may say.
	maxGlimpses = 64
	// maxPlaces bounds the placements in one publish message: every tree at
	// a few levels.
	maxPlaces = 256
	// maxReplyBytes bounds the ads in one reply; the rest is asked for again.
	maxReplyBytes = 192 << 10
	// maxSampled is how many ads the sample of an inner cell has: the relative
	// error of estimates is about 1/8.
	maxSampled = 64
	// maxShown bounds the matches that a leaf shows to who only counts them.
	maxShown = maxSampled
	// maxInventory bounds the cells in one: a participant of a large
	// network has a dozen, one of twenty some hundreds, which take turns.
	maxInventory = 256
	// maxFetches bounds the cells that one inventory makes a holder ask for.
	maxFetches = 32
	// maxWanted bounds the cells that were asked for because somebody took it
	// for a holder.
	maxWanted = 256
	// maxExcluded bounds the excluded ads that one reply carries for Explain.
	maxExcluded = 16

	// AsksPerCopy is how many asks a second a holder answers for a cell before
	// it recruits mirrors, one for each so many: few beside what a participant
	// can answer, and more than refreshing a mirror costs.
	AsksPerCopy = 1.0
	// BusyRate is how many asks a second a participant must answer at least to
	// refuse to mirror one more cell.
	BusyRate = AsksPerCopy / 2
	// heatTicks is over how many ticks, seconds, asks are counted: a mirror takes
	// about one second to begin.
	heatTicks = 10
	// MaxMirrors bounds the mirrors of a cell that one holder recruits: with four
	// holders no participant has a hand in more than 1/320 of what is asked of
	// one cell.
	MaxMirrors = 80
	// StandingMirrors is how many mirrors a holder of a root has though it is not
	// asked for much: one of 36 copies is nearer to whoever asks than one of four.
	// Keeping them takes each participant two messages a minute among StandingAds
	// servers, and the less the more there are.
	StandingMirrors = 8
	// StandingBelow is how many one of another cell has: those of leaves take three
	// messages a minute.
	StandingBelow = 2
	// StandingAds is how many ads are below a root or table that has such mirrors.
	StandingAds = 4096
	// StandingLeaf is how many ads a leaf has that does; that of a small network,
	// the root, has none.
	StandingLeaf = LeafAds / mergeShare
	// maxRecruits bounds those that are recruited in one tick, since each copies
	// the cell.
	maxRecruits = 8
	// recruitPause is how long a holder waits after inviting mirrors of a cell
	// of which none came, twice as long each time up to maxRecruitPause.
	recruitPause, maxRecruitPause = time.Second, time.Minute
	// maxMirrors is how many mirrors a reply names.
	maxMirrors = 8
	// maxSources bounds the mirrors of a cell that a query chooses from: what
	// sixteen answers name, of guides, of holders and remembered.
	maxSources = maxTold * maxMirrors
	// maxTold is how many testimonies about the mirrors of a cell are remembered.
	maxTold = 16
	// maxAlike and maxTables are how many of them may be one teller's, since two
	// answers about a cell take two tellers: about the cell itself, and about those
	// below, which is more. Who remembers more mirrors asks each less often.
	maxAlike, maxTables = 4, 2
	// maxReported bounds the asks that a mirror says it answered since it was
	// refreshed: it could lie to have others recruited.
	maxReported = 50
	// mirrorRefresh is how often a mirror is told that its copy is good. What
	// would hide an ad is told at the next tick.
	mirrorRefresh = 5 * time.Second
	// MirrorTTL is how long a mirror answers without that: two refreshes may be
	// lost.
	MirrorTTL = 12 * time.Second
	// maxUpdateBytes is how much of a cell one message to a mirror carries.
	maxUpdateBytes = 128 << 10
	// maxContactBytes bounds a mirror's addresses; those beyond it are left out.
	maxContactBytes = 1 << 10
	// maxToldBytes bounds what one holder tells its parent of mirrors.
	maxToldBytes = 12 << 10
	// maxReplicas bounds the cells of others that are mirrored here.
	maxReplicas = 16
	// maxReplicaBytes bounds the ads in them: as many leaves of 0.5 MB, or eight
	// full ones of 1 KB an ad.
	maxReplicaBytes = 8 << 20
)
