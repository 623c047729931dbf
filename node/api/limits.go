package api

import "time"

const (
	// maxBody bounds a JSON request. The largest, a run request, carries
	// standard input and arguments that end up in an agreement of 64 KiB.
	maxBody = 256 << 10
	// maxAnswer bounds what the client reads of a JSON answer: a journal page
	// of maxJournalPage entries of about 1 KiB, and as much again.
	maxAnswer = 16 << 20
	// maxEvents bounds the lines of a run's answer that the client reads: a
	// few stages for each of the candidates that a run asks.
	maxEvents = 1000
	// maxObjectBytes bounds one upload: the largest disk images in use.
	maxObjectBytes = 64 << 30
	// maxLogBytes bounds a request for logs: what drivers keep.
	maxLogBytes     = 1 << 20
	defaultLogBytes = 64 << 10
	// maxJournalPage bounds a page of the journal, see maxAnswer.
	maxJournalPage     = 5000
	defaultJournalPage = 1000
	// maxResults bounds a search answer, see maxAnswer.
	maxResults     = 1000
	defaultResults = 10
	// maxBudget bounds the messages of a search: what a million servers take.
	maxBudget = 100_000
	// maxLine bounds one line of a search for everything.
	maxLine = 64 << 10
	// maxFound bounds its lines: what package search finds at most.
	maxFound = 50_000 + 2
	// leastError bounds what error of a count may be asked for: below it every
	// cell is read, as in a search without a limit.
	leastError = 1e-6
	// maxPlaceParts bounds the groups, and the rules of each kind, of a
	// placement: what package search takes.
	maxPlaceParts = 16
	// maxMachines bounds the machines of a placement, likewise.
	maxMachines = 64
	// maxRoundTripMillis bounds a round trip that a placement may ask for; none
	// on Earth is as long.
	maxRoundTripMillis = 60_000
	// maxQueryBytes bounds the text of a query; people write less, programs
	// that need more want a set dimension.
	maxQueryBytes = 4 << 10
	// maxPathBytes is the kernel's PATH_MAX.
	maxPathBytes = 4096
	// maxNameBytes bounds labels and subjects, which tables show.
	maxNameBytes = 128

	// headerTimeout bounds the time to send a request's header.
	headerTimeout = 10 * time.Second
	// idleTimeout ends connections that nobody uses.
	idleTimeout = 2 * time.Minute
	// callTimeout bounds calls that ask a handful of peers.
	callTimeout = time.Minute
	// runTimeout bounds the way to a running session: a guest under software
	// emulation on a busy machine needs a minute, fetching its image another.
	runTimeout = 5 * time.Minute
	// searchAllTimeout bounds a search for everything: maxBudget messages, 32 at
	// a time, of 150 ms.
	searchAllTimeout = 10 * time.Minute
	// objectTimeout bounds one upload or download: maxObjectBytes at 10 MB/s.
	objectTimeout = 2 * time.Hour
	// shutdownTimeout is how long Close lets calls that are under way end.
	shutdownTimeout = 2 * time.Second
	// pollInterval is how often the client asks again while it waits for a
	// change of state; a person does not see less.
	pollInterval = 100 * time.Millisecond
)

const (
	// maxTTLSeconds bounds how far ahead money and promises reach: a year.
	maxTTLSeconds = 366 * 24 * 3600
	// maxOrderServers bounds the servers an order names, which all go into
	// one signed document of 64 KiB.
	maxOrderServers = 256
)
