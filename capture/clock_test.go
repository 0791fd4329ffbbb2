package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/internal/repl"
)

func TestClockPrecedesBytesThatWaitedOutABreak(t *testing.T) {
	sess := smallSession(historyA)
	var away atomic.Bool
	m := redistest.FakeMaster(t, redistest.Script{Session: sess, Link: func(int) redistest.Fault {
		if away.Load() {
			return redistest.Fault{Reply: "-LOADING Redis is loading the dataset in memory"}
		}
		return redistest.Fault{}
	}})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	o.SampleEvery = time.Hour // only the samples that a new link takes
	s := start(t, o)
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	var ends []repl.Offset
	for i := range 5 {
		away.Store(true)
		m.CutAll()
		s.until("the break", func(st Status) bool { return st.Reason == ReasonLoading })
		m.Append(commands(fmt.Sprintf("SET k%d v", i)))
		ends = append(ends, m.Position().Offset)
		away.Store(false)
		s.until("the bytes", func(st Status) bool { return st.Durable.Offset == m.Position().Offset })
	}
	s.stop()
	e := f.read(t)[0]
	if e.clockAfter[0] != 0 || e.clock[0].Offset != sess.End() {
		t.Errorf("first sample: got %+v behind %d bytes, want it before the stream", e.clock[0], e.clockAfter[0])
	}
	before := len(sess.Stream)
	for i, end := range ends {
		found := false
		for k, c := range e.clock {
			found = found || c.Offset == end && e.clockAfter[k] == before
		}
		if !found {
			t.Errorf("break %d: got no sample at %d right before its bytes in %+v", i, end, e.clock)
		}
		before = int(end - sess.Offset)
	}
}

func TestClockFailureNeverStopsCapture(t *testing.T) {
	sess := smallSession(historyA)
	var broken atomic.Bool
	broken.Store(true)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess, Handle: func(_ int, args []string) string {
		if broken.Load() && (strings.EqualFold(args[0], "MULTI") || strings.EqualFold(args[0], "TIME")) {
			return "-ERR unknown command '" + args[0] + "'\r\n"
		}
		return ""
	}})
	f := newFolder(t)
	s := start(t, f.options(t, m.Addr))
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	if _, err := s.AskSource(context.Background()); err == nil {
		t.Error("AskSource: got nil, want the clock's error")
	}
	if got := s.Status().SourceOffset; got != -1 {
		t.Errorf("source offset: got %d, want -1 for unknown", got)
	}
	broken.Store(false)
	s.until("the clock to come back", func(st Status) bool { return st.SourceOffset == sess.End() })
	s.stop()
}

func TestAskSourceRefusesAnotherHistory(t *testing.T) {
	gate := make(queueGate, 1)
	m := redistest.FakeMaster(t, redistest.Script{Session: smallSession(historyA)})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	o.FullSync = gate
	s := start(t, o)
	s.untilStreaming(1)
	gate <- struct{}{} // so that the new history cannot begin an epoch yet
	m.SetSession(smallSession(historyB))
	s.until("the new history to be refused", func(Status) bool {
		_, err := s.AskSource(context.Background())
		return errors.Is(err, ErrOtherHistory)
	})
	<-gate
	s.untilStreaming(2)
	s.until("the new history to be known", func(Status) bool {
		at, err := s.AskSource(context.Background())
		return err == nil && at == m.Position().Offset
	})
	s.stop()
}
