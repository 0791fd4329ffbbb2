package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tairlift/checkpoint"
	"tairlift/internal/psync"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a spool that is filled from real sources and applied to a target.
type rig struct {
	t       *testing.T
	dir     string
	job     spool.JobID
	groups  int
	sources []*redistest.Server
	target  *redistest.Server
	log     *slog.Logger
	stops   map[repl.GroupID]func()
	vouched func() (spool.Durable, bool) // by capture, of group 1
	wall    *lagging                     // the clock of capture's machine, which then samples that of sources each second; nil is right
}

func newRig(t *testing.T, groups int) *rig {
	t.Helper()
	r := bareRig(t, groups)
	for range groups {
		r.sources = append(r.sources, redistest.Source(t))
	}
	return r
}

// bareRig is one whose spool is written by hand.
func bareRig(t *testing.T, groups int, o ...redistest.Option) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), job: spool.NewJobID(), groups: groups, target: redistest.Target(t, o...), stops: map[repl.GroupID]func(){}}
	r.log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return r
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (r *rig) ids() []repl.GroupID {
	var ids []repl.GroupID
	for i := range r.groups {
		ids = append(ids, repl.GroupID(i+1))
	}
	return ids
}

// capture begins to pump every source into the spool, in epoch 1, and returns
// once every RDB is there.
func (r *rig) capture() {
	r.t.Helper()
	for i, s := range r.sources {
		r.pump(repl.GroupID(i+1), 1, s)
	}
	r.t.Cleanup(func() { r.stopCapture() })
}

// stopCapture brings what the sources have written into the spool and seals it.
func (r *rig) stopCapture() {
	for id, stop := range r.stops {
		stop()
		delete(r.stops, id)
	}
}

func (r *rig) pump(id repl.GroupID, e repl.Epoch, s *redistest.Server) {
	t := r.t
	t.Helper()
	ctx := t.Context()
	conn, err := resp.Dial(ctx, s.Addr, s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	clock, err := resp.Dial(ctx, s.Addr, s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	link, err := psync.Attach(ctx, conn, repl.Position{}, psync.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := spool.Create(filepath.Join(r.dir, "spool"), spool.Identity{
		Job: r.job, Group: id, Epoch: e, ReplID: link.Start.Position.ReplID, Start: link.Start.Position.Offset,
	}, spool.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	by := func() time.Duration { return 0 }
	var tick <-chan time.Time
	if r.wall != nil {
		by = func() time.Duration { return time.Duration(r.wall.by.Load()) }
		each := time.NewTicker(time.Second)
		t.Cleanup(each.Stop)
		tick = each.C
	}
	sample := func(ctx context.Context) error {
		s, err := psync.Sample(ctx, clock)
		if err != nil {
			return err
		}
		return w.AppendClock(spool.ClockSample{SourceMicros: s.SourceMicros, Offset: s.Offset, LocalMicros: s.LocalMicros + by().Microseconds()})
	}
	in, err := link.OpenRDB()
	check(err)
	check(w.BeginRDB(in.Size()))
	body, err := io.ReadAll(in)
	check(err)
	check(sample(ctx))
	check(w.AppendRDB(body, time.Now()))
	check(w.EndRDB(rdb.CRC64(0, body[:len(body)-8]), true))
	type chunk struct {
		b  []byte
		at time.Time
	}
	chunks := make(chan chunk, 64)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(chunks)
		buf := make([]byte, 64<<10)
		for {
			n, err := link.Read(buf)
			if n > 0 {
				chunks <- chunk{append([]byte(nil), buf[:n]...), time.Now().Add(by())}
			}
			if err != nil {
				return
			}
		}
	})
	stop := make(chan struct{})
	done := make(chan error, 1)
	wg.Go(func() {
		// A master that saved to a socket sends nothing before an ACK, and
		// forgets one that comes before it has noticed its child's end.
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if link.Ack(w.Durable().Offset) != nil {
				return
			}
		}
	})
	go func() {
		at := link.Start.Position.Offset
		until := repl.Offset(-1)
		stopping := stop
		done <- func() error {
			for until < 0 || at < until {
				select {
				case c, ok := <-chunks:
					if !ok {
						return errors.New("the source closed the link")
					}
					if err := w.AppendStream(c.b, c.at); err != nil {
						return err
					}
					at += repl.Offset(len(c.b))
					if _, err := w.Sync(); err != nil {
						return err
					}
				case <-tick:
					if err := sample(context.Background()); err != nil {
						return err
					}
					if _, err := w.Sync(); err != nil {
						return err
					}
				case <-stopping:
					stopping = nil
					s, err := psync.Sample(context.Background(), clock)
					if err != nil {
						return err
					}
					until = s.Offset
				}
			}
			return w.Seal()
		}()
	}()
	r.stops[id] = sync.OnceFunc(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Errorf("pump of group %s: %v", id, err)
		}
		link.Close()
		clock.Close()
		for range chunks {
		}
		wg.Wait()
	})
}

