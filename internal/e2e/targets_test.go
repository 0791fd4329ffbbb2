package e2e

import (
	"testing"

	"tairlift/internal/redistest"
)

// One folder, three targets: a live sync to the first, and an apply to each of
// the others beside it. Each is killed and resumed in its turn, which none of
// the others notices.
func TestOneSpoolSeveralTargets(t *testing.T) {
	r := newRig(t, 2)
	r.fill(500)
	r.write()
	targets := []*redistest.Server{r.target, redistest.Target(t), redistest.Target(t)}
	args := [][]string{r.syncArgs("--segment-size", "64KiB")}
	for _, target := range targets[1:] {
		args = append(args, []string{"apply", "--dir", r.dir, "--target", target.Addr})
	}
	var running []*process
	begin := func(i int) *process {
		t.Helper()
		return start(t, args[i]...)
	}
	running = append(running, begin(0))
	running[0].streaming(r.dir)
	running = append(running, begin(1), begin(2))
	count := func(i int) string {
		w := r.writers[0]
		return targets[i].DoIn(t, w.DB, "GET", w.Counter()).String()
	}
	moves := func(i int, what string) {
		t.Helper()
		was := count(i)
		running[i].until(what, func() bool { return count(i) != was })
	}
	for i := range targets {
		moves(i, "the stream on a target")
	}
	for i := range targets {
		running[i].kill()
		for k := range targets {
			if i != 0 && k != i { // without sync nothing new is captured
				moves(k, "the other targets to go on")
			}
		}
		running[i] = begin(i)
		moves(i, "a target to go on after the kill")
	}
	writers := r.writers
	r.rest()
	for i, target := range targets {
		running[i].settled(r.dir, r.offsets(), "--target", target.Addr)
		s := statusOf(t, r.dir, "--target", target.Addr)
		if s.Target != target.Addr || len(s.Targets) != len(targets) {
			t.Errorf("status --target %s: got target %s of %v, want it, of all three", target.Addr, s.Target, s.Targets)
		}
	}
	// A second apply to a target that has one is refused, and disturbs nobody.
	run(t, exitInUse, args[1]...)
	run(t, exitUsage, "apply", "--dir", r.dir) // several are known
	for i, target := range targets {
		running[i].interrupt()
		r.tallied(writers, target)
		r.identicalBy("--dir", r.dir, "--target", target.Addr)
	}
}
