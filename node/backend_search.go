package node

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/node/session"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/search/cel"
)

const (
	// defaultLimit is how many results a search that says nothing gives.
	defaultLimit = 10
	// searchAllTimeout bounds a search for everything.
	searchAllTimeout = 10 * time.Minute
	// defaultOrder sorts a search that says nothing: the cheapest first.
	defaultOrder = "price_hour"
)

// Search implements api.Market.
func (n *Node) Search(ctx context.Context, req api.SearchRequest) (api.SearchAnswer, error) {
	begin := time.Now()
	answer, err := n.answer(ctx, req)
	if err != nil {
		return api.SearchAnswer{}, err
	}
	out := n.searchAnswer(req, answer, begin)
	for _, r := range answer.Results {
		out.Results = append(out.Results, n.result(r.Signed.Ad))
	}
	return out, nil
}

// SearchAll implements api.Market.
func (n *Node) SearchAll(ctx context.Context, req api.SearchRequest, found func(api.Result)) (api.SearchAnswer, error) {
	begin := time.Now()
	if err := req.CheckAll(); err != nil {
		return api.SearchAnswer{}, err
	}
	q, hosts, err := n.prepare(ctx, req)
	if err != nil {
		return api.SearchAnswer{}, err
	}
	q.Limit, q.OrderBy, q.Desc = 0, "", false
	ctx, cancel := context.WithTimeout(ctx, searchAllTimeout)
	defer cancel()
	answer, err := n.index.Search(ctx, q, index.Options{
		Explain: req.Explain, Budget: req.Budget, Found: func(r search.Result) { found(n.result(r.Signed.Ad)) },
	})
	if err != nil {
		return api.SearchAnswer{}, apiError(err)
	}
	return n.searchAnswer(req, outcome{*answer, hosts}, begin), nil
}

// searchAnswer is what is told of an answer beside its results.
func (n *Node) searchAnswer(req api.SearchRequest, answer outcome, begin time.Time) api.SearchAnswer {
	out := api.SearchAnswer{
		Results: []api.Result{}, Complete: answer.Complete, Completeness: answer.Completeness, Incomplete: answer.Incomplete, Requests: answer.Requests,
		Estimated: wholeNumber(answer.Matches.Count), Low: wholeNumber(math.Floor(answer.Matches.Low)), Confidence: search.Confidence,
		High: wholeNumber(math.Ceil(answer.Matches.High)), Millis: float64(time.Since(begin)) / float64(time.Millisecond),
	}
	if !req.Explain {
		return out
	}
	out.Plan = planOf(answer.Answer)
	for _, c := range answer.Conditions {
		out.Conditions = append(out.Conditions, api.Condition{Text: cel.Format(n.schema, c.Condition, answer.hosts.Name), Excluded: c.Count})
	}
	for _, e := range answer.Excluded {
		out.Excluded = append(out.Excluded, n.exclusion(e, answer.hosts))
	}
	return out
}

// planOf says how an answer was found.
func planOf(a search.Answer) *api.Plan {
	out := &api.Plan{Tree: a.Tree, Cells: a.Plan.Cells, Leaves: a.Plan.Leaves, Lookups: a.Lookups}
	for _, t := range a.Plan.Trees {
		out.Expected = append(out.Expected, api.TreeCost{Tree: t.Tree, Cells: math.Round(10*t.Cells) / 10})
	}
	return out
}

// wholeNumber rounds how many there are, which is below 2^53.
func wholeNumber(x float64) int { return int(math.Round(min(x, 1<<53))) }

// answer runs a query, or counts what it would find.
func (n *Node) answer(ctx context.Context, req api.SearchRequest) (outcome, error) {
	if !req.Count {
		return n.find(ctx, req)
	}
	if req.Order != "" {
		return outcome{}, api.Errorf(api.CodeBadRequest, "order: a count has none").WithHint("leave the order out")
	}
	q, hosts, err := n.prepare(ctx, req)
	if err != nil {
		return outcome{}, err
	}
	answer, err := n.index.Count(ctx, q.Where, index.CountOptions{Error: req.Error, Budget: req.Budget})
	if err != nil {
		return outcome{}, apiError(err)
	}
	if math.IsInf(answer.Matches.High, 1) {
		return outcome{}, api.Errorf(api.CodeUnavailable, "nothing can be counted: %s", answer.Incomplete).WithHint("try again; xeno status shows whether this node is connected")
	}
	return outcome{*answer, hosts}, nil
}

// exclusion says why a server is not among the results, with its values.
func (n *Node) exclusion(e search.Excluded, hosts *cel.Hosts) api.Exclusion {
	out := api.Exclusion{Server: e.Server}
	if e.Signed != nil {
		out.Name = adText(e.Signed.Ad, "name")
	}
	if len(e.Fails) == 0 {
		out.Reason = "it did not confirm its ad"
		return out
	}
	out.Condition = cel.Format(n.schema, e.Fails[0], hosts.Name)
	var values []string
	for _, p := range e.Fails {
		for _, dim := range search.Mentioned(p) {
			v, ok := e.Signed.Ad.Attribute(dim)
			if !ok {
				values = append(values, dim+" is not advertised")
				continue
			}
			values = append(values, dim+" is "+cel.FormatValue(n.schema, dim, v))
		}
	}
	out.Reason = strings.Join(values, ", ")
	return out
}

// An outcome is the answer to a query, with the hosts that the query names.
type outcome struct {
	search.Answer
	hosts *cel.Hosts
}

// find compiles and runs a query.
func (n *Node) find(ctx context.Context, req api.SearchRequest) (outcome, error) {
	q, hosts, err := n.prepare(ctx, req)
	if err != nil {
		return outcome{}, err
	}
	answer, err := n.index.Search(ctx, q, index.Options{Explain: req.Explain, Budget: req.Budget})
	if err != nil {
		return outcome{}, apiError(err)
	}
	return outcome{*answer, hosts}, nil
}

