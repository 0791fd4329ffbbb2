package capture

import (
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tairlift/internal/redistest"
	"tairlift/internal/resp"
)

func TestFirstContact(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	script := func(change func(*redistest.Script)) string {
		s := redistest.Script{Session: smallSession(historyA)}
		change(&s)
		return redistest.FakeMaster(t, s).Addr
	}
	refuse := func(reply string) func(*redistest.Script) {
		return func(s *redistest.Script) {
			s.Link = func(int) redistest.Fault { return redistest.Fault{Reply: reply} }
		}
	}
	tests := []struct {
		name, addr string
		secret     resp.Secret
		reason     string
	}{
		{"a port where nobody listens", closed.Addr().String(), "", ReasonUnreachable},
		{"no password where one is needed", script(func(s *redistest.Script) { s.Password = "p" }), "", ReasonAuth},
		{"a wrong password", script(func(s *redistest.Script) { s.Password = "p" }), "q", ReasonAuth},
		{"a proxy", script(refuse("-ERR unknown command 'PSYNC'")), "", ReasonRefused},
		{"a user without PSYNC", script(refuse("-NOPERM this user has no permissions to run the 'psync' command")), "", ReasonRefused},
		{"a server of another kind", script(refuse("HTTP/1.1 400 Bad Request")), "", ReasonProtocol},
		{"a server with no place left", script(refuse("-ERR max number of clients reached")), "", ReasonRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFolder(t)
			o := f.options(t, tt.addr)
			o.Secret = tt.secret
			stop := start(t, o).stopped()
			if !stop.NeverReached || stop.Reason != tt.reason || stop.Hint == "" || !strings.Contains(stop.What, tt.addr) {
				t.Errorf("got %+v, want never reached, %s, and the address", stop, tt.reason)
			}
		})
	}
}

func TestLaterOutagesAreWaitedFor(t *testing.T) {
	sess := smallSession(historyA)
	var fault atomic.Pointer[string]
	m := redistest.FakeMaster(t, redistest.Script{
		Session: sess,
		Link: func(int) redistest.Fault {
			if r := fault.Load(); r != nil {
				return redistest.Fault{Reply: *r}
			}
			return redistest.Fault{}
		},
	})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	s := start(t, o)
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	for _, tt := range []struct{ reply, reason string }{
		{"-LOADING Redis is loading the dataset in memory", ReasonLoading},
		{"-NOMASTERLINK Can't SYNC while not connected with my master", ReasonMasterDown},
		{"-ERR unknown command 'PSYNC'", ReasonRefused},
		{"-NOAUTH Authentication required.", ReasonAuth},
		{"-MASTERDOWN Link with MASTER is down and slave-serve-stale-data is set to 'no'.", ReasonMasterDown},
		{"-ERR Can't SYNC while not connected with my master", ReasonMasterDown},
		{"-ERR Unable to perform background save", ReasonRefused},
		{"-NOPERM this user has no permissions to run the 'psync' command", ReasonRefused},
		{"+OK", ReasonProtocol},
		{"HTTP/1.1 400 Bad Request", ReasonProtocol},
		{"+CONTINUE nonsense", ReasonProtocol},
		{"+CONTINUE " + string(historyA) + " 5", ReasonProtocol},
		{"+FULLRESYNC nonsense 5", ReasonProtocol},
		{"+FULLRESYNC " + string(historyA) + " -5", ReasonProtocol},
		{"+FULLRESYNC " + string(historyA) + " 9223372036854775807", ReasonProtocol},
	} {
		fault.Store(&tt.reply)
		m.CutAll()
		s.until(tt.reason, func(st Status) bool { return st.State == Waiting && st.Reason == tt.reason })
		fault.Store(nil)
		s.until("the stream again", func(st Status) bool { return st.State == Streaming })
	}
	s.stop()
	if epochs := f.read(t); len(epochs) != 1 {
		t.Errorf("got %d epochs, want 1", len(epochs))
	}

	text := "-LOADING Redis is loading the dataset in memory"
	fault.Store(&text)
	o.MaxWait = 20 * time.Millisecond
	if stop := start(t, o).stopped(); stop.NeverReached || stop.Reason != ReasonLoading {
		t.Errorf("after MaxWait: got %+v, want %s of a source that was reached", stop, ReasonLoading)
	}
}

func TestLoadingSourceCountsAsReached(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Session: smallSession(historyA), Link: func(int) redistest.Fault {
		return redistest.Fault{Reply: "-LOADING Redis is loading the dataset in memory"}
	}})
	f := newFolder(t)
	s := start(t, f.options(t, m.Addr))
	s.until("the reason", func(st Status) bool { return st.Reason == ReasonLoading && st.EverConnected })
	s.stop()
	m.Close()
	s = start(t, f.options(t, m.Addr))
	s.until("the outage to be waited for", func(st Status) bool {
		return st.Reason == ReasonUnreachable && time.Since(st.Since) > s.o.FirstContact
	})
	s.stop()
}

func TestReplicaWithoutItsMasterIsWaitedFor(t *testing.T) {
	src := redistest.Source(t)
	src.Do(t, "SLAVEOF", "127.0.0.1", "1")
	f := newFolder(t)
	s := start(t, f.options(t, src.Addr))
	s.until("the reason", func(st Status) bool { return st.State == Waiting && st.Reason == ReasonMasterDown })
	src.Do(t, "SLAVEOF", "NO", "ONE")
	s.untilStreaming(1)
	s.stop()
}

