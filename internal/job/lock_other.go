//go:build !unix

package job

// lockDir does nothing: the store's lock is the one that matters, and two
// first uses of one folder at the same moment are rare.
func lockDir(string) (unlock func(), err error) { return func() {}, nil }

// tryLockDir does nothing: one process at a time may prune.
func tryLockDir(string) (unlock func(), err error) { return func() {}, nil }

// alive cannot be told here without a lock; the status file's age decides.
func alive(int) bool { return true }
