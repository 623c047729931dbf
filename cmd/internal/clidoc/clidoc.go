// Package clidoc reads what a program's documentation tells of it from its
// source.
package clidoc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// ExitCodes returns the exit codes of the program in dir as the rows of a
// Markdown table, code and meaning: the constants of its exit.go whose names
// begin with exit, and their comments.
func ExitCodes(dir string) (rows string, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), dir+"/exit.go", nil, parser.ParseComments)
	if err != nil {
		return "", fmt.Errorf("clidoc: %w", err)
	}
	var b strings.Builder
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "exit") || spec.Comment == nil || len(spec.Values) == 0 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			fmt.Fprintf(&b, "| %s | %s |\n", lit.Value, strings.TrimSpace(spec.Comment.Text()))
		}
		return true
	})
	return b.String(), nil
}
