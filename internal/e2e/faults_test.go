package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// faulty is a migration whose target is reached by way of a proxy.
type faulty struct {
	*rig
	proxy *redistest.Proxy
	p     *process
}

// fault is a state of the target, or of the way to it, that passes.
type fault struct {
	name   string
	reason string // that status names while it lasts
	begin  func(*faulty)
	end    func(*faulty)
	since  int // major version of the target that can have it
}

// firmExec is the version from which on EXEC is refused, too, for what its
// commands would be refused for. Before that a script within it fails where a
// fault begins between its queueing and EXEC: a reject.
const firmExec = 6

// config is a fault that CONFIG SET makes and mends.
func config(name, bad, good string) (begin, end func(*faulty)) {
	set := func(value string) func(*faulty) {
		return func(f *faulty) { f.target.Do(f.t, "CONFIG", "SET", name, value) }
	}
	return set(bad), set(good)
}

// reconnect ends every connection to the target but the test's own.
func (f *faulty) reconnect() {
	f.t.Helper()
	f.target.Do(f.t, "CLIENT", "KILL", "TYPE", "normal")
}

// answers is a fault of what stands in the target's place.
func answers(act func() redistest.Action, when func(args [][]byte) bool) (begin, end func(*faulty)) {
	return func(f *faulty) {
			f.proxy.SetHook(func(_, _ int, args [][]byte) redistest.Action {
				if when(args) {
					return act()
				}
				return redistest.Pass()
			})
			f.proxy.CloseAll()
		}, func(f *faulty) {
			f.proxy.SetHook(nil)
			f.proxy.CloseAll()
		}
}

func always([][]byte) bool { return true }

func fullTarget() fault {
	begin, end := config("maxmemory", "1", "0")
	return fault{name: "full, and evicts nothing", reason: "target-oom", since: firmExec, begin: begin, end: end}
}

func readOnlyTarget() fault {
	return fault{
		name: "a replica after a failover", reason: "target-readonly", since: firmExec,
		begin: func(f *faulty) { f.target.Do(f.t, "SLAVEOF", "127.0.0.1", "1") },
		end:   func(f *faulty) { f.target.Do(f.t, "SLAVEOF", "NO", "ONE") },
	}
}

// unsavedTarget has a folder where its dump belongs.
func unsavedTarget() fault {
	dump := func(f *faulty) string { return filepath.Join(f.target.Dir, "dump.rdb") }
	save := func(f *faulty, want string) {
		f.target.Do(f.t, "BGSAVE")
		f.target.Wait(f.t, "a save that ends "+want, func() bool {
			i := f.target.Info(f.t, "persistence")
			return i["rdb_bgsave_in_progress"] == "0" && i["rdb_last_bgsave_status"] == want
		})
	}
	return fault{
		name: "cannot save to its disk", reason: "target-misconf", since: firmExec,
		begin: func(f *faulty) {
			if err := os.MkdirAll(filepath.Join(dump(f), "in the way"), 0o755); err != nil {
				f.t.Fatal(err)
			}
			f.target.Do(f.t, "CONFIG", "SET", "save", "3600 1")
			save(f, "err")
		},
		end: func(f *faulty) {
			remove(f.t, dump(f))
			save(f, "ok")
			f.target.Do(f.t, "CONFIG", "SET", "save", "")
		},
	}
}

// busyTarget runs a script without end.
func busyTarget() fault {
	return fault{
		name: "busy with a script", reason: "target-busy-script",
		begin: func(f *faulty) {
			f.target.Do(f.t, "CONFIG", "SET", "lua-time-limit", "5")
			c := f.target.Dial(f.t)
			if err := c.WriteCommand("EVAL", "while true do end", "0"); err != nil {
				f.t.Fatal(err)
			}
			if err := c.Flush(); err != nil {
				f.t.Fatal(err)
			}
		},
		end: func(f *faulty) { f.target.Do(f.t, "SCRIPT", "KILL") },
	}
}

