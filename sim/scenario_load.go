package sim

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

//go:embed scenarios/*.toml
var shipped embed.FS

// ErrBadScenario is wrapped by errors of scenarios that cannot be run as they
// are written. They are a line each mistake: file, line, column and remedy.
var ErrBadScenario = errors.New("bad scenario")

// Shipped returns the names of the scenarios that ship, sorted.
func Shipped() []string {
	entries, _ := fs.ReadDir(shipped, "scenarios") // embedded
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".toml"))
	}
	return names
}

// Load reads a scenario that ships, by its name, or any other, by its path,
// which ends in .toml or has a slash. Paths in a file begin at its directory,
// those of a shipped one at the current directory. The error wraps
// ErrBadScenario where the scenario is at fault.
func Load(name string) (*Scenario, error) {
	if strings.HasSuffix(name, ".toml") || strings.ContainsAny(name, `/\`) {
		data, err := readFile(name, maxFileBytes)
		if err != nil {
			return nil, fmt.Errorf("read scenario: %w", err)
		}
		return parse(data, name, filepath.Dir(name))
	}
	data, err := Source(name)
	if err != nil {
		return nil, err
	}
	return parse(data, name+".toml", ".")
}

// Source returns the file of a scenario that ships.
func Source(name string) ([]byte, error) {
	data, err := shipped.ReadFile("scenarios/" + name + ".toml")
	if err != nil {
		return nil, fmt.Errorf("%w: no scenario %q ships%s: there are %s; a file is named by a path that ends in .toml",
			ErrBadScenario, name, suggest(name, Shipped()), strings.Join(Shipped(), ", "))
	}
	return data, nil
}

// readFile reads a regular file of at most that many bytes.
func readFile(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", name)
	case info.Size() > most:
		return nil, fmt.Errorf("%s has %d bytes, at most %d", name, info.Size(), most)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// Parse reads a scenario from the text of a file, whose name stands in errors
// and whose directory paths begin at.
func Parse(data []byte, file string) (*Scenario, error) {
	return parse(data, file, filepath.Dir(file))
}

func parse(data []byte, file, dir string) (*Scenario, error) {
	s := Default()
	s.file, s.dir = file, dir
	pos, err := positions(data, file)
	if err != nil {
		return nil, err
	}
	s.pos = pos
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, syntaxError(file, err)
	}
	flat := map[string]any{}
	flatten(tree, "", flat)
	var found mistakes
	for _, name := range s.inOrder(flat) {
		found.add(s.read(name, flat[name]))
	}
	if s.Name == "" {
		s.Name = strings.TrimSuffix(filepath.Base(file), ".toml")
	}
	if len(found) == 0 {
		found.add(s.files())
	}
	if len(found) == 0 {
		found.add(s.Check())
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	return &s, nil
}

// syntaxError says where a file is no TOML.
func syntaxError(file string, err error) error {
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := at.Position()
		return &mistake{file, place{row, column}, strings.TrimPrefix(err.Error(), "toml: ") + `: write keys as in: nodes = 1000, texts in quotes, tables as [network]`}
	}
	return &mistake{file, place{1, 1}, strings.TrimPrefix(err.Error(), "toml: ")}
}

// flatten writes the leaves of a tree by their full names. Below expect every
// level is part of a name.
func flatten(tree map[string]any, prefix string, out map[string]any) {
	for name, v := range tree { // into a map again
		full := prefix + name
		if sub, ok := v.(map[string]any); ok && (len(sub) > 0 || isTable(full)) {
			flatten(sub, full+".", out)
			continue
		}
		out[full] = v
	}
}

// isTable tells whether the format has such a table.
func isTable(name string) bool {
	return slices.Contains(tables(), name) || strings.HasPrefix(name, "expect.")
}

func tables() []string {
	return []string{"network", "market", "queries", "churn", "sweep", "expect"}
}

// inOrder returns the names of the file's keys in the order of lines.
func (s *Scenario) inOrder(flat map[string]any) []string {
	names := make([]string, 0, len(flat))
	for name := range flat { // sorted below
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		pa, pb := s.place(a), s.place(b)
		if pa != pb {
			return pa.compare(pb)
		}
		return strings.Compare(a, b)
	})
	return names
}

// read takes one key of the file.
func (s *Scenario) read(name string, v any) error {
	if rest, ok := strings.CutPrefix(name, "expect."); ok {
		e, err := parseExpectation(rest, v)
		if err != nil {
			return s.errorAt(name, "%v", err)
		}
		if len(s.Expect) == maxExpect {
			return s.errorAt(name, "more than %d expectations: leave some out", maxExpect)
		}
		s.Expect = append(s.Expect, e)
		return nil
	}
	if _, ok := findKey(name); !ok {
		return s.errorAt(name, "unknown key %s%s", name, s.remedyUnknown(name))
	}
	if err := s.Set(name, v); err != nil {
		return s.errorAt(name, "%v", err)
	}
	return nil
}

// remedyUnknown says what somebody may have meant by a key.
func (s *Scenario) remedyUnknown(name string) string {
	if slices.Contains(tables(), name) {
		return fmt.Sprintf(": it is a table, begin it with a line [%s]", name)
	}
	if best := suggest(name, keyNames()); best != "" {
		return best
	}
	table, last, ok := strings.Cut(name, ".")
	if !ok {
		last = name
	}
	for _, k := range keys() { // the right key in the wrong table
		if t, l, _ := strings.Cut(k.name, "."); l == last {
			return fmt.Sprintf(": it belongs in [%s]", t)
		}
	}
	if ok && !slices.Contains(tables(), table) {
		return fmt.Sprintf(": there is no table [%s]; there are [%s]", table, strings.Join(tables(), "], ["))
	}
	return ": leave it out"
}

// files makes the paths of the file absolute, looks whether they are there, and
// reads the trace of churn.
func (s *Scenario) files() error {
	var found mistakes
	for _, k := range keys() {
		if given, ok := s.given[k.name].(string); ok && k.path {
			found.add(s.locate(k, given, s.dir))
		}
	}
	return found.err()
}

// locate makes a path that begins at dir absolute, and reads what it names
// where that is the trace of churn.
func (s *Scenario) locate(k key, given, dir string) error {
	if given == "" || k.name == "network.latency" && given == Cities {
		return nil
	}
	path := given
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return s.errorAt(k.name, "%s names no file %s: paths begin at %s", k.name, given, dir)
	case !info.Mode().IsRegular():
		return s.errorAt(k.name, "%s names %s, which is not a file", k.name, given)
	}
	if k.name == "churn.trace" {
		if s.Churn.Trace, err = loadTrace(path); err != nil {
			return err
		}
	}
	return k.set(s, path)
}
