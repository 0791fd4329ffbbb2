package launch

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a process that was started.
type Process struct {
	Cmd    *exec.Cmd
	Exited chan struct{} // closed when it has ended; Cmd.ProcessState tells how
}

// Run starts a process that does not outlive this one (on Linux), however this
// one ends.
func Run(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = dieWithParent()
	begun := make(chan error)
	p := &Process{Cmd: cmd, Exited: make(chan struct{})}
	go func() {
		// Linux tells of the parent's death when the thread that started the
		// process ends, so that thread is kept for as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.Exited)
		err := cmd.Start()
		begun <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState tells how it ended
		}
	}()
	return p, <-begun
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.Cmd.Process.Pid }

// Signal sends a signal to the process, if it has not ended.
func (p *Process) Signal(sig syscall.Signal) {
	select {
	case <-p.Exited: // its pid may be another's by now
	default:
		_ = p.Cmd.Process.Signal(sig)
	}
}

// End sends a signal and waits for the end; the code is -1 if the signal itself
// ended the process.
func (p *Process) End(sig syscall.Signal) (code int) {
	p.Signal(sig)
	<-p.Exited
	return p.Cmd.ProcessState.ExitCode()
}
