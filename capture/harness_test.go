package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tairlift/checkpoint"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder is a job's folder with its store.
type folder struct {
	dir   string
	job   spool.JobID
	store *checkpoint.Capture
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	f := &folder{dir: t.TempDir(), job: spool.NewJobID()}
	f.openStore(t)
	return f
}

func (f *folder) spool() string { return filepath.Join(f.dir, "spool") }

func (f *folder) openStore(t *testing.T) {
	t.Helper()
	store, err := checkpoint.OpenCapture(filepath.Join(f.dir, "capture", "capture.db"))
	if err != nil {
		t.Fatal(err)
	}
	f.store = store
	t.Cleanup(func() { store.Close() })
}

// loseStore replaces the store by an empty one.
func (f *folder) loseStore(t *testing.T) {
	t.Helper()
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(f.dir, "capture")); err != nil {
		t.Fatal(err)
	}
	f.openStore(t)
}

func (f *folder) record(t *testing.T) checkpoint.CaptureRecord {
	t.Helper()
	rec, _, err := f.store.Group(1)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// options are those of a session on the folder, quick to retry.
func (f *folder) options(t *testing.T, addr string) Options {
	return Options{
		SpoolDir: f.spool(), Job: f.job, Group: 1, Addr: addr, Store: f.store,
		BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
		FirstContact: 50 * time.Millisecond, RecordEvery: 10 * time.Millisecond, AckEvery: 20 * time.Millisecond,
		SampleEvery: 20 * time.Millisecond,
		Log:         slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// running is a session whose Run was called.
type running struct {
	*Session
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Session: New(o), t: t, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

// stop ends the session and expects a clean end.
func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	<-r.done
	if r.err != nil {
		r.t.Fatalf("Run: got %v, want nil", r.err)
	}
}

// stopped waits for the session to end by itself.
func (r *running) stopped() *StopError {
	r.t.Helper()
	r.until("Run to end", func(Status) bool {
		select {
		case <-r.done:
			return true
		default:
			return false
		}
	})
	var stop *StopError
	if !errors.As(r.err, &stop) {
		r.t.Fatalf("Run: got %v, want a *StopError", r.err)
	}
	return stop
}

func (r *running) until(what string, cond func(Status) bool) {
	r.t.Helper()
	redistest.Eventually(r.t, what, func() bool { return cond(r.Status()) })
}

func (r *running) untilStreaming(e repl.Epoch) {
	r.t.Helper()
	r.until(fmt.Sprintf("epoch %d to stream", e), func(st Status) bool {
		return st.State == Streaming && st.Epoch == e && st.Durable.RDBDone
	})
}

// untilCaughtUp waits until the offset that the source has now is durable.
func (r *running) untilCaughtUp() repl.Offset {
	r.t.Helper()
	var at repl.Offset
	r.until("the source's offset", func(Status) bool {
		o, err := r.AskSource(context.Background())
		at = o
		return err == nil
	})
	r.until("offset "+at.String()+" to be durable", func(st Status) bool { return st.Durable.Offset >= at })
	return at
}

// captured is what the spool holds of one epoch.
type captured struct {
	info   spool.EpochInfo
	rdb    []byte
	stream []byte
	clock  []spool.ClockSample
	// clockAfter[i] is how many stream bytes precede sample i in the spool.
	clockAfter []int
}

// read returns what the spool holds, epoch by epoch, and checks that it is
// sound.
func (f *folder) read(t *testing.T) []captured {
	t.Helper()
	rep, err := spool.Check(f.spool(), spool.CheckOptions{Job: f.job})
	if err != nil || !rep.OK() {
		t.Fatalf("check spool: got %+v, %v; want no problem", rep, err)
	}
	g, err := spool.OpenGroup(f.spool(), f.job, 1)
	if err != nil {
		t.Fatal(err)
	}
	epochs, err := g.Epochs()
	if err != nil {
		t.Fatal(err)
	}
	var all []captured
	for _, e := range epochs {
		c := captured{info: e}
		if e.RDBDone {
			c.rdb = readRDB(t, g, e.Epoch)
			c.readStream(t, g)
		}
		all = append(all, c)
	}
	return all
}

func readRDB(t *testing.T, g *spool.Group, e repl.Epoch) []byte {
	t.Helper()
	r, err := g.OpenRDB(e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (c *captured) readStream(t *testing.T, g *spool.Group) {
	t.Helper()
	s, err := g.OpenStream(c.info.Epoch, c.info.Start)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		fr, err := s.Next()
		if errors.Is(err, spool.ErrEnd) || errors.Is(err, spool.ErrEpochEnd) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := c.info.Start + repl.Offset(len(c.stream)); fr.Data != nil && fr.After != want {
			t.Fatalf("frame: got offset %d, want %d", fr.After, want)
		}
		c.stream = append(c.stream, fr.Data...)
		for _, k := range fr.Clock {
			c.clock = append(c.clock, k)
			c.clockAfter = append(c.clockAfter, len(c.stream))
		}
	}
}

// load starts a server with the captured RDB and feeds it the stream.
func (c captured) load(t *testing.T, like *redistest.Server) *redistest.Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dump.rdb"), c.rdb, 0o644); err != nil {
		t.Fatal(err)
	}
	s := redistest.Source(t, redistest.Dir(dir))
	s.Do(t, "CONFIG", "SET", "save", "")
	conn := s.Dial(t)
	const mark = "tairlift-end"
	var wg sync.WaitGroup
	wg.Go(func() {
		conn.Write(c.stream)
		conn.WriteCommand("ECHO", mark)
		conn.Flush()
	})
	defer wg.Wait()
	for {
		rep, err := conn.ReadReply()
		var refused resp.ServerError
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
		if rep.Type == '-' {
			t.Errorf("replay: got error %s", rep)
		}
		if rep.String() == mark {
			return s
		}
	}
}

// sameData compares all keys and values of two servers.
func sameData(t *testing.T, got, want *redistest.Server) {
	t.Helper()
	g, w := got.Do(t, "DEBUG", "DIGEST").String(), want.Do(t, "DEBUG", "DIGEST").String()
	if g != w {
		t.Errorf("DEBUG DIGEST of the spool's content: got %s, want the source's %s (keys: got %s, want %s)",
			g, w, got.Do(t, "DBSIZE"), want.Do(t, "DBSIZE"))
	}
}

// fill puts some data of several types into two databases.
func fill(t *testing.T, s *redistest.Server) {
	t.Helper()
	for db := range 2 {
		for i := range 200 {
			n := strconv.Itoa(i)
			s.DoIn(t, db, "SET", "string:"+n, fmt.Sprintf("%0*d", 10+i, i))
		}
		s.DoIn(t, db, "RPUSH", "list", "a", "b", "c")
		s.DoIn(t, db, "HSET", "hash", "f", "1")
		s.DoIn(t, db, "ZADD", "zset", "1.5", "m")
	}
}

// write runs writers on s until the returned function is called, which
// returns how many rounds they made.
func write(t *testing.T, s *redistest.Server) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var rounds [2]int
	for w := range rounds {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := resp.Dial(ctx, s.Addr, s.Secret)
				if err != nil {
					continue
				}
				id := strconv.Itoa(w)
				c.Do(ctx, "SELECT", id)
				for err = nil; err == nil && ctx.Err() == nil; rounds[w]++ {
					for _, cmd := range [][]string{
						{"INCR", "counter"},
						{"RPUSH", "queue:" + id, strconv.Itoa(rounds[w])},
						{"APPEND", "log:" + id, "x"},
						{"MULTI"},
						{"INCR", "a"},
						{"HINCRBY", "h", "f", "2"},
						{"EXEC"},
					} {
						if _, err = c.Do(ctx, cmd...); err != nil {
							break
						}
					}
				}
				c.Close()
			}
		})
	}
	var once sync.Once
	stop = func() int {
		once.Do(func() {
			cancel()
			wg.Wait()
		})
		return rounds[0] + rounds[1]
	}
	t.Cleanup(func() { stop() })
	return stop
}
