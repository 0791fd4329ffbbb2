package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"tairlift/internal/resp"
)

// turn is one side's turn at writing to the target.
type turn struct {
	took        time.Duration
	first, last time.Duration // until the first and the last key were seen on the target, 0 if never
	cpu         float64       // seconds that the target computed
	wait        float64       // seconds that it could have, and had no core
	waits       bool          // the system tells wait
}

// own is the time without that in which others had the target's core.
func (t turn) own() float64 { return t.took.Seconds() - t.wait }

func (t turn) String() string {
	return fmt.Sprintf("%.3f s (target: cpu %.2f s, no core %.2f s, idle %.2f s)", t.took.Seconds(), t.cpu, t.wait, idleOf(t))
}

func cpuOf(t turn) float64  { return t.cpu }
func waitOf(t turn) float64 { return t.wait }
func idleOf(t turn) float64 { return max(t.own()-t.cpu, 0) }

func each(turns []turn, of func(turn) float64) []float64 {
	out := make([]float64, len(turns))
	for i, t := range turns {
		out[i] = of(t)
	}
	return out
}

// waits notes what of the two sides' time the target had no core in.
func (r *row) waits(ours, theirs []turn) {
	if !ours[0].waits {
		return
	}
	var ratios []float64
	for i := range ours {
		ratios = append(ratios, theirs[i].own()/ours[i].own())
	}
	r.note("Other processes keep the target waiting for a core; without that time, which is %.2f s and %.2f s, the ratio is **%.2f** (%s). "+
		"The target slept, with nothing to do, for %.2f s and %.2f s.", median(each(ours, waitOf)), median(each(theirs, waitOf)),
		median(ratios), spread(ratios), median(each(ours, idleOf)), median(each(theirs, idleOf)))
}

// turn empties the target, lets work write a dataset to it, and checks that it
// is there.
func (b *bench) turn(d *dataset, work func() (time.Duration, error)) (t turn, err error) {
	if err := b.flush(); err != nil {
		return t, err
	}
	settle()
	cpu, err := b.targetCPU()
	if err != nil {
		return t, err
	}
	wait, _ := b.targetWait()
	seen := watch(b.ctx, b.target.Addr, d.keys) // both sides bear it
	t.took, err = work()
	t.first, t.last = seen()
	if err != nil {
		return t, err
	}
	t.wait, t.waits = b.targetWait()
	t.wait -= wait
	if t.cpu, err = b.targetCPU(); err != nil {
		return t, err
	}
	t.cpu -= cpu
	return t, b.landed(d)
}

var cpuField = regexp.MustCompile(`(?m)^used_cpu_(?:sys|user):([0-9.]+)`)

// targetCPU is the CPU time that the target has used, in seconds.
func (b *bench) targetCPU() (sum float64, err error) {
	rep, err := b.target.Conn.Do(b.ctx, "INFO", "cpu")
	if err != nil {
		return 0, err
	}
	for _, m := range cpuField.FindAllSubmatch(rep.Str, -1) {
		s, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return 0, err
		}
		sum += s
	}
	return sum, nil
}

// targetWait is the time, in seconds, that the target's main thread was ready to
// run and had no core; only Linux tells.
func (b *bench) targetWait() (float64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", b.target.Pid()))
	if err != nil {
		return 0, false
	}
	var ran, waited int64
	if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
		return 0, false
	}
	return time.Duration(waited).Seconds(), true
}

const watchEvery = 2 * time.Millisecond

// watch asks the target how many keys it holds until the function it returns is
// called, which tells when the first and the last of them were seen.
func watch(ctx context.Context, addr string, all int64) func() (first, last time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var first, last time.Duration
	begun := time.Now()
	go func() {
		defer close(done)
		conn, err := resp.Dial(ctx, addr, "")
		if err != nil {
			return
		}
		defer conn.Close()
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			rep, err := conn.Do(ctx, "DBSIZE")
			if err != nil {
				return
			}
			at := time.Since(begun)
			if first == 0 && rep.Int > ownKeys {
				first = at
			}
			if last == 0 && rep.Int == all+ownKeys {
				last = at
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() (time.Duration, time.Duration) {
		cancel()
		<-done
		return first, last
	}
}

// ownKeys is how many keys of its own apply keeps on the target for a dataset: a
// mark for each group, and the list of jobs.
const ownKeys = groups + 1
