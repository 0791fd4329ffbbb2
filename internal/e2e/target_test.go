package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tairlift/internal/redistest"
)

// moved waits until capture is this many bytes further in every group, whatever
// apply does; meanwhile a group must wait for the reason.
func moved(p *process, r *rig, reason string, bytes int64) {
	p.t.Helper()
	s := p.untilStatus(fmt.Sprintf("status with reason %s, and captured offsets", reason), r.dir, func(s status) bool {
		return s.has(reason) && reached(s, make([]int64, len(r.sources)), func(g groupStatus) *int64 { return g.Captured })
	})
	var goals []int64
	for _, g := range s.Groups {
		goals = append(goals, *g.Captured+bytes)
	}
	p.untilStatus(fmt.Sprintf("capture up to %d beside reason %s", goals, reason), r.dir, func(s status) bool {
		return s.has(reason) && reached(s, goals, func(g groupStatus) *int64 { return g.Captured })
	})
}

func TestTargetDies(t *testing.T) {
	// Without fsync each write is in the file before its reply is sent: kill -9
	// takes nothing back.
	r := newRig(t, 2, redistest.Arg("--appendonly", "yes", "--appendfsync", "no"))
	r.fill(500)
	r.write()
	w := r.writers[0]
	p := start(t, r.syncArgs()...)
	p.streaming(r.dir)
	for range 2 {
		r.target.Kill()
		moved(p, r, "target-unreachable", 50_000)
		r.target.Restart(t)
		r.target.Wait(t, "the data to be loaded", func() bool {
			_, err := r.target.DoErr("DBSIZE")
			return err == nil
		})
		n := r.counted(w)
		p.until("apply to go on by itself", func() bool { return r.counted(w) > n+50 })
	}
	r.exact(func() {
		p.settled(r.dir, r.offsets())
		p.interrupt()
	})
}

func TestTargetForgets(t *testing.T) {
	t.Run("in the full phase, which begins again", func(t *testing.T) {
		r := newRig(t, 2)
		r.fill(20_000)
		r.write()
		p := start(t, r.syncArgs()...)
		p.until("half of an RDB on the target", func() bool { return keys(t, r.target) > 20_000 })
		r.target.Restart(t)
		r.exact(func() {
			p.settled(r.dir, r.offsets())
			p.interrupt()
		})
	})
	t.Run("in the stream, which stops", func(t *testing.T) {
		r := newRig(t, 2)
		r.write()
		p := start(t, r.syncArgs()...)
		p.streaming(r.dir)
		r.target.Restart(t)
		p.untilStatus("both groups to stop", r.dir, func(s status) bool {
			return !slices.ContainsFunc(s.Groups, func(g groupStatus) bool { return g.State != "stopped" || g.Reason != "mark-missing" })
		})
		p.captured(r.dir, r.offsets()) // nevertheless
		p.interrupt()
		run(t, exitStopped, r.syncArgs("--until", "caught-up")...)
		if got := keys(t, r.target); got != 0 {
			t.Errorf("keys on the target behind the loss: got %d, want 0", got)
		}
	})
}

func TestTargetFull(t *testing.T) {
	t.Run("in the full phase", func(t *testing.T) {
		r := newRig(t, 2, redistest.Arg("--maxmemory", "6mb", "--maxmemory-policy", "noeviction"))
		r.fill(15_000)
		r.write()
		p := start(t, r.syncArgs()...)
		moved(p, r, "target-oom", 50_000)
		r.target.Do(t, "CONFIG", "SET", "maxmemory", "0")
		r.exact(func() {
			p.settled(r.dir, r.offsets())
			p.interrupt()
		})
	})
	t.Run("in the stream", func(t *testing.T) {
		r := newRig(t, 2, redistest.Arg("--maxmemory", "6mb", "--maxmemory-policy", "noeviction"))
		r.write()
		p := start(t, r.syncArgs()...)
		p.streaming(r.dir)
		fat(t, r.sources[0], 2000)
		moved(p, r, "target-oom", 50_000)
		r.target.Do(t, "CONFIG", "SET", "maxmemory", "0")
		r.exact(func() {
			p.settled(r.dir, r.offsets())
			p.interrupt()
		})
	})
}

// fat writes strings of 8 KiB.
func fat(t *testing.T, s *redistest.Server, n int) {
	t.Helper()
	c := s.Dial(t)
	value := strings.Repeat("fat fish", 1024)
	for i := range n {
		if _, err := c.Do(t.Context(), "SET", fmt.Sprintf("fat:%d", i), value); err != nil {
			t.Fatal(err)
		}
	}
}
