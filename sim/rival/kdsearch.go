package rival

import (
	"cmp"
	"slices"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// kdSearch is one kd-tree over all dimensions on a DHT, as m-LIGHT (Tang, Zhou,
// Xu, Lee, ICDCS 2009) and MIDAS (Tsatsanifos, Sacharidis, Sellis, SSTD 2011)
// have it. The naming function of m-LIGHT maps every inner node to a leaf below
// it, a different one for each, so that one lookup of any node brings the ads
// of one leaf and the way to it: the branches beside the way are what is left
// of the subtree, and are searched in the same manner, in parallel. A query
// reads every leaf that its box touches once, and corner leaves beside it.
//
// The naming function: from an inner node that is a left child, always right;
// from a right child and the root, always left (Tang, Zhou, Xu, LIGHT, TKDE
// 2010).
//
// Granted: nodes are divided at the median of the dimension that spreads them
// most, between two values where possible (m-LIGHT takes the dimensions in turn
// and halves the space), so the tree is balanced. A branch is found with one
// lookup also where it is a leaf (in the paper some take two). The client knows
// how many servers are below a branch, and a search that stops at a limit reads
// the branch first in which it expects most, or which can have the best.
type kdSearch struct{ base }

// RefreshMessages is the ad to the replicas of one leaf.
func (k *kdSearch) RefreshMessages() float64 { return replicas }

// Start implements trial.Algorithm.
func (k *kdSearch) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	r := &kdRun{run: k.run(t, trace, done), tree: k.index.tree(), region: k.index.region(t.Query.Where, true), complete: true}
	root := kdBranch{box: newBox(r.tree.cols)}
	r.wait(root)
	r.proceed()
}

// kdRun is a query under way.
type kdRun struct {
	*run
	tree     *kdTree
	region   region
	waiting  []kdWaiting // the best last
	flying   int
	leaves   int     // that were read
	read     float64 // expected matches in them
	complete bool
}

type kdWaiting struct {
	kdBranch
	best     standing
	expected float64
}

// wait notes a branch to be searched, if it can have anything.
func (r *kdRun) wait(b kdBranch) {
	part := r.region.part(b.box)
	if part == 0 && b.node != 0 {
		return
	}
	n := r.tree.nodes[b.node]
	w := kdWaiting{b, r.order.bound(b.box), part * float64(n.to-n.from)}
	at, _ := slices.BinarySearchFunc(r.waiting, w, func(a, b kdWaiting) int {
		return cmp.Or(-a.best.compare(b.best), cmp.Compare(a.expected, b.expected))
	})
	r.waiting = slices.Insert(r.waiting, at, w)
}

func (r *kdRun) proceed() {
	for len(r.waiting) > 0 && !r.over && r.room(r.flying, r.leaves) {
		w := r.waiting[len(r.waiting)-1]
		r.waiting = r.waiting[:len(r.waiting)-1]
		if worst, ok := r.worst(r.found); ok && !r.order.none() && worst.compare(w.best) < 0 {
			continue
		}
		r.flying++
		leaf, beside := r.tree.corner(w.kdBranch)
		r.find(read{from: r.task.Client, label: r.tree.label(leaf), done: func(_ network.NodeID, ok bool) {
			r.flying--
			r.arrived(leaf, beside, ok)
		}})
	}
	if r.flying == 0 && len(r.waiting) == 0 {
		r.finish(r.complete, r.estimate())
	}
}

// estimate scales what was found by what is left to read.
func (r *kdRun) estimate() float64 {
	left := 0.0
	for _, w := range r.waiting {
		left += w.expected
	}
	if r.read == 0 {
		return float64(r.matched) + left
	}
	return float64(r.matched) * (1 + left/r.read)
}

func (r *kdRun) arrived(leaf kdBranch, beside []kdBranch, ok bool) {
	r.complete = r.complete && ok
	if !ok { // the way is lost, and with it the branches
		r.proceed()
		return
	}
	n := r.tree.nodes[leaf.node]
	r.leaves++
	r.read += r.region.part(leaf.box) * float64(n.to-n.from)
	r.take(r.evaluate(r.tree.servers[n.from:n.to]))
	for _, b := range beside {
		r.wait(b)
	}
	if r.enough() {
		r.finish(true, r.estimate())
		return
	}
	r.proceed()
}
