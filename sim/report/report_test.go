package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// sample is a report of made-up queries.
func sample(nodes int, seeds ...uint64) *Report {
	r := &Report{Scenario: "sample", Description: "Made up <b>."}
	for _, seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		run := Run{Seed: seed, Unit: 200 * time.Millisecond, UnitP99: 450 * time.Millisecond, Engine: Engine{Nodes: nodes, Events: 12345 * seed, Speed: 1e6, BytesPerNode: 512.25}}
		for i, name := range []string{"xeno", Plain, "walk"} {
			a := Algorithm{Name: name, Refresh: float64(20 * (i + 1))}
			for _, class := range []string{"needle", "broad"} {
				for _, warm := range []bool{false, true}[:1+(1+i)%2] {
					c := Class{Name: class, Warm: warm}
					for q := range 50 {
						s := Sample{
							At: time.Duration(q) * time.Second, Latency: time.Duration(100+rng.IntN(300*(i+1))) * time.Millisecond,
							Requests: 5 + rng.IntN(20*(i+1)), Recall: 1, Estimated: float64(10 + rng.IntN(3)), True: 11, Complete: q%10 != 0,
						}
						if name == "walk" && q == 7 {
							s.Recall = 0.97
						}
						c.Samples = append(c.Samples, s)
					}
					loads := make([]uint32, nodes)
					for j := range loads {
						loads[j] = uint32(rng.IntN(3))
					}
					loads[3] = 20
					c.Load = LoadOf(loads, len(c.Samples))
					a.Classes = append(a.Classes, c)
				}
			}
			run.Algorithms = append(run.Algorithms, a)
		}
		r.Runs = append(r.Runs, run)
	}
	return r
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s, rewrite with -rewrite (-want +got):\n%s", name, diff)
	}
}

func TestGolden(t *testing.T) {
	one, three := sample(100, 1), sample(100, 1, 2, 3)
	one.Partial, one.Why = true, "interrupted while asking walk"
	for name, write := range map[string]func(io.Writer) error{
		"one.txt":     one.Summarise().WriteText,
		"three.txt":   three.Summarise().WriteText,
		"three.md":    three.Summarise().WriteMarkdown,
		"figures.md":  func(w io.Writer) error { return WriteFigures(w, []*Summary{one.Summarise(), three.Summarise()}) },
		"summary.csv": func(w io.Writer) error { return WriteSummaries(w, []*Summary{one.Summarise(), three.Summarise()}) },
		"samples.csv": one.WriteSamples,
		"three.json": func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(three.Summarise().Object())
		},
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, tt := range []struct {
		values []float64
		p      float64
		want   float64
	}{
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
		{[]float64{7}, 0.99, 7},
		{[]float64{1, 2, 3}, 0.5, 2},
	} {
		if got := Percentile(tt.values, tt.p); got != tt.want {
			t.Errorf("the %g-th part of %d values is %g, want %g", tt.p, len(tt.values), got, tt.want)
		}
	}
	if !math.IsNaN(Percentile(nil, 0.5)) {
		t.Error("a percentile of nothing")
	}
	// Of 100 values the median's interval is that of ranks 40 and 61.
	if got := percentile(hundred, 0.5); got != (Estimate{50, 40, 61}) {
		t.Errorf("interval %v", got)
	}
	if got := percentile(hundred, 0.999); got.HasInterval() {
		t.Errorf("interval %v of what is beyond the samples", got)
	}
}

// TestIntervals looks how often an interval has the truth in it.
func TestIntervals(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const tries = 2000
	var median, means int
	for range tries {
		values := make([]float64, 60)
		for i := range values {
			values[i] = rng.ExpFloat64()
		}
		slices.Sort(values)
		if e := percentile(values, 0.5); e.Low <= math.Ln2 && math.Ln2 <= e.High {
			median++
		}
		var few []float64
		for range 4 {
			few = append(few, rng.NormFloat64())
		}
		if e := mean(few); e.Low <= 0 && 0 <= e.High {
			means++
		}
	}
	for name, n := range map[string]int{"median": median, "mean of four": means} {
		if share := float64(n) / tries; share < 0.935 || share > 0.98 {
			t.Errorf("%s: %g of intervals have the truth, expected about 0.95", name, share)
		}
	}
	// t(0.975, 2) = 4.302653
	if e := mean([]float64{1, 2, 3}); math.Abs(e.High-2-4.302653/math.Sqrt(3)) > 1e-6 {
		t.Errorf("interval %v", e)
	}
}

