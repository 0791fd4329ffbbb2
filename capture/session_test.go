package capture

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"tairlift/internal/psync"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// tap is a plain PSYNC reader beside the session under test.
type tap struct {
	start  repl.Offset
	stream []byte
	conn   *resp.Conn
	done   chan struct{}
}

func newTap(t *testing.T, s *redistest.Server) *tap {
	t.Helper()
	conn, err := resp.Dial(context.Background(), s.Addr, s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	link, err := psync.Attach(context.Background(), conn, repl.Position{}, psync.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rdb, err := link.OpenRDB()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 64<<10)
	for err == nil {
		_, err = rdb.Read(p)
	}
	c := &tap{start: link.Start.Position.Offset, conn: conn, done: make(chan struct{})}
	first := make(chan struct{})
	go func() {
		defer close(c.done)
		for {
			n, err := link.Read(p)
			if len(c.stream) == 0 && n > 0 {
				close(first)
			}
			c.stream = append(c.stream, p[:n]...)
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { c.close() })
	redistest.Eventually(t, "the tap's stream", func() bool {
		select {
		case <-first:
			return true
		default:
			return link.Ack(c.start) != nil // ignored until the master's child has exited
		}
	})
	return c
}

func (c *tap) close() []byte {
	c.conn.Close()
	<-c.done
	return c.stream
}

func TestCapturesWhatTheSourceSends(t *testing.T) {
	src := redistest.Source(t)
	fill(t, src)
	stop := write(t, src)
	f := newFolder(t)
	s := start(t, f.options(t, src.Addr))
	s.untilStreaming(1)
	tap := newTap(t, src)
	at := stop()
	src.Do(t, "SET", "last", "one")
	end := s.untilCaughtUp()
	s.stop()
	t.Logf("%d rounds of writes", at)

	epochs := f.read(t)
	if len(epochs) != 1 {
		t.Fatalf("got %d epochs, want 1", len(epochs))
	}
	e := epochs[0]
	if got := e.info.Start + repl.Offset(len(e.stream)); got < end {
		t.Errorf("end of the stream: got %d, want %d or more", got, end)
	}
	sameData(t, e.load(t, src), src)

	theirs := tap.close()
	ours := e.stream[tap.start-e.info.Start:]
	n := min(len(ours), len(theirs))
	if n == 0 || !bytes.Equal(ours[:n], theirs[:n]) {
		t.Errorf("%d bytes from offset %d differ from those of another replica", n, tap.start)
	}
	st := s.Status()
	if st.State != Stopped || st.EpochReason != EpochFirst || !st.Durable.Sealed || st.RDBTotal != int64(len(e.rdb)) {
		t.Errorf("status: got %+v, want stopped, first epoch, sealed, RDB of %d bytes", st, len(e.rdb))
	}
	rec := f.record(t)
	if rec.Offset != st.Durable.Offset || !rec.Sealed || rec.Addr != src.Addr || len(rec.Segments) == 0 {
		t.Errorf("record: got %+v, want the durable position %+v", rec, st.Durable)
	}
}

func TestKilledLinkGoesOnInTheSameEpoch(t *testing.T) {
	src := redistest.Source(t)
	fill(t, src)
	stop := write(t, src)
	f := newFolder(t)
	s := start(t, f.options(t, src.Addr))
	s.untilStreaming(1)
	for i := 1; i <= 5; i++ {
		src.Do(t, "CLIENT", "KILL", "TYPE", "slave")
		s.until("the link to be made again", func(st Status) bool { return st.Reconnects >= i && st.State == Streaming })
		s.untilCaughtUp()
	}
	stop()
	s.untilCaughtUp()
	s.stop()
	epochs := f.read(t)
	if len(epochs) != 1 {
		t.Fatalf("got %d epochs, want 1", len(epochs))
	}
	sameData(t, epochs[0].load(t, src), src)
}

func TestStopAndRunAgainLosesAndDoublesNothing(t *testing.T) {
	src := redistest.Source(t)
	stop := write(t, src)
	f := newFolder(t)
	for i := range 6 {
		if i == 3 {
			f.loseStore(t) // the segments carry the position too
		}
		s := start(t, f.options(t, src.Addr))
		s.untilStreaming(1)
		s.untilCaughtUp()
		if i == 5 {
			stop()
			s.untilCaughtUp()
		}
		s.stop()
		d := s.Status().Durable
		if rec := f.record(t); rec.Offset != d.Offset || rec.Bytes != d.Bytes || rec.Seq != uint64(d.Seq) {
			t.Errorf("record after run %d: got %+v, want %+v", i, rec, d)
		}
	}
	epochs := f.read(t)
	if len(epochs) != 1 {
		t.Fatalf("got %d epochs, want 1", len(epochs))
	}
	sameData(t, epochs[0].load(t, src), src)
}

func TestOneSessionRunsTwice(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Session: redistest.RecordedSession(t)})
	f := newFolder(t)
	s := start(t, f.options(t, m.Addr))
	s.untilStreaming(1)
	if err := s.Run(context.Background()); err == nil {
		t.Error("Run while Run runs: got nil, want an error")
	}
	s.stop()
	if _, err := s.AskSource(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("AskSource outside of Run: got %v, want %v", err, ErrNotRunning)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Session.Run(ctx) }()
	s.untilStreaming(1)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("second Run: got %v, want nil", err)
	}
	if all, full := m.Links(); all != 2 || full != 1 {
		t.Errorf("got %d links, %d full, want 2, 1", all, full)
	}
}

