package psync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tairlift/internal/psync"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

func attach(t *testing.T, addr string, secret resp.Secret, from repl.Position, o psync.Options) (*psync.Link, error) {
	t.Helper()
	c, err := resp.Dial(ctx, addr, secret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return psync.Attach(ctx, c, from, o)
}

func mustAttach(t *testing.T, addr string, from repl.Position, o psync.Options) *psync.Link {
	t.Helper()
	l, err := attach(t, addr, "", from, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// readRDB reads a whole RDB and acknowledges it.
func readRDB(t *testing.T, l *psync.Link) (rdb []byte, size int64) {
	t.Helper()
	r, err := l.OpenRDB()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Ack(l.Start.Position.Offset); err != nil {
		t.Fatal(err)
	}
	return b, r.Size()
}

// follower parses a link's stream.
type follower struct {
	t *testing.T
	l *psync.Link
	p *resp.Parser
}

func follow(t *testing.T, l *psync.Link) *follower {
	return &follower{t, l, resp.NewParser(l.Start.Position.Offset)}
}

// until reads commands up to and including the one given, and returns the
// offset of its end and how many came before it, PINGs left out.
func (f *follower) until(want string) (end repl.Offset, before int) {
	f.t.Helper()
	buf := make([]byte, 4096)
	for {
		for {
			cmd, ok, err := f.p.Next()
			if err != nil {
				f.t.Fatal(err)
			}
			if !ok {
				break
			}
			got := string(bytes.Join(cmd.Args, []byte(" ")))
			if strings.EqualFold(got, want) {
				return cmd.End, before
			}
			if !strings.EqualFold(got, "PING") {
				before++
			}
		}
		n, err := f.l.Read(buf)
		if err != nil {
			f.t.Fatalf("wait for %q: %v", want, err)
		}
		f.p.Feed(buf[:n])
	}
}

// toEnd reads until the source closes and returns the end of the last command.
func (f *follower) toEnd() repl.Offset {
	f.t.Helper()
	rest, err := io.ReadAll(f.l)
	if err != nil {
		f.t.Fatal(err)
	}
	f.p.Feed(rest)
	for {
		_, ok, err := f.p.Next()
		if err != nil {
			f.t.Fatal(err)
		}
		if !ok {
			return f.p.Offset()
		}
	}
}

func TestFullAndPartialSync(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		o      psync.Options
		marked bool
	}{
		{"from disk", []string{"--repl-diskless-sync", "no"}, psync.Options{}, false},
		{"diskless without a delay", []string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"}, psync.Options{}, true},
		{"diskless behind newlines", []string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "1"}, psync.Options{}, true},
		{"diskless where we do not know of it", []string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"}, psync.Options{NoEOF: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.Source(t, redistest.Arg(tt.args...))
			value := strings.Repeat("0123456789abcdef", 1<<10)
			for i := range 300 {
				s.Do(t, "SET", fmt.Sprint("k", i), value+fmt.Sprint(i))
			}
			s.DoIn(t, 1, "SET", "in1", "x")
			l := mustAttach(t, s.Addr, repl.Position{}, tt.o)
			if !l.Start.Full {
				t.Fatalf("got %+v, want a full sync", l.Start)
			}
			rdb, size := readRDB(t, l)
			if !bytes.HasPrefix(rdb, []byte("REDIS00")) || rdb[len(rdb)-9] != 0xff {
				t.Errorf("got an RDB beginning %.9q and ending %q", rdb, rdb[max(0, len(rdb)-9):])
			}
			if tt.marked && size != -1 || !tt.marked && size != int64(len(rdb)) {
				t.Errorf("got size %d of %d bytes, marked %v", size, len(rdb), tt.marked)
			}
			s.Do(t, "SET", "a", "1")
			s.Do(t, "INCR", "a")
			end, _ := follow(t, l).until("INCR a")
			if err := l.Ack(end); err != nil {
				t.Fatal(err)
			}
			s.Wait(t, "ACK in INFO", func() bool { return ackOf(t, s) >= end })
			if got := s.Info(t, "replication")["slave0"]; !strings.Contains(got, "state=online") {
				t.Errorf("got slave0 %q, want it online", got)
			}
			pos := repl.Position{ReplID: l.Start.Position.ReplID, Offset: end}
			l.Close()

			s.Do(t, "SET", "meanwhile", "1")
			l = mustAttach(t, s.Addr, pos, tt.o)
			if want := (psync.Start{Position: pos}); l.Start != want {
				t.Fatalf("again: got %+v, want %+v", l.Start, want)
			}
			if _, before := follow(t, l).until("SET meanwhile 1"); before != 0 {
				t.Errorf("again: %d commands came before the one that was due", before)
			}
		})
	}
}

// ackOf is what the server's INFO says that its first replica acknowledged.
func ackOf(t *testing.T, s *redistest.Server) repl.Offset {
	t.Helper()
	_, rest, _ := strings.Cut(s.Info(t, "replication")["slave0"], "offset=")
	text, _, _ := strings.Cut(rest, ",")
	off, err := repl.ParseOffset(text)
	if err != nil {
		return -1
	}
	return off
}

func TestPartialSyncFromEachOffset(t *testing.T) {
	s := redistest.Source(t)
	l := mustAttach(t, s.Addr, repl.Position{}, psync.Options{})
	readRDB(t, l)
	s.Do(t, "SET", "k", "v")
	start := l.Start.Position
	end, _ := follow(t, l).until("SET k v")
	asking := s.Dial(t)
	covers := func(from repl.Position, want bool) {
		t.Helper()
		if got, err := psync.Covers(ctx, asking, from); got != want || err != nil {
			t.Errorf("covers %s: got %t, %v, want %t", from, got, err, want)
		}
	}
	for off := start.Offset; off <= end; off++ {
		covers(repl.Position{ReplID: start.ReplID, Offset: off}, true)
		again := mustAttach(t, s.Addr, repl.Position{ReplID: start.ReplID, Offset: off}, psync.Options{})
		if again.Start.Full {
			t.Fatalf("from %d: got a full sync", off)
		}
		b := make([]byte, end-off)
		if _, err := io.ReadFull(again, b); err != nil {
			t.Fatal(err)
		}
		first := bytes.TrimPrefix(b, []byte("*1\r\n$4\r\nping\r\n")) // its period may end just then
		if off == start.Offset && !bytes.HasPrefix(bytes.TrimPrefix(first, []byte("*1\r\n$4\r\nPING\r\n")), []byte("*2\r\n$6\r\nSELECT\r\n")) {
			t.Errorf("got a stream beginning %.30q, want a SELECT", b)
		}
		again.Close()
	}
	for name, from := range map[string]repl.Position{
		"beyond the end": {ReplID: start.ReplID, Offset: end + 100},
		"another replid": {ReplID: "0123456789abcdef0123456789abcdef01234567", Offset: end},
	} {
		covers(from, false)
		if l := mustAttach(t, s.Addr, from, psync.Options{}); !l.Start.Full || l.Start.Position.ReplID != start.ReplID {
			t.Errorf("%s: got %+v, want a full sync", name, l.Start)
		}
	}
}

func TestListeningPort(t *testing.T) {
	s := redistest.Source(t)
	for _, port := range []int{0, 7777} {
		l := mustAttach(t, s.Addr, repl.Position{}, psync.Options{ListeningPort: port})
		if got, want := s.Info(t, "replication")["slave0"], fmt.Sprintf("port=%d,", port); !strings.Contains(got, want) {
			t.Errorf("got slave0 %q, want %s", got, want)
		}
		l.Close()
		s.Wait(t, "no replica", func() bool { return s.Info(t, "replication")["connected_slaves"] == "0" })
	}
}

func TestNoPassword(t *testing.T) {
	s := redistest.Source(t, redistest.Password("secret"))
	_, err := attach(t, s.Addr, "", repl.Position{}, psync.Options{})
	var ae *resp.AuthError
	if !errors.As(err, &ae) || ae.Addr != s.Addr || !resp.IsNoAuth(err) {
		t.Errorf("got %v, want an AuthError of %s", err, s.Addr)
	}
	l, err := attach(t, s.Addr, "secret", repl.Position{}, psync.Options{})
	if err != nil {
		t.Fatal(err)
	}
	readRDB(t, l)
}

func TestReplicaAsSource(t *testing.T) {
	master := redistest.Source(t)
	master.Do(t, "SET", "k", "v")
	replica := redistest.Source(t)
	replica.ReplicaOf(t, master)

	l := mustAttach(t, replica.Addr, repl.Position{}, psync.Options{})
	readRDB(t, l)
	f := follow(t, l)
	master.Do(t, "SET", "a", "1")
	f.until("SET a 1")

	// What the sample calls the offset is where the link stands, once
	// nothing is on its way; PINGs keep moving both.
	c := replica.Dial(t)
	var sample psync.ClockSample
	same := func() bool {
		var err error
		if sample, err = psync.Sample(ctx, c); err != nil {
			t.Fatal(err)
		}
		for f.p.Offset() < sample.Offset {
			buf := make([]byte, sample.Offset-f.p.Offset())
			n, err := l.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			f.p.Feed(buf[:n])
			for ok := true; ok; {
				if _, ok, err = f.p.Next(); err != nil {
					t.Fatal(err)
				}
			}
		}
		return f.p.Offset() == sample.Offset
	}
	redistest.Eventually(t, "the link to stand at the sampled offset", same)
	if sample.Role != "slave" || !sample.LinkUp || sample.ReplID != l.Start.Position.ReplID {
		t.Errorf("got %+v, want a slave whose link is up, serving %s", sample, l.Start.Position.ReplID)
	}

	master.Stop()
	replica.Wait(t, "master link down", func() bool { return replica.Info(t, "replication")["master_link_status"] == "down" })
	if sample, err := psync.Sample(ctx, c); err != nil || sample.LinkUp {
		t.Errorf("without its master: got %+v, %v, want the link down", sample, err)
	}
	if _, err := attach(t, replica.Addr, "", repl.Position{}, psync.Options{}); !errors.Is(err, psync.ErrMasterDown) {
		t.Errorf("without its master: got %v, want %v", err, psync.ErrMasterDown)
	}

	replica.Do(t, "SLAVEOF", "NO", "ONE")
	replica.Do(t, "SET", "promoted", "1")
	if major, _ := replica.Version(); major < 4 {
		f.until("SET promoted 1") // the link and its replid outlive the promotion
		return
	}
	// The link is cut, and goes on under the replica's new replid.
	from := repl.Position{ReplID: l.Start.Position.ReplID, Offset: f.toEnd()}
	if covers, err := psync.Covers(ctx, replica.Dial(t), from); !covers || err != nil {
		t.Errorf("covers the position of before the promotion: got %t, %v, want true", covers, err)
	}
	l = mustAttach(t, replica.Addr, from, psync.Options{})
	if got := l.Start; got.Full || got.Position.ReplID == from.ReplID || got.Position.Offset != from.Offset {
		t.Errorf("got %+v, want to go on from %d under another replid", got, from.Offset)
	}
	follow(t, l).until("SET promoted 1")
}

func TestSampleOfAMaster(t *testing.T) {
	s := redistest.Source(t)
	l := mustAttach(t, s.Addr, repl.Position{}, psync.Options{})
	readRDB(t, l)
	f := follow(t, l)
	c := s.Dial(t)
	for i := range 20 {
		s.Do(t, "SET", "k", strconv.Itoa(i))
		before := time.Now().UnixMicro()
		got, err := psync.Sample(ctx, c)
		after := time.Now().UnixMicro()
		if err != nil {
			t.Fatal(err)
		}
		end, others := f.until("SET k " + strconv.Itoa(i))
		if i > 0 && others != 0 {
			t.Errorf("got %d commands in the stream beside the SET, want none from sampling", others)
		}
		if got.Offset < end || got.Offset > end+14 { // a PING at most
			t.Errorf("got offset %d, want %d", got.Offset, end)
		}
		if got.WidthMicros < 0 || got.SourceMicros+got.WidthMicros > after {
			t.Errorf("got a width of %d µs within %d µs", got.WidthMicros, after-before)
		}
		// One machine, one clock.
		for what, at := range map[string]int64{"source": got.SourceMicros, "local": got.LocalMicros} {
			if at < before || at > after {
				t.Errorf("%s clock: got %d, want it in [%d, %d]", what, at, before, after)
			}
		}
		if major, _ := s.Version(); got.Role != "master" || !got.LinkUp || got.ReplID != l.Start.Position.ReplID ||
			got.RunID != s.Info(t, "server")["run_id"] || !strings.HasPrefix(got.Version, strconv.Itoa(major)+".") {
			t.Errorf("got %+v, want the master of %s", got, l.Start.Position.ReplID)
		}
	}
}

func TestSampleErrors(t *testing.T) {
	s := redistest.Source(t, redistest.Password("secret"))
	c, err := resp.Dial(ctx, s.Addr, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 { // the connection stays usable
		if _, err := psync.Sample(ctx, c); !resp.IsNoAuth(err) {
			t.Errorf("got %v, want NOAUTH", err)
		}
	}
	renamed := redistest.Source(t, redistest.Arg("--rename-command", "TIME", ""))
	if _, err := psync.Sample(ctx, renamed.Dial(t)); !resp.HasCode(err, "ERR") || !strings.Contains(err.Error(), "unknown command") {
		t.Errorf("without TIME: got %v, want it to say so", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := psync.Sample(ended, c); err != context.Canceled {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
}

func TestRecordedSession(t *testing.T) {
	sess := redistest.RecordedSession(t)
	for name, script := range map[string]redistest.Script{
		"Redis 3.2":        {Session: sess, NewlinesRDB: 3},
		"Redis 7 diskless": {Session: sess, PSYNC2: true, Diskless: true, NewlinesPre: 2},
		"byte by byte":     {Session: sess, Diskless: true, Link: func(int) redistest.Fault { return redistest.Fault{Drip: true} }},
	} {
		t.Run(name, func(t *testing.T) {
			m := redistest.FakeMaster(t, script)
			l := mustAttach(t, m.Addr, repl.Position{}, psync.Options{})
			rdb, _ := readRDB(t, l)
			if !bytes.Equal(rdb, sess.RDB) {
				t.Errorf("got another RDB, of %d bytes", len(rdb))
			}
			stream := make([]byte, len(sess.Stream))
			if _, err := io.ReadFull(l, stream); err != nil || !bytes.Equal(stream, sess.Stream) {
				t.Errorf("got another stream, %v", err)
			}
			c, err := resp.Dial(ctx, m.Addr, "")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := psync.Sample(ctx, c)
			if err != nil || got.Offset != sess.End() || got.ReplID != sess.ReplID {
				t.Errorf("got %+v, %v, want offset %d of %s", got, err, sess.End(), sess.ReplID)
			}
			m.CutAll()
			if _, err := l.Read(stream); err == nil {
				t.Error("a link that was cut reads on")
			}
		})
	}
}

func TestSilenceEndsTheLink(t *testing.T) {
	sess := redistest.RecordedSession(t)
	head := int64(len("+FULLRESYNC  1\r\n") + repl.ReplIDLen)
	for name, f := range map[string]redistest.Fault{
		"instead of an answer":  {Silent: true},
		"instead of the RDB":    {SilentAt: head},
		"within the RDB":        {SilentAt: head + 100},
		"instead of the stream": {SilentAt: head + int64(len("$179\r\n")+len(sess.RDB))},
	} {
		t.Run(name, func(t *testing.T) {
			m := redistest.FakeMaster(t, redistest.Script{Session: sess, Link: func(int) redistest.Fault { return f }})
			err := func() error {
				l, err := attach(t, m.Addr, "", repl.Position{}, psync.Options{Timeout: 50 * time.Millisecond})
				if err != nil {
					return err
				}
				rdb, err := l.OpenRDB()
				if err != nil {
					return err
				}
				if _, err := io.ReadAll(rdb); err != nil {
					return err
				}
				_, err = l.Read(make([]byte, 1))
				return err
			}()
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("got %v, want a timeout", err)
			}
		})
	}
}

func TestAttachEndsWithItsContext(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Link: func(int) redistest.Fault { return redistest.Fault{Silent: true} }})
	c, err := resp.Dial(ctx, m.Addr, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() {
		_, err := psync.Attach(ctx, c, repl.Position{}, psync.Options{})
		done <- err
	}()
	redistest.Eventually(t, "PSYNC", func() bool { all, _ := m.Links(); return all == 1 })
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestAckBesideReadAndClose(t *testing.T) {
	m := redistest.FakeMaster(t, redistest.Script{Session: redistest.RecordedSession(t)})
	l := mustAttach(t, m.Addr, repl.Position{}, psync.Options{})
	readRDB(t, l)
	done := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, l)
		done <- err
	}()
	for off := range repl.Offset(100) {
		if err := l.Ack(off); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, "the last ACK", func() bool { return m.LastAck() == 99 })
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: got %v, want %v", err, net.ErrClosed)
	}
	if err := l.Ack(100); err == nil {
		t.Error("an ACK on a closed link works")
	}
}
