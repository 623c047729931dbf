package node

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/search/cel"
	"github.com/xenoserver/xeno/search/placement"
)

const (
	// placeTimeout bounds a placement: less than the API waits for one.
	placeTimeout = 45 * time.Second
	// defaultEffort is that of a placement which says nothing: more gains a few
	// per cent and takes several times as many messages.
	defaultEffort = 0.5
)

// Place implements api.Market.
func (n *Node) Place(ctx context.Context, req api.PlaceRequest) (api.PlaceAnswer, error) {
	begin := time.Now()
	if err := n.canSearch(); err != nil {
		return api.PlaceAnswer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	spec, err := n.placeSpec(ctx, req)
	if err != nil {
		return api.PlaceAnswer{}, err
	}
	placed, err := n.index.Place(ctx, spec)
	if err != nil {
		return api.PlaceAnswer{}, apiError(err)
	}
	if len(placed.Unmet) > 0 {
		return api.PlaceAnswer{}, noPlacement(placed.Arrangement, ctx.Err() != nil)
	}
	unit := 1.0
	if spec.Minimise == placement.GoalLatency {
		unit = 1000
	}
	out := api.PlaceAnswer{
		Price: ledger.Amount(min(math.Round(placed.Price*float64(ledger.Unit)), float64(ledger.MaxAmount))), LatencyMillis: millis(placed.Latency),
		Minimised: string(spec.Minimise), Cost: placed.Cost * unit, Floor: placed.Floor * unit, Optimal: placed.Optimal, Complete: placed.Complete,
		Candidates: placed.Candidates, Queries: placed.Queries, Requests: placed.Requests, Millis: millis(time.Since(begin)),
	}
	for _, m := range placed.Machines {
		out.Machines = append(out.Machines, api.PlacedMachine{Group: m.Group, Server: n.result(m.Signed.Ad)})
	}
	return out, nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// noPlacement says which constraints stand against a placement.
func noPlacement(a placement.Arrangement, late bool) error {
	var reasons, alone []string
	for _, u := range a.Unmet {
		reasons = append(reasons, u.Rule+": "+u.Best)
		if u.Alone {
			alone = append(alone, u.Rule)
		}
	}
	err := api.Errorf(api.CodeNoMatch, "no placement among %d candidates: %s", a.Candidates, strings.Join(reasons, "; "))
	switch {
	case late:
		return err.WithHint("the time was over before all servers were found; try again, or with less --effort")
	case len(alone) > 0:
		return err.WithHint("it is possible without: " + strings.Join(alone, "; or without: "))
	case !a.Complete:
		return err.WithHint("there are more servers; try with more --effort")
	default:
		return err.WithHint("xeno search --explain with a group's query shows which condition excludes which server")
	}
}

// placeSpec turns a request into a specification.
func (n *Node) placeSpec(ctx context.Context, req api.PlaceRequest) (placement.Spec, error) {
	hosts := cel.NewHosts(n.hosts(ctx))
	spec := placement.Spec{
		MaxPrice: float64(req.MaxPrice) / float64(ledger.Unit), Minimise: placement.Goal(req.Minimise),
		Effort: cmp.Or(req.Effort, defaultEffort), Verify: true,
	}
	ordered := false
	for i, g := range req.Groups {
		group, err := n.placeGroup(g, i, len(req.Groups), hosts)
		if err != nil {
			return spec, err
		}
		ordered = ordered || group.Query.OrderBy != ""
		spec.Groups = append(spec.Groups, group)
	}
	if spec.Minimise == "" {
		spec.Minimise = placement.GoalPrice
		if ordered {
			spec.Minimise = placement.GoalOrder
		}
	}
	for _, r := range req.Near {
		spec.Near = append(spec.Near, placement.NearRule{Groups: r.Groups, Most: duration(r.MaxMillis)})
	}
	for _, r := range req.Spread {
		spec.Spread = append(spec.Spread, placement.SpreadRule{Groups: r.Groups, By: r.By, Most: cmp.Or(r.Most, 1)})
	}
	for _, r := range req.Reach {
		to := make([]dht.Coordinate, len(r.Hosts))
		for i, host := range r.Hosts {
			at, err := hosts.Resolve(host)
			if err != nil {
				return spec, api.Errorf(api.CodeBadRequest, "reach: %v", err)
			}
			to[i] = at
		}
		spec.Reach = append(spec.Reach, placement.ReachRule{Groups: r.Groups, To: to, Most: duration(r.MaxMillis)})
	}
	if err := spec.Check(n.schema); err != nil {
		return spec, api.Errorf(api.CodeBadRequest, "%s", strings.TrimPrefix(err.Error(), search.ErrBadQuery.Error()+": "))
	}
	return spec, nil
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// placeGroup compiles one of several groups.
func (n *Node) placeGroup(g api.PlaceGroup, i, of int, hosts *cel.Hosts) (placement.Group, error) {
	out := placement.Group{Name: g.Name, Count: g.Count}
	if g.Name == "" && of == 1 {
		out.Name = "all"
	}
	where := out.Name
	if where == "" {
		where = fmt.Sprint(i + 1)
	}
	fail := func(err error) error { return api.Errorf(api.CodeQuery, "group %s: %v", where, err) }
	var err error
	if strings.TrimSpace(g.Query) != "" {
		if out.Query.Where, err = cel.Compile(n.schema, g.Query, hosts.Resolve); err != nil {
			return out, fail(err)
		}
	}
	if g.Order != "" {
		if out.Query.OrderBy, out.Query.Desc, err = cel.OrderBy(n.schema, g.Order); err != nil {
			return out, fail(err)
		}
	}
	if out.Query.OrderBy == search.DimCoordinate {
		own := n.overlay.Coordinate()
		out.Query.Origin = &own
	}
	return out, nil
}
