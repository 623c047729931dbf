package rival

import (
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// crawl asks every node of the network for its ad, as proposals of compute
// networks without an index have it, with a crawler such as that of
// go-libp2p-kad-dht's accelerated client or Nebula.
//
// Granted: the client knows all nodes from the start, in a random order, and
// one message to each brings its ad and would bring its routing table; a
// crawler sends up to 16 to see all buckets. A query with a limit and no order
// begins with 64 nodes at once and stops when it has enough. Nodes that do not
// answer are asked once more.
type crawl struct{ base }

const (
	// crawlFlight is how many nodes are asked at once: the workers of Nebula.
	crawlFlight = 1000
	// crawlStart is with how many a query begins that wants a few results.
	crawlStart = 64
	// crawlTries is how often a node is asked.
	crawlTries = 2
)

// RefreshMessages is none: nobody publishes anything.
func (c *crawl) RefreshMessages() float64 { return 0 }

// Start implements trial.Algorithm.
func (c *crawl) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	w := &crawling{run: c.run(t, trace, done), all: true}
	n := uint32(w.net.Len())
	w.at, w.step = c.world.Rand.Uint32N(n), stepThrough(n, c.world.Rand.Uint32())
	w.left = int(n)
	w.proceed()
}

// stepThrough returns a step that visits all of n in turn: one that has no
// divisor with it in common.
func stepThrough(n, draw uint32) uint32 {
	for step := draw%n | 1; ; step++ {
		a, b := n, step
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return step % max(n, 2)
		}
	}
}

type crawling struct {
	*run
	at, step uint32
	left     int
	flying   int
	asked    int
	all      bool
}

func (w *crawling) proceed() {
	for w.left > 0 && w.flying < w.most() && !w.over {
		to := w.at
		w.at = uint32((uint64(w.at) + uint64(w.step)) % uint64(w.net.Len()))
		w.left--
		w.flying++
		w.ask(network.NodeID(to), crawlTries)
	}
	if w.flying == 0 {
		w.finish(w.all, float64(w.matched))
	}
}

// most returns how many nodes may be asked at once: a query that stops at a
// limit begins with few.
func (w *crawling) most() int {
	if w.limit() == 0 || !w.order.none() {
		return crawlFlight
	}
	return min(crawlFlight, max(crawlStart, w.asked))
}

func (w *crawling) ask(to network.NodeID, left int) {
	var answer []result
	w.request(w.task.Client, to, "crawl", func() { answer = w.evaluate([]uint32{uint32(to)}) }, func(ok bool) {
		if w.over {
			return
		}
		if !ok && left > 1 {
			w.ask(to, left-1)
			return
		}
		w.flying--
		w.asked++
		w.all = w.all && ok
		if ok {
			w.take(answer)
		}
		if w.enough() {
			w.finish(true, float64(w.matched)*float64(w.net.Len())/float64(w.asked))
			return
		}
		w.proceed()
	})
}
