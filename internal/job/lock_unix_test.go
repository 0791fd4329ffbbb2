//go:build unix

package job

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tairlift/internal/redistest"
)

func TestAKilledProcessIsDeadBeforeItsParentNotices(t *testing.T) {
	if !alive(os.Getpid()) {
		t.Fatal("this process: got dead")
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc to tell a zombie from a process")
	}
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if !alive(pid) {
		t.Error("a running child: got dead")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the zombie is told to be dead", func() bool { return !alive(pid) })
	_ = cmd.Wait()
}

func TestOnePruneAtATime(t *testing.T) {
	dir := t.TempDir()
	writeJob(t, dir, jobText(jobA, `{"id": 1, "addr": "a:1"}`))
	captured(t, dir, jobA, 1)
	o := PruneOptions{Dir: dir, Keep: KeepApplied, Out: io.Discard}
	unlock, err := tryLockDir(filepath.Join(dir, "spool"))
	if err != nil || unlock == nil {
		t.Fatalf("lock: got %v", err)
	}
	checkError(t, SpoolPrune(t.Context(), o), InUse, filepath.Join(dir, "spool")+" is being pruned by another process")
	unlock()
	if err := SpoolPrune(t.Context(), o); err != nil {
		t.Errorf("behind it: got %v, want none", err)
	}
}