// TestKS compares with all arrangements, one by one, and with values of the
// limit from Smirnov's table.
func TestKS(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		a, b := make([]float64, 1+rng.IntN(6)), make([]float64, 1+rng.IntN(6))
		for _, s := range [][]float64{a, b} {
			for i := range s {
				s[i] = float64(rng.IntN(8)) // ties
			}
		}
		d, p := KS(a, b)
		wantD, wantP := enumerate(a, b)
		if math.Abs(d-wantD) > 1e-12 || math.Abs(p-wantP) > 1e-9 {
			t.Fatalf("KS(%v, %v) = %g, %g, want %g, %g", a, b, d, p, wantD, wantP)
		}
	}
	for x, want := range map[float64]float64{0.8276: 0.5, 1.2238: 0.1, 1.3581: 0.05, 1.6276: 0.01} {
		if got := limitKS(x); math.Abs(got-want) > 1e-4 {
			t.Errorf("limit at %g is %g, want %g", x, got, want)
		}
	}
	// Exact and limit meet.
	a, b := make([]float64, 900), make([]float64, 1000)
	for i := range a {
		a[i] = rng.Float64()
	}
	for i := range b {
		b[i] = rng.Float64() + 0.04
	}
	d, exact := KS(a, b)
	n := 900.0 * 1000 / 1900
	if limit := limitKS((math.Sqrt(n) + 0.12 + 0.11/math.Sqrt(n)) * d); math.Abs(exact-limit) > 0.05*limit {
		t.Errorf("d %g: exact %g, limit %g", d, exact, limit)
	}
	if d, p := KS(nil, a); d != 0 || p != 1 {
		t.Errorf("of nothing %g, %g", d, p)
	}
	if d, p := KS(a, a); d != 0 || p != 1 {
		t.Errorf("of the same %g, %g", d, p)
	}
	big := append(slices.Clone(a), a...)
	if d, p := KS(big, b); d <= 0 || p >= 0.2 {
		t.Errorf("of a shifted one %g, %g", d, p)
	}
}

// enumerate takes every choice of len(a) among all values.
func enumerate(a, b []float64) (d, p float64) {
	all := slices.Concat(a, b)
	distance := func(in func(i int) bool) float64 {
		var most float64
		for _, x := range all {
			var fa, fb float64
			for i, v := range all {
				if v <= x {
					if in(i) {
						fa += 1 / float64(len(a))
					} else {
						fb += 1 / float64(len(b))
					}
				}
			}
			most = max(most, math.Abs(fa-fb))
		}
		return most
	}
	d = distance(func(i int) bool { return i < len(a) })
	var as, total float64
	for set := range 1 << len(all) {
		if ones(set) != len(a) {
			continue
		}
		total++
		if distance(func(i int) bool { return set>>i&1 == 1 }) >= d-1e-9 {
			as++
		}
	}
	return d, as / total
}

func ones(set int) (n int) {
	for ; set > 0; set &= set - 1 {
		n++
	}
	return n
}

func TestLoad(t *testing.T) {
	loads := make([]uint32, 1000)
	for i := range loads {
		loads[i] = 1
	}
	loads[500] = 1001
	l := LoadOf(loads, 2002)
	if l.Messages != 2000 || l.Max != 1001 || l.MaxShare != 0.5 {
		t.Errorf("%+v", l)
	}
	want := []float64{1001. / 2000, 1001. / 2000, 1001. / 2000, 1003. / 2000, 1010. / 2000, 1030. / 2000, 1100. / 2000, 1300. / 2000, 1}
	if diff := cmp.Diff(want, l.Cumulated); diff != "" {
		t.Error(diff)
	}
	if l := LoadOf(nil, 5); l.MaxShare != 0 {
		t.Errorf("%+v", l)
	}
	if l := LoadOf([]uint32{9}, 5); l.MaxShare != 1 {
		t.Errorf("%+v", l)
	}
}

