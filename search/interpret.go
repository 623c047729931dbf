package search

import "time"

// What every interpreter of the machines keeps to, in the daemon and in the
// simulator.
const (
	// TickEvery is how often leases end and summaries go up.
	TickEvery = time.Second
	// MaxPushes bounds the summaries that wait to be sent up; those beyond it
	// are repeated a minute later.
	MaxPushes = 1024
	// PushWorkers is how many of them are sent at once.
	PushWorkers = 4
	// PushRounds is how often the holders of the table are looked up for one,
	// where some do not answer.
	PushRounds = 2
	// MaxUpdates bounds the updates that wait to be sent to mirrors; those beyond
	// it count as lost.
	MaxUpdates = 1024
	// UpdateWorkers is how many of them are sent at once.
	UpdateWorkers = 8
	// MaxCalls bounds the requests of all publishers of a participant that are
	// under way: an ad goes to at most 100 holders, and peers refuse the 65th
	// at once.
	MaxCalls = 32
	// LeaseRounds is how long an ad is leased, in renewal intervals of its
	// publisher.
	LeaseRounds = 5
	// LeastWake is the shortest time between two ticks of a Publisher.
	LeastWake = 10 * time.Millisecond
	// MaxHandoffs bounds the questions to other holders that wait, of which one
	// is under way at a time; those beyond it are repeated with the next
	// inventory.
	MaxHandoffs = 256
	// ReconcileNear is how many neighbours a holder compares its cells with: the
	// others that are among the closest to them stand among the nearest 16.
	ReconcileNear = 16
	// reconcileAtFirst and reconcileEvery are the intervals of ReconcileAfter.
	reconcileAtFirst = 2 * time.Second
	reconcileEvery   = time.Minute
	// WithdrawTries is how often a withdrawal is sent to a holder that does not
	// answer; what is not withdrawn stays until its lease ends.
	WithdrawTries = 3
	// WithdrawPause is the first pause between two of them.
	WithdrawPause = 200 * time.Millisecond
	// WithdrawPatience is how long a server that ends waits for publishes under
	// way to a holder before it withdraws there all the same.
	WithdrawPatience = time.Second
	// WithdrawTimeout bounds what it spends on withdrawing.
	WithdrawTimeout = 2 * time.Second
	// LocateTimeout bounds a lookup of holders.
	LocateTimeout = 4 * time.Second
	// LocateTTL is how long the holders of a cell are remembered while they
	// answer. A participant that joined closer to a cell is found after that.
	LocateTTL = time.Minute
	// LeastLocateTTL is the same right after the start, when it is half of the
	// time since then.
	LeastLocateTTL = time.Second
	// RecallTTL is how long others are told of them: twice the interval at
	// which publishers look holders up.
	RecallTTL = 10 * time.Minute
	// StandingTTL is the same for the mirrors of roots that are not asked for much,
	// which stay while they answer: every publisher hears of most of them as often.
	StandingTTL = 30 * time.Minute
	// GlimpseTTL is how long the summaries of inner cells, and the sample of all
	// ads, steer queries; they never decide what is found.
	GlimpseTTL = time.Minute
	// Guides is of how many participants nearby a query may ask some.
	Guides = 8
)
