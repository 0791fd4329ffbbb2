package apply

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/pace"
	"tairlift/internal/redistest"
)

// paced waits until every group shows that it waits for a limit, in the state, and
// for nothing else.
func (a *applying) paced(t *testing.T, state State) {
	t.Helper()
	redistest.Eventually(t, "all groups "+string(state)+" and held back", func() bool {
		for _, st := range a.job.Status() {
			if st.Reason != "" || st.State != state || st.Pace != pace.ReasonLimited {
				return false
			}
		}
		return true
	})
}

// halfDone are the target's connections with an open transaction that holds
// something.
func halfDone(t *testing.T, s *redistest.Server) (out []string) {
	t.Helper()
	for line := range strings.Lines(s.Do(t, "CLIENT", "LIST").String()) {
		if strings.Contains(line, " multi=") && !strings.Contains(line, " multi=-1") && !strings.Contains(line, " multi=0") {
			out = append(out, line)
		}
	}
	return out
}

// TestALimitHoldsBothPhasesBack: one operation a second, which nobody could wait
// for, until it is lifted. What waits holds nothing up, and can be stopped.
func TestALimitHoldsBothPhasesBack(t *testing.T) {
	r := bareRig(t, 2)
	const keys, incrs = 50, 3000
	var pens []*pen
	for id := 1; id <= 2; id++ {
		var entries []string
		for i := range keys {
			entries = append(entries, fmt.Sprintf("g%d-%d v", id, i))
		}
		pens = append(pens, r.craft(r.ids()[id-1], 1, entries...))
	}

	p := pace.New(pace.Limits{Ops: 1}, 0)
	a := r.start(Options{Pace: p, beat: time.Hour})
	a.paced(t, StateRestoring)
	if got := r.target.Do(t, "DBSIZE").Int; got >= 2*keys {
		t.Errorf("keys on the target: got %d, want it held back", got)
	}
	p.Set(pace.Limits{})
	for i := range pens {
		redistest.Eventually(t, "the stream phase", func() bool { return a.job.Status()[i].State == StateStreaming })
	}
	if got := r.target.Do(t, "DBSIZE").Int; got < 2*keys {
		t.Errorf("keys on the target once the limit is lifted: got %d, want %d", got, 2*keys)
	}

	// A transaction of the source is never split: one goes at once, and what comes
	// behind it, in either group, waits for the better part of an hour.
	p.Set(pace.Limits{Ops: 1})
	before := p.State().Waits
	for i, pen := range pens {
		incr := strings.Split(strings.TrimSuffix(strings.Repeat(fmt.Sprintf("INCR n%d\n", i), incrs), "\n"), "\n")
		pen.write(append(append([]string{"MULTI"}, incr...), "EXEC")...)
	}
	applied := func() (n int) {
		for i := range pens {
			if r.target.Do(t, "GET", fmt.Sprintf("n%d", i)).String() == fmt.Sprint(incrs) {
				n++
			}
		}
		return n
	}
	redistest.Eventually(t, "one transaction", func() bool { return applied() == 1 })
	for i, pen := range pens {
		pen.write(fmt.Sprintf("RPUSH l%d a b", i))
	}
	redistest.Eventually(t, "both groups to be held back", func() bool { return p.State().Waits >= before+2 })
	a.paced(t, StateStreaming)
	if got := applied(); got != 1 {
		t.Errorf("transactions applied: got %d, want the other one held back", got)
	}
	if got := halfDone(t, r.target); len(got) > 0 {
		t.Errorf("while it waits, transactions are half done: %q", got)
	}
	if !a.job.gate.TryLock() {
		t.Error("while it waits, the lanes' gate is held")
	} else {
		a.job.gate.Unlock()
	}
	if err := a.stop(); err != nil { // else this test waits for that time
		t.Error(err)
	}

	for _, pen := range pens {
		pen.seal()
	}
	r.applyAll(Options{Pace: pace.New(pace.Limits{Ops: 100_000, Bytes: 64 << 20}, 0)})
	r.want("behind it all", map[string]string{
		"0 GET n0": fmt.Sprint(incrs), "0 GET n1": fmt.Sprint(incrs), "0 LRANGE l0 0 -1": "[a b]", "0 LRANGE l1 0 -1": "[a b]",
		"0 GET g1-0": "v", "0 GET g2-49": "v",
	})
}

// TestApplyBacksOff puts a proxy before the target that answers ever more slowly,
// until apply slows down.
func TestApplyBacksOff(t *testing.T) {
	r := bareRig(t, 1)
	const incrs = 400
	pen := r.craft(1, 1, "k v")
	for range incrs {
		pen.write("INCR n")
	}
	pen.seal()
	p := pace.New(pace.Limits{}, 20*time.Millisecond)
	var execs atomic.Int64
	proxy := redistest.NewProxy(t, r.target.Addr, func(_, _ int, args [][]byte) redistest.Action {
		if isWord(args, "EXEC") {
			if n := execs.Add(1); n > 30 && p.State().Slowed == 0 {
				time.Sleep(time.Duration(5*n) * time.Millisecond) // the proxy's latency
			}
		}
		return redistest.Pass()
	})
	r.applyAll(Options{Addr: proxy.Addr, Pace: p, batch: 1})
	if st := p.State(); st.Slowed == 0 {
		t.Errorf("got %+v, want it slowed down", st)
	}
	r.want("at the end", map[string]string{"0 GET n": fmt.Sprint(incrs), "0 GET k": "v"})
}
