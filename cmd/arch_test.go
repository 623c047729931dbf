// Package cmd_test holds the checks that concern the whole module.
package cmd_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/xenoserver/xeno"

// pure lists the packages that must run the same under real and virtual time,
// each with the module packages it may depend on, directly or not.
var pure = map[string][]string{
	"dht":              nil,
	"ledger":           {"dht"},
	"search":           {"dht", "ledger"},
	"search/placement": {"dht", "ledger", "search"},
	"store":            {"dht", "ledger"},
}

// codecs are the third-party modules that pure packages may depend on: formats
// and hashes, and what those pull in.
var codecs = []string{
	"github.com/fxamacker/cbor",
	"github.com/x448/float16",
	"github.com/ipfs/go-cid",
	"github.com/multiformats/",
	"github.com/mr-tron/base58",
	"github.com/klauspost/cpuid",
	"github.com/minio/sha256-simd",
	"github.com/spaolacci/murmur3",
	"lukechampine.com/blake3",
	"golang.org/x/crypto",
	"golang.org/x/sys/cpu",
}

// impure are standard packages that a pure one must not import itself: clocks
// cannot be told from durations by imports, the linter looks after those. Two
// packages below them are pure: math/rand/v2 with a seed, and net/netip.
var impure = []string{"context", "crypto/rand", "log", "math/rand", "net", "os", "runtime", "sync", "syscall", "unsafe"}

func TestPureDeps(t *testing.T) {
	for pkg, may := range pure {
		for dep := range strings.Lines(list(t, "-deps", module+"/"+pkg)) {
			dep, in := strings.CutPrefix(strings.TrimSpace(dep), module+"/")
			if in && dep != pkg && !slices.Contains(may, dep) {
				t.Errorf("%s depends on %s", pkg, dep)
			}
			third := !in && strings.Contains(strings.Split(dep, "/")[0], ".")
			if third && !slices.ContainsFunc(codecs, func(c string) bool { return strings.HasPrefix(dep, c) }) {
				t.Errorf("%s depends on third-party %s", pkg, dep)
			}
		}
		for imp := range strings.FieldsSeq(list(t, "-f", `{{join .Imports " "}}`, module+"/"+pkg)) {
			for _, bad := range impure {
				if imp == bad || strings.HasPrefix(imp, bad+"/") && imp != "math/rand/v2" && imp != "net/netip" {
					t.Errorf("%s imports %s", pkg, imp)
				}
			}
		}
	}
}

// TestPureSyntax rejects what no import list shows: goroutines and channels.
func TestPureSyntax(t *testing.T) {
	for pkg := range pure {
		files, err := filepath.Glob("../" + pkg + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("no files of %s, %v", pkg, err)
		}
		fset := token.NewFileSet()
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n.(type) {
				case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
					t.Errorf("%s: %T in a pure package", fset.Position(n.Pos()), n)
				}
				return true
			})
		}
	}
}

// floor is how high a package stands; it may import only what is below it, or
// what shares its room.
func floor(pkg string) int {
	room, _, sub := strings.Cut(pkg, "/")
	switch {
	case pkg == "dht":
		return 0
	case pkg == "ledger":
		return 1
	case pkg == "search" || pkg == "store" || pkg == "hypervisor" || room == "wire":
		return 2
	case room == "internal": // small helpers
		return 3
	case room == "node" && sub, room == "sim":
		return 5
	case room == "node":
		return 6
	case room == "cmd":
		return 7
	default: // dht/kad, ledger/sqlite, store/blocks, hypervisor/…, search/…
		return 4
	}
}

// shareRoom tells whether two packages of one floor may import each other:
// those below one pure package may, services of a daemon may not, unless one
// is inside the other.
func shareRoom(a, b string) bool {
	roomA, _, _ := strings.Cut(a, "/")
	roomB, _, _ := strings.Cut(b, "/")
	if roomA != roomB {
		return false
	}
	return roomA != "node" || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

func TestFloors(t *testing.T) {
	for line := range strings.Lines(list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...")) {
		fields := strings.Fields(line)
		pkg, _ := strings.CutPrefix(fields[0], module+"/")
		for _, imp := range fields[1:] {
			dep, in := strings.CutPrefix(imp, module+"/")
			if in && floor(dep) >= floor(pkg) && !shareRoom(pkg, dep) {
				t.Errorf("%s imports %s, which is not below it", pkg, dep)
			}
			if in && strings.HasPrefix(dep, "wire") && !speaks(pkg) && !strings.HasPrefix(pkg, "wire") {
				t.Errorf("%s imports %s; messages are the affair of dht/kad and node", pkg, dep)
			}
			if strings.HasPrefix(imp, "github.com/libp2p/") && !speaks(pkg) {
				t.Errorf("%s imports %s; only dht/kad and node speak libp2p", pkg, imp)
			}
		}
	}
}

// TestOneSearch: what is simulated is what runs. The simulator and the daemon
// both drive the machines of package search, the simulator's lookups and
// coordinates are those of package dht, and nothing of the simulator reaches
// the network's code.
func TestOneSearch(t *testing.T) {
	for _, pkg := range []string{"sim/xeno", "node/index"} {
		imports := strings.Fields(list(t, "-f", `{{join .Imports " "}}`, module+"/"+pkg))
		if !slices.Contains(imports, module+"/search") {
			t.Errorf("%s does not import search, whose machines it must run", pkg)
		}
	}
	for line := range strings.Lines(list(t, "-f", `{{.ImportPath}} {{join .Deps " "}}`, module+"/sim/...")) {
		fields := strings.Fields(line)
		for _, dep := range fields[1:] {
			own, _ := strings.CutPrefix(dep, module+"/")
			if speaks(own) || strings.HasPrefix(dep, "github.com/libp2p/") {
				t.Errorf("%s depends on %s: the simulator runs pure machines", fields[0], dep)
			}
		}
	}
}

// speaks tells whether a package may speak to the network.
func speaks(pkg string) bool {
	for _, door := range []string{"dht/kad", "node"} {
		if pkg == door || strings.HasPrefix(pkg, door+"/") {
			return true
		}
	}
	return false
}

// maxLines is the most lines of a file that a person wrote.
const maxLines = 600

var (
	generated  = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	skips      = regexp.MustCompile(`\b[tbf]\.Skip(f|Now)?\(`)
)

// TestHouse checks what every file keeps to.
func TestHouse(t *testing.T) {
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil || generated.Match(text) {
			return err
		}
		if n := bytes.Count(text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, at most %d", name, n, maxLines)
		}
		if m := unfinished.Find(text); m != nil {
			t.Errorf("%s holds %s", name, m)
		}
		if !strings.Contains(filepath.ToSlash(name), "internal/testenv/") && skips.Match(text) {
			t.Errorf("%s skips a test by itself; use testenv.Require", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// list runs go list and returns its output.
func list(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderrOf(err))
	}
	return string(out)
}

func stderrOf(err error) []byte {
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // of cmd.Output itself
		return exit.Stderr
	}
	return nil
}
