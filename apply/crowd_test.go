package apply

import (
	"strings"
	"sync/atomic"
	"testing"

	"tairlift/internal/redistest"
)

// TestASweepBesideABusyProcess: as long as another group's mark moves within each try
// to delete, the sweep says so, and it goes on once there is a try without.
func TestASweepBesideABusyProcess(t *testing.T) {
	r := bareRig(t, 2)
	r.craft(1, 1, "k v", "ghost v").seal()
	r.craft(2, 1, "c d").seal()
	r.applyAll(Options{})
	r.craft(1, 2, "k v").seal()

	other := markKey(r.job, 2)
	text := r.markText(2)
	var deciding, rested atomic.Bool
	var tries atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		switch {
		case isWord(args, "WATCH"):
			deciding.Store(len(args) > 2) // those of other groups too
		case isWord(args, "MULTI") && deciding.Load() && !rested.Load():
			tries.Add(1)
			if _, err := r.target.DoErr("SET", other, text); err != nil {
				t.Error(err)
			}
		}
		return redistest.Pass()
	})
	a := r.startOnly(Options{Addr: proxy.Addr, UntilEnd: true}, 1)
	redistest.Eventually(t, "the sweep to tell of its tries", func() bool {
		st := a.job.Status()[0]
		return st.Reason == "reconciling" && strings.HasPrefix(st.What, "marks of other groups moved at each of ")
	})
	r.want("meanwhile", map[string]string{"0 EXISTS ghost": "1"})
	rested.Store(true)
	if err := a.wait(); err != nil {
		t.Fatal(err)
	}
	if got := tries.Load(); got < crowdedTries {
		t.Errorf("tries in vain: got %d, want %d or more", got, crowdedTries)
	}
	r.want("in the end", map[string]string{"0 EXISTS ghost": "0", "0 GET k": "v", "0 GET c": "d"})
}
