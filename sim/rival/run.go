package rival

import (
	"fmt"
	"slices"
	"time"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// A run is one task under way.
type run struct {
	*base
	net      *network.Network
	task     trial.Task
	trace    func(trial.Hop)
	done     func(trial.Outcome)
	begin    time.Duration
	matches  func(i int) bool
	order    order
	found    []result
	matched  int // results that were taken, also those that were dropped since
	seen     map[network.NodeID]bool
	requests int
	lookups  []*int // messages of lookups under way
	over     bool
}

// A result is a server that matches.
type result struct {
	server   network.NodeID
	standing standing
}

func (b *base) run(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) *run {
	b.index.renew()
	r := &run{base: b, net: b.world.Net, task: t, trace: trace, done: done, begin: b.world.Net.Now()}
	if t.Count {
		r.task.Query.OrderBy, r.task.Query.Limit = "", 0
	}
	r.order = b.index.order(&r.task.Query)
	r.matches = b.world.Market.Matcher(t.Query.Where)
	r.seen = make(map[network.NodeID]bool)
	return r
}

// limit returns how many results are wanted; 0: all.
func (r *run) limit() int { return r.task.Query.Limit }

// fits evaluates a server as the holder of its ad does. There are no ads of
// servers that do not answer.
func (r *run) fits(server uint32) bool {
	return r.net.Answers(network.NodeID(server)) && r.matches(int(server))
}

// evaluate returns those of some servers that match, as a holder does.
func (r *run) evaluate(servers []uint32) []result {
	var out []result
	for _, s := range servers {
		if r.fits(s) {
			out = append(out, result{network.NodeID(s), r.order.standing(s)})
		}
	}
	return out
}

// take adds results that reached the client. Of an ordered query it keeps no
// more than it may need.
func (r *run) take(results []result) {
	for _, f := range results {
		if !r.over && !r.seen[f.server] {
			r.seen[f.server] = true
			r.matched++
			r.found = append(r.found, f)
		}
	}
	if limit := r.limit(); limit > 0 && len(r.found) > 2*limit && !r.order.none() {
		sortResults(r.found)
		r.found = r.found[:limit]
	}
}

// enough tells whether any results make the answer and there are as many as
// wanted.
func (r *run) enough() bool {
	return r.limit() > 0 && len(r.found) >= r.limit() && r.order.none()
}

// worst returns the standing of the last result that counts, false while more
// are wanted whatever their standing.
func (r *run) worst(results []result) (standing, bool) {
	if r.limit() == 0 || len(results) < r.limit() {
		return standing{}, false
	}
	sortResults(results)
	return results[r.limit()-1].standing, true
}

func sortResults(all []result) {
	slices.SortFunc(all, func(a, b result) int { return a.standing.compare(b.standing) })
}

// room tells whether a search that stops at a limit may send another request
// while some are under way: as many as were answered without success, so that
// one that has to read everything takes logarithmic time.
func (r *run) room(flying, answered int) bool {
	return r.limit() == 0 || flying < max(flight, answered)
}

// finish gives the answer. estimated is how many match in all, as far as the
// algorithm can tell; no fewer than were found.
func (r *run) finish(complete bool, estimated float64) {
	if r.over {
		return
	}
	r.over = true
	if !r.order.none() {
		sortResults(r.found)
	}
	if r.limit() > 0 {
		r.found = r.found[:min(len(r.found), r.limit())]
	}
	out := trial.Outcome{
		Estimated: max(estimated, float64(r.matched)), Requests: r.requests,
		Latency: r.net.Now() - r.begin, Complete: complete,
	}
	for _, sent := range r.lookups {
		out.Requests += *sent
	}
	if r.task.Count {
		out.Estimated = estimated
		r.found = nil
	}
	for _, f := range r.found {
		out.Servers = append(out.Servers, f.server)
	}
	r.found, r.seen = nil, nil
	r.done(out)
}

// hop tells the trace of a message.
func (r *run) hop(at time.Duration, from, to network.NodeID, what string, ok bool) {
	if r.trace != nil {
		r.trace(trial.Hop{At: at - r.begin, Took: r.net.Now() - at, From: from, To: to, What: what, OK: ok})
	}
}

// request sends one message and counts it.
func (r *run) request(from, to network.NodeID, what string, deliver func(), done func(ok bool)) {
	if from != to {
		r.requests++
	}
	r.send(from, to, what, deliver, done)
}

// send is request for an answer on its way, which counts with its request.
func (r *run) send(from, to network.NodeID, what string, deliver func(), done func(ok bool)) {
	at := r.net.Now()
	r.net.Request(from, to, deliver, func(ok bool) {
		r.hop(at, from, to, what, ok)
		done(ok)
	})
}

// A read is a record that is looked up.
type read struct {
	from   network.NodeID
	label  string
	arrive func(holder network.NodeID)          // at the holder, once; may be nil
	done   func(holder network.NodeID, ok bool) // at the one who looks
}

// find looks a record up: the first of its holders answers with what it has.
func (r *run) find(rd read) { r.findAgain(rd, tries) }

func (r *run) findAgain(rd read, left int) {
	key := keyOf(rd.label)
	holders := r.net.Closest(nil, key, replicas)
	at := r.net.Now()
	arrived := new(int)
	r.lookups = append(r.lookups, arrived)
	holds := func(id network.NodeID) bool {
		if id != rd.from {
			*arrived++
		}
		if !slices.Contains(holders, id) {
			return false
		}
		if rd.arrive != nil {
			rd.arrive(id)
			rd.arrive = nil
		}
		return true
	}
	alpha := network.PlainAlpha
	if len(r.lookups) > bulk {
		alpha = network.PaperAlpha
	}
	r.net.Find(rd.from, key, alpha, holds, func(holder network.NodeID, ok bool, requests int) {
		if r.over {
			return
		}
		r.lookups = slices.DeleteFunc(r.lookups, func(p *int) bool { return p == arrived })
		r.requests += requests
		if r.trace != nil {
			r.hop(at, rd.from, holder, fmt.Sprintf("find %s in %d messages", rd.label, requests), ok)
		}
		if !ok && left > 1 {
			r.findAgain(rd, left-1)
			return
		}
		rd.done(holder, ok)
	})
}
