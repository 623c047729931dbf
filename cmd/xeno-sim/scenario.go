package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/sim"
)

// overrides are flags that change a scenario.
type overrides struct {
	seeds      []uint
	nodes      int
	algorithms []string
	set        []string
	force      bool
	expect     bool
}

func (o *overrides) flags(cmd *cobra.Command) {
	cmd.Flags().UintSliceVar(&o.seeds, "seed", nil, "`seeds` instead of the scenario's")
	cmd.Flags().IntVar(&o.nodes, "nodes", 0, "number of servers instead of the scenario's")
	cmd.Flags().StringSliceVar(&o.algorithms, "algorithms", nil, "`names` of what to compare instead of the scenario's")
	cmd.Flags().StringArrayVar(&o.set, "set", nil, "`key=value` of the scenario, as in network.loss=0.01; may be repeated")
	cmd.Flags().BoolVar(&o.force, "force", false, "run even where the memory will probably not do")
	_ = cmd.RegisterFlagCompletionFunc("algorithms", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return sim.Algorithms(), cobra.ShellCompDirectiveNoFileComp
	})
}

// expectFlag is for commands that check expectations.
func (o *overrides) expectFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.expect, "expect", false, "hold it to the scenario's expectations whatever flags change")
}

// completeScenario completes the names of scenarios that ship, and files.
func completeScenario(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return sim.Shipped(), cobra.ShellCompDirectiveDefault
}

// load reads a scenario and changes it as the flags say.
func (a *app) load(name string, o *overrides) (*sim.Scenario, error) {
	s, err := sim.Load(name)
	if err != nil {
		return nil, err
	}
	s.Clock = a.clock
	expected := s.Expect
	if len(o.seeds) > 0 {
		var seeds []any
		for _, seed := range o.seeds {
			seeds = append(seeds, int64(seed)) //nolint:gosec // negative ones are refused
		}
		if err := s.Override("seeds", seeds); err != nil {
			return nil, usagef("--seed: %w", err)
		}
	}
	if len(o.algorithms) > 0 {
		var names []any
		for _, n := range o.algorithms {
			names = append(names, n)
		}
		if err := s.Override("algorithms", names); err != nil {
			return nil, usagef("--algorithms: %w", err)
		}
	}
	if o.nodes != 0 {
		if err := s.Override("network.nodes", int64(o.nodes)); err != nil {
			return nil, usagef("--nodes: %w", err)
		}
	}
	for _, pair := range o.set {
		if err := override(s, pair); err != nil {
			return nil, usagef("--set %s: %w", pair, err)
		}
	}
	if o.expect {
		s.Hold(expected)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	if len(expected) > 0 && len(s.Expect) == 0 {
		a.note("With these flags the scenario's expectations do not apply; they are not checked. With --expect they are.")
	}
	return s, nil
}

// override carries out --set key=value. A value that is no TOML is a text.
func override(s *sim.Scenario, pair string) error {
	key, text, ok := strings.Cut(pair, "=")
	if !ok {
		return errors.New("give key=value, as in network.loss=0.01")
	}
	var doc map[string]any
	if err := toml.Unmarshal([]byte("value = "+text), &doc); err != nil || len(doc) != 1 {
		return s.Override(key, text)
	}
	return s.Override(key, doc["value"])
}

// fits refuses a run that the memory of this machine will not do for.
func (a *app) fits(s *sim.Scenario, force bool) error {
	available, err := sim.AvailableMemory()
	if err != nil {
		a.note("How much memory is available cannot be told (%v); going on.", err)
		return nil
	}
	if err := s.Refuse(available); err != nil && !force {
		return fmt.Errorf("%w: %w", errMemory, err)
	}
	return nil
}

func newScenarios(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "scenarios [NAME]",
		Short:   "List the scenarios that ship, or print one",
		Long:    "Scenarios lists what ships. With a name it prints the file, to begin one's own with.",
		Example: "  xeno-sim scenarios\n  xeno-sim scenarios small > mine.toml",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: completeScenario,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				text, err := sim.Source(args[0])
				if err != nil {
					return err
				}
				return a.print(map[string]string{"scenario": args[0], "toml": string(text)}, func(w io.Writer) error {
					_, err := w.Write(text)
					return err
				})
			}
			return a.listScenarios()
		},
	}
}

func (a *app) listScenarios() error {
	type entry struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Nodes       int    `json:"nodes"`
	}
	var all []entry
	for _, name := range sim.Shipped() {
		s, err := sim.Load(name)
		if err != nil {
			return err
		}
		all = append(all, entry{name, s.Description, s.Network.Nodes})
	}
	return a.print(all, func(w io.Writer) error {
		for _, e := range all {
			fmt.Fprintf(w, "%-8s  %7d servers  %s\n", e.Name, e.Nodes, e.Description)
		}
		return nil
	})
}
