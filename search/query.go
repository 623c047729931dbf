package search

import (
	"errors"
	"fmt"

	"github.com/xenoserver/xeno/dht"
)

// ErrBadQuery reports a query that no retry makes right.
var ErrBadQuery = errors.New("search: bad query")

// A Query asks for ads.
type Query struct {
	Where Predicate // nil: every ad
	// OrderBy names the number, version or, for latency from Origin, network
	// coordinate to sort by; empty: any order, which is cheapest. Ads that
	// lack it come last, equal ones in the order of their servers' hashes.
	OrderBy string
	Desc    bool
	Limit   int             // most results; 0: all within the budget
	Origin  *dht.Coordinate // where latency is measured from; needed to order by a coordinate
}

// Check returns an error that wraps ErrBadQuery unless the schema can answer q.
func (s *Schema) Check(q Query) error {
	if q.Limit < 0 || q.Limit > MaxLimit {
		return fmt.Errorf("%w: limit %d, 0 to %d", ErrBadQuery, q.Limit, MaxLimit)
	}
	if err := s.checkPredicate(q.Where); err != nil {
		return err
	}
	if q.OrderBy == "" {
		return nil
	}
	d, ok := s.Dimension(q.OrderBy)
	if !ok {
		return fmt.Errorf("%w: order by %.40q, which is not in the schema", ErrBadQuery, q.OrderBy)
	}
	switch d.Kind {
	case KindNumber, KindVersion:
		return nil
	case KindCoordinate:
		if q.Origin == nil || !checkCoordinate(*q.Origin) {
			return fmt.Errorf("%w: order by latency needs a network coordinate to measure from", ErrBadQuery)
		}
		return nil
	default:
		return fmt.Errorf("%w: %s is a %s, which has no order", ErrBadQuery, q.OrderBy, d.Kind)
	}
}

// CheckCellQuery returns an error that wraps ErrBadQuery unless a holder can
// answer q.
func (s *Schema) CheckCellQuery(q CellQuery) error {
	if err := s.CheckCell(q.Cell); err != nil {
		return err
	}
	if err := s.Check(q.Query); err != nil {
		return err
	}
	if q.After == nil || q.After.Value.IsZero() {
		return nil
	}
	d, ok := s.Dimension(q.Query.OrderBy)
	if !ok {
		return fmt.Errorf("%w: a cursor with a value, but no order", ErrBadQuery)
	}
	if err := q.After.Value.check(d); err != nil {
		return fmt.Errorf("%w: cursor: %w", ErrBadQuery, err)
	}
	return nil
}
