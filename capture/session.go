package capture

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/pace"
	"tairlift/internal/repl"
	"tairlift/spool"
)

// Session captures one group. Its methods may be called from any goroutine.
type Session struct {
	o        Options
	pace     *pace.Share
	roomTold time.Time // when the log was told of a wait for room; Run's
	resynced bool      // a full sync has begun since the last write that failed for lack of room; Run's

	mu      sync.Mutex // guards what follows
	status  Status
	changed chan struct{}
	active  bool // Run runs
	cur     *run // while it captures
}

// New returns a session that does nothing until Run.
func New(o Options) *Session {
	o = o.withDefaults()
	return &Session{
		o:       o,
		pace:    o.Pace.Share(),
		changed: make(chan struct{}),
		status: Status{
			Group: o.Group, State: Stopped, Since: time.Now(), Addr: o.Addr, RDBTotal: -1, SourceOffset: -1,
			// What was vouched for stays so until the spool has been looked at: it may
			// turn out not to be there.
			Durable: o.Published, Epoch: o.Published.Epoch, ReplID: o.Published.ReplID, EpochDue: o.NewEpoch,
		},
	}
}

// Run captures until ctx ends, and then makes the last bytes durable, seals the
// segment, records and acknowledges the position and returns nil; or until a
// *StopError. What the source does in between (it restarts, is away, loses its
// backlog) is waited for or answered with a new epoch; a full disk is waited for
// too. Run may be called again after it has returned.
func (s *Session) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.active {
		s.mu.Unlock()
		return fmt.Errorf("group %s: Run is running already", s.o.Group)
	}
	s.active = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.active = false
		s.mu.Unlock()
	}()
	s.update(func(st *Status) { st.Reconnects, st.EpochReason, st.EpochDue = 0, "", s.o.NewEpoch })
	s.setState(Waiting, "", "")

	var wait roomWait
	err := s.once(ctx)
	for full, again := fullDisk(err); again; full, again = fullDisk(err) {
		if err = s.outOfSpace(ctx, full, &wait); err == nil {
			err = s.once(ctx)
		}
	}
	var stop *StopError
	switch {
	case errors.As(err, &stop):
		s.o.Log.Error("capture stopped", "reason", stop.Reason, "err", err)
		s.setState(Stopped, stop.Reason, stop.What)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()): // while it waited for room
		err = nil
		fallthrough
	default:
		s.setState(Stopped, "", "")
	}
	return err
}

// once captures until ctx ends or something does that a fresh look at the
// folder must mend.
func (s *Session) once(ctx context.Context) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{s: s, ctx: inner, cancel: cancel, clock: newClock(s), ring: newRing(s.o.Buffer), ended: make(chan struct{})}
	r.book.s, r.book.cancel = s, cancel
	r.book.moved = make(chan struct{}, 1)
	r.book.recorded = make(chan struct{}, 1)

	s.mu.Lock()
	s.cur = r
	s.mu.Unlock()
	err := r.capture()
	cancel(nil)
	r.wg.Wait()
	close(r.ended)

	s.mu.Lock()
	s.cur = nil
	s.mu.Unlock()
	return err
}

// run is one call of Run. Its fields belong to the goroutine of Run, which is
// also the one that writes the spool; what others need has a lock of its own.
type run struct {
	s      *Session
	ctx    context.Context // ends with the caller's, or with a StopError as its cause
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the goroutines below
	ended  chan struct{}  // closed when they are done
	clock  *clock
	book   book

	w        *spool.Writer              // nil: none, or the epoch is given up
	epoch    repl.Epoch                 // the newest on disk, 0: none
	history  repl.ReplID                // what the newest epoch follows now
	addr     string                     // where that epoch came from, as recorded
	runID    string                     // of the source's process, when known
	segments []checkpoint.SegmentRecord // sealed, of the newest epoch; replaced, never changed
	ring     *ring
	last     *spool.ClockSample // the sample appended last
	held     *spool.ClockSample // one that repeats its offset; see appendClock
	renew    string             // why the newest epoch cannot go on, when it cannot
	ever     bool               // the source was reached under this folder
	release  func()             // ends our turn at the gate; nil: it is not ours
	linked   bool               // the last connection became a link
	full     bool               // which began with a full sync
	progress bool               // and brought stream bytes: the next pause is short again
	fulls    int                // full syncs since stream bytes came last
}

