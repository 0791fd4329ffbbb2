package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tairlift/internal/redistest"
)

// A target that evicts keys taints the job, until every key was found equal.
func TestEvictionsAreATaint(t *testing.T) {
	const fleeting = 20
	r := newRig(t, 1, redistest.Arg("--maxmemory-policy", "volatile-random"))
	src := r.sources[0]
	fill := func() {
		t.Helper()
		for i := range fleeting {
			src.Do(t, "SETEX", fmt.Sprintf("fleeting:%d", i), "10000", "v")
		}
	}
	for i := range 30 {
		src.Do(t, "SET", fmt.Sprintf("lasting:%d", i), "v")
	}
	fill()
	tainted := func(s status) bool {
		return len(s.Taints) == 1 && strings.Contains(s.Taints[0], fmt.Sprintf("has evicted %d keys since 20", fleeting)) && strings.Contains(s.Taints[0], "volatile-random")
	}
	verdict := func(level string, code int) (v struct {
		Verdict string
		Taints  []string
		Missing int
	},
	) {
		t.Helper()
		run(t, code, "verify", "--dir", r.dir, "--level", level, "--json").lastLine(&v)
		return v
	}

	p := start(t, r.syncArgs()...)
	p.settled(r.dir, r.offsets())
	p.untilStatus("sync", r.dir, func(s status) bool { return len(s.Taints) == 0 && s.Groups[0].State == "in-sync" })
	if !strings.Contains(p.err.String(), "maxmemory_policy=volatile-random") {
		t.Errorf("stderr: got\n%s\nwant a warning of the policy", p.err.String())
	}
	r.target.Do(t, "CONFIG", "SET", "maxmemory", "1") // all that may go goes
	src.Do(t, "INCR", "n")
	p.untilStatus("reason target-oom", r.dir, func(s status) bool { return s.has("target-oom") })
	r.target.Do(t, "CONFIG", "SET", "maxmemory", "0")
	p.settled(r.dir, r.offsets())
	s := p.untilStatus("the taint", r.dir, func(s status) bool { return tainted(s) && s.has("target-evicted") })
	if g := s.Groups[0]; g.State == "in-sync" || s.CaughtUp || g.Since == "" || g.Hint == "" {
		t.Errorf("status: got %+v, want no group in sync, and since when", s)
	}
	p.kill()
	if v := verdict("keys", exitFailed); v.Missing != fleeting || len(v.Taints) != 1 {
		t.Errorf("verify keys: got %+v, want %d keys missing, and the taint", v, fleeting)
	}

	// Written anew they are there, but who says that all are?
	fill()
	run(t, exitOK, r.syncArgs("--until", "caught-up")...)
	if s := statusOf(t, r.dir); !tainted(s) {
		t.Errorf("status of the next run: got %+v, want the taint", s)
	}
	for level, want := range map[string]struct {
		code    int
		verdict string
	}{"counts": {exitInconclusive, "inconclusive"}, "keys": {exitInconclusive, "inconclusive"}, "sample": {exitOK, "no-difference-in-sample"}} {
		if v := verdict(level, want.code); v.Verdict != want.verdict || !tainted(status{Taints: v.Taints}) {
			t.Errorf("verify %s: got %+v, want %s and the taint", level, v, want.verdict)
		}
	}
	if out := run(t, exitInconclusive, "verify", "--dir", r.dir, "--level", "keys").out.String(); !strings.Contains(out, "taint: the target has evicted") {
		t.Errorf("verify keys: got\n%s\nwant the taint", out)
	}
	if v := verdict("full", exitOK); v.Verdict != "identical" || !tainted(status{Taints: v.Taints}) {
		t.Errorf("verify full: got %+v, want identical, and the taint that it clears", v)
	}
	if s := statusOf(t, r.dir); len(s.Taints) != 0 {
		t.Errorf("taints after a full verify: got %v, want none", s.Taints)
	}
	if v := verdict("keys", exitOK); v.Verdict != "identical" || len(v.Taints) != 0 {
		t.Errorf("verify keys behind it: got %+v, want identical", v)
	}
}
