package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/redistest"
)

// onExec names the EXEC that follows a command with this name and first
// argument's beginning, on the same connection.
func onExec(name, key string, act redistest.Action, reached chan<- struct{}) redistest.Hook {
	var at atomic.Int64 // the connection that sent the command, -1 behind its EXEC
	return func(conn, _ int, args [][]byte) redistest.Action {
		switch {
		case at.Load() == 0 && strings.EqualFold(string(args[0]), name) && len(args) > 1 && bytes.HasPrefix(args[1], []byte(key)):
			at.Store(int64(conn))
		case at.Load() == int64(conn) && strings.EqualFold(string(args[0]), "EXEC"):
			at.Store(-1)
			close(reached)
			return act
		}
		return redistest.Pass()
	}
}

// A finish that is killed between any two of its steps, with or without the
// target having done the step before, is gone on with by the same command; so
// is a reopen.
func TestAFinishThatIsKilledIsGoneOnWith(t *testing.T) {
	r := newRig(t, 2)
	r.fill(20)
	proxy := redistest.NewProxy(t, r.target.Addr, nil)
	args := append([]string{"--dir", r.dir}, "--target", proxy.Addr)
	sync := append(append([]string{"sync"}, args...), r.groups()...)
	run(t, exitOK, append(sync, "--until", "caught-up")...)
	finish := append([]string{"finish"}, args...)
	tombs := func() []string {
		files, err := filepath.Glob(filepath.Join(r.dir, "apply", "*", "finished.json"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	ours := func() int { return len(r.target.Do(t, "KEYS", "tairlift:*").Strings()) }
	// killed kills a finish at an EXEC.
	killed := func(name, key string, act redistest.Action, more ...string) {
		t.Helper()
		reached := make(chan struct{})
		proxy.SetHook(onExec(name, key, act, reached))
		p := start(t, append(finish, more...)...)
		p.until("the EXEC behind "+name+" "+key, func() bool {
			select {
			case <-reached:
				return true
			default:
				return false
			}
		})
		p.kill()
		proxy.SetHook(nil)
		proxy.CloseAll()
	}
	settled := func(what string, want int) {
		t.Helper()
		redistest.Eventually(t, what, func() bool { return ours() == want })
	}
	for _, tt := range []struct {
		claim string
		act   redistest.Action
		kept  int // keys of ours behind the kill
	}{
		{"before the target has removed anything", redistest.Hang(), 3},
		{"behind that, with the answer lost", redistest.HangReplies(), 0},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			// While it takes the marks over, nothing has been decided.
			killed("SET", "tairlift:mark:", tt.act)
			settled("all three keys of ours", 3)
			if len(tombs()) != 0 {
				t.Fatal("a tombstone before the marks were taken over")
			}
			run(t, exitOK, append(sync, "--until", "caught-up")...)

			killed("SREM", "tairlift:jobs", tt.act)
			settled("what the kill has left", tt.kept)
			if len(tombs()) != 1 {
				t.Fatal("no tombstone before the removal")
			}
			s := statusOf(t, r.dir, "--target", proxy.Addr)
			if g := s.Groups[0]; g.State != "stopped" || g.Reason != "finishing" {
				t.Errorf("status: got %s %s, want stopped, finishing", g.State, g.Reason)
			}
			run(t, exitRefused, sync...).says("was begun at .* and is not through", "start that finish again, or take it back by `tairlift finish --reopen")
			run(t, exitRefused, append([]string{"apply"}, args...)...).says("is not through", "--reopen")
			// The source moves on, which that finish need not know.
			r.sources[0].Do(t, "INCR", "n")
			p := run(t, exitOK, append(finish, "--json")...)
			var done struct {
				State  string `json:"state"`
				Groups []struct {
					ID   int    `json:"id"`
					Mark string `json:"mark"`
				} `json:"groups"`
			}
			p.lastLine(&done)
			if done.State != "finished" || len(done.Groups) != 2 || done.Groups[0].Mark == "" || ours() != 0 {
				t.Errorf("finish: got %+v and %d keys of ours, want two groups finished and none", done, ours())
			}
			run(t, exitRefused, sync...).says("is finished on target", "--reopen")

			killed("SADD", "tairlift:jobs", tt.act, "--reopen")
			settled("what the kill has left", 3-tt.kept)
			run(t, exitRefused, sync...).says("is finished on target", "--reopen")
			run(t, exitOK, append(finish, "--reopen")...)
			if len(tombs()) != 0 || ours() != 3 {
				t.Errorf("reopened: got %v and %d keys of ours, want no tombstone and three", tombs(), ours())
			}
			run(t, exitOK, append(sync, "--until", "caught-up")...)
			r.identicalBy("--dir", r.dir, "--target", proxy.Addr)
			if got, want := r.target.Do(t, "GET", "n").String(), r.sources[0].Do(t, "GET", "n").String(); got != want {
				t.Errorf("counter on the target: got %s, want %s", got, want)
			}
		})
	}
	// A half-made finish is taken back as well as a whole one.
	killed("SREM", "tairlift:jobs", redistest.HangReplies())
	settled("nothing of ours", 0)
	run(t, exitOK, append(finish, "--reopen")...)
	r.sources[1].Do(t, "INCR", "n2")
	run(t, exitOK, append(sync, "--until", "caught-up")...)
	r.identicalBy("--dir", r.dir, "--target", proxy.Addr)
	write(t, filepath.Join(filepath.Dir(onlyOne(t, filepath.Join(r.dir, "apply", "*", "apply.db"))), "finished.json"), `{"version": 1, "state": `)
	run(t, exitRefused, sync...).says("finished.json is damaged", "restore it from a copy, or remove it")
	run(t, exitRefused, finish...).says("finished.json is damaged", "restore it from a copy, or remove it")
}

func onlyOne(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: got %v, %v, want one", pattern, files, err)
	}
	return files[0]
}