// TestRead reads back what was written: all of it with samples, the figures
// without.
func TestRead(t *testing.T) {
	report := sample(100, 1, 2)
	var full bytes.Buffer
	if err := report.WriteJSON(&full); err != nil {
		t.Fatal(err)
	}
	bytesBefore := bytes.Clone(full.Bytes())
	summary, back, err := Read(&full, "result.json")
	if err != nil {
		t.Fatal(err)
	}
	ignore := cmpopts.IgnoreFields(Engine{}, "Speed")
	if diff := cmp.Diff(report, back, ignore); diff != "" {
		t.Errorf("-wrote +read:\n%s", diff)
	}
	var again bytes.Buffer
	if err := back.WriteJSON(&again); err != nil || !bytes.Equal(bytesBefore, again.Bytes()) {
		t.Errorf("written again, the bytes differ; %v", err)
	}
	printed, err := json.Marshal(summary.Object())
	if err != nil {
		t.Fatal(err)
	}
	only, none, err := Read(bytes.NewReader(printed), "out.json")
	if err != nil || none != nil {
		t.Fatal(none, err)
	}
	near := cmp.Options{cmpopts.IgnoreUnexported(Summary{}), cmpopts.EquateNaNs(), cmpopts.EquateApprox(1e-5, 0), ignore}
	if diff := cmp.Diff(summary, only, near); diff != "" {
		t.Errorf("-summary +read:\n%s", diff)
	}
	for in, want := range map[string]string{
		"":                                 "unexpected end of JSON",
		"[]":                               "cannot unmarshal",
		`{"scenario": "x"}`:                "has no scenario and algorithms",
		`{"scenario":"x","algorithms":{}}`: "no algorithm has figures",
		`{"scenario":"x","algorithms":{},"unit_ms":"a"}`: "is no number",
		`{"scenario":"x","algorithms":{},"runs":[{"algorithms":[{"name":"xeno","classes":[{"name":"broad","samples":[{"latency":-1}]}]}]}]}`:         "a negative sample",
		`{"scenario":"x","algorithms":{},"runs":[{"algorithms":[{"name":"xeno","classes":[{"name":"broad","load":{"cumulated":[1]}}]}]}]}`:           "1 parts of the load",
		`{"scenario":"x","algorithms":{"xeno":{"broad":{"requests_p50":1}}},"order":["pht"],"classes":["broad"],"seed":1,"engine":{"nodes":"many"}}`: "cannot unmarshal",
	} {
		if _, _, err := Read(strings.NewReader(in), "x.json"); !errors.Is(err, ErrBadResult) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", in, err, want)
		}
	}
}

// TestTail compares the slowest queries with the slowest plain lookups, where
// those are known.
func TestTail(t *testing.T) {
	const headline = "sample: 100 servers, seed 1, L = 200 ms"
	r := sample(100, 1)
	s := r.Summarise()
	tail, ms := s.Figure("xeno", "broad", true, TailP99), s.Figure("xeno", "broad", true, MillisP99)
	if got, want := tail.Value, ms.Value/450; math.Abs(got-want) > 1e-9 {
		t.Errorf("%s is %g, want %g", TailP99, got, want)
	}
	if got := s.Figure("xeno", "broad", true, TailP99+"@0s-10s").Value; !(got > 0 && got <= tail.Value) {
		t.Errorf("%s of ten seconds is %g, of all %g", TailP99, got, tail.Value)
	}
	if got, want := s.headline(), headline+", p99 450 ms"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	digest := r.Digest()
	r.Runs[0].UnitP99 = 0 // as in results of before
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil || bytes.Contains(b.Bytes(), []byte(`"unit_p99`)) || r.Digest() == digest {
		t.Errorf("%v, digest %s after %s, %.200s", err, r.Digest(), digest, b.Bytes())
	}
	old, _, err := Read(&b, "old.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := old.Figure("xeno", "broad", true, TailP99).Value; !math.IsNaN(got) || old.headline() != headline {
		t.Errorf("%s of an old result is %g: %s", TailP99, got, old.headline())
	}
}

// TestNoNumber keeps a run whose algorithm gave no number.
func TestNoNumber(t *testing.T) {
	r := sample(100, 1)
	s := &r.Runs[0].Algorithms[0].Classes[0].Samples[0]
	s.Recall, s.Estimated = math.NaN(), math.Inf(1)
	if err := r.WriteJSON(io.Discard); err != nil || r.Digest() == "" {
		t.Errorf("%v, digest %q", err, r.Digest())
	}
	if _, err := r.Pictures(); err != nil {
		t.Error(err)
	}
}

