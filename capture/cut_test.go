package capture

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/redistest"
	"tairlift/internal/resp"
	"tairlift/spool"
)

func TestLinkCutAtEveryByteEndsWhole(t *testing.T) {
	want := smallSession(historyA)
	rest := int64(len(commands("INCR n"))) // of the stream, for a link that resumes
	tests := []struct {
		name   string
		drip   bool
		resume int64 // how many bytes of the stream the first link leaves to the second, which is cut then
		script redistest.Script
	}{
		{"RDB from disk", false, 0, redistest.Script{NewlinesRDB: 2, Password: "p"}},
		{"RDB from memory", false, 0, redistest.Script{Diskless: true, NewlinesPre: 2}},
		{"one byte per packet", true, 0, redistest.Script{Diskless: true, NewlinesRDB: 1}},
		{"resumed", false, rest, redistest.Script{NewlinesPre: 1, Password: "p"}},
		{"resumed within a command", true, rest + 3, redistest.Script{Diskless: true}},
		{"resumed by PSYNC2", false, rest, redistest.Script{PSYNC2: true, NewlinesPre: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			script := tt.script
			script.Session = want
			script.Link = func(n int) redistest.Fault {
				f := redistest.Fault{Drip: tt.drip}
				if n == 1 && tt.resume > 0 {
					f.CutAt = linkBytes(script) - tt.resume
				}
				return f
			}
			conn, least := 1, linkBytes(script)
			if tt.resume > 0 {
				conn = 3 // the second is the offset clock's
				least = tt.resume + int64(len("+CONTINUE\r\n"))
			}
			// The connection is cut, one byte later each time from the answer to
			// its first command on, until the cut lies behind all there is.
			length := linkBytes(script) + 200
			for cut := int64(1); cut <= length; cut++ {
				script.Cut = func(n int) int64 {
					if n == conn {
						return cut
					}
					return 0
				}
				if !endsWhole(t, script, want, cut) {
					if cut <= least {
						t.Errorf("got %d cuts, want more than %d", cut-1, least)
					}
					return
				}
			}
			t.Errorf("a cut at %d still came to pass", length)
		})
	}
}

// linkBytes is how long a full sync of the script is, from the answer to PSYNC
// to the end of the stream.
func linkBytes(s redistest.Script) int64 {
	head := fmt.Sprintf("+FULLRESYNC %s %d\r\n$%d\r\n", s.ReplID, s.Offset, len(s.RDB))
	if s.Diskless {
		head = fmt.Sprintf("+FULLRESYNC %s %d\r\n$EOF:%040d\r\n%040d", s.ReplID, s.Offset, 0, 0)
	}
	return int64(s.NewlinesPre + len(head) + s.NewlinesRDB + len(s.RDB) + len(s.Stream))
}

// endsWhole captures from a master that cuts a connection, and tells whether
// the cut came to pass.
func endsWhole(t *testing.T, script redistest.Script, want redistest.Session, cut int64) bool {
	t.Helper()
	m := redistest.FakeMaster(t, script)
	defer m.Close()
	f := &folder{dir: t.TempDir(), job: spool.NewJobID()}
	o := f.options(t, m.Addr)
	o.BackoffMin, o.BackoffMax = time.Microsecond, time.Microsecond
	o.Secret, o.FirstContact = resp.Secret(script.Password), time.Hour
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
	return m.Cuts() > 0
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
		return st.State == Waiting && st.Reason == ReasonDamaged && strings.Contains(st.Detail, "CRC64")
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
