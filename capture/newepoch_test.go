package capture

import (
	"sync/atomic"
	"testing"

	"tairlift/internal/redistest"
)

func TestNewEpochIsBegunOncePerRun(t *testing.T) {
	src := redistest.Source(t, redistest.Arg("--repl-diskless-sync-delay", "0"))
	fill(t, src)
	f := newFolder(t)
	fsys := newFaultFS()
	o := f.options(t, src.Addr)
	o.Writer.FS = fsys
	s := start(t, o)
	s.untilStreaming(1)
	s.untilCaughtUp()
	s.stop()

	o.NewEpoch = true
	s = start(t, o)
	s.untilStreaming(2)
	if st := s.Status(); st.EpochReason != EpochAsked || st.EpochDue {
		t.Errorf("status: got %+v, want %s and no further epoch due", st, EpochAsked)
	}
	src.Do(t, "CLIENT", "KILL", "TYPE", "slave")
	s.until("the link to be made again", func(st Status) bool { return st.Reconnects == 1 && st.State == Streaming })
	fsys.fill(true)
	src.Do(t, "SET", "while", "full")
	s.until("the full disk", func(st Status) bool { return st.State == Waiting && st.Reason == ReasonDiskFull })
	fsys.fill(false)
	s.until("the stream again", func(st Status) bool { return st.State == Streaming })
	s.untilCaughtUp()
	s.stop()

	o.NewEpoch = false
	s = start(t, o)
	s.until("the stream again", func(st Status) bool { return st.State == Streaming })
	src.Do(t, "SET", "after", "it")
	s.untilCaughtUp()
	s.stop()
	epochs := f.read(t)
	if len(epochs) != 2 || !epochs[0].info.Sealed {
		t.Fatalf("got %+v, want two epochs, the first one sealed", epochs)
	}
	sameData(t, epochs[1].load(t, src), src)
}

func TestNewEpochThatHasNotBegunLeavesTheOldOne(t *testing.T) {
	sess := smallSession(historyA)
	var loading atomic.Bool
	m := redistest.FakeMaster(t, redistest.Script{Session: sess, Link: func(int) redistest.Fault {
		if loading.Load() {
			return redistest.Fault{Reply: "-LOADING Redis is loading the dataset in memory"}
		}
		return redistest.Fault{}
	}})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	s := start(t, o)
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	s.stop()

	loading.Store(true)
	o.NewEpoch = true
	s = start(t, o)
	s.until("the source to load", func(st Status) bool { return st.State == Waiting && st.Reason == ReasonLoading })
	if st := s.Status(); st.Epoch != 1 || !st.EpochDue {
		t.Errorf("status: got %+v, want epoch 1, and another due", st)
	}
	s.stop()

	loading.Store(false)
	o.NewEpoch = false
	s = start(t, o)
	more := commands("SET a 1")
	m.Append(more)
	s.until("the rest", func(st Status) bool { return st.Durable.Offset == m.Position().Offset })
	s.stop()
	if _, full := m.Links(); full != 1 {
		t.Errorf("full syncs: got %d, want 1", full)
	}
	epochs := f.read(t)
	if len(epochs) != 1 {
		t.Fatalf("got %d epochs, want 1", len(epochs))
	}
	sameBytes(t, epochs[0], sess.RDB, append(sess.Stream[:len(sess.Stream):len(sess.Stream)], more...))
}
