package sim

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xenoserver/xeno/sim/report"
)

func TestShipped(t *testing.T) {
	if len(Shipped()) < 9 {
		t.Errorf("%q ship", Shipped())
	}
	for _, name := range Shipped() {
		s, err := Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if s.Name != name || s.Description == "" {
			t.Errorf("%s: name %q, description %q", name, s.Name, s.Description)
		}
		if _, err := s.Points(); err != nil {
			t.Error(err)
		}
	}
}

func TestParse(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "churn.csv", "seconds,node,state\n# a comment\n0.5,3,down\n60,3,up\n")
	write(t, dir, "rtt.txt", "0 10\n10 0\n")
	path := write(t, dir, "all.toml", `
description = """
two
lines"""
seeds = [
	3, # the first
	4,
]
algorithms = ["xeno", "kademlia"]

[network]
nodes = 2_000
latency = "rtt.txt"
jitter = 0
slow = 0.1
slow_by = "100ms"
tables = "maintained"

[market]
zipf = 0.9
owners = 7

[queries]
classes = ["needle", "count"]
warm = true
interval = "1m30s"

[churn]
model = "trace"
trace = "churn.csv"
duration = "2m"

[sweep]
parameter = "network.loss"
values = [0, 0.01]

[expect]
"xeno.needle.requests_p50" = "<= 40"
xeno.needle.warm.recall = "== 1"
xeno.needle.latency_p99_by_unit_p99 = "<= 3"
engine.bytes_per_node = "< 2048"
sweep.xeno.count.latency_factor_p50 = "<= 1.3"
`)
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name, want.Description = "all", "two\nlines"
	want.Seeds, want.Algorithms = []uint64{3, 4}, []string{"xeno", "kademlia"}
	want.Network = Network{
		Nodes: 2000, Latency: filepath.Join(dir, "rtt.txt"), Slow: 0.1, SlowBy: 100 * time.Millisecond,
		Timeout: 2 * time.Second, Maintained: true,
	}
	want.Market.Zipf, want.Market.Owners = 0.9, 7
	want.Queries.Classes, want.Queries.Warm, want.Queries.Interval = []string{"needle", "count"}, true, 90*time.Second
	want.Churn.Model, want.Churn.TraceFile, want.Churn.Duration = ChurnTrace, filepath.Join(dir, "churn.csv"), 2*time.Minute
	want.Churn.Trace = []Transition{{500 * time.Millisecond, 3, false}, {time.Minute, 3, true}}
	want.Sweep = Sweep{"network.loss", []any{int64(0), 0.01}}
	want.Expect = []Expectation{
		{Algorithm: "xeno", Class: "needle", Figure: "requests_p50", Op: "<=", Bound: 40},
		{Algorithm: "xeno", Class: "needle", Warm: true, Figure: "recall", Op: "==", Bound: 1},
		{Algorithm: "xeno", Class: "needle", Figure: "latency_p99_by_unit_p99", Op: "<=", Bound: 3},
		{Figure: "bytes_per_node", Op: "<", Bound: 2048},
		{Sweep: true, Algorithm: "xeno", Class: "count", Figure: "latency_factor_p50", Op: "<=", Bound: 1.3},
	}
	if diff := cmp.Diff(&want, got, cmpopts.IgnoreUnexported(Scenario{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	points, err := got.Points()
	if err != nil || len(points) != 2 {
		t.Fatal(points, err)
	}
	if points[1].Network.Loss != 0.01 || points[0].Network.Loss != 0 || len(points[0].Expect) != 4 {
		t.Errorf("points have loss %g and %g, %d expectations", points[0].Network.Loss, points[1].Network.Loss, len(points[0].Expect))
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBad gives each mistake a place and a remedy.
func TestBad(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "late.csv", "5,1,down\n3,1,up\n")
	write(t, dir, "words.csv", "seconds,node,state\n1,one,down\n")
	write(t, dir, "state.csv", "1,1,gone\n")
	write(t, dir, "nan.csv", "NaN,1,up\n")
	write(t, dir, "columns.csv", "\n1,1\n")
	write(t, dir, "empty.csv", "# nothing\n")
	write(t, dir, "far.csv", "1,5000,up\n")
	for _, tt := range []struct{ name, in, want string }{
		{"unknown key", "nodes = 5", "x.toml:1:1: unknown key nodes: it belongs in [network]"},
		{"misspelt key", "[network]\nndes = 5", "x.toml:2:1: unknown key network.ndes; did you mean network.nodes?"},
		{"misspelt table", "\n[netwrk]\nnodes = 5", "x.toml:3:1: unknown key netwrk.nodes; did you mean network.nodes?"},
		{"unknown table", "[weather]\nrain = true", "x.toml:2:1: unknown key weather.rain: there is no table [weather]; there are [network], [market]"},
		{"table as key", "network = 5", "x.toml:1:1: unknown key network: it is a table, begin it with a line [network]"},
		{"array of tables", "[[network]]\nnodes = 5", "x.toml:1:1: unknown key network: it is a table"},
		{"key twice", "seed = 1\nname = 'x'\nseed = 2", "x.toml:3:1: seed is already in line 1: leave one out"},
		{"table twice", "[network]\nnodes = 5\n[market]\n[network]", "x.toml:4:1: table [network] is already in line 1: put its keys there"},
		{"no TOML", "[network]\nnodes = = 5", "x.toml:2:9: "},
		{"no value", "[network]\n  nodes =", "x.toml:2:"},
		{"text for a number", "[network]\nnodes = '5'", `x.toml:2:1: network.nodes is "5": give an integer from 2 to 10000000`},
		{"half a node", "[network]\nnodes = 2.5", "x.toml:2:1: network.nodes is 2.5: give an integer"},
		{"too many nodes", "[network]\nnodes = 99999999", "x.toml:2:1: network.nodes is 99999999: give an integer from 2 to 10000000"},
		{"indented", "[network]\n\tloss = -0.1", "x.toml:2:2: network.loss is -0.1: give a number from 0 to 0.9"},
		{"not a number", "[network]\nloss = nan", "x.toml:2:1: network.loss is NaN: give a number from 0 to 0.9"},
		{"infinite", "[market]\nzipf = inf", "x.toml:2:1: market.zipf is +Inf: give a number from 0 to 3"},
		{"duration without unit", "[network]\ntimeout = 5", `x.toml:2:1: network.timeout is 5: give a duration from "10ms" to "10m", in quotes and with its unit`},
		{"duration that is none", "[network]\ntimeout = 'soon'", `x.toml:2:1: network.timeout is "soon": give a duration`},
		{"long duration", "[queries]\ninterval = '2h'", `x.toml:2:1: queries.interval is "2h": give a duration from "1ms" to "1h"`},
		{"no choice", "[network]\ntables = 'lazy'", `x.toml:2:1: network.tables is "lazy": give one of "derived", "maintained"`},
		{"no flag", "[queries]\nwarm = 'yes'", `x.toml:2:1: queries.warm is "yes": give true or false, without quotes`},
		{"unknown algorithm", "algorithms = ['zeno']", `x.toml:1:1: algorithms is ["zeno"]: "zeno" is none of "xeno", `},
		{"algorithm twice", "algorithms = ['xeno', 'xeno']", `"xeno" is there twice: leave one out`},
		{"no algorithm", "algorithms = []", "x.toml:1:1: algorithms is []: give a list of some of"},
		{"unknown class", "[queries]\nclasses = ['borad']", "did you mean broad?"},
		{"negative seed", "seed = -1", "x.toml:1:1: seed is -1: give an integer that is not negative"},
		{"seed twice", "seeds = [1, 1]", "1 is there twice: a repetition needs a seed of its own"},
		{"seed and seeds", "seed = 1\nseeds = [1]", "x.toml:1:1: seed contradicts seeds: leave one out"},
		{"zipf without pool", "[queries]\nzipf = 1", "x.toml:2:1: queries.zipf without popular queries: give queries.pool"},
		{"pool and requests", "[queries]\npool = 9\nrequests = 'far.csv'", "x.toml:2:1: queries.pool contradicts queries.requests"},
		{"slow by without slow", "[network]\nslow_by = '1ms'", "x.toml:2:1: network.slow_by without slow nodes: give network.slow"},
		{"more owners than servers", "[network]\nnodes = 5\n[market]\nowners = 6", "x.toml:4:1: market.owners is 6 for 5 nodes"},
		{"no matrix", "[network]\nlatency = 'city'", "x.toml:2:1: network.latency names no file city: paths begin at "},
		{"matrix is a directory", "[network]\nlatency = '.'", "x.toml:2:1: network.latency names ., which is not a file"},
		{"shape without weibull", "[churn]\nshape = 0.5", `x.toml:2:1: churn.shape does not belong to the churn model "none": leave it out, or set churn.model = "weibull"`},
		{"fail of a trace", "[churn]\nmodel = 'trace'\ntrace = 'far.csv'\nfail = 0.5", `x.toml:4:1: churn.fail does not belong to the churn model "trace"`},
		{"trace without trace", "[churn]\nmodel = 'trace'", "x.toml:2:1: churn model trace without a trace: give churn.trace"},
		{"trace of other nodes", "[churn]\nmodel = 'trace'\ntrace = 'far.csv'", "x.toml:3:1: the trace has node 5000, the network nodes 0 to 999: raise network.nodes"},
		{"trace out of order", "[churn]\nmodel = 'trace'\ntrace = 'late.csv'", "late.csv:2:1: earlier than the line before: sort the file"},
		{"trace with words", "[churn]\nmodel = 'trace'\ntrace = 'words.csv'", `words.csv:2:3: "one" is no node: give a number from 0`},
		{"trace with another state", "[churn]\nmodel = 'trace'\ntrace = 'state.csv'", `state.csv:1:5: "gone" is neither up nor down`},
		{"trace with NaN", "[churn]\nmodel = 'trace'\ntrace = 'nan.csv'", `nan.csv:1:1: "NaN" is no time: give seconds from 0`},
		{"trace with few columns", "[churn]\nmodel = 'trace'\ntrace = 'columns.csv'", "columns.csv:2:1: 2 columns, expected three"},
		{"empty trace", "[churn]\nmodel = 'trace'\ntrace = 'empty.csv'", "empty.csv:1:1: nobody comes or goes"},
		{"failure of none", "[churn]\nmodel = 'failure'", "x.toml:2:1: churn model failure that concerns no node: give churn.fail"},
		{"heals too early", "[churn]\nmodel = 'partition'\nfail = 0.2\nat = '1m'\nheal = '30s'", "x.toml:5:1: churn.heal at 30s is not after churn.at, 1m"},
		{"ends too early", "[churn]\nmodel = 'failure'\nfail = 0.2\nat = '1m'\nduration = '30s'", "x.toml:5:1: churn.duration 30s ends before 1m"},
		{"sweep of nothing", "[sweep]\nvalues = [1, 2]", "x.toml:2:1: sweep.values without sweep.parameter"},
		{"sweep without values", "[sweep]\nparameter = 'network.nodes'", "x.toml:2:1: sweep.parameter without sweep.values"},
		{"sweep of an unknown key", "[sweep]\nparameter = 'network.node'\nvalues = [1, 2]", `x.toml:2:1: sweep.parameter is "network.node": give a key of [network]`},
		{"sweep of one value", "[sweep]\nparameter = 'network.nodes'\nvalues = [5]", "x.toml:3:1: sweep.values is [5]: give a list of 2 to 100 values"},
		{"sweep out of range", "[sweep]\nparameter = 'network.nodes'\nvalues = [5, 0]", "x.toml:3:1: network.nodes is 0: give an integer"},
		{"sweep contradicts", "[market]\nowners = 9\n[sweep]\nparameter = 'network.nodes'\nvalues = [20, 5]", "x.toml:5:1: with network.nodes = 5: "},
		{"expects of no algorithm", "[expect]\n'zeno.needle.recall' = '>= 1'", `x.toml:2:1: zeno.needle.recall: no algorithm is called "zeno"; did you mean xeno?`},
		{"expects of what does not run", "algorithms = ['xeno']\n[expect]\n'pht.needle.recall' = '>= 1'", `x.toml:3:1: pht.needle.recall: the algorithm does not run: add "pht"`},
		{"expects of a class that is not asked", "[queries]\nclasses = ['broad']\n[expect]\n'xeno.needle.recall' = '>= 1'", `x.toml:4:1: xeno.needle.recall: the class is not asked`},
		{"expects no figure", "[expect]\n'xeno.needle.recal' = '>= 1'", `no figure is called "recal"; did you mean recall?`},
		{"expects too little", "[expect]\nxeno = '>= 1'", `x.toml:2:1: "xeno" names no figure: write "algorithm.class.figure"`},
		{"expects a number", "[expect]\n'xeno.needle.recall' = 1", `x.toml:2:1: xeno.needle.recall is expected to be 1: give a text with a comparison and a number, such as "<= 40"`},
		{"expects a word", "[expect]\n'xeno.needle.recall' = '<= many'", `x.toml:2:1: xeno.needle.recall is compared with "many", which is no number`},
		{"expects warm", "[expect]\n'xeno.needle.warm.recall' = '>= 1'", "x.toml:2:1: xeno.needle.warm.recall: warm clients are not measured: set queries.warm = true"},
		{"expects of no window", "[expect]\n'xeno.needle.recall@2m-1m' = '>= 1'", `x.toml:2:1: xeno.needle.recall@2m-1m: "2m-1m" is no window of time: write as in recall@30s-2m`},
		{"expects load of a window", "[expect]\n'xeno.needle.load_max_share@0s-1m' = '<= 1'", `load_max_share is of the whole time`},
		{"expects of a sweep", "[expect]\n'sweep.xeno.needle.recall' = '>= 1'", "x.toml:2:1: sweep.xeno.needle.recall is about a sweep: add [sweep]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.in), filepath.Join(dir, "x.toml"))
			if !errors.Is(err, ErrBadScenario) {
				t.Fatalf("%v is no ErrBadScenario", err)
			}
			if got := strings.ReplaceAll(err.Error(), dir+"/", ""); !strings.Contains(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestAllMistakes tells every mistake at once, in the order of the file, and
// no more than fit on a screen.
func TestAllMistakes(t *testing.T) {
	_, err := Parse([]byte("[queries]\nwarm = 1\n[network]\nloss = 2\nnodes = 0"), "x.toml")
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "x.toml:2:1: ") || !strings.HasPrefix(lines[2], "x.toml:5:1: ") {
		t.Errorf("%q", lines)
	}
	var b strings.Builder
	for i := range 50 {
		b.WriteString("k" + strings.Repeat("x", i) + " = 1\n")
	}
	_, err = Parse([]byte(b.String()), "x.toml")
	if lines := strings.Split(err.Error(), "\n"); len(lines) != maxErrors+1 || !strings.HasSuffix(lines[maxErrors], "and 30 more") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestLoadMissing(t *testing.T) {
	for name, want := range map[string]string{
		"smal":               "did you mean small?",
		"nothing":            "there are broad, churn, ",
		"./nothing.toml":     "no such file",
		t.TempDir() + "/":    "not a file",
		"/dev/zero":          "not a file",
		"../sim/limits.toml": "no such file",
	} {
		if _, err := Load(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestOverride(t *testing.T) {
	text := "seeds = [1, 2]\n[expect]\n'xeno.needle.recall' = '>= 1'\n'pht.needle.recall' = '>= 1'"
	s, err := Parse([]byte(text), "x.toml")
	if err != nil {
		t.Fatal(err)
	}
	all := *s
	if err := s.Override("seed", int64(7)); err != nil || s.Check() != nil || s.Seeds[0] != 7 || len(s.Expect) != 2 {
		t.Errorf("seed: %v, %v, %d expectations", err, s.Seeds, len(s.Expect))
	}
	if err := s.Override("algorithms", []any{"xeno"}); err != nil || s.Check() != nil || len(s.Expect) != 1 {
		t.Errorf("algorithms: %v, %v, %d expectations", err, s.Algorithms, len(s.Expect))
	}
	if err := s.Override("network.nodes", int64(50)); err != nil || len(s.Expect) != 0 {
		t.Errorf("nodes: %v, %d expectations", err, len(s.Expect))
	}
	if err := s.Override("network.nodes", "many"); err == nil || s.Network.Nodes != 50 {
		t.Errorf("nodes: %v, %d", err, s.Network.Nodes)
	}
	trace := write(t, t.TempDir(), "trace.csv", "1,1,down\n")
	if err := s.Override("churn.trace", trace); err != nil || len(s.Churn.Trace) != 1 || s.Churn.TraceFile != trace {
		t.Errorf("trace: %v, %v", err, s.Churn)
	}
	if err := s.Override("network.latency", "nothing.txt"); err == nil {
		t.Error("no error for a matrix that is not there")
	}
	if err := s.Override("network.latency", Cities); err != nil {
		t.Error(err)
	}
	if len(all.Expect) != 2 || len(all.Seeds) != 2 || all.has("network.nodes") {
		t.Error("a copy changed")
	}
}

func TestForecast(t *testing.T) {
	s := Default()
	if err := s.Refuse(1 << 30); err != nil {
		t.Error(err)
	}
	small := s.Forecast().Total()
	s.Network.Nodes, s.Network.Maintained = 1_000_000, true
	if f := s.Forecast(); f.Total() <= small || f.Network < 1_000_000*bytesMaintained || f.Largest != "xeno" {
		t.Errorf("%+v", f)
	}
	err := s.Refuse(4 << 30)
	for _, want := range []string{"4096 MiB are available", "reduce network.nodes to ", `network.tables = "derived"`, "--force"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	s.Network.Nodes = s.fitting(4 << 30)
	if err := s.Refuse(4 << 30); err != nil || s.Network.Nodes < 1000 {
		t.Errorf("with %d nodes: %v", s.Network.Nodes, err)
	}
	if n, err := readMeminfo(strings.NewReader("MemTotal: 9 kB\nMemAvailable:   7 kB\n")); n != 7<<10 || err != nil {
		t.Error(n, err)
	}
	if _, err := readMeminfo(strings.NewReader("MemTotal: 9 kB\n")); err == nil {
		t.Error("no error without MemAvailable")
	}
	if n, err := AvailableMemory(); n <= 0 || err != nil {
		t.Error(n, err)
	}
}

// TestKeys checks that what the documentation says of a key is what it does.
func TestKeys(t *testing.T) {
	for _, k := range Keys() {
		if k.Meaning == "" || k.Kind == "" {
			t.Errorf("%+v", k)
		}
	}
	if got := distance("kitten", "sitting"); got != 3 {
		t.Errorf("distance %d", got)
	}
}

// TestVerify compares figures with expectations: of a run, of each value of a
// sweep, and of the sweep as a whole.
func TestVerify(t *testing.T) {
	s, err := Parse([]byte(`
algorithms = ["xeno"]
[sweep]
parameter = "network.nodes"
values = [10, 20]
[expect]
"engine.events" = ">= 100"
"xeno.needle.requests_p50" = "<= 5"
"xeno.needle.requests_p50@0s-1s" = "<= 3"
"sweep.xeno.needle.requests_p50" = "<= 1.3"
`), "x.toml")
	if err != nil {
		t.Fatal(err)
	}
	summary := func(value string, events uint64, requests ...int) *report.Summary {
		c := report.Class{Name: "needle"}
		for i, n := range requests {
			c.Samples = append(c.Samples, report.Sample{At: time.Duration(i) * time.Second, Requests: n})
		}
		r := report.Report{Value: value, Runs: []report.Run{{Engine: report.Engine{Events: events}, Algorithms: []report.Algorithm{{
			Name: "xeno", Classes: []report.Class{c},
		}}}}}
		return r.Summarise()
	}
	var got []string
	for _, c := range s.Verify(summary(s.Title(0), 99, 3, 4, 5), summary(s.Title(1), 100, 6, 6, 6)) {
		got = append(got, c.String())
	}
	want := []string{
		"FAIL  network.nodes = 10: engine.events >= 100, is 99",
		"ok    network.nodes = 20: engine.events >= 100, is 100",
		"ok    network.nodes = 10: xeno.needle.requests_p50 <= 5, is 4",
		"FAIL  network.nodes = 20: xeno.needle.requests_p50 <= 5, is 6",
		"ok    network.nodes = 10: xeno.needle.requests_p50@0s-1s <= 3, is 3",
		"FAIL  network.nodes = 20: xeno.needle.requests_p50@0s-1s <= 3, is 6",
		"FAIL  sweep.xeno.needle.requests_p50 <= 1.3, is 1.5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, c := range s.Verify(summary("", 100)) {
		if strings.Contains(c.Text, "requests") && (c.OK || !strings.HasSuffix(c.String(), "missing")) {
			t.Errorf("without samples: %s", c)
		}
	}
	if got := s.Verify(); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("seed = 1\n[network]\nnodes = 5"))
	f.Add([]byte("a = \"\"\"\n[x"))
	f.Add([]byte("[a]\n[a.b]\n'x.y' = [[1], {z = 2}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := Parse(data, "x.toml"); err == nil && s.Check() != nil {
			t.Errorf("parsed, but %v", s.Check())
		}
	})
}
