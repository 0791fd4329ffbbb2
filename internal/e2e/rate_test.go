package e2e

import (
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// set changes limits of what runs in a folder.
func set(t testing.TB, dir string, what ...string) {
	t.Helper()
	run(t, exitOK, append([]string{"ctl", "set", "--dir", dir}, what...)...)
}

// TestRateIsChangedWhileItRuns holds both phases back, kills and interrupts apply
// there, and changes the limits of what runs. Capture goes on all the time.
func TestRateIsChangedWhileItRuns(t *testing.T) {
	r := newRig(t, 2)
	r.fill(200)
	r.write()
	p := start(t, r.syncArgs("--max-ops", "20", "--capture-max-bandwidth", "1GiB")...)
	moved(p, r, "rate-limited", 20_000)
	if got := keys(t, r.target); got >= keys(t, r.sources[0]) {
		t.Errorf("keys on the target under a limit: got %d, want few", got)
	}
	p.kill()

	p = start(t, r.syncArgs("--max-ops", "20")...)
	moved(p, r, "rate-limited", 20_000)
	set(t, r.dir, "max-ops=0")
	p.streaming(r.dir)
	p.settled(r.dir, r.offsets())
	set(t, r.dir, "max-ops=1", "max-bandwidth=64KiB")
	moved(p, r, "rate-limited", 20_000)
	p.untilStatus("both groups behind, for the limit alone", r.dir, func(s status) bool {
		for _, g := range s.Groups {
			if g.State != "catching-up" || g.Reason != "rate-limited" {
				return false
			}
		}
		return s.Rate.Apply.MaxOps == 1 && s.Rate.Apply.MaxBandwidth == 64<<10
	})
	p.interrupt() // at one command a second it would not end otherwise

	p = start(t, r.syncArgs("--max-ops", "1000000", "--max-bandwidth", "1GiB")...)
	r.exact(func() {
		p.settled(r.dir, r.offsets())
		p.interrupt()
	})
}

const (
	calmExecs = 30
	slowestMS = 8000 // short of when apply gives a connection up
)

// TestApplyBacksOffFromASlowTarget puts a proxy before the target that answers ever
// more slowly, until status says that apply has slowed down.
func TestApplyBacksOffFromASlowTarget(t *testing.T) {
	r := newRig(t, 1)
	r.fill(100)
	r.write()
	var execs atomic.Int64
	var slowed atomic.Bool
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if strings.EqualFold(string(args[0]), "EXEC") && !slowed.Load() {
			// The first answers tell what is calm, which on a busy machine is slow
			// already: it takes a multiple of that.
			if n := execs.Add(1); n > calmExecs {
				slow := 50 * math.Pow(1.25, float64(n-calmExecs)) // in ms
				time.Sleep(time.Duration(min(slow, slowestMS)) * time.Millisecond)
			}
		}
		return redistest.Pass()
	})
	args := append([]string{"sync", "--dir", r.dir, "--target", proxy.Addr, "--backoff-latency", "20ms"}, r.groups()...)
	p := start(t, args...)
	p.untilStatus("apply to slow down", r.dir, func(s status) bool { return s.Rate.Apply.Slowed > 0 })
	slowed.Store(true)
	set(t, r.dir, "backoff-latency=0")
	p.untilStatus("full speed", r.dir, func(s status) bool { return s.Rate.Apply.Speed == 1 && s.Rate.Apply.BackoffMS == 0 })
	r.exact(func() {
		p.settled(r.dir, r.offsets())
		p.interrupt()
	})
}