// TestContract checks the keys that others rely on.
func TestContract(t *testing.T) {
	data, err := json.Marshal(sample(100, 7).Summarise().Object())
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		Scenario   string                               `json:"scenario"`
		Seed       uint64                               `json:"seed"`
		Algorithms map[string]map[string]map[string]any `json:"algorithms"`
		Engine     map[string]float64                   `json:"engine"`
	}
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	if o.Scenario != "sample" || o.Seed != 7 || len(o.Algorithms) != 3 || len(o.Algorithms["xeno"]) != 2 {
		t.Errorf("%+v", o)
	}
	for _, name := range []string{FactorP50, FactorP99, TailP99, RequestsP50, RequestsP99, "recall", "load_max_share", "messages_per_refresh"} {
		if x, ok := o.Algorithms["walk"]["needle"][name].(float64); !ok || x <= 0 {
			t.Errorf("%s is %v", name, o.Algorithms["walk"]["needle"][name])
		}
	}
	for _, name := range []string{"nodes", "events", "events_per_second", "bytes_per_node"} {
		if o.Engine[name] <= 0 {
			t.Errorf("engine.%s is %v", name, o.Engine[name])
		}
	}
}

// TestPictures parses every picture and finds its curves.
func TestPictures(t *testing.T) {
	pics, err := sample(100, 1, 2).Pictures()
	if err != nil {
		t.Fatal(err)
	}
	big := sample(1000, 1, 2)
	grown, err := Growth([]*Summary{sample(100, 1, 2).Summarise(), big.Summarise()})
	if err != nil {
		t.Fatal(err)
	}
	if len(pics) != 8 || len(grown) != 6 {
		t.Fatalf("%d pictures and %d of growth", len(pics), len(grown))
	}
	for _, p := range append(pics, grown...) {
		var svg, again bytes.Buffer
		if err := p.WriteSVG(&svg); err != nil {
			t.Fatal(err)
		}
		texts, paths := parseSVG(t, svg.Bytes())
		for _, c := range []string{"xeno", "xeno, warm", "kademlia", "walk", "walk, warm"} {
			if unit := c == Plain && strings.HasPrefix(p.Name, "recall-"); slices.Contains(texts, c) == unit {
				t.Errorf("%s: the legend has %q", p.Name, texts)
			}
		}
		if paths < 2*len(p.Curves) || !slices.Contains(texts, p.Title) {
			t.Errorf("%s: %d paths, %d curves; title %q", p.Name, paths, len(p.Curves), p.Title)
		}
		if err := p.WriteSVG(&again); err != nil || !bytes.Equal(svg.Bytes(), again.Bytes()) {
			t.Errorf("%s: drawn again, the bytes differ; %v", p.Name, err)
		}
	}
	var b bytes.Buffer
	if err := pics[0].WritePNG(&b); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&b)
	if err != nil || img.Bounds().Dx() < 1000 {
		t.Errorf("PNG: %v", err)
	}
}

// parseSVG returns the texts and the number of paths.
func parseSVG(t *testing.T, data []byte) (texts []string, paths int) {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader(data))
	inText := false
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return texts, paths
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			inText = e.Name.Local == "text"
			if e.Name.Local == "path" {
				paths++
			}
		case xml.CharData:
			if inText {
				texts = append(texts, strings.TrimSpace(string(e)))
			}
			inText = false
		}
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	small := sample(100, 1)
	small.Runs[0].Algorithms = small.Runs[0].Algorithms[:1]
	small.Runs[0].Algorithms[0].Classes = small.Runs[0].Algorithms[0].Classes[:1]
	small.Runs[0].Algorithms[0].Classes[0].Samples = small.Runs[0].Algorithms[0].Classes[0].Samples[:2]
	if err := small.WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"scenario":"x","algorithms":{"xeno":{"broad":{"requests_p50":1,"warm":{"recall":1}}}},"order":["xeno"],"classes":["broad"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, r, err := Read(bytes.NewReader(data), "x.json")
		if err != nil {
			return
		}
		if err := s.WriteText(io.Discard); err != nil {
			t.Error(err)
		}
		if _, err := json.Marshal(s.Object()); err != nil {
			t.Error(err)
		}
		if r != nil {
			if err := r.WriteSamples(io.Discard); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestHTML(t *testing.T) {
	small, big := sample(100, 1, 2), sample(1000, 1)
	small.Partial, small.Why = true, "interrupted <here>"
	var b, again bytes.Buffer
	checks := []Check{{"xeno.needle.recall >= 1", 1, true}, {"walk.needle.recall >= 1", math.NaN(), false}}
	if err := WriteHTML(&b, []*Report{small, big}, checks); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{
		"Made up &lt;b&gt;.", "Partial: interrupted &lt;here&gt;.", `class="best"`, "walk.needle.recall &gt;= 1", "missing", "FAIL", "Over the sweep", "needle, clients that asked before",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q on the page", want)
		}
	}
	for _, bad := range []string{"<script", "<link", "src=", "<?xml", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q on the page", bad)
		}
	}
	if n := strings.Count(page, "<svg"); n != 22 || strings.Count(page, "</svg>") != n {
		t.Errorf("%d pictures", n)
	}
	if err := WriteHTML(&again, []*Report{small, big}, checks); err != nil || again.String() != page {
		t.Errorf("written again, the bytes differ; %v", err)
	}
	if err := WriteHTML(io.Discard, nil, nil); !errors.Is(err, ErrBadResult) {
		t.Error(err)
	}
}

