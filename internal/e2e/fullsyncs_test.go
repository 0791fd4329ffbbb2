package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tairlift/internal/redistest"
)

func TestNoMoreFullSyncsAtATimeThanAllowed(t *testing.T) {
	const groups, allowed = 4, 2
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "job")}
	for range groups {
		r.sources = append(r.sources, redistest.Source(t, redistest.Arg("--repl-backlog-size", "16kb",
			"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")))
	}
	r.fill(50)
	p := start(t, r.captureArgs("--max-full-syncs", "2", "--max-full-syncs-per-host", "4")...)
	p.captured(r.dir, r.offsets())

	// Every source loses its link and what it would go on from, and takes its time
	// for the full sync.
	for _, s := range r.sources {
		s.Do(t, "CONFIG", "SET", "repl-diskless-sync-delay", "2")
	}
	for _, s := range r.sources {
		s.Do(t, "MULTI")
		s.Do(t, "CLIENT", "KILL", "TYPE", "slave")
		s.Do(t, "SET", "big", strings.Repeat("x", 200<<10))
		s.Do(t, "EXEC")
	}
	p.untilStatus("groups that wait for their turn", r.dir, func(s status) bool {
		n := 0
		for _, g := range s.Groups {
			if g.Reason == "full-sync-queue" && g.State == "waiting" {
				n++
			}
		}
		return n == groups-allowed
	})
	p.untilStatus("a second epoch of every group", r.dir, func(s status) bool {
		for _, g := range s.Groups {
			if g.Epoch != 2 || g.State != "in-sync" {
				return false
			}
		}
		return true
	})
	p.interrupt()

	// A group has its turn before its epoch begins, and until its RDB is whole.
	loading, most := map[string]bool{}, 0
	event := regexp.MustCompile(`msg="(epoch began|RDB is whole)" group=(\d+)`)
	for _, m := range event.FindAllStringSubmatch(p.err.String(), -1) {
		if loading[m[2]] = m[1] == "epoch began"; !loading[m[2]] {
			delete(loading, m[2])
		}
		most = max(most, len(loading))
	}
	if most == 0 || most > allowed {
		t.Errorf("RDBs loaded at a time: got up to %d, want 1 to %d", most, allowed)
	}
	for i, s := range r.sources {
		if got := s.Info(t, "stats")["sync_full"]; got != "2" {
			t.Errorf("full syncs that source %d began: got %s, want 2", i+1, got)
		}
	}
	check := run(t, exitOK, "spool", "check", "--dir", r.dir)
	if want := fmt.Sprintf("%d groups, %d epochs", groups, 2*groups); !strings.Contains(check.out.String(), want) {
		t.Errorf("spool check: got %q, want %s", check.out.String(), want)
	}
}