func TestRealServerPasswords(t *testing.T) {
	src := redistest.Source(t, redistest.Password("secret"))
	f := newFolder(t)
	o := f.options(t, src.Addr)
	if stop := start(t, o).stopped(); !stop.NeverReached || stop.Reason != ReasonAuth {
		t.Errorf("without a password: got %+v, want %s", stop, ReasonAuth)
	}
	o.Secret = "wrong"
	if stop := start(t, o).stopped(); !stop.NeverReached || stop.Reason != ReasonAuth {
		t.Errorf("with a wrong one: got %+v, want %s", stop, ReasonAuth)
	}
	o.Secret = "secret"
	s := start(t, o)
	s.untilStreaming(1)
	s.untilCaughtUp()

	// Once the source is known, a password that no longer fits is waited for.
	src.Do(t, "CONFIG", "SET", "requirepass", "another")
	src.Do(t, "CLIENT", "KILL", "TYPE", "slave")
	s.until("the reason", func(st Status) bool { return st.State == Waiting && st.Reason == ReasonAuth })
	src.Do(t, "CONFIG", "SET", "requirepass", "secret")
	s.until("the stream again", func(st Status) bool { return st.State == Streaming })
	s.stop()
	if got := s.Status().Epoch; got != 1 {
		t.Errorf("epoch: got %d, want 1", got)
	}
}

func TestSilentSourceIsGivenUp(t *testing.T) {
	sess := smallSession(historyA)
	faults := []redistest.Fault{{Silent: true}, {SilentAt: 20}, {SilentAt: 75}, {SilentAt: int64(len(sess.RDB)) + 90}}
	m := redistest.FakeMaster(t, redistest.Script{Session: sess, Link: func(n int) redistest.Fault {
		if n <= len(faults) {
			return faults[n-1]
		}
		return redistest.Fault{}
	}})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	o.Silence = 30 * time.Millisecond
	o.FirstContact = time.Hour
	s := start(t, o)
	s.until("the whole stream", func(st Status) bool { return st.Durable.Offset == sess.End() })
	s.until("the silence after it to end the link", func(st Status) bool {
		return st.State == Waiting && strings.Contains(st.Detail, "sent nothing for")
	})
	s.stop()
	epochs := f.read(t)
	sameBytes(t, epochs[len(epochs)-1], sess.RDB, sess.Stream)
}

func TestStoppedSourceIsGivenUpAndGoesOn(t *testing.T) {
	src := redistest.Source(t, redistest.Arg("--repl-ping-slave-period", "1"))
	f := newFolder(t)
	o := f.options(t, src.Addr)
	o.Silence = 2 * time.Second
	s := start(t, o)
	s.untilStreaming(1)
	s.untilCaughtUp()
	src.Signal(syscall.SIGSTOP)
	s.until("the silence to end the link", func(st Status) bool {
		return st.State == Waiting && st.Reason == ReasonUnreachable && strings.Contains(st.Detail, "sent nothing for 2s")
	})
	src.Signal(syscall.SIGCONT)
	src.Do(t, "SET", "after", "the silence")
	s.until("the stream again", func(st Status) bool { return st.State == Streaming })
	s.untilCaughtUp()
	s.stop()
	epochs := f.read(t)
	if len(epochs) != 1 {
		t.Fatalf("got %d epochs, want 1", len(epochs))
	}
	sameData(t, epochs[0].load(t, src), src)
}

func TestFullSyncsQueue(t *testing.T) {
	gate := make(queueGate, 1)
	gate <- struct{}{} // another group's
	sess := smallSession(historyA)
	m := redistest.FakeMaster(t, redistest.Script{Session: sess})
	f := newFolder(t)
	o := f.options(t, m.Addr)
	o.FullSync = gate
	s := start(t, o)
	s.until("the queue", func(st Status) bool { return st.State == Waiting && st.Reason == ReasonQueue })
	if all, _ := m.Links(); all != 0 {
		t.Errorf("got %d PSYNCs while queued, want none", all)
	}
	<-gate
	s.until("the stream", func(st Status) bool { return st.Durable.Offset == sess.End() && st.State == Streaming })
	if len(gate) != 0 {
		t.Error("the gate is still held behind the RDB")
	}

	// A full sync that nobody asked for queues too.
	gate <- struct{}{}
	next := smallSession(historyB)
	m.SetSession(next)
	s.until("the queue", func(st Status) bool { return st.State == Waiting && st.Reason == ReasonQueue })
	if got := s.Status().Epoch; got != 1 {
		t.Errorf("epoch while queued: got %d, want 1", got)
	}
	if all, _ := m.Links(); all != 1 {
		t.Errorf("got %d PSYNCs, want none while queued: each one makes the source fork", all-1)
	}
	<-gate
	s.until("the stream", func(st Status) bool { return st.Epoch == 2 && st.Durable.Offset == next.End() })
	s.stop()
	if len(gate) != 0 {
		t.Error("the gate is still held after the end")
	}
}

func TestStopIsQuickWhileTheSourceHangs(t *testing.T) {
	sess := smallSession(historyA)
	for _, fault := range []redistest.Fault{{Silent: true}, {SilentAt: 60}, {SilentAt: 80}, {}} {
		m := redistest.FakeMaster(t, redistest.Script{Session: sess, Link: func(int) redistest.Fault { return fault }})
		f := newFolder(t)
		o := f.options(t, m.Addr)
		o.Silence = time.Hour // so that only the stop can end the wait
		s := start(t, o)
		redistest.Eventually(t, "the link", func() bool { all, _ := m.Links(); return all > 0 })
		s.stop()
	}
}