func TestRestartedSourceOpensAnEpoch(t *testing.T) {
	src := redistest.Source(t)
	fill(t, src)
	f := newFolder(t)
	s := start(t, f.options(t, src.Addr))
	s.untilStreaming(1)
	s.untilCaughtUp()
	src.Restart(t)
	fill(t, src)
	s.untilStreaming(2)
	if got := s.Status().EpochReason; got != EpochRestart {
		t.Errorf("reason of the epoch: got %q, want %q", got, EpochRestart)
	}
	src.Do(t, "INCR", "after")
	s.untilCaughtUp()
	s.stop()
	epochs := f.read(t)
	if len(epochs) != 2 || !epochs[0].info.Sealed {
		t.Fatalf("got %+v, want two epochs, the first one sealed", epochs)
	}
	sameData(t, epochs[1].load(t, src), src)
}

func TestOverrunBacklogOpensAnEpoch(t *testing.T) {
	src := redistest.Source(t, redistest.Arg("--repl-backlog-size", "16kb"))
	f := newFolder(t)
	s := start(t, f.options(t, src.Addr))
	s.untilStreaming(1)
	s.stop()
	src.Do(t, "SET", "big", string(make([]byte, 100<<10)))
	s = start(t, f.options(t, src.Addr))
	s.untilStreaming(2)
	if got := s.Status().EpochReason; got != EpochOverrun {
		t.Errorf("reason of the epoch: got %q, want %q", got, EpochOverrun)
	}
	s.untilCaughtUp()
	s.stop()
	epochs := f.read(t)
	if len(epochs) != 2 {
		t.Fatalf("got %d epochs, want 2", len(epochs))
	}
	sameData(t, epochs[1].load(t, src), src)
}

func TestPromotedReplicaGoesOnInTheSameEpoch(t *testing.T) {
	master := redistest.Source(t)
	if major, _ := master.Version(); major < 4 {
		t.Skip("PSYNC2 needs Redis 4")
	}
	replica := redistest.Source(t)
	replica.ReplicaOf(t, master)
	fill(t, master)
	f := newFolder(t)
	s := start(t, f.options(t, master.Addr))
	s.untilStreaming(1)
	end := s.untilCaughtUp()
	before := s.Status().ReplID
	s.stop()
	replica.Wait(t, "the replica to have it all", func() bool {
		return replica.Info(t, "replication")["slave_repl_offset"] >= end.String()
	})
	master.Kill()
	replica.Do(t, "SLAVEOF", "NO", "ONE")
	replica.Do(t, "SET", "after", "failover")

	s = start(t, f.options(t, replica.Addr))
	s.untilStreaming(1)
	s.untilCaughtUp()
	after := s.Status().ReplID
	s.stop()
	if after == before {
		t.Fatalf("replid: got %s before and after, want another", after)
	}
	if rec := f.record(t); rec.ReplID != after || rec.Addr != replica.Addr {
		t.Errorf("record: got %+v, want replid %s at %s", rec, after, replica.Addr)
	}

	// The segments alone know the new replid as well.
	f.loseStore(t)
	s = start(t, f.options(t, replica.Addr))
	s.untilStreaming(1)
	s.untilCaughtUp()
	s.stop()
	if got := s.Status().ReplID; got != after {
		t.Errorf("replid from the segments: got %s, want %s", got, after)
	}
	epochs := f.read(t)
	if len(epochs) != 1 {
		t.Fatalf("got %d epochs, want 1", len(epochs))
	}
	sameData(t, epochs[0].load(t, replica), replica)
}

