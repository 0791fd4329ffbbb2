//go:build unix

package job

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockDir waits until this process alone may change job.json. The lock is on
// the folder itself, so that it leaves nothing behind and ends with the
// process.
func lockDir(dir string) (unlock func(), err error) { return flock(dir, syscall.LOCK_EX) }

// tryLockDir takes the same lock on another folder, without waiting; unlock is
// nil when a process has it.
func tryLockDir(dir string) (unlock func(), err error) {
	unlock, err = flock(dir, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return unlock, err
}

func flock(dir string, how int) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), how); err != nil {
		d.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
	}
	return func() { d.Close() }, nil
}

// alive tells whether a process of this machine exists. One that was killed and
// not yet waited for by its parent is dead: where there is /proc, that is seen.
func alive(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil && err != syscall.EPERM {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// "pid (name) state ...", and the name may hold anything.
	_, rest, ok := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return !ok || len(rest) == 0 || rest[0] != 'Z' && rest[0] != 'X'
}
