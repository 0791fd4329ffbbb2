package apply

import (
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/internal/redistest"
)

// TestNothingRunsOutsideItsTransaction has a script, or the loading of data, end
// at each command that opens a batch's transaction: that one is refused, and
// all behind it would be executed at once. It loses the connection there, too, so
// that what was executed alone would be executed again.
func TestNothingRunsOutsideItsTransaction(t *testing.T) {
	r := bareRig(t, 1)
	for _, word := range []string{"SELECT", "WATCH", "GET", "MULTI"} {
		for _, text := range []string{"BUSY Redis is busy running a script.", "LOADING Redis is loading the dataset in memory"} {
			t.Run(word+" "+text[:4], func(t *testing.T) {
				r := r.again(t)
				p := r.craft(1, 1, "k v").write("INCR n")
				r.applyAll(Options{})
				p.write("INCR n", "RPUSH l x", "INCR n")
				var seen atomic.Int64
				var refused atomic.Bool
				proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
					switch {
					case conn != 2: // behind the claim's, the first session
					case isWord(args, word) && seen.Add(1) == 2: // behind the take-over's
						refused.Store(true)
						return redistest.ReplyError(text)
					case refused.Load() && (isWord(args, "RPUSH") || isWord(args, "SET") && strings.HasPrefix(string(args[1]), keyPrefix)):
						return redistest.Close()
					}
					return redistest.Pass()
				})
				r.applyAll(Options{Addr: proxy.Addr})
				if !refused.Load() {
					t.Fatalf("%s: never refused", word)
				}
				r.want("in the end", map[string]string{"0 GET n": "3", "0 LLEN l": "1"})
			})
		}
	}
}

// The same of the RDB phase, where a chunk would go to the database that the
// connection had before.
func TestAChunkIsNotSentToAnotherDatabase(t *testing.T) {
	r := bareRig(t, 1)
	r.craft(1, 1, "0:a v", "1:b v", "0:c v", "2:d v").seal()
	var seen [10]atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "SELECT") && string(args[1]) != "0" && seen[args[1][0]-'0'].Add(1) == 2 { // behind the proof that it is there
			return redistest.ReplyError("BUSY Redis is busy running a script.")
		}
		return redistest.Pass()
	})
	r.applyAll(Options{Addr: proxy.Addr, chunkEntries: 2})
	if seen[1].Load() < 2 || seen[2].Load() < 2 {
		t.Errorf("SELECTs of databases 1 and 2: got %d, %d, want 2 or more of each", seen[1].Load(), seen[2].Load())
	}
	r.want("in the end", map[string]string{
		"0 GET a": "v", "1 GET b": "v", "0 GET c": "v", "2 GET d": "v",
		"0 EXISTS b": "0", "0 EXISTS d": "0", "1 EXISTS d": "0", "1 EXISTS c": "0", "2 EXISTS b": "0", "2 EXISTS c": "0",
	})
}

// TestATargetThatRunsCommandsOutsideTheirTransaction is a proxy that has lost
// its own connection behind MULTI: what ran at once must not be sent again.
func TestATargetThatRunsCommandsOutsideTheirTransaction(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1, "k v").write("INCR n")
	r.applyAll(Options{})
	p.write("INCR n", "RPUSH l x", "INCR n")
	var seen atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
		if conn == 2 && isWord(args, "MULTI") && seen.Add(1) == 2 { // behind the take-over's
			return redistest.Reply("+OK\r\n")
		}
		return redistest.Pass()
	})
	stop := r.stopped(Options{Addr: proxy.Addr}, "mark-refused")
	if !strings.Contains(stop.What, "outside its transaction") || !strings.Contains(stop.Hint, "--reseed") {
		t.Errorf("stop: got %q, %q, want the cause and the way out", stop.What, stop.Hint)
	}
	r.want("what ran at once", map[string]string{"0 GET n": "3", "0 LLEN l": "1"})
	r.stopped(Options{}, "mark-refused") // a start alone does not run it again
	r.applyAll(Options{Reseed: true})
	r.want("in the end", map[string]string{"0 GET n": "3", "0 LLEN l": "1", "0 GET k": "v"})
}
