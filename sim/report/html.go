package report

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed page.html
var pages embed.FS

// WriteHTML writes one page about a run, or about all runs of a sweep, with
// tables, pictures and what came of expectations. It needs nothing else: no
// scripts, fonts or pictures from elsewhere.
func WriteHTML(w io.Writer, all []*Report, checks []Check) error {
	if len(all) == 0 {
		return fmt.Errorf("%w: nothing to show", ErrBadResult)
	}
	tmpl, err := template.New("page.html").Funcs(template.FuncMap{"exactly": exactly}).ParseFS(pages, "page.html")
	if err != nil {
		return err
	}
	page := page{Title: all[0].Scenario, Description: all[0].Description, Checks: checks, Plain: Plain}
	var summaries []*Summary
	for _, r := range all {
		s := r.Summarise()
		summaries = append(summaries, s)
		part := partOf(s)
		pics, err := r.Pictures()
		if err != nil {
			return err
		}
		if err := part.draw(pics); err != nil {
			return err
		}
		page.Parts = append(page.Parts, part)
	}
	if len(all) > 1 {
		pics, err := Growth(summaries)
		if err != nil {
			return err
		}
		if page.Growth, err = drawn(pics); err != nil {
			return err
		}
	}
	return tmpl.Execute(w, page)
}

// page is what the template shows.
type page struct {
	Title, Description, Plain string
	Checks                    []Check
	Growth                    []template.HTML
	Parts                     []section
}

// A section is one report.
type section struct {
	Headline, Why, Intervals, Engine string
	Classes                          []*classPart
}

// A classPart is one class: its tables and its pictures.
type classPart struct {
	Name     string
	Tables   []Table
	Pictures []template.HTML
}

func partOf(s *Summary) section {
	headline, _, _ := strings.Cut(s.headline(), "\n")
	p := section{Headline: headline, Intervals: s.IntervalOf(), Engine: s.engineLine()}
	if s.Partial {
		p.Why = s.Why
	}
	tables := s.Tables()
	for i, rows := range s.byKind() {
		class := rows[0].Class
		if n := len(p.Classes); n == 0 || p.Classes[n-1].Name != class {
			p.Classes = append(p.Classes, &classPart{Name: class})
		}
		last := p.Classes[len(p.Classes)-1]
		last.Tables = append(last.Tables, tables[i])
	}
	return p
}

// draw gives each class its pictures.
func (s *section) draw(pics []Picture) error {
	for _, c := range s.Classes {
		var own []Picture
		for _, p := range pics {
			if strings.HasSuffix(p.Name, "-"+c.Name) {
				own = append(own, p)
			}
		}
		var err error
		if c.Pictures, err = drawn(own); err != nil {
			return err
		}
	}
	return nil
}

// drawn returns pictures as SVG that stands in a page.
func drawn(pics []Picture) ([]template.HTML, error) {
	var out []template.HTML
	for _, p := range pics {
		var b bytes.Buffer
		if err := p.WriteSVG(&b); err != nil {
			return nil, err
		}
		_, svg, _ := strings.Cut(b.String(), "<svg") // without the XML declaration
		out = append(out, template.HTML("<svg"+svg)) //nolint:gosec // drawn here; names are escaped by the drawer
	}
	return out, nil
}

// Cell texts and marks, for the template.

// Text is what the cell shows.
func (c cell) Text() string { return c.text }

// Best tells whether it is the best of its column.
func (c cell) Best() bool { return c.best }