func TestComparison(t *testing.T) {
	a, b := sample(100, 1), sample(100, 2)
	b.Runs[0].Algorithms = b.Runs[0].Algorithms[:2]
	for i := range b.Runs[0].Algorithms[0].Classes[0].Samples {
		b.Runs[0].Algorithms[0].Classes[0].Samples[i].Requests *= 3
	}
	var out bytes.Buffer
	sums := []*Summary{a.Summarise(), b.Summarise(), a.Summarise()}
	if err := WriteComparison(&out, []string{"a.json", "b.json", "again.json"}, sums); err != nil {
		t.Fatal(err)
	}
	golden(t, "compare.txt", out.Bytes())
	agree := Agreements(a, b)
	if len(agree) != 12 || agree[1].P > 1e-6 || agree[2].P < 0.01 || agree[2].String() != "kademlia needle, latency: d = 0.140, p = 0.712" {
		t.Errorf("%v", agree)
	}
	if err := WriteComparison(io.Discard, []string{"a"}, sums[:1]); !errors.Is(err, ErrBadResult) {
		t.Error(err)
	}
}

func TestWindow(t *testing.T) {
	r := sample(100, 1)
	samples := r.Runs[0].Algorithms[0].Classes[0].Samples
	for i := range 10 {
		samples[i].Recall = 0.5 // asked in the first ten seconds
	}
	s := r.Summarise()
	for figure, want := range map[string]float64{
		"recall": 0.9, "recall@0s-10s": 0.5, "recall@5s-15s": 0.75, "recall@10s-1h": 1, "recall@2h-3h": math.NaN(), "recall@1s": math.NaN(), "recal@0s-1s": 0,
	} {
		got := s.Figure("xeno", "needle", false, figure).Value
		if math.Abs(got-want) > 1e-9 || math.IsNaN(got) != math.IsNaN(want) {
			t.Errorf("%s is %g, want %g", figure, got, want)
		}
	}
	if len(samples) != 50 || len(r.Runs[0].Algorithms[0].Classes[0].Samples) != 50 {
		t.Error("the report changed")
	}
}

// TestFigures says where a rival is ahead, and what it does not find.
func TestFigures(t *testing.T) {
	row := func(name string, queries int, requests, factor, recall float64) Row {
		return Row{Algorithm: name, Class: "needle", Queries: queries, Figures: map[string]Estimate{
			RequestsP50: bare(requests), RequestsP99: bare(2 * requests), FactorP50: bare(factor), FactorP99: bare(2 * factor), TailP99: bare(0.8 * factor), Recall: bare(recall),
		}}
	}
	s := &Summary{Scenario: "s", Seeds: []uint64{1}, Engine: Engine{Nodes: 10}, Rows: []Row{
		row("xeno", 20, 10, 2, 1), row(Plain, 20, 1, 1, 0), row("lossy", 20, 5, 2, 0.5), row("dear", 3, 1000, 1.5, 1), row("alike", 20, 9.95, 2, 1),
	}}
	var out strings.Builder
	if err := WriteFigures(&out, []*Summary{s}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 1000 / 2000; 1.50 / 3.00 / 1.20; 100 % (3) |",
		"- 10, needle: lossy (requests p50 5.00 against 10.0, requests p99 10.0 against 20.0, recall 50.0 %); " +
			"dear (latency p50 1.50 against 2.00, latency p99 3.00 against 4.00).\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s\nlacks %q", out.String(), want)
		}
	}
}
