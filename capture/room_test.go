package capture

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/spool"
)

// quota is a Room of so many bytes.
type quota struct {
	mu     sync.Mutex // guards what follows
	left   int64
	reason string
	asked  int // refusals
}

func (q *quota) Take(n int64) *NoRoom {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n > q.left || n == 0 && q.left == 0 {
		q.asked++
		return &NoRoom{Reason: q.reason, What: "the spool holds 10 bytes, and may hold 10"}
	}
	q.left -= n
	return nil
}

func (q *quota) set(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left = n
}

func (q *quota) refusals() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.asked
}

func TestASpoolThatMayNotGrowIsWaitedForOnTheSameLink(t *testing.T) {
	for _, reason := range []string{ReasonQuota, ReasonDiskFull} {
		t.Run(reason, func(t *testing.T) {
			sess := smallSession(historyA)
			m := redistest.FakeMaster(t, redistest.Script{Session: sess})
			f := newFolder(t)
			q := &quota{left: 3, reason: reason} // not even the RDB fits
			o := f.options(t, m.Addr)
			o.Room = q
			s := start(t, o)
			full := func(st Status) bool { return st.State == Waiting && st.Reason == reason && st.Detail != "" }
			s.until("no room for the RDB", full)
			q.set(int64(len(sess.RDB) + len(sess.Stream)))
			s.until("the stream", func(st Status) bool { return st.State == Streaming && st.Durable.Offset == sess.End() })

			q.set(0)
			more := bytes.Repeat(commands("SET a 1", "SET b 2"), 3000)
			m.Append(more)
			s.until("no room for the stream", full)
			n := q.refusals()
			s.until("it to ask again", func(Status) bool { return q.refusals() > n+1 })
			if st := s.Status(); st.Durable.Offset != sess.End() || m.LastAck() != sess.End() {
				t.Errorf("durable at %d, ACK of %d, want %d", st.Durable.Offset, m.LastAck(), sess.End())
			}
			q.set(1 << 30)
			s.until("the rest", func(st Status) bool { return st.Durable.Offset == m.Position().Offset && st.State == Streaming })
			if got := s.Status().Reconnects; got != 0 {
				t.Errorf("links lost: got %d, want 0", got)
			}
			s.stop()
			epochs := f.read(t)
			if len(epochs) != 1 {
				t.Fatalf("got %d epochs, want 1", len(epochs))
			}
			sameBytes(t, epochs[0], sess.RDB, append(bytes.Clone(sess.Stream), more...))
		})
	}
}

func TestAStopWhileThereIsNoRoomLosesNothing(t *testing.T) {
	sess := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	q := &quota{left: 1 << 20, reason: ReasonQuota}
	o := f.options(t, m.Addr)
	o.Room = q
	s := start(t, o)
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	q.set(0)
	more := commands("SET a 1", "SET b 2")
	m.Append(more)
	s.until("no room", func(st Status) bool { return st.Reason == ReasonQuota })
	s.stop()
	q.set(1 << 20)
	s = start(t, o)
	s.until("the rest", func(st Status) bool { return st.Durable.Offset == m.Position().Offset })
	s.stop()
	sameBytes(t, f.read(t)[0], sess.RDB, append(bytes.Clone(sess.Stream), more...))
}

func TestTheWaitForRoomIsBounded(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Session: smallSession(historyA)})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	o.Room, o.MaxWait = &quota{reason: ReasonQuota}, 10*time.Millisecond
	if stop := start(t, o).stopped(); stop.Reason != ReasonQuota || stop.Hint == "" || stop.What == "" {
		t.Errorf("got %+v, want %s with what and hint", stop, ReasonQuota)
	}
}

func TestAFullTailIsSealedWhenTheQuotaIsReached(t *testing.T) {
	sess := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	q := &quota{left: 1 << 30, reason: ReasonQuota}
	o := f.options(t, m.Addr)
	o.Room = q
	s := start(t, o)
	big := commands("SET k " + string(noise(rotateBytes)))
	m.Append(big)
	s.until("the bytes", func(st Status) bool { return st.Durable.Offset == m.Position().Offset })
	if s.Status().Durable.Sealed {
		t.Fatal("the tail is sealed already")
	}
	q.set(0)
	m.Append(commands("SET a 1"))
	s.until("the seal", func(st Status) bool { return st.Reason == ReasonQuota && st.Durable.Sealed })
	s.stop()
}

