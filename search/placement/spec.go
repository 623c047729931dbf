package placement

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// DimPrice is the dimension that placements count as the price of a machine.
const DimPrice = "price_hour"

// Limits of a placement.
const (
	// MaxMachines bounds the machines of a placement: the work grows with
	// their square.
	MaxMachines = 64
	// maxGroupName bounds the name of a group in bytes.
	maxGroupName = 40
	// maxGroups bounds the groups, each of which costs searches.
	maxGroups = 16
	// maxRules bounds the constraints of each kind.
	maxRules = 16
	// MaxCandidates bounds the servers that a placement chooses from.
	MaxCandidates = 2000
	// maxQueries bounds the searches of a placement for the groups and
	// around anchors.
	maxQueries = 64
	// maxOtherQueries bounds, for each stage, the searches for servers of other
	// owners than those that have the first ones found.
	maxOtherQueries = 8
	// maxOthers is how many such searches are made in turn: each excludes the
	// large owners that the ones before have met.
	maxOthers = 3
	// maxConfirmRounds bounds how often a placement is made anew because a
	// chosen server did not confirm its ad.
	maxConfirmRounds = 3
)

// A Goal is what a placement makes small.
type Goal string

// The goals.
const (
	GoalPrice   Goal = "price"   // the sum of the prices an hour
	GoalLatency Goal = "latency" // the greatest round trip between two machines, or to a user of a ReachRule
	GoalOrder   Goal = "order"   // the sum of the ranks in the orders of the groups' queries
)

// A Spec says which machines are wanted and what must hold among them.
// Every machine is another server. A rule without groups is about all machines.
type Spec struct {
	Groups []Group
	Near   []NearRule
	Spread []SpreadRule
	Reach  []ReachRule
	// MaxPrice is what all machines may cost an hour together; 0: anything.
	MaxPrice float64
	Minimise Goal // empty: GoalPrice
	// Effort trades time for quality, 0 to 1: from 16 candidates a search and
	// a few thousand comparisons to 2,000 and about 20 million (a second).
	// Given the same answers, more never leads to a worse placement.
	Effort float64
	// Verify has the chosen servers asked for their current ads.
	Verify bool
}

// A Group is a number of machines that fit one query. The query's order
// decides which servers are looked at first, by default the goal; its limit
// does not count.
type Group struct {
	Name  string // for people and for rules; each once
	Count int
	Query search.Query
}

// A NearRule bounds the predicted round trip between any two of its machines.
type NearRule struct {
	Groups []string
	Most   time.Duration
}

// A SpreadRule allows at most Most machines with one value of a text or
// enumeration: of one owner, or in one country.
type SpreadRule struct {
	Groups []string
	By     string
	Most   int
}

// A ReachRule bounds the predicted round trip from each machine to each of To.
type ReachRule struct {
	Groups []string
	To     []dht.Coordinate
	Most   time.Duration
}

func (r NearRule) String() string { return "near " + r.Most.String() + about(r.Groups) }

func (r SpreadRule) String() string {
	return fmt.Sprintf("spread over %s, %d each%s", r.By, r.Most, about(r.Groups))
}

func (r ReachRule) String() string {
	return fmt.Sprintf("reach %d users in %s%s", len(r.To), r.Most, about(r.Groups))
}

func about(groups []string) string {
	if len(groups) == 0 {
		return ""
	}
	return " of " + strings.Join(groups, ", ")
}

// covers tells whether a rule with these groups is about a group.
func covers(groups []string, name string) bool {
	return len(groups) == 0 || slices.Contains(groups, name)
}

// machines returns how many machines a rule with these groups is about.
func (s *Spec) machines(groups []string) (n int) {
	for _, g := range s.Groups {
		if covers(groups, g.Name) {
			n += g.Count
		}
	}
	return n
}

