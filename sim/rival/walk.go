package rival

import (
	"strconv"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// walk is the class of Mercury (Bharambe, Agrawal, Seshan, SIGCOMM 2004), MAAN
// (Cai et al., GRID 2003) and SWORD (Oppenheimer et al., HPDC 2005): one ring
// for each dimension whose nodes keep full records in the order of the values.
// A query goes to the ring of its most selective dimension, is routed to the
// begin of the range, and then passed from successor to successor, four at a
// time as in SWORD, until the end of the range or until there are enough. Each
// node answers the client itself.
//
// Granted: the begin of a range is one plain lookup away (in Mercury O(log²N/k)
// hops). The most selective dimension is known exactly (Mercury samples
// histograms; SWORD takes one at random). Nodes of a ring know at once how many
// results the others have found, so the walk does not overshoot. Every node
// has four replicas, of which its neighbours know the contacts. Several ranges
// of one query are walked at once unless there is a limit. A query with an
// order and a limit walks the ring of the order instead if that reads fewer
// nodes, among equal values in the order of the results.
type walk struct{ base }

// atOnce is how many successors a node passes a query to: those in the leaf
// set of Bamboo that SWORD uses.
const atOnce = 4

// RefreshMessages is a full record to each replica in every ring.
func (w *walk) RefreshMessages() float64 { return float64(replicas * w.index.rings()) }

// Start implements trial.Algorithm.
func (w *walk) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	r := &walking{run: w.run(t, trace, done), complete: true}
	r.plan = r.run.plan(w.index.region(t.Query.Where, true), func(*column) int { return leafAds })
	if len(r.leaves) == 0 {
		r.net.After(0, func() { r.finish(true, 0) })
		return
	}
	if r.limit() > 0 {
		r.look(t.Client, 0, len(r.leaves))
		return
	}
	for i := 0; i < len(r.leaves); {
		end := r.stretch(i, len(r.leaves))
		r.look(t.Client, i, end)
		i = end
	}
}

// walking is a walk under way.
type walking struct {
	*run
	plan
	held     []result // found by nodes of the ring, whether the client knows or not
	read     int
	flying   int // leaves that were asked and have not answered
	complete bool
}

func (w *walking) label(i int) string { return "ring/" + w.col.name + "/" + strconv.Itoa(w.leaves[i]) }

// stretch returns the end of the leaves from i on that are neighbours.
func (w *walking) stretch(i, end int) int {
	for j := i + 1; j < end; j++ {
		if d := w.leaves[j] - w.leaves[j-1]; d != 1 && d != -1 {
			return j
		}
	}
	return end
}

// look finds the node of the i-th leaf, from which the walk goes on to end.
func (w *walking) look(from network.NodeID, i, end int) {
	w.flying++
	var found []result
	got, client := false, from == w.task.Client
	w.find(read{
		from: from, label: w.label(i),
		arrive: func(holder network.NodeID) {
			got = true
			found = w.evaluate(w.servers(w.leaves[i]))
			w.held = append(w.held, found...)
			w.pass(holder, i+1, end)
			if !client {
				w.reply(holder, found, tries)
			}
		},
		done: func(_ network.NodeID, ok bool) {
			if client || !got {
				w.answered(found, ok)
			}
		},
	})
}

// pass lets a node pass the query on to the leaves from i on.
func (w *walking) pass(from network.NodeID, i, end int) {
	if w.over || i >= end || w.passed(&w.plan, w.held, i) {
		return
	}
	to := min(i+atOnce, w.stretch(i-1, end))
	if to == i { // no neighbour: another range begins
		w.look(from, i, end)
		return
	}
	for j := i; j < to; j++ {
		next := 0
		if j == to-1 {
			next = to
		}
		w.flying++
		w.forward(from, j, next, end, w.net.Closest(nil, keyOf(w.label(j)), replicas))
	}
}

// forward asks the holders of the j-th leaf, one after another, and lets the
// one that gets it pass the query on to next, unless that is 0.
func (w *walking) forward(from network.NodeID, j, next, end int, holders []network.NodeID) {
	if len(holders) == 0 {
		if next > 0 && next < end && !w.over {
			w.look(w.task.Client, next, end)
		}
		w.answered(nil, false)
		return
	}
	got := false
	w.net.Acquaint(from, holders[0]) // neighbours of the ring
	w.request(from, holders[0], "walk "+w.label(j), func() {
		if got = true; w.over {
			return
		}
		found := w.evaluate(w.servers(w.leaves[j]))
		w.held = append(w.held, found...)
		if next > 0 {
			w.pass(holders[0], next, end)
		}
		w.reply(holders[0], found, tries)
	}, func(bool) {
		if !got && !w.over { // without its acknowledgement nothing is lost
			w.forward(from, j, next, end, holders[1:])
		}
	})
}

// reply brings what a node found to the client.
func (w *walking) reply(from network.NodeID, found []result, left int) {
	arrived := false
	w.send(from, w.task.Client, "results", func() {
		if !arrived {
			arrived = true
			w.answered(found, true)
		}
	}, func(bool) {
		if !arrived && left > 1 && !w.over {
			w.reply(from, found, left-1)
		} else if !arrived {
			w.answered(nil, false)
		}
	})
}

// answered notes what reached the client of one leaf.
func (w *walking) answered(found []result, ok bool) {
	if w.over {
		return
	}
	w.flying--
	w.read++
	w.complete = w.complete && ok
	if ok {
		w.take(found)
	}
	estimated := float64(w.matched) * float64(len(w.leaves)) / float64(w.read)
	if w.enough() {
		w.finish(true, estimated)
	} else if w.flying == 0 {
		w.finish(w.complete, estimated)
	}
}
