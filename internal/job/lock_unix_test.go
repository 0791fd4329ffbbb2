//go:build unix

package job

import (
	"os"
	"os/exec"
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