// prepare compiles a query, if this node can search.
func (n *Node) prepare(ctx context.Context, req api.SearchRequest) (search.Query, *cel.Hosts, error) {
	if err := n.canSearch(); err != nil {
		return search.Query{}, nil, err
	}
	hosts := cel.NewHosts(n.hosts(ctx))
	q, err := n.compile(req, hosts)
	return q, hosts, err
}

// canSearch says what is missing before this node can search.
func (n *Node) canSearch() error {
	if _, err := n.own(); err != nil {
		return err
	}
	if !n.Ready() {
		return api.Errorf(api.CodeUnavailable, "this node has not joined the network yet").WithHint("xeno status shows what it waits for")
	}
	return nil
}

// compile turns the text of a request into a query.
func (n *Node) compile(req api.SearchRequest, hosts *cel.Hosts) (search.Query, error) {
	if req.Limit < 0 || req.Limit > search.MaxLimit {
		return search.Query{}, api.Errorf(api.CodeBadRequest, "limit %d: 1 to %d", req.Limit, search.MaxLimit)
	}
	q := search.Query{Limit: req.Limit}
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	var err error
	if strings.TrimSpace(req.Query) != "" {
		if q.Where, err = cel.Compile(n.schema, req.Query, hosts.Resolve); err != nil {
			return q, api.Errorf(api.CodeQuery, "%v", err)
		}
	}
	order := req.Order
	if order == "" {
		order = defaultOrder
	}
	if q.OrderBy, q.Desc, err = cel.OrderBy(n.schema, order); err != nil {
		return q, api.Errorf(api.CodeQuery, "%v", err)
	}
	own := n.overlay.Coordinate()
	q.Origin = &own
	return q, nil
}

// candidates returns the servers to propose to, best first: the named one, or
// those that a search finds for the terms.
func (n *Node) candidates(ctx context.Context, req *api.RunRequest, t *ledger.Terms, d time.Duration) ([]session.Candidate, error) {
	query := api.SearchRequest{Query: n.queryFor(req, t), Order: req.OrderBy, Limit: candidates}
	answer, err := n.find(ctx, query)
	if err != nil {
		return nil, err
	}
	var out []session.Candidate
	for _, r := range answer.Results {
		c := session.Candidate{Server: r.Signed.Ad.Server, Cap: req.Cap, Rates: adRates(r.Signed.Ad)}
		c.Label = session.Label{Name: adText(r.Signed.Ad, "name"), City: adText(r.Signed.Ad, "city"), Country: adText(r.Signed.Ad, "country")}
		if c.Cap == 0 {
			c.Cap = capFor(c.Rates, t, d)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.CodeNoMatch, "no server fits %s", query.Query).WithHint("xeno search --explain with the same query shows which condition excludes which server")
	}
	return out, nil
}

// queryFor adds what the terms need to the query of a run.
func (n *Node) queryFor(req *api.RunRequest, t *ledger.Terms) string {
	least := func(dim string, x float64) string {
		return dim + " >= " + cel.FormatValue(n.schema, dim, search.Number(x))
	}
	parts := []string{
		strconv.Quote(t.Environment) + " in environments",
		least("free_cpu", float64(t.CPUs)), least("free_memory", float64(t.MemoryBytes)), least("free_disk", float64(t.DiskBytes)),
	}
	if !req.Server.IsZero() {
		parts = append(parts, fmt.Sprintf("server == %q", req.Server))
	}
	if q := strings.TrimSpace(req.Query); q != "" {
		parts = append(parts, "("+q+")")
	}
	return strings.Join(parts, " && ")
}

// result shows an ad.
func (n *Node) result(ad *search.Ad) api.Result {
	environments, _ := adValue(ad, "environments").Set()
	r := api.Result{
		Server: ad.Server, Name: adText(ad, "name"), Owner: adText(ad, search.DimOwner),
		Country: adText(ad, "country"), Place: adText(ad, "city"), Environments: environments,
		Free: api.Capacity{
			CPUs: int(adNumber(ad, "free_cpu")), MemoryBytes: uint64(adNumber(ad, "free_memory")), DiskBytes: uint64(adNumber(ad, "free_disk")),
		},
		Rates: apiRates(adRates(ad)), Ad: make(map[string]any, ad.Attributes.Len()),
	}
	if rtt, ok := n.overlay.RTT(ad.Server); ok {
		r.RTTMillis = float64(rtt) / float64(time.Millisecond)
	}
	for name, v := range ad.Attributes.All() {
		switch f, isNumber := v.Number(); {
		case isNumber:
			r.Ad[name] = f
		default:
			r.Ad[name] = v.String()
		}
	}
	return r
}

func adValue(ad *search.Ad, name string) search.Value {
	v, _ := ad.Attribute(name)
	return v
}

func adText(ad *search.Ad, name string) string {
	s, _ := adValue(ad, name).Text()
	return s
}

func adNumber(ad *search.Ad, name string) float64 {
	f, _ := adValue(ad, name).Number()
	return max(f, 0)
}

// adRates returns the advertised prices, exact to the nano-unit.
func adRates(ad *search.Ad) ledger.Rates {
	price := func(name string) ledger.Amount {
		return ledger.Amount(min(math.Round(adNumber(ad, name)*float64(ledger.Unit)), float64(ledger.MaxAmount)))
	}
	return ledger.Rates{
		Session: price("price_hour"), CPU: price("price_cpu"), Memory: price("price_memory"),
		Disk: price("price_disk"), Network: price("price_network"),
	}
}
