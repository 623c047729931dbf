package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xenoserver/xeno/internal/testenv"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

const (
	// peers is how many others the idle daemon has.
	peers = 20
	// settle is the time from the join to the first reading: what is done once,
	// as lookups and first dials, is over then, and leases were renewed.
	settle = 75 * time.Second
	// idle is how long the processor time is counted: once round of every
	// renewal.
	idle = time.Minute
)

// A world is XenoCorp and other participants in this process, for daemons in
// processes of their own.
type world struct {
	b       *testing.B
	dir     string
	program string
	network node.Network
	corp    *node.Node
}

func newWorld(b *testing.B) *world {
	b.Helper()
	w := &world{b: b, dir: b.TempDir()}
	w.program = filepath.Join(w.dir, "xeno-node")
	if out, err := exec.Command("go", "build", "-o", w.program, ".").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	cfg := w.home(node.Config{Name: "corp", Corp: new(node.CorpConfig), Network: node.Network{Name: "bench"}})
	w.network = cfg.Network
	w.corp = w.start(cfg)
	return w
}

// home makes the home directory of a participant.
func (w *world) home(cfg node.Config) node.Config {
	w.b.Helper()
	cfg.Home = filepath.Join(w.dir, cfg.Name)
	cfg.Log.Level = "warn"
	if cfg.Corp == nil {
		cfg.Network = w.network
	}
	cfg, err := node.Init(cfg)
	if err != nil {
		w.b.Fatal(err)
	}
	return cfg
}

// start runs a participant in this process.
func (w *world) start(cfg node.Config) *node.Node {
	w.b.Helper()
	n, err := node.New(w.b.Context(), cfg)
	if err != nil {
		w.b.Fatal(err)
	}
	w.b.Cleanup(func() { _ = n.Close() }) // nothing is measured any more
	return n
}

// invite returns a registration.
func (w *world) invite(name string) api.RegisterRequest {
	w.b.Helper()
	roles := []ledger.Role{ledger.RoleParticipant, ledger.RoleClient, ledger.RoleServer}
	inv, err := w.corp.Invite(w.b.Context(), api.InviteRequest{Subject: name, Roles: roles})
	if err != nil {
		w.b.Fatal(err)
	}
	return api.RegisterRequest{Code: inv.Code, Name: name}
}

// populate starts participants, one in each so many a XenoServer.
func (w *world) populate(n, each int) {
	w.b.Helper()
	for i := range n {
		cfg := node.Config{Name: fmt.Sprintf("peer-%d", i)}
		if i%each == 0 {
			cfg.Server = &node.ServerConfig{Environments: []string{"wasi"}, CPUs: i + 1, Memory: 1 << 30, Disk: 1 << 30, Country: "NO"}
		}
		p := w.start(w.home(cfg))
		if _, err := p.Register(w.b.Context(), w.invite(cfg.Name)); err != nil {
			w.b.Fatal(err)
		}
	}
}

// A process is a running xeno-node.
type process struct {
	w      *world
	cmd    *exec.Cmd
	client *api.Client
	took   time.Duration // from its start to its first answer
}

// run starts xeno-node and waits for its first answer.
func (w *world) run(home string) *process {
	w.b.Helper()
	ctx, cancel := context.WithTimeout(w.b.Context(), time.Minute)
	defer cancel()
	p := &process{w: w, cmd: exec.Command(w.program, "--home", home), client: api.NewClient(filepath.Join(home, api.SocketName))}
	p.cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		w.b.Fatal(err)
	}
	for {
		_, err := p.client.Status(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			_ = p.cmd.Process.Kill()
			w.b.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	p.took = time.Since(begin)
	return p
}

// stop ends the daemon as a service manager would.
func (p *process) stop() {
	p.w.b.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // Wait tells if it is gone
	if err := p.cmd.Wait(); err != nil {
		p.w.b.Error(err)
	}
}

// ready waits until the daemon has joined and knows so many peers.
func (p *process) ready(peers int) {
	p.w.b.Helper()
	ctx, cancel := context.WithTimeout(p.w.b.Context(), 2*time.Minute)
	defer cancel()
	s, err := p.client.WaitStatus(ctx, func(s api.Status) bool { return s.Ready && len(s.Peers) >= peers })
	if err != nil {
		p.w.b.Fatalf("%d peers: %v", len(s.Peers), err)
	}
}

// memory returns a line of /proc/<pid>/status, in MiB.
func (p *process) memory(line string) float64 {
	p.w.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.w.b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), line+":")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		p.w.b.Fatal(err)
	}
	return float64(kib) / 1024
}

