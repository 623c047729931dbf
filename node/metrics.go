package node

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/xenoserver/xeno/node/session"
)

func metricsHandler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// collectMetrics registers what the node counts. Values are read when they are
// asked for.
func (n *Node) collectMetrics() {
	gauge := func(name, help string, read func() float64) {
		n.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "xeno", Name: name, Help: help}, read))
	}
	counter := func(name, help string, read func() uint64) {
		opts := prometheus.CounterOpts{Namespace: "xeno", Name: name, Help: help}
		n.metrics.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return float64(read()) }))
	}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge("ready", "1 once the participant has joined its network", func() float64 {
		if n.Ready() {
			return 1
		}
		return 0
	})
	gauge("peers", "admitted participants that are connected", func() float64 { return float64(len(n.overlay.Peers())) })
	gauge("store_bytes", "disk used by blocks", func() float64 { return float64(n.storage.Stats().Blocks.Bytes) })
	gauge("bitswap_sent_bytes", "content sent to others", func() float64 { return float64(n.storage.Stats().BytesSent) })
	gauge("bitswap_received_bytes", "content received from others", func() float64 { return float64(n.storage.Stats().BytesReceived) })
	gauge("sessions_bought", "sessions bought that have not ended", func() float64 { return float64(open(n.buyer.Sessions())) })
	gauge("revocations_seq", "number of the newest list of revocations", func() float64 { return float64(n.creds.revocationSeq()) })
	if c := n.corp; c != nil {
		counter("corp_calls", "calls that XenoCorp answered, refusals included", func() uint64 { return c.Stats().Served })
		counter("corp_refused", "calls that XenoCorp refused", func() uint64 { return c.Stats().Refused })
		counter("corp_groups", "groups of commands that were written to the journal together", func() uint64 { return c.Stats().Groups })
		counter("corp_records", "commands that changed the ledger", func() uint64 { return c.Stats().Records })
	}
	if n.server != nil {
		gauge("sessions_hosted", "sessions hosted that have not ended", func() float64 { return float64(open(n.server.host.Hosted())) })
		gauge("free_cpus", "virtual CPUs that can be sold now", func() float64 { return float64(n.server.host.Free().CPUs) })
		gauge("free_memory_bytes", "memory that can be sold now", func() float64 { return float64(n.server.host.Free().MemoryBytes) })
	}
}

func open(list []session.Info) int {
	count := 0
	for _, in := range list {
		if in.State != session.StateEnded {
			count++
		}
	}
	return count
}
