package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/internal/redistest"
)

// replace puts a value of another type in a key's place, in one step, so that
// the next command on it is rejected.
func replace(t *testing.T, s *redistest.Server, db int, key string) {
	t.Helper()
	s.DoIn(t, db, "EVAL", "redis.call('DEL', KEYS[1]) return redis.call('SADD', KEYS[1], 'x')", "1", key)
}

// spoil makes keys of every writer wrong on the target, and returns how many.
func (r *rig) spoil() (n int) {
	r.t.Helper()
	for _, w := range r.writers {
		for _, key := range []string{w.Counter(), strings.Replace(w.Counter(), "counter", "hash", 1), strings.Replace(w.Counter(), "counter", "list", 1)} {
			replace(r.t, r.target, w.DB, key)
			n++
		}
	}
	return n
}

// healed waits until so many keys were doubtful and none of them is any more.
func (p *process) healed(dir string, n int) {
	p.t.Helper()
	p.untilStatus("every doubtful key to be copied again", dir, func(s status) bool {
		healed := 0
		for _, g := range s.Groups {
			if g.Healed == nil || *g.Doubtful != 0 || *g.Rejects != 0 {
				return false
			}
			healed += *g.Healed
		}
		return healed >= n && len(s.Taints) == 0
	})
}

// untainted looks at a status after the end of its processes.
func untainted(t *testing.T, dir string) {
	t.Helper()
	s := statusOf(t, dir)
	if len(s.Taints) != 0 || !s.CaughtUp {
		t.Errorf("status: got taints %v, caught up %v, want none, true", s.Taints, s.CaughtUp)
	}
}

// What the target rejects is copied again while the writers go on, by a sync and
// by an apply of its own that knows the sources' password from a file; and what
// is rejected last is copied before the goal is reached.
func TestRejectedKeysAreCopiedAgain(t *testing.T) {
	t.Run("sync", func(t *testing.T) {
		r := newRig(t, 2)
		r.fill(100)
		r.write()
		p := start(t, r.syncArgs("--on-reject", "continue")...)
		p.streaming(r.dir)
		p.healed(r.dir, r.spoil())
		writers := r.writers
		r.rest()
		p.settled(r.dir, r.offsets())
		p.interrupt()
		for _, w := range writers {
			replace(t, r.target, w.DB, "late")
			r.sources[w.Group-1].DoIn(t, w.DB, "INCR", "late")
			r.sources[w.Group-1].DoIn(t, w.DB, "DEL", "late")
			r.sources[w.Group-1].DoIn(t, w.DB, "HSET", w.Counter()+":late", "f", "v")
			replace(t, r.target, w.DB, w.Counter()+":late")
		}
		run(t, exitOK, r.syncArgs("--until", "caught-up", "--on-reject", "continue")...)
		untainted(t, r.dir)
		r.tallied(writers, r.target)
		r.identical()
	})
	t.Run("capture and apply", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, 0)
		r.sources = []*redistest.Server{redistest.Source(t, backlog, redistest.Password("s3cret"))}
		r.write()
		capture := start(t, r.captureArgs("--source-password-file", file)...)
		redistest.Eventually(t, "a spool", func() bool { return r.spooled() > 0 })
		apply := start(t, r.applyArgs(r.dir, "--on-reject", "continue")...)
		apply.streaming(r.dir)
		n := r.spoil()
		apply.untilStatus("doubtful keys, and why they stay so", r.dir, func(s status) bool {
			return s.Groups[0].Reason == "doubtful-keys" && strings.Contains(s.Groups[0].What, "NOAUTH")
		})
		apply.interrupt()
		apply = start(t, r.applyArgs(r.dir, "--on-reject", "continue", "--source-password-file", file)...)
		apply.healed(r.dir, n)
		writers := r.writers
		r.rest()
		apply.settled(r.dir, r.offsets())
		apply.interrupt()
		capture.interrupt()
		run(t, exitOK, r.applyArgs(r.dir, "--until", "end")...)
		untainted(t, r.dir)
		r.tallied(writers, r.target)
		r.identicalBy("--dir", r.dir, "--source-password-file", file)
	})
}

// A process that is killed when it has asked the source, and the value is on its
// way but not committed, leaves the key doubtful. The next one asks again.
func TestKilledBetweenQuestionAndCopy(t *testing.T) {
	r := newRig(t, 1)
	r.write()
	var armed atomic.Bool
	counter := r.writers[0].Counter()
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if string(args[0]) == "SET" && string(args[1]) == counter && armed.CompareAndSwap(true, false) {
			return redistest.Hang() // no command of the writers sets it
		}
		return redistest.Pass()
	})
	args := append(append([]string{"sync", "--dir", r.dir}, r.groups()...), "--target", proxy.Addr, "--on-reject", "continue")
	p := start(t, args...)
	p.streaming(r.dir)
	armed.Store(true) // behind the RDB, which may set it
	replace(t, r.target, r.writers[0].DB, counter)
	redistest.Eventually(t, "the value on its way", func() bool { return proxy.Hung() > 0 })
	p.kill()
	proxy.Release()
	if got := r.target.DoIn(t, r.writers[0].DB, "TYPE", counter).String(); got != "set" {
		t.Errorf("a batch without its EXEC: got type %s of the key, want set", got)
	}
	p = start(t, args...)
	p.healed(r.dir, 1)
	writers := r.writers
	r.rest()
	p.settled(r.dir, r.offsets())
	p.interrupt()
	run(t, exitOK, append(args, "--until", "caught-up")...)
	untainted(t, r.dir)
	r.tallied(writers, r.target)
	r.identical()
}
