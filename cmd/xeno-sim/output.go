package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/xenoserver/xeno/sim/report"
)

// makeDir makes the directory of --out before a long run begins. Empty: none.
func makeDir(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	if err := os.MkdirAll(name, 0o777); err != nil { // as the umask says
		return "", usagef("--out: %w", err)
	}
	probe, err := os.CreateTemp(name, ".xeno-sim-*")
	if err != nil {
		return "", usagef("--out: %w", err)
	}
	return name, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// A file of --out and what writes it.
type file struct {
	name  string
	write func(io.Writer) error
}

// write writes results into a directory: one, or those of a sweep with a
// number each. An empty dir writes nothing.
func write(dir string, all []*report.Report, checks [][]report.Check) error {
	if dir == "" {
		return nil
	}
	var summaries []*report.Summary
	var files []file
	for i, r := range all {
		end := ""
		if len(all) > 1 {
			end = fmt.Sprintf("-%d", i+1)
		}
		s := r.Summarise()
		summaries = append(summaries, s)
		files = append(files, file{"result" + end + ".json", r.WriteJSON}, file{"samples" + end + ".csv", r.WriteSamples},
			file{"tables" + end + ".md", s.WriteMarkdown})
		pics, err := r.Pictures()
		if err != nil {
			return err
		}
		files = append(files, picturesOf(pics, end)...)
	}
	if len(all) > 1 {
		pics, err := report.Growth(summaries)
		if err != nil {
			return err
		}
		files = append(files, picturesOf(pics, "")...)
	}
	files = append(files,
		file{"figures.md", func(w io.Writer) error { return report.WriteFigures(w, summaries) }},
		file{"summary.csv", func(w io.Writer) error { return report.WriteSummaries(w, summaries) }},
		file{"report.html", func(w io.Writer) error { return report.WriteHTML(w, all, checks[0]) }})
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, f.name), f.write); err != nil {
			return err
		}
	}
	return nil
}

func picturesOf(pics []report.Picture, end string) []file {
	var out []file
	for _, p := range pics {
		out = append(out, file{p.Name + end + ".svg", p.WriteSVG}, file{p.Name + end + ".png", p.WritePNG})
	}
	return out
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
