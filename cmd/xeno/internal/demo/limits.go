package demo

import (
	"time"

	"github.com/xenoserver/xeno/ledger"
)

const (
	// maxServers and maxParticipants keep a demo within the memory of one
	// machine, at about 40 MiB a daemon.
	maxServers      = 50
	maxParticipants = 200

	// startTimeout bounds the time until a daemon answers its local API. It
	// should take a second, but they all start at once.
	startTimeout = 30 * time.Second
	// joinTimeout bounds the time until everybody has joined the overlay.
	joinTimeout = 30 * time.Second
	// findTimeout bounds the time until every server is searchable.
	findTimeout = 30 * time.Second
	// commandTimeout bounds the job: a guest under software emulation is slow.
	commandTimeout = 60 * time.Second
	// settleTimeout bounds the end of the session.
	settleTimeout = 30 * time.Second
	// stopTimeout is how long a daemon may take for its clean end.
	stopTimeout = 10 * time.Second
	// retryInterval is the pause between looks at what is not there yet.
	retryInterval = 100 * time.Millisecond
	// startsAtOnce bounds daemons that start or stop at the same time, which
	// is work for the processor alone.
	startsAtOnce = 8
	// maxOutput bounds what is kept of the job's output.
	maxOutput = 64 << 10
	// logTail is how much of a daemon's log is shown when the demo fails.
	logTail = 2000

	// deposit is what the client brings, budget its purchase order, limit the
	// most that the session may cost.
	deposit = 100 * ledger.Unit
	budget  = 20 * ledger.Unit
	limit   = 2 * ledger.Unit
	// maxPrice of an hour of CPU in the query; one server asks more.
	maxPrice = "0.05"
	// renewInterval is how often ads are renewed: on a machine where nine
	// daemons start at once a first attempt may be lost, and a newcomer does
	// not wait a minute for the next.
	renewInterval = 10 * time.Second
	// receiptInterval is the time between receipts, short enough that a job
	// of a few seconds sees some.
	receiptInterval = 2 * time.Second
	// lease is how long the session may run.
	lease = 10 * time.Minute
)
