package apply

import (
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/internal/repl"
)

// idlers closes, as a target would that is told to, connections that said nothing
// while another one waited for an answer that takes long.
type idlers struct {
	mu     sync.Mutex
	spoke  map[int]int  // commands by the connection
	idle   map[int]bool // are to be closed
	marks  int          // written
	closed int
}

// see counts a command, and tells whether its connection was idle.
func (i *idlers) see(conn int, args [][]byte) (idle bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.spoke[conn]++
	if isWord(args, "SET") && strings.HasPrefix(string(args[1]), "tairlift:mark:") {
		i.marks++
	}
	if idle = i.idle[conn]; idle {
		i.closed++
	}
	return idle
}

// waits lets a connection wait until the lane has shown itself.
func (i *idlers) waits(conn int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	before := maps.Clone(i.spoke)
	for end, late := i.marks+3, time.Now().Add(10*time.Second); i.marks < end && time.Now().Before(late); {
		i.mu.Unlock()
		time.Sleep(time.Millisecond)
		i.mu.Lock()
	}
	for c := range max(conn, slices.Max(slices.Collect(maps.Keys(before)))) + 1 { // those that were there, if they said anything or not
		i.idle[c] = c != conn && i.spoke[c] == before[c]
	}
}

// A target that closes connections that say nothing would end each session of a
// long swap at the same place.
func TestASwapLeavesNoConnectionIdle(t *testing.T) {
	for claim, words := range map[string][]string{"while keys are looked for": {"SCAN"}, "while they are asked for": {"EXISTS"}, "while names are looked for": {"SCAN", "MATCH", "*swap:*"}} {
		t.Run(claim, func(t *testing.T) {
			r := bareRig(t, 2)
			p := r.craft(1, 1, "a 1", "3:b 1")
			r.craft(2, 1, "own 2").seal()
			r.applyAll(scoped)
			p.write("SWAPDB 0 3", "INCR n").seal()
			i := &idlers{spoke: map[int]int{}, idle: map[int]bool{}}
			o := scoped
			o.Groups, o.beat = []repl.GroupID{1}, 20*time.Millisecond
			var begun atomic.Bool
			o.Addr = redistest.NewProxy(t, r.target.Addr, func(conn, _ int, args [][]byte) redistest.Action {
				switch {
				case i.see(conn, args):
					return redistest.Close()
				case isLike(args, words) && begun.CompareAndSwap(false, true):
					i.waits(conn)
				}
				return redistest.Pass()
			}).Addr
			r.applyAll(o)
			r.want("in the end", map[string]string{"3 GET a": "1", "0 GET b": "1", "0 GET n": "1"})
			if i.closed > 0 {
				t.Errorf("closed for being idle: got %d connections, want none", i.closed)
			}
		})
	}
}

// isLike tells whether a command has the words, in their order.
func isLike(args [][]byte, words []string) bool {
	for _, a := range args {
		if ok, _ := path.Match(words[0], string(a)); ok {
			if words = words[1:]; len(words) == 0 {
				return true
			}
		}
	}
	return false
}
