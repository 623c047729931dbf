package xeno

import (
	"fmt"
	"slices"

	"github.com/xenoserver/xeno/search"
)

// Differences compares the cells of a live network with those at rest.
func Differences(l *Live, x *Index) (cells int, wrong []string) {
	x.each(func(c *cell) {
		for _, at := range x.holders(c) {
			cells++
			reply := l.answer(at, search.CellQuery{Cell: c.id, Query: search.Query{Limit: 1}, Whole: true})
			if why := x.difference(c, &reply); why != "" {
				wrong = append(wrong, fmt.Sprintf("cell %s at %d: %s", c.id, at, why))
			}
		}
	})
	return cells, wrong
}

// Uncovered returns how many ads the summaries of the cells that they are in do
// not cover, of how many.
func Uncovered(x *Index) (uncovered, all int) {
	x.each(func(c *cell) {
		in := x.copyOf(c, x.world.Net.Clock().Add(age), x.ad)
		c.table(func(b *cell) {
			_, slot := b.id.Prefix.Parent()
			told := in.Children[slices.IndexFunc(in.Children, func(told search.Told) bool { return told.Index == slot })]
			all += b.high - b.low
			uncovered += x.uncovered(b, told.Summary)
		})
	})
	return uncovered, all
}

// uncovered returns how many ads of a cell a summary does not cover.
func (x *Index) uncovered(c *cell, m search.Summary) (n int) {
	for _, k := range x.trees[c.id.Tree].keys[c.low:c.high] {
		if !m.Covers(x.schema.SummaryOf(x.ad(k.node))) {
			n++
		}
	}
	return n
}

func (x *Index) difference(c *cell, reply *search.CellReply) (why string) {
	switch {
	case reply.Gathered && (!c.inner || int(reply.Total) != c.high-c.low):
		return fmt.Sprintf("answers for all %d ads, should for %d", reply.Total, c.high-c.low)
	case reply.Gathered:
		return ""
	case !reply.Known || reply.Inner != c.inner:
		return fmt.Sprintf("known %v, inner %v, should be inner %v", reply.Known, reply.Inner, c.inner)
	case !c.inner && int(reply.Total) != c.high-c.low:
		return fmt.Sprintf("%d ads, should be %d", reply.Total, c.high-c.low)
	}
	below := 0
	c.table(func(b *cell) {
		below++
		_, slot := b.id.Prefix.Parent()
		i := slices.IndexFunc(reply.Children, func(child search.Child) bool { return child.Index == slot })
		if i < 0 {
			why = fmt.Sprintf("does not know %s", b.id)
			return
		}
		m := reply.Children[i].Summary
		if int(m.Count) != b.high-b.low || !slices.Equal(m.Occupancy, b.occupy) {
			why = fmt.Sprintf("knows %d ads of %s, should know %d with the same occupancy", m.Count, b.id, b.high-b.low)
		} else if n := x.uncovered(b, m); n > 0 {
			why = fmt.Sprintf("has no ball around %d ads of %s", n, b.id)
		}
	})
	if c.inner && why == "" && below != len(reply.Children) {
		why = fmt.Sprintf("knows %d cells below, should know %d", len(reply.Children), below)
	}
	return why
}
