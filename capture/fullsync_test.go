package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"tairlift/internal/redistest"
)

// nothingYet fails the test if anything of an RDB that is not whole was
// acknowledged or vouched for.
func nothingYet(t *testing.T, s *running, m *redistest.Master) {
	t.Helper()
	if d := s.Status().Durable; d.RDBDone || d.Offset > 0 && d.Offset != smallSession(historyA).Offset {
		t.Errorf("durable: got %+v, want no RDB", d)
	}
	for _, off := range m.Acks() {
		if off != 0 {
			t.Errorf("ACK: got %d, want 0", off)
		}
	}
}

func TestRDBThatIsNotWholeIsDiscardedAndFetchedAgain(t *testing.T) {
	want := smallSession(historyA)
	size := len(want.RDB)
	tests := []struct {
		name, announce string
		reason, what   string
	}{
		{"shorter than announced: the stream runs into it", fmt.Sprintf("$%d", size+5), ReasonDamaged, "expected the EOF opcode"},
		{"shorter than announced: no more comes", fmt.Sprintf("$%d", size+500), ReasonCut, "sent nothing for"},
		{"longer than announced", fmt.Sprintf("$%d", size-5), ReasonDamaged, "expected the EOF opcode"},
		{"empty", "$0", ReasonDamaged, "it begins with"},
		{"of a negative length", "$-1", ReasonDamaged, `announced by "$-1"`},
		{"of an absurd length", "$9223372036854775807", ReasonDamaged, "announced by"},
		{"without a length", "REDIS0007", ReasonDamaged, "announced by"},
		{"with a mark that is none", "$EOF:short", ReasonDamaged, "announced by"},
		{"with a mark that never comes", "$EOF:" + strings.Repeat("f", 40), ReasonCut, "sent nothing for"},
		{"a save that failed", "-ERR BGSAVE failed, replication can't continue", ReasonCut, "BGSAVE failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := redistest.Fault{Announce: tt.announce}
			m := redistest.FakeMaster(t, redistest.Script{Session: want, Link: func(n int) redistest.Fault {
				if n <= 2 {
					return bad
				}
				return redistest.Fault{}
			}})
			f := newFolder(t)
			o := f.options(t, m.Addr)
			o.Silence = 200 * time.Millisecond
			o.BackoffMin = 20 * time.Millisecond // so that the wait can be seen
			s := start(t, o)
			s.until("the second try to fail", func(st Status) bool {
				return st.Epoch == 2 && st.State == Waiting && st.Reason == tt.reason &&
					strings.Contains(st.Detail, tt.what) && strings.Contains(st.Detail, "2 full syncs in a row")
			})
			nothingYet(t, s, m)
			s.until("the whole stream", func(st Status) bool { return st.Durable.RDBDone && st.Durable.Offset == want.End() })
			if got := s.Status().EpochReason; got != EpochRDB {
				t.Errorf("reason of the epoch: got %q, want %q", got, EpochRDB)
			}
			s.stop()
			epochs := f.read(t)
			if len(epochs) != 3 || epochs[0].info.RDBDone || epochs[1].info.RDBDone {
				t.Fatalf("got %+v, want three epochs, only the last with an RDB", epochs)
			}
			sameBytes(t, epochs[2], want.RDB, want.Stream)
		})
	}
}

// A source that cannot get a full sync through would have to fork for each try.
func TestFullSyncsThatLeadToNothingComeFartherAndFartherApart(t *testing.T) {
	s := New(Options{})
	r := &run{s: s}
	cut := &rdbError{err: io.ErrUnexpectedEOF}
	var last time.Duration
	for n := 1; n <= 12; n++ {
		r.full, r.fulls = true, n
		pause, what := r.again(n, cut)
		switch {
		case n == 1 && (pause > s.o.BackoffMin || strings.Contains(what, "in a row")):
			t.Errorf("first cut: got %s, %q, want a quick second try", pause, what)
		case n > 1 && !strings.Contains(what, fmt.Sprintf("%d full syncs in a row", n)):
			t.Errorf("cut %d: got %q, want it counted", n, what)
		case pause*2 < last:
			t.Errorf("cut %d: got %s behind %s, want growing pauses", n, pause, last)
		}
		last = pause
	}
	if last < 30*time.Second {
		t.Errorf("got %s at last, want 30 s or more", last)
	}
	// To ask a source that is away costs it nothing.
	r.full = false
	if pause, _ := r.again(13, errors.New("connection refused")); pause > s.o.BackoffMax {
		t.Errorf("source away: got %s, want %s at most", pause, s.o.BackoffMax)
	}
}

func TestSourceThatCutsEachFullSyncIsWaitedForNoLongerThanMaxWait(t *testing.T) {
	want := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: want, Link: func(int) redistest.Fault {
		return redistest.Fault{CutAt: 80} // within the RDB
	}})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	o.MaxWait = 50 * time.Millisecond
	s := start(t, o)
	stop := s.stopped()
	if stop.NeverReached || stop.Reason != ReasonCut || !strings.Contains(stop.Hint, "client-output-buffer-limit") || !strings.Contains(stop.What, "gave no stream for 50ms") {
		t.Errorf("got %+v, want %s of a source that was reached, with a hint", stop, ReasonCut)
	}
	nothingYet(t, s, m)
}

func TestRDBWithoutAChecksumIsTaken(t *testing.T) {
	src := redistest.Source(t, redistest.Arg("--rdbchecksum", "no", "--repl-diskless-sync-delay", "0"))
	fill(t, src)
	f := newFolder(t)
	s := start(t, f.options(t, src.Addr))
	s.untilStreaming(1)
	s.untilCaughtUp()
	s.stop()
	e := f.read(t)[0]
	if !bytes.HasSuffix(e.rdb, make([]byte, rdbFooterLen)) {
		t.Fatalf("footer: got %x, want zeros", e.rdb[len(e.rdb)-rdbFooterLen:])
	}
	sameData(t, e.load(t, src), src)
}

func TestReplicaThatIsReadAnewOpensAnEpoch(t *testing.T) {
	master, replica := redistest.Source(t), redistest.Source(t)
	replica.ReplicaOf(t, master)
	fill(t, master)
	f := newFolder(t)
	s := start(t, f.options(t, replica.Addr))
	s.untilStreaming(1)
	s.untilCaughtUp()
	// The master comes back without its data, so that the replica loses its own.
	master.Restart(t)
	master.Do(t, "SET", "all", "there is")
	s.untilStreaming(2)
	redistest.Eventually(t, "the replica to be in step", func() bool {
		return replica.Info(t, "replication")["master_link_status"] == "up" && replica.Do(t, "DBSIZE").Int == 1
	})
	s.untilCaughtUp()
	s.stop()
	epochs := f.read(t)
	sameData(t, epochs[len(epochs)-1].load(t, replica), replica)
}
