package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// report is what was done.
func (s *soak) report(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "rounds\t%d\n", s.rounds)
	for _, f := range faults {
		if n := s.done[f.fault]; n > 0 {
			fmt.Fprintf(t, "%s\t%d\n", f.fault, n)
		}
	}
	commands, resolved, keys := int64(0), int64(0), 0
	for _, w := range s.writers {
		commands += w.commands.Load()
		resolved += w.resolved.Load()
	}
	for _, w := range s.writers {
		w.mu.Lock()
		keys += len(w.ledger.keys)
		w.mu.Unlock()
	}
	fmt.Fprintf(t, "commands written\t%d\n", commands)
	fmt.Fprintf(t, "bursts whose answers the source took with it\t%d\n", resolved)
	fmt.Fprintf(t, "keys of the writers\t%d\n", keys)
	for g := 1; g <= groups; g++ {
		fmt.Fprintf(t, "epochs of group %d\t%d\n", g, s.epochs[g])
	}
	if s.tool != nil {
		s.tool.mu.Lock()
		defer s.tool.mu.Unlock()
		fmt.Fprintf(t, "starts of tairlift\t%d\n", s.tool.starts)
		for _, code := range slices.Sorted(maps.Keys(s.tool.codes)) {
			fmt.Fprintf(t, "ends with exit code %d\t%d\n", code, s.tool.codes[code])
		}
	}
	_ = t.Flush()
}
