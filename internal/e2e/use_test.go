package e2e

import (
	"path/filepath"
	"syscall"
	"testing"
)

func TestInUse(t *testing.T) {
	r := newRig(t, 2)
	r.fill(100)
	r.write()
	p := start(t, r.syncArgs()...)
	p.streaming(r.dir)
	for _, args := range [][]string{r.syncArgs(), r.captureArgs("--until", "caught-up"), r.applyArgs(r.dir)} {
		t.Run(args[0]+" beside sync", func(t *testing.T) { run(t, exitInUse, args...) })
	}
	r.exact(func() {
		p.interrupt()
		run(t, exitOK, r.syncArgs("--until", "caught-up")...)
	})
}

// An apply that hangs while a copy of its folder is applied elsewhere must
// write nothing when it wakes up.
func TestSecondApply(t *testing.T) {
	r := newRig(t, 2)
	r.fill(1000)
	r.write()
	w := r.writers[0]
	capture := start(t, r.captureArgs("--until", "full")...)
	capture.wait(exitOK)
	capture = start(t, r.captureArgs()...)
	first := start(t, r.applyArgs(r.dir)...)
	first.streaming(r.dir)

	first.signal(syscall.SIGSTOP)
	capture.captured(r.dir, r.offsets()) // more than the target has
	elsewhere := filepath.Join(t.TempDir(), "job")
	copyJob(t, r.dir, elsewhere)
	n := r.counted(w)
	run(t, exitOK, r.applyArgs(elsewhere, "--until", "end")...)
	if got := r.counted(w); got <= n {
		t.Errorf("bursts on the target: got %d, want more than the %d before the second apply", got, n)
	}
	first.signal(syscall.SIGCONT)
	first.wait(exitInUse)

	r.exact(func() {
		capture.interrupt()
		run(t, exitOK, r.captureArgs("--until", "caught-up")...)
		run(t, exitOK, r.applyArgs(r.dir, "--until", "end")...)
	})
}