// capture is the life of a run.
func (r *run) capture() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = r.panicked("session", p)
		}
		if r.w != nil {
			r.w.Close()
		}
		r.leaveGate()
	}()
	if err := r.recover(); err != nil {
		return err
	}
	r.spawn("record", r.book.loop)
	r.spawn("clock", r.clock.loop)
	if err := r.follow(); err != nil {
		return err
	}
	return r.finish()
}

// follow makes one connection after the other until ctx ends.
func (r *run) follow() error {
	var failures int    // in a row
	var since time.Time // of the first failure in a row
	for r.ctx.Err() == nil {
		r.linked, r.full, r.progress = false, false, false
		err := r.connect()
		var stop *StopError
		if errors.As(err, &stop) {
			return stop
		}
		if r.ctx.Err() != nil {
			break
		}
		if errors.Is(err, errQueue) {
			queued := time.Now()
			if err := r.queue(); err != nil {
				break
			}
			since = since.Add(time.Since(queued))
			continue
		}
		reason := reasonOf(err)
		now := time.Now()
		if r.linked {
			r.s.update(func(st *Status) { st.Reconnects++ })
		}
		// A link that goes on proves that the source is there. A full sync that comes
		// to nothing does not: it could be so for ever.
		if r.progress || r.linked && !r.full || failures == 0 {
			since = now
		}
		if r.progress {
			failures = 0
		}
		failures++
		switch {
		case r.ever && r.s.o.MaxWait > 0 && now.Sub(since) >= r.s.o.MaxWait:
			return r.s.waitedOut(reason, err)
		case r.ever:
		case reason == ReasonAuth, final(err), now.Sub(since) >= r.s.o.FirstContact:
			return r.s.neverReached(reason, err)
		}
		pause, what := r.again(failures, err)
		if left := r.s.o.MaxWait - now.Sub(since); left > 0 {
			pause = min(pause, left)
		}
		if st := r.s.Status(); st.State != Waiting || st.Reason != reason {
			r.s.o.Log.Warn("waiting for the source", "reason", reason, "addr", r.s.o.Addr, "err", what)
		}
		r.s.setState(Waiting, reason, what)
		if !r.pause(pause) {
			break
		}
	}
	if cause := context.Cause(r.ctx); cause != nil {
		var stop *StopError
		if errors.As(cause, &stop) {
			return stop
		}
	}
	return nil
}

// again is when to try again behind so many failures in a row, and what to say
// of the last of them.
func (r *run) again(failures int, err error) (pause time.Duration, what string) {
	pause, what = r.s.backoff(failures), oneLine(err)
	if r.full && r.fulls > 1 {
		pause *= resyncPauses
		what = fmt.Sprintf("%d full syncs in a row led to no stream, the next try is in %s: %s",
			r.fulls, pause.Round(100*time.Millisecond), what)
	}
	return pause, what
}

// queue waits for our turn to load a full sync.
func (r *run) queue() error {
	r.s.setState(Waiting, ReasonQueue, errQueue.Error())
	release, err := r.s.o.FullSync.Acquire(r.ctx, r.s.host())
	r.release = release
	return err
}

func (r *run) leaveGate() {
	if r.release != nil {
		r.release()
		r.release = nil
	}
}

// pause waits and tells whether the run goes on.
func (r *run) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// spawn starts a goroutine that ends with ctx. A panic in it stops this
// session and no other.
func (r *run) spawn(name string, f func(context.Context)) {
	r.wg.Go(func() { r.guard(name, func() { f(r.ctx) }) })
}

func (r *run) guard(name string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			r.cancel(r.panicked(name, p))
		}
	}()
	f()
}

func (r *run) panicked(where string, p any) *StopError {
	r.s.o.Log.Error("panic", "where", where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return &StopError{
		Group: r.s.o.Group, Reason: ReasonInternal,
		What: fmt.Sprintf("internal error while capturing (%s): %v", where, p),
		Hint: "start it again, it goes on behind the last durable byte; please report the log",
	}
}