func TestRDBFromDiskAndFromMemory(t *testing.T) {
	for _, diskless := range []string{"no", "yes"} {
		t.Run("diskless "+diskless, func(t *testing.T) {
			src := redistest.Source(t, redistest.Arg("--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0"))
			fill(t, src)
			f := newFolder(t)
			s := start(t, f.options(t, src.Addr))
			s.untilStreaming(1)
			src.Do(t, "SET", "k", "v")
			s.untilCaughtUp()
			s.stop()
			epochs := f.read(t)
			if len(epochs) != 1 {
				t.Fatalf("got %d epochs, want 1", len(epochs))
			}
			wantSize := int64(len(epochs[0].rdb))
			if diskless == "yes" {
				wantSize = -1
			}
			if got := epochs[0].info.RDBSize; got != wantSize {
				t.Errorf("announced size: got %d, want %d", got, wantSize)
			}
			sameData(t, epochs[0].load(t, src), src)
		})
	}
}

func TestSegmentsAreSealedAndRecorded(t *testing.T) {
	src := redistest.Source(t)
	f := newFolder(t)
	o := f.options(t, src.Addr)
	o.Writer = spool.WriterOptions{SegmentBytes: 4 << 10}
	s := start(t, o)
	s.untilStreaming(1)
	noise := rand.New(rand.NewPCG(1, 2)) // does not compress
	for range 10 {
		value := make([]byte, 8<<10)
		for i := range value {
			value[i] = byte(noise.Uint32())
		}
		src.Do(t, "SET", "k", string(value))
		s.untilCaughtUp()
	}
	s.stop()
	rec := f.record(t)
	e := f.read(t)[0]
	if len(rec.Segments) != len(e.info.Segments) || len(rec.Segments) < 5 {
		t.Fatalf("got %d segments recorded, want %d, at least 5", len(rec.Segments), len(e.info.Segments))
	}
	for i, seg := range e.info.Segments {
		got := rec.Segments[i]
		if got.Seq != uint64(seg.Seq) || got.Bytes != seg.Bytes || seg.Stream && got.End != repl.Offset(seg.To) {
			t.Errorf("segment %d: got %+v, want %+v", i, got, seg)
		}
	}
}

func TestIdleSourceCostsNoFsync(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Session: redistest.RecordedSession(t)})
	f := newFolder(t)
	fsys := newFaultFS()
	o := f.options(t, m.Addr)
	o.SampleEvery = time.Millisecond
	o.Writer.FS = fsys
	s := start(t, o)
	s.untilStreaming(1)
	s.untilCaughtUp()
	idle := fsys.syncs.Load()
	sampled := s.Status().SourceSampledAt
	s.until("some more samples", func(st Status) bool { return st.SourceSampledAt.Sub(sampled) > 30*time.Millisecond })
	if got := fsys.syncs.Load(); idle == 0 || got > idle+1 { // one may have been on its way
		t.Errorf("fsyncs while nothing came: got %d, want none", got-idle)
	}

	// Nor does idling cost accuracy: the latest sample goes before the next byte.
	before := len(f.read(t)[0].stream)
	m.Append(commands("SET k v"))
	s.until("the bytes", func(st Status) bool { return st.Durable.Offset == m.Position().Offset })
	s.stop()
	e := f.read(t)[0]
	var last spool.ClockSample
	for i, c := range e.clock {
		if e.clockAfter[i] <= before {
			last = c
		}
	}
	if last.LocalMicros <= sampled.UnixMicro() {
		t.Errorf("last sample before the bytes: got %+v, want one after %v", last, sampled)
	}
}
