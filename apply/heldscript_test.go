package apply

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// A script that renames a key to one that it does not name, while a scan for held
// deadlines is under way and has passed where that is: another scan finds it.
func TestAScriptRenamesBehindAScan(t *testing.T) {
	r := bareRig(t, 1)
	p := r.craft(1, 1)
	d := time.Now().Add(time.Hour).UnixMilli()
	p.command("SET", "a", "v", "PXAT", at(d))
	var scanning, begun atomic.Bool
	came := make(chan struct{})
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		switch strings.ToUpper(string(args[0])) {
		case "SCAN":
			scanning.Store(true)
		case "PTTL":
			if scanning.Load() && begun.CompareAndSwap(false, true) {
				p.command("EVAL", "return redis.call('rename', KEYS[1], KEYS[1]..'2')", "1", "a")
				close(came)
				time.Sleep(4 * passTime) // by which the step is the last one before the next batch
			}
		}
		return redistest.Pass()
	})
	a := r.start(Options{Addr: proxy.Addr, heldUnknown: true})
	<-came
	a.reaches(t, p.end)
	r.exact(a, 1)
	r.wantDeadline("behind the script", 0, "a2", 0, d)
}
