package capture

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/redistest"
	"tairlift/spool"
)

func TestLinkCutAtEveryByteEndsWhole(t *testing.T) {
	want := smallSession(historyA)
	tests := []struct {
		name   string
		script redistest.Script
	}{
		{"disk RDB", redistest.Script{NewlinesRDB: 2}},
		{"diskless RDB", redistest.Script{Diskless: true, NewlinesPre: 2}},
		{"PSYNC2", redistest.Script{PSYNC2: true}},
		{"one byte per packet", redistest.Script{Diskless: true, NewlinesRDB: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The first link is cut, one byte later each time, until the cut
			// lies behind all there is.
			length := int64(len(want.RDB) + len(want.Stream) + 200)
			for cut := int64(1); cut <= length; cut++ {
				script := tt.script
				script.Session = want
				script.Link = func(n int) redistest.Fault {
					f := redistest.Fault{Drip: strings.Contains(tt.name, "byte")}
					if n == 1 {
						f.CutAt = cut
					}
					return f
				}
				if !endsWhole(t, script, want, cut) {
					return
				}
			}
			t.Errorf("a cut at %d still came to pass", length)
		})
	}
}

// endsWhole captures from a master whose first link is cut, and tells whether
// the cut came to pass.
func endsWhole(t *testing.T, script redistest.Script, want redistest.Session, cut int64) bool {
	t.Helper()
	m := redistest.FakeMaster(t, script)
	defer m.Close()
	f := &folder{dir: t.TempDir(), job: spool.NewJobID()}
	o := f.options(t, m.Addr)
	o.BackoffMin, o.BackoffMax = time.Microsecond, time.Microsecond
	o.Buffer, o.Log, o.Store = 4<<10, nil, &memStore{}
	o.Writer.FS = nosyncFS{fsx.OS}
	s := start(t, o)
	s.until("the whole stream", func(st Status) bool { return st.Durable.RDBDone && st.Durable.Offset == want.End() })
	s.stop()
	epochs := f.read(t)
	e := epochs[len(epochs)-1]
	if e.info.ReplID != want.ReplID || e.info.Start != want.Offset {
		t.Errorf("cut at %d: got epoch %+v, want it at %s:%d", cut, e.info, want.ReplID, want.Offset)
	}
	sameBytes(t, e, want.RDB, want.Stream)
	for _, given := range epochs[:len(epochs)-1] {
		if given.info.RDBDone {
			t.Errorf("cut at %d: epoch %d was whole and yet given up", cut, given.info.Epoch)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	all, _ := m.Links()
	return all > 1
}

func TestRDBWithWrongCRCIsNeverUsed(t *testing.T) {
	want := smallSession(historyA)
	bad := want
	bad.RDB = bytes.Clone(want.RDB)
	bad.RDB[12] ^= 1
	m := redistest.FakeMaster(t, redistest.Script{Session: bad})
	f := newFolder(t)
	s := start(t, f.options(t, m.Addr))
	s.until("a second try", func(st Status) bool { return st.Epoch >= 2 })
	s.until("the reason", func(st Status) bool {
		return st.State == Waiting && st.Reason == ReasonRDB && strings.Contains(st.Detail, "CRC64")
	})
	if off := m.LastAck(); off > 0 {
		t.Errorf("ACK of a bad RDB: got %d, want 0", off)
	}
	m.SetSession(want)
	s.until("the whole stream", func(st Status) bool { return st.Durable.RDBDone && st.Durable.Offset == want.End() })
	if got := s.Status().EpochReason; got != EpochRDB {
		t.Errorf("reason of the epoch: got %q, want %q", got, EpochRDB)
	}
	s.stop()
	epochs := f.read(t)
	for _, e := range epochs[:len(epochs)-1] {
		if e.info.RDBDone || !e.info.Sealed {
			t.Errorf("epoch given up: got %+v, want sealed and without an RDB", e.info)
		}
	}
	sameBytes(t, epochs[len(epochs)-1], want.RDB, want.Stream)
}

func TestStopDuringRDBStartsOverInANewEpoch(t *testing.T) {
	want := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: want, Link: func(n int) redistest.Fault {
		if n == 1 {
			return redistest.Fault{SilentAt: 80} // within the RDB
		}
		return redistest.Fault{}
	}})
	f := newFolder(t)
	s := start(t, f.options(t, m.Addr))
	s.until("some of the RDB", func(st Status) bool { return st.State == FullSync && st.Durable.RDBBytes > 0 })
	redistest.Eventually(t, "ACKs during the RDB", func() bool { return len(m.Acks()) > 2 })
	s.stop()
	if got := m.LastAck(); got != 0 {
		t.Errorf("ACK without a whole RDB: got %d, want 0", got)
	}
	s = start(t, f.options(t, m.Addr))
	s.until("the whole stream", func(st Status) bool { return st.Epoch == 2 && st.Durable.Offset == want.End() })
	s.stop()
	sameBytes(t, f.read(t)[1], want.RDB, want.Stream)
}
