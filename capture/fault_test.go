package capture

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"tairlift/checkpoint"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/spool"
)

func TestAckWaitsForFsyncAndRecord(t *testing.T) {
	sess := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	fsys := newFaultFS()
	store := &faultStore{Store: f.store}
	o := f.options(t, m.Addr)
	o.Writer.FS, o.Store = fsys, store
	s := start(t, o)
	acked := func(what string, at repl.Offset) {
		t.Helper()
		redistest.Eventually(t, what, func() bool { return m.LastAck() == at })
	}
	moreAcks := func(at repl.Offset) {
		t.Helper()
		have := len(m.Acks())
		redistest.Eventually(t, "ACKs to be repeated", func() bool { return len(m.Acks()) > have+5 })
		for _, off := range m.Acks()[have:] {
			if off != at {
				t.Errorf("ACK: got %d, want %d repeated", off, at)
			}
		}
	}
	end := sess.End()
	acked("the first ACK", end)

	release := fsys.hang()
	m.Append(commands("SET a 1"))
	moreAcks(end)
	if got := s.Status().Durable.Offset; got != end {
		t.Errorf("durable while the disk stalls: got %d, want %d", got, end)
	}
	release()
	end = m.Position().Offset
	acked("the ACK after the stall", end)

	hold := make(chan struct{})
	store.set(func(checkpoint.CaptureRecord) error { <-hold; return nil })
	m.Append(commands("SET b 2"))
	now := m.Position().Offset
	s.until("the bytes to be durable", func(st Status) bool { return st.Durable.Offset == now })
	moreAcks(end)
	store.set(nil)
	close(hold)
	acked("the ACK after the record", now)
	s.stop()
	if got := m.LastAck(); got != now {
		t.Errorf("last ACK: got %d, want %d", got, now)
	}
}

func TestFullDiskIsWaitedFor(t *testing.T) {
	sess := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	fsys := newFaultFS()
	o := f.options(t, m.Addr)
	o.Writer.FS = fsys
	s := start(t, o)
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	fsys.fill(true)
	more := commands("SET a 1", "SET b 2")
	m.Append(more)
	s.until("the full disk", func(st Status) bool { return st.State == Waiting && st.Reason == ReasonDiskFull && st.Detail != "" })
	if got := m.LastAck(); got > sess.End() {
		t.Errorf("ACK: got %d, want no more than %d", got, sess.End())
	}
	fsys.fill(false)
	s.until("the rest", func(st Status) bool { return st.Durable.Offset == m.Position().Offset })
	s.stop()
	epochs := f.read(t)
	if len(epochs) != 1 {
		t.Fatalf("got %d epochs, want 1", len(epochs))
	}
	sameBytes(t, epochs[0], sess.RDB, append(bytes.Clone(sess.Stream), more...))
}

func TestFailedFsyncStops(t *testing.T) {
	sess := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	fsys := newFaultFS()
	o := f.options(t, m.Addr)
	o.Writer.FS = fsys
	s := start(t, o)
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	bad := errors.New("input/output error")
	fsys.fail(bad)
	m.Append(commands("SET a 1"))
	if stop := s.stopped(); stop.Reason != ReasonSpool || !errors.Is(stop, bad) {
		t.Errorf("got %+v, want %s: %v", stop, ReasonSpool, bad)
	}
	if got := m.LastAck(); got > sess.End() {
		t.Errorf("ACK: got %d, want no more than %d", got, sess.End())
	}
}

func TestBrokenStoreStops(t *testing.T) {
	tests := []struct {
		name   string
		hook   func(checkpoint.CaptureRecord) error
		reason string
	}{
		{"an error", func(checkpoint.CaptureRecord) error { return errors.New("no") }, ReasonRecord},
		{"a full disk, for there will be no other write", func(checkpoint.CaptureRecord) error { return syscall.ENOSPC }, ReasonRecord},
		{"a store that a full disk has broken", func(checkpoint.CaptureRecord) error {
			return errors.Join(checkpoint.ErrBroken, syscall.EDQUOT)
		}, ReasonRecord},
		{"a panic stops this session only", func(checkpoint.CaptureRecord) error { panic("no") }, ReasonInternal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sess := smallSession(historyA)
			m := redistest.FakeMaster(t, redistest.Script{Session: sess})
			f := newFolder(t)
			store := &faultStore{Store: f.store}
			o := f.options(t, m.Addr)
			o.Store = store
			s := start(t, o)
			redistest.Eventually(t, "the ACK", func() bool { return m.LastAck() == sess.End() })
			store.set(tt.hook)
			m.Append(commands("SET a 1"))
			if stop := s.stopped(); stop.Reason != tt.reason || s.Status().Reason != tt.reason || stop.Hint == "" {
				t.Errorf("got %+v, want %s with a hint", stop, tt.reason)
			}
			if got := m.LastAck(); got != sess.End() {
				t.Errorf("ACK: got %d, want %d", got, sess.End())
			}
		})
	}
}

func TestLostSpoolIsCorrupt(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Session: smallSession(historyA)})
	f := newFolder(t)
	s := start(t, f.options(t, m.Addr))
	s.untilStreaming(1)
	s.stop()
	o := f.options(t, m.Addr)
	o.SpoolDir = t.TempDir()
	if stop := start(t, o).stopped(); stop.Reason != ReasonCorrupt || stop.Hint == "" {
		t.Errorf("got %+v, want %s with a hint", stop, ReasonCorrupt)
	}
}

func TestSpoolOfAnotherJobIsRefused(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Session: smallSession(historyA)})
	f := newFolder(t)
	s := start(t, f.options(t, m.Addr))
	s.untilStreaming(1)
	s.stop()
	o := f.options(t, m.Addr)
	o.Job = spool.NewJobID()
	if stop := start(t, o).stopped(); stop.Reason != ReasonForeign || stop.Hint == "" {
		t.Errorf("got %+v, want %s with a hint", stop, ReasonForeign)
	}
}
