package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/cmd/internal/clidoc"
)

var rewrite = flag.Bool("rewrite", false, "write docs/cli.md anew from the commands")

//go:generate go test -run TestDocs -rewrite .

// allCommands lists the visible commands below root, depth first.
func allCommands(root *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		all = append(append(all, c), allCommands(c)...)
	}
	return all
}

// TestDocs makes docs/cli.md from the commands and the exit codes, and
// compares it with the committed one.
func TestDocs(t *testing.T) {
	const name = "../../docs/cli.md"
	want := buildDocs(t)
	if *rewrite {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/cli.md is stale, run go generate ./cmd/xeno (-want +got):\n%s", diff)
	}
}

// TestDocsPlacement reads the placement in docs/search.md.
func TestDocsPlacement(t *testing.T) {
	text, err := os.ReadFile("../../docs/search.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```toml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/search.md has no placement")
	}
	name := filepath.Join(t.TempDir(), "place.toml")
	if err := os.WriteFile(name, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	req, err := readPlaceFile(name)
	if err != nil || len(req.Groups) != 2 || len(req.Near) != 1 || len(req.Spread) != 1 || len(req.Reach) != 1 {
		t.Errorf("read %+v, %v", req, err)
	}
}

const docsHead = `# The commands

Made from the program itself by ` + "`go generate ./cmd/xeno`" + `; do not edit.

` + "`xeno`" + ` commands the daemon whose home directory is ` + "`--home DIR`" + `, by default ` + "`$XENO_HOME`" + ` or
` + "`~/.xeno`" + `. With ` + "`--json`" + ` every verb prints one JSON value on standard output, and a failure
is one object ` + "`{\"error\": {\"code\", \"message\", \"hint\"}}`" + ` on standard error. Sessions and orders
are named by their ID or its first digits, at least four. Amounts are units of the network's currency
with at most nine decimals; in JSON they are integers of nano-units (1e-9).

## Exit codes

| code | meaning |
|---|---|
`

const docsDaemon = `
` + "`xeno ssh`" + ` ends with the code of the remote command. ` + "`xeno-node`" + ` uses 0 (ended by a signal), 1, 2
(a flag or configuration file is wrong) and 5 (another daemon runs on the home directory).

`

func buildDocs(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(docsHead)
	codes, err := clidoc.ExitCodes(".")
	if err != nil {
		t.Fatal(err)
	}
	b.WriteString(codes)
	b.WriteString(docsDaemon)
	root := newRoot(&app{getenv: func(string) string { return "" }})
	root.PersistentFlags().Lookup("home").DefValue = ""
	for _, c := range allCommands(root) {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n", c.CommandPath(), strings.TrimSuffix(orText(c.Long, c.Short), "."))
		if c.Runnable() {
			fmt.Fprintf(&b, "```\n%s\n```\n\n", c.UseLine())
		}
		fmt.Fprintf(&b, "Example:\n\n```sh\n%s\n```\n\n", unindent(c.Example))
		if flags := c.LocalNonPersistentFlags().FlagUsages(); flags != "" {
			fmt.Fprintf(&b, "Flags:\n\n```\n%s```\n\n", flags)
		}
	}
	return append(bytes.TrimSpace(b.Bytes()), '\n')
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func unindent(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.TrimPrefix(strings.TrimRight(line, "\n"), "  "))
	}
	return strings.Join(lines, "\n")
}