// loadingTarget loads its data, slowly.
func loadingTarget() fault {
	return fault{
		name: "loading", reason: "target-loading", since: 7,
		begin: func(f *faulty) {
			f.target.Do(f.t, "CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
			f.target.Do(f.t, "CONFIG", "SET", "key-load-delay", "50000")
			c := f.target.Dial(f.t)
			if err := c.WriteCommand("DEBUG", "RELOAD"); err != nil {
				f.t.Fatal(err)
			}
			if err := c.Flush(); err != nil {
				f.t.Fatal(err)
			}
		},
		end: func(f *faulty) { f.target.Do(f.t, "CONFIG", "SET", "key-load-delay", "0") },
	}
}

func passwordTarget(bad, good string) fault {
	return fault{
		name: "with another password", reason: "target-auth",
		begin: func(f *faulty) {
			f.target.Do(f.t, "CONFIG", "SET", "requirepass", bad)
			f.target.Do(f.t, "AUTH", bad) // before 6.0 it asks those who are there too
			f.reconnect()
		},
		end: func(f *faulty) { f.target.Do(f.t, "CONFIG", "SET", "requirepass", good) },
	}
}

func crowdedTarget() fault {
	begin, end := config("maxclients", "1", "1000")
	return fault{
		name: "with too many clients", reason: "target-clients",
		begin: func(f *faulty) { begin(f); f.reconnect() }, end: end,
	}
}

func lonelyTarget() fault {
	begin, end := config("min-slaves-to-write", "1", "0")
	return fault{name: "with too few replicas", reason: "target-no-replicas", begin: begin, end: end}
}

func stoppedTarget() fault {
	return fault{
		name: "hung", reason: "target-silent",
		begin: func(f *faulty) { f.target.Signal(syscall.SIGSTOP) },
		end:   func(f *faulty) { f.target.Signal(syscall.SIGCONT) },
	}
}

func deadTarget() fault {
	return fault{
		name: "dead, and back with its data", reason: "target-unreachable",
		begin: func(f *faulty) { f.target.Kill() }, end: func(f *faulty) { f.target.Restart(f.t) },
	}
}

func cutTarget() fault {
	begin, end := answers(redistest.DropReply, func(args [][]byte) bool { return string(args[0]) == "EXEC" })
	return fault{name: "cut off in each EXEC", reason: "target-unreachable", begin: begin, end: end}
}

func heldTarget() fault {
	begin, end := answers(redistest.Hang, func(args [][]byte) bool { return string(args[0]) == "EXEC" })
	return fault{name: "whose EXECs hang on the way", reason: "target-silent", begin: begin, end: end}
}

func strangeTarget(what, text string) fault {
	begin, end := answers(func() redistest.Action { return redistest.Answer(text) }, always)
	return fault{name: "that answers with " + what, reason: "target-protocol", begin: begin, end: end}
}

// suffers is meets, and then waits until apply has gone on by itself.
func (f *faulty) suffers(x fault) {
	t := f.t
	t.Helper()
	begun := time.Now()
	f.meets(x, func() {})
	w := f.writers[0]
	n := f.counted(w)
	f.p.until("apply to go on by itself once the target is no more "+x.name, func() bool { return f.counted(w) > n+20 })
	f.p.untilStatus("no reason any more, once the target is no more "+x.name, f.dir, func(s status) bool { return !s.has(x.reason) })
	t.Logf("%s: %s, %s in all", x.name, x.reason, time.Since(begun).Round(10*time.Millisecond))
}

// meets lets a fault begin, waits until status names it and capture has gone on
// meanwhile, and lets it end. It calls then once it has begun.
func (f *faulty) meets(x fault, then func()) {
	t := f.t
	t.Helper()
	if major, _ := f.target.Version(); major < x.since {
		t.Logf("%s: not by this target", x.name)
		then()
		return
	}
	begun := time.Now()
	x.begin(f)
	then()
	named := func(what string, goals []int64) status {
		t.Helper()
		return f.p.untilStatus(what+", while the target is "+x.name, f.dir, func(s status) bool {
			return s.has(x.reason) && reached(s, goals, func(g groupStatus) *int64 { return g.Captured })
		})
	}
	zero := make([]int64, len(f.sources))
	first := named("reason "+x.reason, zero)
	var goals []int64
	for _, g := range first.Groups {
		goals = append(goals, *g.Captured+20_000)
	}
	second := named("capture to go on beside reason "+x.reason, goals)
	for i, g := range second.Groups {
		if g.Reason != x.reason {
			continue
		}
		since, err := time.Parse(time.RFC3339, g.Since)
		if err != nil || since.Before(begun.Add(-time.Second)) || since.After(time.Now()) {
			t.Errorf("%s: since: got %q (%v), want a time between %s and now", x.name, g.Since, err, begun)
		}
		if was := first.Groups[i]; was.Reason == g.Reason && was.Since != g.Since {
			t.Errorf("%s: since: got %s and then %s, want the same while the reason lasts", x.name, was.Since, g.Since)
		}
		if g.What == "" || g.Hint == "" || g.State == "stopped" {
			t.Errorf("%s: status: got %+v, want what and a hint, and no stop", x.name, g)
		}
	}
	x.end(f)
	// A hung one is back once it answers again.
	f.target.Wait(t, "the target to answer", func() bool {
		_, err := f.target.DoErr("DBSIZE")
		return err == nil
	})
}

func newFaulty(t *testing.T, groups int, target ...redistest.Option) *faulty {
	f := &faulty{rig: newRig(t, groups, target...)}
	f.proxy = redistest.NewProxy(t, f.target.Addr, nil)
	return f
}

func (f *faulty) args(more ...string) []string {
	return append(append([]string{"sync", "--dir", f.dir}, f.groups()...), append([]string{"--target", f.proxy.Addr}, more...)...)
}

func TestTargetFaults(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "right")
	for _, tt := range []struct {
		name   string
		target []redistest.Option
		args   []string
		faults []fault
	}{
		{
			"that keeps its data",
			[]redistest.Option{redistest.Arg("--appendonly", "yes", "--appendfsync", "no")},
			nil,
			[]fault{fullTarget(), readOnlyTarget(), unsavedTarget(), passwordTarget("surprise", ""), busyTarget(), deadTarget()},
		},
		{
			"that has a password",
			[]redistest.Option{redistest.Password("right")},
			[]string{"--target-password-file", secret},
			[]fault{passwordTarget("wrong", "right"), stoppedTarget(), loadingTarget(), crowdedTarget(), lonelyTarget()},
		},
		{
			"that is far away",
			nil,
			nil,
			[]fault{
				heldTarget(), cutTarget(), strangeTarget("what is not RESP", "HTTP/1.1 400 Bad Request\r\n\r\n"),
				strangeTarget("nonsense that is", "*1\r\n:7\r\n"), strangeTarget("the same to everything", "+OK\r\n"),
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, 1, tt.target...)
			f.fill(200)
			f.write()
			f.p = start(t, f.args(tt.args...)...)
			f.p.streaming(f.dir)
			for _, x := range tt.faults {
				f.suffers(x)
			}
			f.exact(func() {
				f.p.settled(f.dir, f.offsets())
				f.p.interrupt()
			}, tt.args...)
		})
	}
}

