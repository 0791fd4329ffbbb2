package apply

import (
	"strings"
	"testing"

	"tairlift/internal/redistest"
	"tairlift/internal/repl"
)

// Two groups that swap at a time keep for each other what both hold. Nobody may hold
// it any more where it is then, so it is doubtful there too.
func TestSwapsAtOnceOfAKeyThatBothHold(t *testing.T) {
	r := bareRig(t, 2)
	one, two := r.craft(1, 1, "k 1", "3:w 1"), r.craft(2, 1, "k 1", "3:v 1")
	r.applyAll(scoped)
	one.write("SWAPDB 0 3", "INCR n").seal()
	two.write("SWAPDB 3 0", "INCR m").seal()
	for id := repl.GroupID(1); id <= 2; id++ {
		proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
			if isWord(args, "SET") && strings.Contains(string(argOf(args, 2)), " swap=3:") {
				return redistest.Close()
			}
			return redistest.Pass()
		})
		half := scoped
		half.Groups, half.Addr, half.UntilEnd, half.MaxWait = []repl.GroupID{id}, proxy.Addr, true, 1
		if r.started(half) == nil {
			t.Fatal("got no error")
		}
		proxy.Close()
	}
	r.applyAll(scoped)
	r.want("in the end", map[string]string{"0 GET k": "1", "3 EXISTS k": "0", "0 GET w": "1", "0 GET v": "1", "0 DBSIZE": "8"})
	if got := strings.Join(r.doubtsOf(2), " "); got != "0:k 3:k" {
		t.Errorf("doubts: got %s, want those in both databases", got)
	}
}