// Check returns an error that wraps search.ErrBadQuery unless a Placer can work
// on the specification, in a network with that schema.
func (s *Spec) Check(schema *search.Schema) error {
	if len(s.Groups) == 0 || len(s.Groups) > maxGroups {
		return fmt.Errorf("%w: a placement has 1 to %d groups, not %d", search.ErrBadQuery, maxGroups, len(s.Groups))
	}
	names := make(map[string]bool, len(s.Groups))
	for _, g := range s.Groups {
		if g.Name == "" || len(g.Name) > maxGroupName || names[g.Name] {
			return fmt.Errorf("%w: group %.40q: each group needs a name of its own of at most %d bytes", search.ErrBadQuery, g.Name, maxGroupName)
		}
		names[g.Name] = true
		if g.Count < 1 || g.Count > MaxMachines {
			return fmt.Errorf("%w: group %s: %d machines, 1 to %d", search.ErrBadQuery, g.Name, g.Count, MaxMachines)
		}
		q := g.Query
		q.Limit = 0
		if err := schema.Check(q); err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
	}
	if n := s.machines(nil); n > MaxMachines {
		return fmt.Errorf("%w: %d machines, limit %d", search.ErrBadQuery, n, MaxMachines)
	}
	if !(s.Effort >= 0 && s.Effort <= 1) {
		return fmt.Errorf("%w: effort %g, 0 to 1", search.ErrBadQuery, s.Effort)
	}
	switch s.Minimise {
	case "", GoalPrice, GoalLatency, GoalOrder:
	default:
		return fmt.Errorf("%w: minimise %.20q: price, latency or order", search.ErrBadQuery, s.Minimise)
	}
	if d, _ := schema.Dimension(DimPrice); d.Kind != search.KindNumber && (s.MaxPrice != 0 || s.goal() == GoalPrice) {
		return fmt.Errorf("%w: the schema of this network has no %s", search.ErrBadQuery, DimPrice)
	}
	if !(s.MaxPrice >= 0) {
		return fmt.Errorf("%w: price %g is negative", search.ErrBadQuery, s.MaxPrice)
	}
	return s.checkRules(schema, names)
}

func (s *Spec) checkRules(schema *search.Schema, names map[string]bool) error {
	if len(s.Near) > maxRules || len(s.Spread) > maxRules || len(s.Reach) > maxRules {
		return fmt.Errorf("%w: at most %d rules of each kind", search.ErrBadQuery, maxRules)
	}
	known := func(rule fmt.Stringer, groups []string) error {
		for _, name := range groups {
			if !names[name] {
				return fmt.Errorf("%w: %s: there is no group %.40q", search.ErrBadQuery, rule, name)
			}
		}
		return nil
	}
	for _, r := range s.Near {
		if r.Most <= 0 {
			return fmt.Errorf("%w: %s: the round trip must be positive", search.ErrBadQuery, r)
		}
		if err := known(r, r.Groups); err != nil {
			return err
		}
	}
	for _, r := range s.Spread {
		d, ok := schema.Dimension(r.By)
		if !ok || d.Kind != search.KindText && d.Kind != search.KindEnum {
			return fmt.Errorf("%w: %s: %.40q is no text or enumeration of the schema", search.ErrBadQuery, r, r.By)
		}
		if r.Most < 1 {
			return fmt.Errorf("%w: %s: allow at least one", search.ErrBadQuery, r)
		}
		if err := known(r, r.Groups); err != nil {
			return err
		}
	}
	for _, r := range s.Reach {
		rule := search.RTT{Dim: search.DimCoordinate, To: r.To, Most: r.Most}
		if err := schema.Check(search.Query{Where: rule}); err != nil || r.Most == 0 {
			return fmt.Errorf("%w: %s: 1 to %d coordinates and a positive round trip", search.ErrBadQuery, r, search.MaxTargets)
		}
		if err := known(r, r.Groups); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) goal() Goal {
	if s.Minimise == "" {
		return GoalPrice
	}
	return s.Minimise
}

// query returns what a group's servers must satisfy as far as each of them
// alone can tell, in the order in which they are looked at.
func (s *Spec) query(schema *search.Schema, g Group) search.Query {
	q := g.Query
	where := slices.Clone(search.Conjuncts(q.Where))
	has := func(dim string) {
		if !slices.Contains(where, search.Predicate(search.Has{Dim: dim})) {
			where = append(where, search.Has{Dim: dim})
		}
	}
	for _, r := range s.Reach {
		if covers(r.Groups, g.Name) {
			where = append(where, search.RTT{Dim: search.DimCoordinate, To: r.To, Most: r.Most})
			if q.Origin == nil {
				q.Origin = &r.To[0]
			}
		}
	}
	for _, r := range s.Spread {
		if covers(r.Groups, g.Name) {
			has(r.By)
		}
	}
	if s.goal() == GoalPrice || s.MaxPrice > 0 {
		has(DimPrice)
	}
	if s.goal() == GoalLatency || slices.ContainsFunc(s.Near, func(r NearRule) bool { return covers(r.Groups, g.Name) }) {
		has(search.DimCoordinate)
	}
	q.Where = search.And(where)
	if q.OrderBy != "" {
		return q
	}
	if _, ok := schema.Dimension(DimPrice); ok {
		q.OrderBy = DimPrice
	}
	if s.goal() == GoalLatency && q.Origin != nil {
		q.OrderBy = search.DimCoordinate
	}
	return q
}
