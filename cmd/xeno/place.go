package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/internal/stricttoml"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// maxPlaceFile bounds the file that describes a placement: 16 groups and 48
// rules with queries of 4 KiB each.
const maxPlaceFile = 256 << 10

// placeFlags are the command line of place.
type placeFlags struct {
	group         api.PlaceGroup
	near          time.Duration
	spread, reach []string
	maxPrice      ledger.Amount
	minimise      string
	effort        float64
}

func newPlace(a *app) *cobra.Command {
	var f placeFlags
	cmd := &cobra.Command{
		Use:   "place [FILE]",
		Short: "Find servers for several machines with constraints among them",
		Long: `Place finds a server for each of several machines, all different, such that they are
near each other, spread over owners or countries, near given hosts, and together as
cheap or as close as can be found. Lease them with xeno run --server.

Describe one group of machines with flags, or several in a TOML file with tables
[[group]] (name, count, query, sort), [[near]] (groups, rtt), [[spread]] (groups, by,
most) and [[reach]] (groups, hosts, rtt), and with minimise, max_price and effort above
them. A rule without groups is about all machines.`,
		Example: `  xeno place --count 3 --near-each-other 20ms --spread owner --query 'free_cpu >= 2'
  xeno place --count 5 --spread country=2 --reach me=50ms --minimise latency --effort 1
  xeno place shop.toml --max-price 0.50`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := f.request(cmd, args)
			if err != nil {
				return err
			}
			answer, err := a.client().Place(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(answer, func(w io.Writer) { printPlacement(w, answer) })
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&f.group.Count, "count", 1, "how many machines")
	fs.StringVar(&f.group.Query, "query", "", "what each of them must be, as in xeno search")
	fs.StringVar(&f.group.Order, "sort", "", "`expression` to sort candidates by, - for descending")
	fs.DurationVar(&f.near, "near-each-other", 0, "longest round `trip` between two of them")
	fs.StringArrayVar(&f.spread, "spread", nil, "`dimension` in which no two may be alike, such as owner; country=2 allows two")
	fs.StringArrayVar(&f.reach, "reach", nil, "`hosts=trip`: longest round trip to hosts, such as me=50ms or me,12D3KooW…=50ms")
	fs.Var(amountFlag{&f.maxPrice}, "max-price", "most they may cost an hour together")
	fs.StringVar(&f.minimise, "minimise", "", "`what` to make small: price, latency or order; default price, order with --sort")
	fs.Float64Var(&f.effort, "effort", 0, "time against quality, above 0 to 1; default 0.5")
	return cmd
}

// request makes the request from the file, if there is one, and the flags.
func (f *placeFlags) request(cmd *cobra.Command, args []string) (req api.PlaceRequest, err error) {
	if len(args) == 0 {
		req.Groups = []api.PlaceGroup{f.group}
	} else {
		for _, name := range []string{"count", "query", "sort"} {
			if cmd.Flags().Changed(name) {
				return req, usagef("--%s describes one group; with a file say it there", name)
			}
		}
		if req, err = readPlaceFile(args[0]); err != nil {
			return req, usageError{fmt.Errorf("%s: %w", args[0], err)}
		}
	}
	if cmd.Flags().Changed("near-each-other") {
		req.Near = append(req.Near, api.NearRule{MaxMillis: toMillis(f.near)})
	}
	for _, text := range f.spread {
		rule := api.SpreadRule{By: text, Most: 1}
		if by, most, ok := strings.Cut(text, "="); ok {
			rule.By = by
			if rule.Most, err = strconv.Atoi(most); err != nil || rule.Most < 1 {
				return req, usagef("--spread %q: write a dimension and how many may be alike, such as country=2", text)
			}
		}
		req.Spread = append(req.Spread, rule)
	}
	for _, text := range f.reach {
		at := strings.LastIndex(text, "=")
		d, err := time.ParseDuration(text[at+1:])
		if at < 1 || err != nil {
			return req, usagef("--reach %q: write hosts and a time, such as me=50ms", text)
		}
		req.Reach = append(req.Reach, api.ReachRule{Hosts: strings.Split(text[:at], ","), MaxMillis: toMillis(d)})
	}
	if f.maxPrice != 0 {
		req.MaxPrice = f.maxPrice
	}
	if f.minimise != "" {
		req.Minimise = f.minimise
	}
	if cmd.Flags().Changed("effort") {
		if !(f.effort > 0 && f.effort <= 1) {
			return req, usagef("--effort %g: above 0, at most 1", f.effort)
		}
		req.Effort = f.effort
	}
	return req, nil
}

func toMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// placeFile is the TOML form of a placement.
type placeFile struct {
	Minimise string  `toml:"minimise"`
	MaxPrice string  `toml:"max_price"`
	Effort   float64 `toml:"effort"`
	Group    []struct {
		Name  string `toml:"name"`
		Count int    `toml:"count"`
		Query string `toml:"query"`
		Sort  string `toml:"sort"`
	} `toml:"group"`
	Near []struct {
		Groups []string `toml:"groups"`
		RTT    string   `toml:"rtt"`
	} `toml:"near"`
	Spread []struct {
		Groups []string `toml:"groups"`
		By     string   `toml:"by"`
		Most   int      `toml:"most"`
	} `toml:"spread"`
	Reach []struct {
		Groups []string `toml:"groups"`
		Hosts  []string `toml:"hosts"`
		RTT    string   `toml:"rtt"`
	} `toml:"reach"`
}

// readPlaceFile reads a placement; errors say where and what is wrong.
func readPlaceFile(name string) (req api.PlaceRequest, err error) {
	file, err := os.Open(name)
	if err != nil {
		return req, errors.Unwrap(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxPlaceFile+1))
	if err != nil {
		return req, err
	}
	if len(text) > maxPlaceFile {
		return req, fmt.Errorf("longer than %s", formatSize(maxPlaceFile))
	}
	var in placeFile
	if err := stricttoml.Decode(text, &in); err != nil {
		return req, err
	}
	req.Minimise, req.Effort = in.Minimise, in.Effort
	if in.MaxPrice != "" {
		if req.MaxPrice, err = ledger.ParseAmount(in.MaxPrice); err != nil {
			return req, fmt.Errorf("max_price: %w", err)
		}
	}
	if len(in.Group) == 0 {
		return req, errors.New("no [[group]]; say what machines are wanted")
	}
	for _, g := range in.Group {
		req.Groups = append(req.Groups, api.PlaceGroup{Name: g.Name, Count: g.Count, Query: g.Query, Order: g.Sort})
	}
	for _, r := range in.Near {
		d, err := time.ParseDuration(r.RTT)
		if err != nil {
			return req, fmt.Errorf("near: rtt %.40q is not a time such as \"20ms\"", r.RTT)
		}
		req.Near = append(req.Near, api.NearRule{Groups: r.Groups, MaxMillis: toMillis(d)})
	}
	for _, r := range in.Spread {
		req.Spread = append(req.Spread, api.SpreadRule{Groups: r.Groups, By: r.By, Most: r.Most})
	}
	for _, r := range in.Reach {
		d, err := time.ParseDuration(r.RTT)
		if err != nil {
			return req, fmt.Errorf("reach: rtt %.40q is not a time such as \"20ms\"", r.RTT)
		}
		req.Reach = append(req.Reach, api.ReachRule{Groups: r.Groups, Hosts: r.Hosts, MaxMillis: toMillis(d)})
	}
	return req, nil
}

func printPlacement(w io.Writer, answer api.PlaceAnswer) {
	fmt.Fprintln(w, "GROUP\tSERVER\tNAME\tOWNER\tPLACE\tFREE CPUS\tMEMORY\tPER HOUR\tRTT")
	for _, m := range answer.Machines {
		r := m.Server
		rtt := "-"
		if r.RTTMillis > 0 {
			rtt = fmt.Sprintf("%.1f ms", r.RTTMillis)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", m.Group, r.Server.Short(), nameOr(r.Name, "-"), nameOr(r.Owner, "-"),
			nameOr(strings.Trim(r.Place+" "+r.Country, " "), "-"), r.Free.CPUs, formatSize(r.Free.MemoryBytes), r.Rates.Session, rtt)
	}
	fmt.Fprintf(w, "\n%d machines, %s an hour, at most %.1f ms apart; %s\n", len(answer.Machines), answer.Price, answer.LatencyMillis, quality(answer))
	fmt.Fprintf(w, "%d searches, %d requests, %.1f ms\n", answer.Queries, answer.Requests, answer.Millis)
}

// quality says how good a placement is.
func quality(answer api.PlaceAnswer) string {
	among := fmt.Sprintf("among %d candidates", answer.Candidates)
	if answer.Complete {
		among = fmt.Sprintf("among all %d servers that fit", answer.Candidates)
	}
	switch {
	case answer.Optimal:
		return "the least " + answer.Minimised + " " + among
	case answer.Floor > 0:
		return fmt.Sprintf("at most %.0f %% above the least %s %s", 100*(answer.Cost/answer.Floor-1), answer.Minimised, among)
	default:
		return "a low " + answer.Minimised + " " + among
	}
}
