package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/internal/redistest"
)

// follower is a copy under way and the apply that follows it to a target of
// its own.
type follower struct {
	*copier
	apply  *process
	target *redistest.Server
}

// Copies are made all the time while capture runs under load, each in another
// manner, one of them of another copy, and each is followed by an apply. None
// ever stops, each waits while a segment in the middle is not whole, and all
// are exact at the end.
func TestCopiesUnderWay(t *testing.T) {
	r := newRig(t, 2)
	r.fill(1500)
	r.write()
	capture := start(t, r.captureArgs("--segment-size", "16KiB")...)
	redistest.Eventually(t, "a spool", func() bool { return r.spooled() > 0 })
	writers := r.writers
	var resting atomic.Bool
	pace := pacer(func() int64 { return writers[0].Bursts() }, resting.Load)

	var all []*follower
	follow := func(m manner, from string) *follower {
		t.Helper()
		f := &follower{copier: newCopier(t, m, from, filepath.Join(t.TempDir(), "job"), pace), target: redistest.Target(t)}
		f.apply = start(t, "apply", "--dir", f.to, "--target", f.target.Addr)
		f.start()
		all = append(all, f)
		return f
	}
	follow(byRename, r.dir)
	follow(inPlace, r.dir)
	blocks := follow(byBlocks, r.dir)
	follow(inPlace, blocks.to) // the copy of a copy

	streams := func(s status) bool {
		for _, g := range s.Groups {
			if g.State == "stopped" {
				t.Fatalf("group %d has stopped: %s", g.ID, g.Reason)
			}
		}
		return reached(s, make([]int64, 2), func(g groupStatus) *int64 { return g.Applied })
	}
	for _, f := range all {
		f.apply.untilStatus("the stream phase of the copy "+f.manner.String(), f.to, streams)
	}
	direct := all[:3] // what the copy of a copy lacks then is its source's matter
	for _, f := range direct {
		close(f.hold)
	}
	for _, f := range direct {
		f.apply.until("a segment in the middle that is not whole", func() bool { return closed(f.held) })
		f.apply.untilStatus("both groups to wait for it", f.to, func(s status) bool {
			streams(s)
			return !slices.ContainsFunc(s.Groups, func(g groupStatus) bool { return g.Reason != "spool-missing" || !strings.Contains(g.What, "missing") })
		})
		p := run(t, exitCorrupt, "spool", "check", "--dir", f.to)
		if !strings.Contains(p.err.String(), "\nhint: ") {
			t.Errorf("spool check of the copy %s: got %q, want a hint", f.manner, p.err.String())
		}
		run(t, exitCorrupt, "apply", "--dir", f.to, "--state", filepath.Join(t.TempDir(), "state"), "--target", redistest.Target(t).Addr, "--until", "end")
	}
	for _, f := range direct {
		close(f.release)
	}
	for _, f := range all {
		n := f.target.DoIn(t, writers[0].DB, "GET", writers[0].Counter()).String()
		f.apply.until("the copy "+f.manner.String()+" to go on", func() bool {
			return f.target.DoIn(t, writers[0].DB, "GET", writers[0].Counter()).String() != n
		})
	}
	r.rest()
	resting.Store(true)
	offsets := r.offsets() // an old source counts on when nobody listens
	capture.captured(r.dir, offsets)
	capture.interrupt()
	for _, f := range all {
		f.stop()
		f.pass()
	}
	for _, f := range all {
		f.apply.applied(f.to, offsets)
		f.apply.interrupt()
		run(t, exitOK, "spool", "check", "--dir", f.to)
		run(t, exitOK, "apply", "--dir", f.to, "--until", "end")
		r.tallied(writers, f.target)
		r.identicalBy(append([]string{"--dir", f.to}, r.groups()...)...)
	}
}
