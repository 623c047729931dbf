package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/sim/latency"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// Streams of randomness, one for each purpose, so that none disturbs another.
const (
	streamSites = iota + 1
	streamCoordinates
	streamSlow
	streamQueries
	streamClients
	streamUnit
	streamChurn
	streamAlgorithm
	streamHeat
)

func stream(seed uint64, purpose int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(purpose))) //nolint:gosec // small constants
}

// model is a latency model of package latency.
type model interface {
	network.Latency
	latency.Weighted
	Place(site int) (lat, lon float64, country, city string, ok bool)
}

// path returns where a file of the scenario is.
func (s *Scenario) path(name string) string {
	if filepath.IsAbs(name) || s.dir == "" {
		return name
	}
	return filepath.Join(s.dir, name)
}

// latency returns the model that a scenario names.
func (s *Scenario) latency(seed uint64) (model, error) {
	if s.Network.Latency == Cities {
		return latency.NewCities(seed), nil
	}
	f, err := os.Open(s.path(s.Network.Latency))
	if err != nil {
		return nil, fmt.Errorf("sim: latency matrix: %w", err)
	}
	defer f.Close()
	return latency.ReadMatrix(f, s.Network.Latency)
}

// types reads the machine types that a scenario names, none where they are
// built in.
func (s *Scenario) types() ([]market.MachineType, error) {
	if s.Market.Types == "" {
		return nil, nil
	}
	f, err := os.Open(s.path(s.Market.Types))
	if err != nil {
		return nil, fmt.Errorf("sim: machine types: %w", err)
	}
	defer f.Close()
	types, _, err := market.ReadTypes(f, s.Market.Types, market.DefaultColumns())
	return types, err
}

// requests reads the requests that a scenario names, none where queries are
// generated.
func (s *Scenario) requests() ([]market.Request, error) {
	if s.Queries.Requests == "" {
		return nil, nil
	}
	f, err := os.Open(s.path(s.Queries.Requests))
	if err != nil {
		return nil, fmt.Errorf("sim: requests: %w", err)
	}
	defer f.Close()
	return market.ReadRequests(f, s.Queries.Requests)
}

// world builds the network and the market of one repetition.
func (s *Scenario) world(seed uint64) (*trial.World, error) {
	model, err := s.latency(seed)
	if err != nil {
		return nil, err
	}
	at := latency.Embed(model, 0, stream(seed, streamCoordinates))
	slow := stream(seed, streamSlow)
	net, err := network.New(network.Config{
		Nodes: s.Network.Nodes, Seed: seed, Latency: model, Site: latency.NewChooser(model).Site,
		Access: func(rng *rand.Rand) time.Duration {
			d := latency.Access{}.Draw(rng)
			if s.Network.Slow > 0 && slow.Float64() < s.Network.Slow {
				d += s.Network.SlowBy
			}
			return d
		},
		Jitter: s.Network.Jitter, Loss: s.Network.Loss, Unreachable: s.Network.Unreachable,
		Timeout: s.Network.Timeout, Maintained: s.Network.Maintained, Handshakes: s.Network.Handshakes,
	})
	if err != nil {
		return nil, err
	}
	types, err := s.types()
	if err != nil {
		return nil, err
	}
	m, err := market.New(market.Config{
		Servers: s.Network.Nodes, Seed: seed, Types: types, Zipf: zeroable(s.Market.Zipf), PriceNoise: zeroable(s.Market.PriceNoise),
		Owners: s.Market.Owners, Diurnal: s.Market.Diurnal, Hour: noon,
		PeerOf: func(i int) dht.PeerID { return net.PeerID(network.NodeID(i)) },
		PlaceOf: func(i int) (lat, lon float64, country, city string, ok bool) {
			return model.Place(net.Site(network.NodeID(i)))
		},
		CoordinateOf: func(i int) dht.Coordinate {
			return latency.At(at[net.Site(network.NodeID(i))], net.Access(network.NodeID(i)))
		},
	})
	if err != nil {
		return nil, err
	}
	return &trial.World{Net: net, Market: m, Rand: stream(seed, streamAlgorithm)}, nil
}

// noon is the hour at which diurnal load is looked at.
const noon = 12

// zeroable turns the zero of a scenario into what package market takes for it.
func zeroable(x float64) float64 {
	if x == 0 {
		return -1
	}
	return x
}
