package apply

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// tally is a stream in which every command counts: applied twice or not at
// all, it shows.
func tally(t *testing.T, s *redistest.Server) {
	t.Helper()
	for i := range 6 {
		n := strconv.Itoa(i)
		s.Do(t, "INCR", "counter")
		s.Do(t, "RPUSH", "list", n, n)
		s.Do(t, "APPEND", "text", n)
		s.Do(t, "LPOP", "list")
		s.Do(t, "SELECT", "1")
		s.Do(t, "MULTI")
		s.Do(t, "INCRBY", "a", "10")
		s.Do(t, "INCRBY", "b", "10")
		s.Do(t, "EXEC")
		s.Do(t, "SELECT", "0")
		s.Do(t, "EVAL", "return redis.call('RPUSH', KEYS[1], ARGV[1])", "1", "scripted", n)
		s.Do(t, "HINCRBY", "hash", "f", "7")
	}
}

// sameTally compares what tally wrote.
func sameTally(t *testing.T, claim string, dst, src *redistest.Server) bool {
	t.Helper()
	ok := true
	for _, q := range [][]string{
		{"0", "GET", "counter"},
		{"0", "LRANGE", "list", "0", "-1"},
		{"0", "GET", "text"},
		{"0", "LRANGE", "scripted", "0", "-1"},
		{"0", "HGET", "hash", "f"},
		{"1", "GET", "a"},
		{"1", "GET", "b"},
		{"0", "GET", "from-rdb"},
		{"0", "LRANGE", "list-from-rdb", "0", "-1"},
	} {
		dst.Do(t, "SELECT", q[0])
		src.Do(t, "SELECT", q[0])
		if got, want := show1(dst.Do(t, q[1:]...)), show1(src.Do(t, q[1:]...)); got != want {
			t.Errorf("%s: %v: got %s, want %s", claim, q, got, want)
			ok = false
		}
	}
	return ok
}

// afresh forgets what was applied, on both sides.
func (r *rig) afresh() {
	r.t.Helper()
	r.target.Do(r.t, "FLUSHALL")
	if err := os.RemoveAll(r.dir + "/apply"); err != nil {
		r.t.Fatal(err)
	}
}

// tallied is a rig whose sealed spool holds an RDB and the tally.
func tallied(t *testing.T) *rig {
	r := newRig(t, 1)
	s := r.sources[0]
	s.Do(t, "SET", "from-rdb", "v")
	s.Do(t, "RPUSH", "list-from-rdb", "a", "b")
	r.capture()
	tally(t, s)
	r.stopCapture()
	return r
}

// TestEveryFaultEndsExact lets every single command that apply sends meet each
// fault, once, and wants the same totals as without.
func TestEveryFaultEndsExact(t *testing.T) {
	for _, fault := range []struct {
		name   string
		action func() redistest.Action
	}{
		{"refused at queue time", func() redistest.Action {
			return redistest.Reject("OOM command not allowed when used memory > 'maxmemory'.")
		}},
		{"reply lost", redistest.DropReply},
		{"connection closed before it", redistest.Close},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			r := tallied(t)
			n := int64(0)
			for done := false; !done; n++ {
				r.afresh()
				var seen atomic.Int64
				proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, _ [][]byte) redistest.Action {
					if seen.Add(1) == n+1 {
						return fault.action()
					}
					return redistest.Pass()
				})
				r.applyAll(Options{Addr: proxy.Addr, batch: 5, firstWait: time.Millisecond})
				proxy.Close()
				done = seen.Load() <= n
				if !sameTally(t, fmt.Sprintf("command %d", n+1), r.target, r.sources[0]) {
					return
				}
			}
			if n < 100 {
				t.Errorf("faults tried: got %d, want one for each of the 100 and more commands", n)
			}
		})
	}
}

// TestLateBytesOfAHungConnectionAreHarmless holds each command in turn, and all
// behind it, until a new session has taken over, and then lets the server
// execute them.
func TestLateBytesOfAHungConnectionAreHarmless(t *testing.T) {
	r := tallied(t)
	late := 0
	for n := int64(1); ; n += 3 {
		r.afresh()
		var seen atomic.Int64
		proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, _ [][]byte) redistest.Action {
			if conn == 1 { // the claim, before there is anything to be late
				return redistest.Pass()
			}
			if seen.Add(1) == n {
				return redistest.Hang()
			}
			return redistest.Pass()
		})
		a := r.start(Options{Addr: proxy.Addr, batch: 5, firstWait: time.Millisecond, Timeout: 150 * time.Millisecond, UntilEnd: true})
		if err := a.wait(); err != nil {
			t.Fatalf("hang at command %d: %v", n, err)
		}
		late += proxy.Release()
		proxy.Close()
		if !sameTally(t, fmt.Sprintf("hang at command %d", n), r.target, r.sources[0]) {
			return
		}
		if seen.Load() < n {
			break
		}
	}
	if late == 0 {
		t.Error("commands executed late: got 0, want some")
	}
}

// TestAHungBatchIsReleasedWhileTheNextSessionWorks is the measured way to apply
// a batch twice: EXEC was sent, hangs, and comes between two batches of the
// session that took over.
func TestAHungBatchIsReleasedWhileTheNextSessionWorks(t *testing.T) {
	r := tallied(t)
	for nth := int64(1); nth <= 6; nth++ {
		r.afresh()
		var execs atomic.Int64
		release := make(chan struct{})
		proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
			if conn > 1 && bytes.EqualFold(args[0], []byte("EXEC")) {
				switch execs.Add(1) {
				case nth:
					return redistest.Hang()
				case nth + 2: // the take-over's EXEC and one batch came between
					close(release)
				}
			}
			return redistest.Pass()
		})
		a := r.start(Options{Addr: proxy.Addr, batch: 5, firstWait: time.Millisecond, Timeout: 150 * time.Millisecond, UntilEnd: true})
		<-release
		proxy.Release()
		if err := a.wait(); err != nil {
			t.Fatal(err)
		}
		sameTally(t, fmt.Sprintf("EXEC %d hung", nth), r.target, r.sources[0])
		proxy.Close()
	}
}