// applying is one run of apply.
type applying struct {
	job    *Job
	cancel context.CancelFunc
	done   chan error
	store  *checkpoint.Apply
}

func (r *rig) options(o Options) Options {
	r.t.Helper()
	o.SpoolDir = filepath.Join(r.dir, "spool")
	if o.StateDir == "" {
		o.StateDir = filepath.Join(r.dir, "apply", "target")
	}
	if o.MaxDeletes == 0 {
		o.MaxDeletes = 100
	}
	if o.firstWait == 0 {
		o.firstWait = time.Millisecond
	}
	if o.behindAge == 0 { // more than slow machines need
		o.behindAge, o.lateAge = time.Second, 3*time.Second
	}
	o.Job, o.Log = r.job, r.log
	if o.Groups == nil {
		o.Groups = r.ids()
	}
	if r.vouched != nil {
		o.Vouched = func(repl.GroupID) (spool.Durable, bool) { return r.vouched() }
	}
	if o.Addr == "" {
		o.Addr = r.target.Addr
	}
	if o.Store == nil {
		store, err := checkpoint.OpenApply(filepath.Join(o.StateDir, "apply.db"))
		if err != nil {
			r.t.Fatal(err)
		}
		o.Store = store
	}
	return o
}

// start begins an apply; it ends at stop, or at the end of the test.
func (r *rig) start(o Options) *applying {
	r.t.Helper()
	o = r.options(o)
	job, err := Open(r.t.Context(), o)
	if err != nil {
		o.Store.Close()
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &applying{job: job, cancel: cancel, done: make(chan error, 1), store: o.Store}
	go func() { a.done <- job.Run(ctx) }()
	r.t.Cleanup(func() { _ = a.stop() })
	return a
}

// startOnly is start for one group.
func (r *rig) startOnly(o Options, id repl.GroupID) *applying {
	r.t.Helper()
	o.Groups = []repl.GroupID{id}
	return r.start(o)
}

// stop ends the run cleanly and returns its error.
func (a *applying) stop() error {
	a.cancel()
	return a.wait()
}

// wait returns the run's error once it has ended.
func (a *applying) wait() error {
	err := <-a.done
	a.done <- err
	return errors.Join(err, a.store.Close())
}

// applyAll applies everything in the spool, which is sealed.
func (r *rig) applyAll(o Options) *Job {
	r.t.Helper()
	o.UntilEnd = true
	a := r.start(o)
	if err := a.wait(); err != nil {
		r.t.Fatal(err)
	}
	return a.job
}

// caughtUp waits until apply has reached what each source holds now.
func (r *rig) caughtUp(a *applying) {
	r.t.Helper()
	for i, s := range r.sources {
		conn, err := resp.Dial(r.t.Context(), s.Addr, s.Secret)
		if err != nil {
			r.t.Fatal(err)
		}
		want, err := psync.Sample(r.t.Context(), conn)
		conn.Close()
		if err != nil {
			r.t.Fatal(err)
		}
		redistest.Eventually(r.t, fmt.Sprintf("group %d at offset %s", i+1, want.Offset), func() bool {
			st := a.job.Status()[i]
			if st.State == StateStopped {
				r.t.Fatalf("group %d stopped: %s: %s", i+1, st.Reason, st.What)
			}
			return st.Applied >= want.Offset
		})
	}
}
