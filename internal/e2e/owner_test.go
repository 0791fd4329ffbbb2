package e2e

import (
	"bytes"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"tairlift/internal/redistest"
)

// TestOwner stops an apply whose bytes are on the way to the target, in either
// phase, and lets another take over and catch up. Then the bytes arrive, and the
// first one goes on: nothing of it may be executed any more.
func TestOwner(t *testing.T) {
	t.Parallel()
	mark := func(args [][]byte) bool { return len(args) > 1 && bytes.HasPrefix(args[1], []byte("tairlift:")) }
	exec := func(args [][]byte) bool { return string(args[0]) == "EXEC" }
	data := func(args [][]byte) bool {
		return string(args[0]) == "RESTORE" || string(args[0]) == "SET" && !mark(args)
	}
	for _, tt := range []struct {
		name   string
		keys   int                      // of the source before it begins
		held   func(args [][]byte) bool // where a connection begins to hang
		after  int64                    // so many of those have passed
		hung   int                      // connections
		first  string                   // verb
		killed bool                     // the first one, and the next is the same command again
	}{
		{"an apply in the stream, at EXEC", 100, exec, 40, 1, "apply", false},
		{"a sync in the stream, at EXEC", 100, exec, 40, 1, "sync", false},
		{"an apply in the stream, within its batch", 100, func(args [][]byte) bool { return string(args[0]) == "INCRBY" || string(args[0]) == "INCR" }, 100, 1, "apply", false},
		{"an apply in the RDB phase, with all its connections", 20_000, data, 9_000, 3, "apply", false},
		{"a sync in the RDB phase, with all its connections", 20_000, data, 9_000, 3, "sync", false},
		{"one that was killed in the stream", 100, exec, 40, 1, "sync", true},
		{"one that was killed in the RDB phase", 20_000, data, 9_000, 3, "sync", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, 1)
			f.fill(tt.keys)
			f.write()
			var seen atomic.Int64
			f.proxy.SetHook(func(_, _ int, args [][]byte) redistest.Action {
				if tt.held(args) && seen.Add(1) > tt.after {
					return redistest.Hang()
				}
				return redistest.Pass()
			})
			args := f.args()
			if tt.first == "apply" {
				p := start(t, f.captureArgs()...)
				p.captured(f.dir, f.offsets())
				args = []string{"apply", "--dir", f.dir, "--target", f.proxy.Addr}
			}
			first := start(t, args...)
			first.until("connections that hang", func() bool { return f.proxy.Hung() >= tt.hung })
			captured := first.untilStatus("the RDB to be captured", f.dir, func(s status) bool { return len(s.Groups) == 1 && s.Groups[0].Captured != nil })
			var next *process
			var flags []string
			if tt.killed {
				first.kill()
				f.proxy.SetHook(nil) // what hangs, hangs
				next = start(t, args...)
			} else {
				first.signal(syscall.SIGSTOP)
				flags = []string{"--state", filepath.Join(t.TempDir(), "state")}
				next = start(t, append(f.applyArgs(f.dir), flags...)...)
			}
			goal := f.offsets()
			if tt.first == "sync" && !tt.killed { // it captures no more
				goal = []int64{*captured.Groups[0].Captured}
			}
			next.applied(f.dir, goal, flags...)
			f.proxy.SetHook(nil)
			f.late(tt.hung)
			if !tt.killed {
				first.signal(syscall.SIGCONT)
				first.wait(exitInUse)
				if text := first.err.String(); !strings.Contains(text, "has taken over the target") || !strings.Contains(text, "hint: ") {
					t.Errorf("stderr of the first: got\n%s\nwant it to say that it was taken over", text)
				}
			}
			if tt.first == "sync" && !tt.killed {
				run(t, exitOK, f.captureArgs("--until", "caught-up")...)
			}
			f.exact(func() {
				if tt.first == "sync" && !tt.killed {
					run(t, exitOK, f.captureArgs("--until", "caught-up")...)
				}
				if tt.killed {
					next.settled(f.dir, f.offsets())
					next.interrupt()
					return
				}
				next.applied(f.dir, f.offsets(), flags...)
				next.interrupt()
				run(t, exitOK, append(f.applyArgs(f.dir, "--until", "end"), flags...)...) // with exact deadlines
			}, flags...)
		})
	}
}

// late lets what hangs arrive. Connections of the RDB phase were ended by the
// next session; what hangs on a lane is executed, and may do nothing.
func (f *faulty) late(hung int) {
	if sent := f.proxy.Release(); sent == 0 && hung == 1 {
		f.t.Error("commands that arrived late: got 0, want some")
	}
}