// TestTargetFaultsInTheFullPhase stops the restoring of an RDB again and again,
// each time for a fault of the target.
func TestTargetFaultsInTheFullPhase(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, 1)
	f.fill(10_000)
	f.write()
	reached, release, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	free := sync.OnceFunc(func() { close(over) })
	t.Cleanup(free)    // else what waits in the hook would be waited for
	const every = 2500 // entries; what is repeated counts too
	var entries atomic.Int64
	f.proxy.SetHook(func(_, _ int, args [][]byte) redistest.Action {
		if word := string(args[0]); word == "RESTORE" || word == "SET" && !strings.HasPrefix(string(args[1]), "tairlift:") {
			if entries.Add(1)%every == 0 {
				select {
				case reached <- struct{}{}:
				case <-over:
				}
				select {
				case <-release:
				case <-over:
				}
			}
		}
		return redistest.Pass()
	})
	f.p = start(t, f.args()...)
	f.p.untilStatus("the RDB to be captured", f.dir, func(s status) bool { return len(s.Groups) == 1 && s.Groups[0].Captured != nil })
	forgetful := deadTarget() // for nothing is saved
	forgetful.name = "dead, and back with nothing"
	for _, x := range []fault{stoppedTarget(), busyTarget(), loadingTarget(), forgetful} {
		select {
		case <-reached:
		case <-f.p.exited:
		}
		f.p.alive()
		f.meets(x, func() { release <- struct{}{} })
		t.Logf("%s, at entry %d", x.name, entries.Load())
	}
	free()
	f.exact(func() {
		f.p.settled(f.dir, f.offsets())
		f.p.interrupt()
	})
}

// A target that comes back with what it had saved earlier is brought up again
// from the mark in it, also when an earlier process wrote that.
func TestTargetGoesBack(t *testing.T) {
	r := newRig(t, 1)
	r.fill(200)
	r.write()
	p := start(t, r.syncArgs()...)
	p.streaming(r.dir)
	w := r.writers[0]
	more := func(p *process) {
		t.Helper()
		n := r.counted(w)
		p.until("more on the target", func() bool { return r.counted(w) > n+50 })
	}
	more(p)
	saved := r.counted(w)
	r.target.Do(t, "SAVE")
	more(p)
	p.kill()
	p = start(t, r.syncArgs()...)
	more(p)
	for range 2 {
		r.target.Restart(t)
		if got := r.counted(w); got < saved {
			t.Fatalf("bursts on the target behind its restart: got %d, want %d or more", got, saved)
		}
		more(p)
	}
	r.exact(func() {
		p.settled(r.dir, r.offsets())
		p.interrupt()
	})
}
