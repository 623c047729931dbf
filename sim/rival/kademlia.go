package rival

import (
	"slices"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// kademlia is no search: for every task it looks one random value up that the
// 20 nearest nodes hold (Maymounkov and Mazières, Kademlia, IPTPS 2002; α 10
// and k 20 as in go-libp2p-kad-dht). Its median latency is the unit L.
type kademlia struct{ base }

// RefreshMessages is the 20 holders of one value.
func (k *kademlia) RefreshMessages() float64 { return dht.K }

// Start implements trial.Algorithm.
func (k *kademlia) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	r := k.run(t, trace, done)
	r.task.Count = true
	key := k.world.Rand.Uint64()
	holders := r.net.Closest(nil, key, dht.K)
	r.net.Find(t.Client, key, network.PlainAlpha, func(id network.NodeID) bool { return slices.Contains(holders, id) },
		func(holder network.NodeID, ok bool, requests int) {
			r.requests = requests
			r.hop(r.begin, t.Client, holder, "find value", ok)
			r.finish(ok, 0)
		})
}
