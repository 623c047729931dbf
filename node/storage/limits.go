package storage

import (
	"time"

	"github.com/xenoserver/xeno/store"
)

const (
	// holders is r of DESIGN: how many participants keep a name.
	holders = 4
	// maxRequest bounds a names request: a record and its framing.
	maxRequest = store.MaxRecord + 64
	// maxResponse bounds an answer: a record, a number and a sentence.
	maxResponse = store.MaxRecord + 512
	// maxMessage bounds the sentence in an answer.
	maxMessage = 256
	// holderTimeout is how long one holder may take: three round trips of a
	// cold contact around the world, and a loaded machine.
	holderTimeout = 3 * time.Second
	// lateAnswers is how long a read waits for the rest after a majority
	// answered: the rest may know a newer version.
	lateAnswers = 300 * time.Millisecond
	// publishTries bounds how often a publish builds on a version that it
	// was told of meanwhile.
	publishTries = 4
	// maxSeen bounds the names of which the newest version told is
	// remembered: 100 bytes each.
	maxSeen = 1 << 14
	// maxOwn bounds the names that this participant owns: what holders keep
	// for one owner.
	maxOwn = 64

	// defaultNameLife is how long a published name lives without being
	// renewed: a weekend without its owner.
	defaultNameLife = 48 * time.Hour
	// minNameLife leaves a renewal ten times the longest publish.
	minNameLife = 4 * time.Minute
	// renewals is how often own names are renewed in a life, so that three
	// attempts in a row may fail.
	renewals = 4
	// tableInterval is how often a holder drops what has expired and saves
	// what it keeps, and how often an owner looks whether its names live
	// where they should: one lookup a name.
	tableInterval = time.Minute
	// maxTableFile bounds the saved table: its records and a header each.
	maxTableFile = 20 << 20

	// provideInterval is how often provider records are renewed; they live
	// 48 hours.
	provideInterval = 12 * time.Hour
	// provideRetry is when a failed announcement is tried again.
	provideRetry = time.Minute
	// provideTimeout bounds one announcement.
	provideTimeout = time.Minute
	// provideAtOnce is how many announcements run at once, so that ten
	// thousand roots take minutes and not hours.
	provideAtOnce = 8

	// defaultStall is how long a fetch waits for the next block: finding
	// providers takes seconds, a megabyte over a modem line ten.
	defaultStall = 30 * time.Second
	// firstPatience is how long a block is waited for before it is asked for
	// anew; twice as long every time, since a slow line may be the reason.
	firstPatience = 3 * time.Second
	// defaultMaxImages bounds the materialised files.
	defaultMaxImages = 20 << 30
	// maxImage bounds one of them.
	maxImage = 16 << 30
	// maxImageEntries bounds the files of an image that is a directory: a
	// kernel, an initrd, and what describes them.
	maxImageEntries = 4096
	// imageGrace is how long a materialised file stays after it was handed
	// out, whatever else needs its room: an environment has opened it by then.
	imageGrace = 10 * time.Minute
	// maxContent bounds what Get and Open read.
	maxContent = 1 << 40

	// bitswapProviderDelay is how long a fetch asks the peers at hand before
	// it looks for providers.
	bitswapProviderDelay = 100 * time.Millisecond
	// bitswapAsk is how many peers at hand are asked at once who are neither
	// on the local network nor have sent anything before: in a small network
	// all, so that no lookup is needed.
	bitswapAsk = 16
	// bitswapAskMost bounds those of the local network too.
	bitswapAskMost = 64
	// bitswapOutstanding bounds the bytes under way to one peer, and with
	// them the memory that a slow reader costs.
	bitswapOutstanding = 4 << 20
	// bitswapWantlist bounds the wants that one peer may queue here.
	bitswapWantlist = 1024
)
