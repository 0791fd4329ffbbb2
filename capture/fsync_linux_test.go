package capture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"tairlift/internal/redistest"
)

// fsyncFails makes every fsync of an open file of this process fail: a pipe,
// which has none, takes the place of its descriptor.
func fsyncFails(t *testing.T, path string) (mend func()) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || to != path {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		saved, err := syscall.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		r, w, err := os.Pipe()
		if err == nil {
			err = errors.Join(syscall.Dup3(int(w.Fd()), fd, syscall.O_CLOEXEC), r.Close(), w.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := errors.Join(syscall.Dup3(saved, fd, syscall.O_CLOEXEC), syscall.Close(saved)); err != nil {
				t.Error(err)
			}
		}
	}
	t.Fatalf("%s is not open", path)
	return nil
}

// A disk that takes capture's record no more ends the session at once: nothing
// further is acknowledged, and nothing is tried again.
func TestFailedFsyncOfTheRecordStops(t *testing.T) {
	sess := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	s := start(t, f.options(t, m.Addr))
	redistest.Eventually(t, "the ACK", func() bool { return m.LastAck() == sess.End() })
	path, err := filepath.EvalSymlinks(filepath.Join(f.dir, "capture", "capture.db"))
	if err != nil {
		t.Fatal(err)
	}
	mend := fsyncFails(t, path)
	t.Cleanup(mend) // before the store is closed
	for i := range 3 {
		m.Append(commands(fmt.Sprintf("SET a %d", i)))
	}
	stop := s.stopped()
	if stop.Reason != ReasonRecord || stop.Hint == "" {
		t.Errorf("got %+v, want %s with a hint", stop, ReasonRecord)
	}
	if got := m.LastAck(); got != sess.End() {
		t.Errorf("ACK: got %d, want %d", got, sess.End())
	}
	rec, _, err := f.store.Group(1)
	if err != nil || rec.Offset != sess.End() {
		t.Errorf("record: got %+v, %v, want offset %d", rec, err, sess.End())
	}
}
