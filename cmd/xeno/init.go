package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/node"
)

// initFlags are the command line of init.
type initFlags struct {
	corp, server bool
	network      string // name with corp, file without
	cfg          node.Config
	srv          node.ServerConfig
	fee          int
	rates        [5]string // session, cpu, memory, disk, network
}

func newInit(a *app) *cobra.Command {
	f := initFlags{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the home directory of a new participant",
		Long: `Init makes an identity (mode 0600), node.toml and network.toml in the home directory.

With --corp it founds a network: the daemon becomes its XenoCorp, and its network.toml is
what every other participant gets by --network. With --server it becomes a XenoServer.`,
		Example: `  xeno init --home corp --corp --network example
  xeno init --home oslo --network corp/network.toml --server --country NO --city Oslo --cpu-price 0.02
  xeno init --network network.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd.Flags()); err != nil {
				return err
			}
			return a.initHome(f)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.corp, "corp", false, "found a network with this daemon as its XenoCorp")
	fs.BoolVar(&f.server, "server", false, "be a XenoServer")
	fs.StringVar(&f.network, "network", "", "network `file` to join, or with --corp the name of the new network")
	fs.StringVar(&f.cfg.Name, "name", "", "`label` for people; default the host's name")
	fs.StringSliceVar(&f.cfg.Listen, "listen", nil, "`multiaddrs` to listen on; default loopback with free ports")
	fs.IntVar(&f.fee, "fee", 10, "with --corp: what XenoCorp keeps of payments, in parts per 1,000")
	fs.StringVar(&f.srv.Country, "country", "", "with --server: ISO 3166 `code`")
	fs.StringVar(&f.srv.City, "city", "", "with --server: `town`")
	fs.Float64Var(&f.srv.Latitude, "latitude", 0, "with --server: `degrees` north")
	fs.Float64Var(&f.srv.Longitude, "longitude", 0, "with --server: `degrees` east")
	fs.StringSliceVar(&f.srv.Environments, "env", nil, "with --server: `kinds` to offer; default all that this machine runs")
	fs.IntVar(&f.srv.CPUs, "cpus", 0, "with --server: virtual CPUs for sale; default those of the machine")
	fs.Var(sizeFlag{(*uint64)(&f.srv.Memory)}, "memory", "with --server: memory for sale; default half of the machine's")
	fs.Var(sizeFlag{(*uint64)(&f.srv.Disk)}, "disk", "with --server: disk for sale; default a quarter of what is free")
	for i, name := range []string{"session", "cpu", "memory", "disk", "traffic"} {
		fs.StringVar(&f.rates[i], name+"-price", "", "with --server: `price` of "+priceOf[i])
	}
	return cmd
}

// check refuses flags of a role that the participant does not take.
func (f *initFlags) check(fs *pflag.FlagSet) (err error) {
	fs.Visit(func(flag *pflag.Flag) {
		switch {
		case strings.HasPrefix(flag.Usage, "with --server") && !f.server:
			err = usagef("--%s is for a XenoServer; add --server", flag.Name)
		case strings.HasPrefix(flag.Usage, "with --corp") && !f.corp:
			err = usagef("--%s is for a XenoCorp; add --corp", flag.Name)
		}
	})
	return err
}

// priceOf says what each price buys.
var priceOf = [...]string{"an hour of a session", "an hour of CPU time", "a GiB of memory for an hour", "a GiB of disk for an hour", "a GiB sent or received"}

func (a *app) initHome(f initFlags) error {
	cfg := f.cfg
	cfg.Home = a.home
	if f.network == "" {
		return usagef("--network is missing: the network file to join, or with --corp the name of the new network")
	}
	if f.corp {
		cfg.Corp = &node.CorpConfig{FeePermille: f.fee}
		cfg.Network.Name = f.network
	} else {
		text, err := readNetwork(f.network)
		if err != nil {
			return usageError{err}
		}
		if cfg.Network, err = node.ParseNetwork(text); err != nil {
			return usagef("%s: %w", f.network, err)
		}
	}
	if f.server {
		srv := f.srv
		r := &srv.Rates
		for i, to := range []*node.Money{&r.Session, &r.CPU, &r.Memory, &r.Disk, &r.Network} {
			if f.rates[i] == "" {
				continue
			}
			if err := to.UnmarshalText([]byte(f.rates[i])); err != nil {
				return usageError{err}
			}
		}
		cfg.Server = &srv
	}
	cfg, err := node.Init(cfg)
	if err != nil {
		return usageError{err}
	}
	id, err := cfg.ID()
	if err != nil {
		return err
	}
	out := initOutcome{ID: id, Home: cfg.Home, Network: cfg.Network.Name, Listen: cfg.Listen}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "Made %s in %s, for network %s.\nStart it with: xeno-node --home %s\n", out.ID, out.Home, out.Network, out.Home)
	})
}

// maxNetworkFile bounds what is read of a network file: 64 bootstrap addresses
// are some kilobytes.
const maxNetworkFile = 1 << 20

// readNetwork reads a network file.
func readNetwork(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNetworkFile+1))
	if err == nil && len(text) > maxNetworkFile {
		err = fmt.Errorf("%s has more than %d bytes; it is no network file", name, maxNetworkFile)
	}
	return text, err
}

// An initOutcome is what init --json prints.
type initOutcome struct {
	ID      dht.PeerID `json:"id"`
	Home    string     `json:"home"`
	Network string     `json:"network"`
	Listen  []string   `json:"listen"`
}
