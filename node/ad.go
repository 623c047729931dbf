package node

import (
	"errors"
	"math"
	"runtime"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/search"
)

// adLife is how many renewal intervals an ad holds: one more than a lease of
// it, so that no holder has to forget it before.
const adLife = search.LeaseRounds + 1

// maxRenew bounds the renewal interval: no ad may hold longer than
// search.MaxAdLife.
const maxRenew = search.MaxAdLife / adLife

// errNoAd reports a node that has nothing to advertise.
var errNoAd = errors.New("node: not a registered XenoServer")

// currentAd seals this XenoServer's description of itself as of now.
func (n *Node) currentAd() (*search.Signed, error) {
	own := n.creds.Own()
	if n.server == nil || own == nil || !own.Has(ledger.RoleServer) {
		return nil, errNoAd
	}
	now := time.Now()
	life := max(adLife*time.Duration(n.cfg.Network.Renew), time.Minute)
	attributes := n.server.attributes(now)
	attributes[search.DimCoordinate] = search.CoordinateAt(n.server.settled(n.overlay.Coordinate()))
	ad := &search.Ad{
		Network: n.cfg.Network.Name, Server: n.id, Addrs: n.overlay.Contact().Addrs, Seq: n.server.nextSeq(now),
		Issued: now.Unix(), Expires: now.Add(life).Unix(), Credential: n.creds.credential(),
		Attributes: search.AttributesOf(attributes),
	}
	return n.schema.Sign(ad, n.key, own.Subject)
}

// nextSeq numbers ads by the clock, so that they grow across restarts.
func (s *server) nextSeq(now time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq = max(s.seq+1, uint64(now.UnixMilli())) //nolint:gosec // after 1970
	return s.seq
}

// settled returns the network coordinate to advertise: that of the ad before,
// until the server has moved by a step of the order by latency. A coordinate
// trembles all the time, and whenever it crosses from one band of a summary to
// the next all holders of the ad are told at once.
func (s *server) settled(now dht.Coordinate) dht.Coordinate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil || apart(*s.at, now) >= search.LatencyStep {
		s.at = &now
	}
	return *s.at
}

// apart returns by how much predictions of round trips differ at most between
// two coordinates.
func apart(a, b dht.Coordinate) time.Duration {
	height := math.Abs(a.Height - b.Height)
	a.Height, b.Height = 0, 0
	return search.PredictRTT(a, b) + time.Duration(height*float64(time.Second))
}

// attributes are the claims of the ad. What is not there is left out: a query
// for it does not match.
func (s *server) attributes(now time.Time) map[string]search.Value {
	cfg, free, total := s.node.cfg.Server, s.host.Free(), s.capacity
	num := func(v uint64) search.Value { return search.Number(float64(v)) }
	price := func(a ledger.Amount) search.Value { return search.Number(float64(a) / float64(ledger.Unit)) }
	out := map[string]search.Value{
		"free_cpu": num(uint64(free.CPUs)), "total_cpu": num(uint64(total.CPUs)),
		"free_cpu_share": num(uint64(free.CPUShare)), "total_cpu_share": num(uint64(total.CPUShare)),
		"free_memory": num(free.MemoryBytes), "total_memory": num(total.MemoryBytes),
		"free_disk": num(free.DiskBytes), "total_disk": num(total.DiskBytes),
		"free_network": num(free.NetworkRate), "total_network": num(total.NetworkRate),
		"price_hour": price(s.rates.Session), "price_cpu": price(s.rates.CPU), "price_memory": price(s.rates.Memory),
		"price_disk": price(s.rates.Disk), "price_network": price(s.rates.Network),
		"environments": search.Set(s.kinds()...), "arch": search.Text(runtime.GOARCH),
		"meter":  search.Set(s.meterSource()),
		"uptime": search.Number(now.Sub(s.node.started).Seconds()),
		"name":   search.Text(s.node.cfg.Name),
	}
	var drivers []string
	for _, d := range s.drivers {
		drivers = append(drivers, d.Name())
	}
	out["drivers"] = search.Set(drivers...)
	for name, text := range map[string]string{"country": cfg.Country, "region": cfg.Region, "city": cfg.City} {
		if text != "" {
			out[name] = search.Text(text)
		}
	}
	if cfg.Latitude != 0 || cfg.Longitude != 0 {
		out[search.DimPlace] = search.PlaceAt(cfg.Latitude, cfg.Longitude)
	}
	return out
}

// adChanged tells the index to publish again. It is called before the index
// exists, too.
func (n *Node) adChanged() {
	if n.index != nil && n.ready.Load() {
		n.index.Changed()
	}
}