// Applies of other folders that are stopped at any instant, and go on when the
// job is finished, never write again.
func TestStoppedAppliesThatWakeBehindAFinishNeverWrite(t *testing.T) {
	r := newRig(t, 2)
	r.fill(3000)
	r.write()
	capture := start(t, r.captureArgs()...)
	capture.captured(r.dir, make([]int64, 2))
	state := func(i int) string { return filepath.Join(filepath.Dir(r.dir), "state", string(rune('a'+i))) }
	var asleep []*process
	for i := range 4 {
		p := start(t, r.applyArgs(r.dir, "--state", state(i))...)
		switch i {
		case 0: // in the RDB phase
			p.until("keys on the target", func() bool { return keys(t, r.target) > 100 })
		default: // in the stream
			p.streaming(r.dir, "--state", state(i))
			w := r.writers[0]
			n := r.counted(w)
			p.until("the stream on the target", func() bool { return r.counted(w) > n+20*int64(i) })
		}
		p.signal(syscall.SIGSTOP)
		t.Cleanup(func() { p.signal(syscall.SIGCONT) })
		asleep = append(asleep, p)
	}
	writers := r.writers
	r.rest()
	last := state(4)
	p := start(t, r.applyArgs(r.dir, "--state", last)...)
	p.settled(r.dir, r.offsets(), "--state", last)
	p.interrupt()
	finish := []string{"finish", "--dir", r.dir, "--state", last}
	run(t, exitRefused, finish...).says("not ready to be finished", "--force")
	out := run(t, exitOK, append(finish, "--force")...).out.String()
	if !strings.Contains(out, "forced: `tairlift capture` captures into") {
		t.Errorf("finish --force beside a capture: got\n%s\nwant it told", out)
	}
	before := keyspace(t, r.target)
	if n := len(r.target.Do(t, "KEYS", "tairlift:*").Strings()); n != 0 {
		t.Fatalf("keys of ours behind finish: got %d, want none", n)
	}
	behind := func(g int) string { return fmt.Sprintf("behind finish, of group %d", g+1) }
	for g, source := range r.sources {
		for range 500 {
			source.Do(t, "INCR", behind(g))
		}
	}
	capture.captured(r.dir, r.offsets())
	for _, p := range asleep {
		p.signal(syscall.SIGCONT)
	}
	for _, p := range asleep {
		redistest.Eventually(t, "the end of an apply that slept", p.ended)
		if p.code != exitStopped && p.code != exitInUse {
			t.Errorf("an apply that slept: got exit code %d, want %d or %d; stderr:\n%s", p.code, exitStopped, exitInUse, tail(p.err.String(), 8))
		}
		if text := p.err.String(); p.code == exitStopped && !strings.Contains(text, "mark-missing") {
			t.Errorf("an apply that slept: got\n%s\nwant its mark missing", tail(text, 8))
		}
	}
	capture.alive()
	if diff := cmp.Diff(before, keyspace(t, r.target), deadlinesLoosely); diff != "" {
		t.Errorf("target behind finish (-then +now):\n%s", diff)
	}
	if n := len(r.target.Do(t, "KEYS", "tairlift:*").Strings()); n != 0 {
		t.Errorf("keys of ours behind it all: got %d, want none", n)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "apply")); !os.IsNotExist(err) {
		t.Errorf("DIR/apply: got %v, want none", err)
	}

	// Reopened, it goes on from exactly there.
	run(t, exitOK, append(finish, "--reopen")...)
	p = start(t, r.applyArgs(r.dir, "--state", last)...)
	p.settled(r.dir, r.offsets(), "--state", last)
	p.interrupt()
	r.tallied(writers, r.target)
	for g := range r.sources {
		if got := r.target.Do(t, "GET", behind(g)).String(); got != "500" {
			t.Errorf("what was written behind finish: got %s of group %d, want 500", got, g+1)
		}
	}
}
