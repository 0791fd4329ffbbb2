package main

import (
	"os/exec"
	"runtime"
)

// launch starts a process that does not outlive the demo (on Linux), however
// the demo ends; exited is closed when it has ended.
func launch(cmd *exec.Cmd) (exited chan struct{}, err error) {
	cmd.SysProcAttr = dieWithParent()
	begun := make(chan error)
	exited = make(chan struct{})
	go func() {
		// Linux tells of the parent's death when the thread that started the
		// process ends, so that thread is kept for as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		begun <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState tells how it ended
		}
	}()
	return exited, <-begun
}