// A quota of a file system, or space that others take between two looks: Room
// grants what the disk refuses.
func TestAFullDiskThatRoomDoesNotSeeCostsFewFullSyncs(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Session: smallSession(historyA)})
	f := newFolder(t)
	fsys := newFaultFS()
	fsys.fill(true)
	o := f.options(t, m.Addr)
	o.Writer.FS, o.Room = fsys, &quota{left: 1 << 30}
	o.BackoffMin, o.BackoffMax, o.MaxWait = 10*time.Millisecond, time.Minute, 600*time.Millisecond
	begun := time.Now()
	if stop := start(t, o).stopped(); stop.Reason != ReasonDiskFull || stop.Hint == "" {
		t.Errorf("got %+v, want %s with a hint", stop, ReasonDiskFull)
	}
	if d := time.Since(begun); d < o.MaxWait {
		t.Errorf("stopped after %s, want it to have waited for %s", d, o.MaxWait)
	}
	// One, one behind a short pause, the next behind 120 ms and more, and the last
	// at the end of the wait.
	if _, full := m.Links(); full < 2 || full > 6 {
		t.Errorf("got %d full syncs, want 2 to 6", full)
	}
}

func TestOnlyARunThatBroughtSomethingBeginsAnotherWait(t *testing.T) {
	rdb := spool.Durable{Epoch: 1, RDBDone: true, Offset: 10}
	tests := []struct {
		claim string
		left  []spool.Durable // by each run
		tries int
	}{
		{"nothing at all", []spool.Durable{{}, {}, {}}, 3},
		{"parts of an RDB", []spool.Durable{{Epoch: 1, RDBBytes: 5}, {Epoch: 2, RDBBytes: 9}, {Epoch: 3, RDBBytes: 7}}, 3},
		{"the same offset again", []spool.Durable{rdb, rdb}, 2},
		{"a whole RDB", []spool.Durable{{}, {}, rdb}, 1},
		{"another whole RDB", []spool.Durable{rdb, rdb, {Epoch: 2, RDBDone: true, Offset: 3}}, 1},
		{"some of the stream", []spool.Durable{rdb, rdb, {Epoch: 1, RDBDone: true, Offset: 11}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			s := New(Options{BackoffMin: 1, BackoffMax: 1})
			var w roomWait
			for _, d := range tt.left {
				s.update(func(st *Status) { st.Durable = d })
				if err := s.outOfSpace(t.Context(), &StopError{Reason: ReasonDiskFull}, &w); err != nil {
					t.Fatal(err)
				}
			}
			if w.tries != tt.tries {
				t.Errorf("runs that brought nothing: got %d, want %d", w.tries, tt.tries)
			}
		})
	}
}

// noise does not compress, and is text.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = 'a' + byte(x%26)
	}
	return bytes.Repeat(b, 2)
}

func TestSegmentsKeepTheirSizeWhileTheRDBComesIn(t *testing.T) {
	sess := smallSession(historyA)
	sess.RDB = append([]byte("REDIS0007"), bytes.Repeat(noise(1<<20), 6)...)
	sess.RDB = append(sess.RDB, 0xff)
	sess.RDB = append(sess.RDB, make([]byte, 8)...) // no checksum
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	o.Writer.SegmentBytes = 1 << 20
	s := start(t, o)
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	s.stop()
	segments := f.read(t)[0].info.Segments
	if len(segments) < 5 {
		t.Errorf("got %d segments, want those of an RDB of %d bytes", len(segments), len(sess.RDB))
	}
	for _, seg := range segments {
		if seg.Bytes > o.Writer.SegmentBytes+2*syncBytes {
			t.Errorf("segment %d has %d bytes, want about %d", seg.Seq, seg.Bytes, o.Writer.SegmentBytes)
		}
	}
}
