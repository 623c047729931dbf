package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/cmd/internal/clidoc"
	"github.com/xenoserver/xeno/sim"
	"github.com/xenoserver/xeno/sim/report"
)

var rewrite = flag.Bool("rewrite", false, "write the generated parts of docs/simulator.md anew")

//go:generate go test -run TestDocs -rewrite .

func commands() []*cobra.Command {
	var all []*cobra.Command
	for _, c := range newRoot(new(app)).Commands() {
		if !c.Hidden && c.Name() != "help" && c.Name() != "completion" {
			all = append(all, c)
		}
	}
	return all
}

// TestDocs makes the parts of docs/simulator.md that the program knows better,
// and compares them with the committed ones.
func TestDocs(t *testing.T) {
	const name = "../../docs/simulator.md"
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	codes, err := clidoc.ExitCodes(".")
	if err != nil {
		t.Fatal(err)
	}
	want := got
	for part, text := range map[string]string{
		"keys": keyTable(), "commands": commandList(), "exit codes": "\n| code | meaning |\n|---|---|\n" + codes + "\n", "scenarios": scenarioTable(t), "figures": figureList(),
	} {
		want = replacePart(t, want, part, text)
	}
	if *rewrite {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/simulator.md is stale, run go generate ./cmd/xeno-sim (-want +got):\n%s", diff)
	}
}

// replacePart puts text between the comments "generated: part" and "end".
func replacePart(t *testing.T, doc []byte, part, text string) []byte {
	t.Helper()
	begin := []byte("<!-- generated: " + part + " -->\n")
	before, rest, ok := bytes.Cut(doc, begin)
	_, after, closed := bytes.Cut(rest, []byte("<!-- end -->"))
	if !ok || !closed {
		t.Fatalf("docs/simulator.md has no part %q", part)
	}
	return bytes.Join([][]byte{before, begin, []byte(text), []byte("<!-- end -->"), after}, nil)
}

func keyTable() string {
	var b strings.Builder
	table := "-"
	for _, k := range sim.Keys() {
		in, name, ok := strings.Cut(k.Name, ".")
		if !ok {
			in, name = "", k.Name
		}
		if in != table {
			table = in
			title := "At the top of the file"
			if in != "" {
				title = "`[" + in + "]`"
			}
			fmt.Fprintf(&b, "\n%s:\n\n| key | value | default | meaning |\n|---|---|---|---|\n", title)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, k.Kind, code(k.Default), k.Meaning)
	}
	return b.String() + "\n"
}

func code(s string) string {
	if s == "" {
		return ""
	}
	if strings.HasPrefix(s, "all: ") {
		return "all: `" + strings.ReplaceAll(s[5:], ", ", "`, `") + "`"
	}
	return "`" + s + "`"
}

func commandList() string {
	var b strings.Builder
	for _, c := range commands() {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n```sh\n", c.UseLine(), c.Long)
		for line := range strings.Lines(c.Example) {
			b.WriteString(strings.TrimPrefix(line, "  "))
		}
		b.WriteString("\n```\n")
		if f := c.Flags().Lookup("progress"); f != nil {
			f.DefValue = "false" // whatever the tests run on
		}
		if flags := c.LocalNonPersistentFlags().FlagUsages(); flags != "" {
			fmt.Fprintf(&b, "\n```\n%s```\n", flags)
		}
	}
	return b.String() + "\n"
}

func scenarioTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("\n| scenario | servers | seeds | what it shows |\n|---|---:|---:|---|\n")
	for _, name := range sim.Shipped() {
		s, err := sim.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d | %s |\n", name, s.Network.Nodes, len(s.Seeds), s.Description)
	}
	return b.String() + "\n"
}

func figureList() string {
	return "\nOf a class: `" + strings.Join(report.Figures(), "`, `") + "`.\n\nOf the engine: `" + strings.Join(report.EngineFigures(), "`, `") + "`.\n\n"
}