// cpu returns the processor time that the daemon used.
func (p *process) cpu() time.Duration {
	p.w.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.w.b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:])) // from the third on
	var ticks int
	for _, f := range fields[11:13] { // utime and stime, of 10 ms
		n, err := strconv.Atoi(f)
		if err != nil {
			p.w.b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// BenchmarkIdleDaemon measures what xeno-node costs while nobody asks anything
// of it, among 20 others of which 10 are XenoServers. It takes two minutes and
// a half for each kind of participant.
func BenchmarkIdleDaemon(b *testing.B) {
	for name, server := range map[string]*node.ServerConfig{
		"participant": nil, "server": {Environments: []string{"wasi"}, CPUs: 4, Memory: 1 << 30, Disk: 1 << 30},
	} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			w.populate(peers-1, 2) // and XenoCorp
			cfg := w.home(node.Config{Name: "idle", Server: server})
			p := w.run(cfg.Home)
			defer p.stop()
			if _, err := p.client.Register(b.Context(), w.invite("idle")); err != nil {
				b.Fatal(err)
			}
			p.ready(peers)
			time.Sleep(settle)
			for b.Loop() {
				before := p.cpu()
				time.Sleep(idle)
				b.ReportMetric(float64(p.cpu()-before)/float64(idle)*100, "cpu%")
			}
			b.ReportMetric(p.memory("VmRSS"), "MiB-rss")
			b.ReportMetric(p.memory("RssAnon"), "MiB-anon")
			b.ReportMetric(p.memory("VmHWM"), "MiB-peak")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkDaemonStart measures from the start of the process to the answer
// to its first GET /v1/status: with a new home, and with those of a registered
// participant, of one whose store is full, of a XenoServer with everything that
// this machine can run, and of a XenoCorp whose journal holds 1,000 records.
func BenchmarkDaemonStart(b *testing.B) {
	w := newWorld(b)
	b.Run("new", func(b *testing.B) {
		homes := 0
		measureStarts(b, func() *process {
			homes++
			return w.run(w.home(node.Config{Name: fmt.Sprintf("new-%d-%d", b.N, homes)}).Home)
		})
	})
	for name, server := range map[string]*node.ServerConfig{"participant": nil, "full-store": nil, "server": {Country: "NO"}} {
		home := w.home(node.Config{Name: name, Server: server}).Home
		p := w.run(home)
		if _, err := p.client.Register(b.Context(), w.invite(name)); err != nil {
			b.Fatal(err)
		}
		p.ready(1)
		p.stop()
		if name == "full-store" {
			fillStore(b, filepath.Join(home, "store", "blocks", "blocks"))
		}
		b.Run(name, func(b *testing.B) { measureStarts(b, func() *process { return w.run(home) }) })
	}
	cfg := w.home(node.Config{Name: "other-corp", Corp: new(node.CorpConfig), Network: node.Network{Name: "other"}})
	corp, err := node.New(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	for range 1000 {
		if _, err := corp.Invite(b.Context(), api.InviteRequest{Subject: "somebody", Roles: []ledger.Role{ledger.RoleClient}}); err != nil {
			b.Fatal(err)
		}
	}
	if err := corp.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("corp", func(b *testing.B) { measureStarts(b, func() *process { return w.run(cfg.Home) }) })
}

// fillStore puts 8,191 blocks of 1 MiB, all holes, where a store keeps its own:
// with the empty block it has, as many as the default quota has room for.
func fillStore(b *testing.B, dir string) {
	b.Helper()
	for i := range 8191 {
		sum := sha256.Sum256(fmt.Append(nil, i))
		name := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append([]byte{0x12, sha256.Size}, sum[:]...)) // a multihash
		sub := filepath.Join(dir, name[len(name)-3:len(name)-1])
		if err := os.MkdirAll(sub, 0o700); err != nil {
			b.Fatal(err)
		}
		path := filepath.Join(sub, name+".data")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<20)); err != nil {
			b.Fatal(err)
		}
	}
}

func measureStarts(b *testing.B, start func() *process) {
	var took []time.Duration
	for b.Loop() {
		p := start()
		took = append(took, p.took)
		p.stop()
	}
	testenv.ReportLatencies(b, took)
}

// BenchmarkDaemonSearch measures what somebody sees who calls the local API of
// xeno-node: the text of a query compiled, the overlay asked, ten of 19
// XenoServers found, each confirming its ad itself, and the answer as JSON.
func BenchmarkDaemonSearch(b *testing.B) {
	w := newWorld(b)
	w.populate(peers-1, 1)
	p := w.run(w.home(node.Config{Name: "client"}).Home)
	defer p.stop()
	if _, err := p.client.Register(b.Context(), w.invite("client")); err != nil {
		b.Fatal(err)
	}
	p.ready(peers)
	query := api.SearchRequest{Query: `"wasi" in environments && free_cpu >= 4.0 && country == "NO"`, Order: "free_cpu", Limit: 10}
	for {
		found, err := p.client.Search(b.Context(), query)
		if err != nil {
			b.Fatal(err)
		}
		if len(found.Results) == query.Limit {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		found, err := p.client.Search(b.Context(), query)
		took = append(took, time.Since(begin))
		if err != nil || !found.Complete || len(found.Results) != query.Limit {
			b.Fatalf("%+v, %v", found, err)
		}
	}
	testenv.ReportLatencies(b, took)
}
