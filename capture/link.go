package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"tairlift/internal/psync"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// connect makes one connection to the source and captures from it until it
// breaks, which is the error returned, or ctx ends.
func (r *run) connect() error {
	s := r.s
	dialed, err := resp.Dial(r.ctx, s.o.Addr, s.o.Secret)
	if err != nil {
		return err
	}
	conn := &watchedConn{Conn: dialed.NetConn(), silence: s.o.Silence}
	defer conn.Close()
	defer r.leaveGate()
	from := r.position()
	c := resp.NewConn(conn)
	if covered, err := r.covered(c, from); err != nil {
		return err
	} else if !covered && !r.enterGate() {
		return errQueue
	}
	link, err := psync.Attach(r.ctx, c, from, psync.Options{Timeout: s.o.Silence})
	if err != nil {
		if errors.Is(err, psync.ErrLoading) || errors.Is(err, psync.ErrMasterDown) {
			return errors.Join(err, r.reached())
		}
		return err
	}
	defer link.Close()
	if link.Start.Full && !r.enterGate() {
		return errQueue
	}
	l := &live{r: r, conn: conn, link: link, stop: make(chan struct{})}
	err = l.capture()
	l.quiet()
	if r.ctx.Err() == nil {
		if !errors.Is(err, errUnblocked) || l.ackErr == nil {
			return err
		}
		// That reading was stopped says nothing: this is why.
		why := fmt.Errorf("acknowledge: %w", l.ackErr)
		if rdb := new(rdbError); errors.As(err, &rdb) {
			rdb.err = why
			return err
		}
		return why
	}
	return l.goodbye()
}

// reached remembers that the address is a source's.
func (r *run) reached() error {
	if r.ever {
		return nil
	}
	r.ever, r.addr = true, r.s.o.Addr
	r.s.update(func(st *Status) { st.EverConnected = true })
	r.book.note(recordOf(r.addr, spool.Durable{}, nil))
	return r.book.put()
}

// covered tells whether no full sync is to be expected, for which our turn must
// come before the source is asked: it would fork at once, also if we hang up.
func (r *run) covered(c *resp.Conn, from repl.Position) (bool, error) {
	switch {
	case r.release != nil || r.s.o.FullSync == nil:
		return true, nil
	case from.IsZero():
		return false, nil
	}
	return psync.Covers(r.ctx, c, from)
}

// enterGate takes our turn for a full sync if it can be had at once.
func (r *run) enterGate() bool {
	if r.release != nil || r.s.o.FullSync == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(r.ctx, gateTry)
	defer cancel()
	release, err := r.s.o.FullSync.Acquire(ctx, r.s.host())
	if err != nil {
		return false
	}
	r.release = release
	return true
}

// live is one replication link that the source has accepted.
type live struct {
	r    *run
	conn *watchedConn
	link *psync.Link

	stop     chan struct{} // closed by quiet: the goroutines of this link end
	stopOnce sync.Once
	wg       sync.WaitGroup
	stream   bool        // the RDB phase is over
	mute     atomic.Bool // the RDB was diskless and no stream byte has come yet
	ackErr   error       // why an ACK could not be sent; to be read after quiet
}

// capture brings the link's bytes into the spool until the link ends.
func (l *live) capture() error {
	r := l.r
	// The first sample goes into the spool before any byte of this link, so
	// that bytes which waited out a break are dated by the spool alone.
	sample := r.freshSample()
	start := l.link.Start
	r.linked, r.full, r.ever = true, start.Full, true
	if start.Full {
		r.s.resynced = true
		r.fulls++
		if err := r.openEpoch(start.Position, sample); err != nil {
			return err
		}
		what := ""
		if r.fulls > 1 {
			what = fmt.Sprintf("full sync %d in a row, the last one led to no stream", r.fulls)
		}
		r.s.setState(FullSync, "", what)
	} else {
		if err := r.follows(start.Position.ReplID); err != nil {
			return err
		}
		r.leaveGate()
		r.addr = r.s.o.Addr
		r.s.o.Log.Info("stream goes on", "epoch", r.epoch, "pos", start.Position)
		r.s.setState(Streaming, "", "")
	}
	if sample != nil {
		r.runID = sample.RunID
	}
	l.spawn("ack", l.acks)
	if start.Full {
		if err := l.captureRDB(); err != nil {
			return err
		}
		r.leaveGate()
		r.s.setState(Streaming, "", "")
	}
	l.stream = true
	return l.captureStream()
}

// freshSample asks the clock for a sample of now; nil when it has none in time.
func (r *run) freshSample() *psync.ClockSample {
	ctx, cancel := context.WithTimeout(r.ctx, firstSample)
	defer cancel()
	sample, err := r.clock.ask(ctx, r.ended)
	if err != nil {
		return nil
	}
	return &sample
}

// captureRDB returns once the RDB is whole and durable. On error the epoch is
// given up, except when ctx ended: then the caller seals it.
func (l *live) captureRDB() error {
	r := l.r
	var check rdbCheck
	var size int64
	r.ring.reset()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	l.spawn("pile", func() { l.watchPile(ctx) })
	l.spawn("read", func() {
		r.ring.close(func() error {
			rdb, err := l.link.OpenRDB()
			if err != nil {
				return err
			}
			size = rdb.Size()
			r.s.update(func(st *Status) { st.RDBTotal = size })
			l.mute.Store(size < 0)
			return l.read(&pacedReader{ctx: ctx, from: rdb, pace: r.s.pace}, check.add)
		}())
	})
	begun := false
	err := l.pump(rdbSyncGap, func(p []byte, at time.Time) error {
		if !begun {
			begun = true
			if err := r.w.BeginRDB(size); err != nil {
				return err
			}
		}
		return r.w.AppendRDB(p, at)
	})
	var crc uint64
	var checked bool
	damaged := errors.Is(err, resp.ErrProtocol)
	switch {
	case r.ctx.Err() != nil:
		return err
	case errors.Is(err, io.EOF):
		crc, checked, err = check.finish()
		damaged = true
	case isStop(err):
		return err
	}
	if err != nil {
		return errors.Join(&rdbError{err, damaged}, r.giveUpRDB())
	}
	if err := r.w.EndRDB(crc, checked); err != nil {
		return r.s.spoolFailed(err)
	}
	if !checked {
		r.s.o.Log.Warn("RDB carries no checksum, its transfer could not be checked", "epoch", r.epoch)
	}
	d := r.w.Durable()
	r.publish(d)
	r.s.o.Log.Info("RDB is whole", "epoch", d.Epoch, "bytes", d.RDBBytes, "offset", d.Offset)
	// At once: behind a diskless RDB the master is silent until the first ACK.
	return r.book.put()
}

func (l *live) captureStream() error {
	r := l.r
	r.ring.reset()
	l.spawn("read", func() { r.ring.close(l.read(l.link, nil)) })
	err := l.pump(0, l.appendStream)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("link to %s closed: %w", r.s.o.Addr, io.ErrUnexpectedEOF)
	}
	return err
}

func (l *live) appendStream(p []byte, at time.Time) error {
	l.r.progress, l.r.fulls = true, 0
	l.mute.Store(false)
	if err := l.r.appendHeld(); err != nil {
		return err
	}
	return l.r.w.AppendStream(p, at)
}

// read moves bytes from the link to the ring until the link ends.
func (l *live) read(from io.Reader, see func([]byte)) error {
	for {
		p := l.r.ring.space(l.stop)
		if p == nil {
			return errUnblocked
		}
		n, err := from.Read(p)
		if see != nil {
			see(p[:n])
		}
		l.r.ring.commit(n, time.Now())
		if err != nil {
			return err
		}
	}
}

// pump moves bytes and clock samples to the spool until the reader has ended
// and everything it brought is durable, or ctx ends. It returns the reader's
// error or a *StopError. With lazy 0 each round ends in a Sync, for which later
// bytes gather meanwhile; else Syncs are that far apart.
func (l *live) pump(lazy time.Duration, write func([]byte, time.Time) error) error {
	r := l.r
	most := rdbSyncBytes // a segment is sealed by a Sync only
	if n := r.s.o.Writer.SegmentBytes; n > 0 {
		most = int(min(int64(most), n))
	}
	var synced time.Time // when the last Sync began
	dirty := 0
	for {
		select {
		case <-r.ring.filled:
		case <-r.clock.ready:
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
		for more := true; more; {
			if lazy == 0 && !r.pauseUntil(synced.Add(r.s.o.SyncGap)) {
				return r.ctx.Err()
			}
			clocked, err := r.appendClock()
			if err != nil {
				return r.s.spoolFailed(err)
			}
			n, ended, err := r.drain(write)
			var full *NoRoom
			if err != nil && !errors.As(err, &full) {
				return r.s.spoolFailed(err)
			}
			dirty += n + clocked
			now := time.Now()
			if dirty > 0 && (lazy == 0 || dirty >= most || now.Sub(synced) >= lazy || ended != nil || full != nil) {
				synced, dirty = now, 0
				d, err := r.w.Sync()
				if err != nil {
					return r.s.spoolFailed(err)
				}
				r.publish(d)
			}
			if ended != nil {
				return ended
			}
			if full != nil {
				if err := r.awaitRoom(full); err != nil {
					return err
				}
				continue
			}
			more = n >= syncBytes && r.ctx.Err() == nil
		}
	}
}

// pauseUntil waits for t and tells whether the run goes on.
func (r *run) pauseUntil(t time.Time) bool {
	if d := time.Until(t); d > 0 {
		return r.pause(d)
	}
	return true
}

// drain writes what is in the ring, up to about syncBytes. ended is the
// reader's error once nothing is left; a *NoRoom says that the spool may not
// grow.
func (r *run) drain(write func([]byte, time.Time) error) (n int, ended, err error) {
	for n < syncBytes {
		p, at, ended := r.ring.next()
		if len(p) == 0 {
			return n, ended, nil
		}
		if r.s.o.Room != nil {
			p = p[:min(len(p), roomPiece)]
		}
		if err := r.take(len(p)); err != nil {
			return n, nil, err
		}
		if err := write(p, at); err != nil {
			return n, nil, err
		}
		r.ring.release(len(p))
		n += len(p)
	}
	return n, nil, nil
}

// appendClock appends the samples of this history and returns the bytes that
// makes durable worth a Sync. A sample that repeats the last one's offset is
// held back: it matters as the latest instant before the next byte, so that an
// idle source costs no fsync and no space.
func (r *run) appendClock() (n int, err error) {
	for _, s := range r.clock.take() {
		switch {
		case s.history != r.history, r.last != nil && s.Offset < r.last.Offset:
			continue
		case r.last != nil && s.Offset == r.last.Offset:
			r.held = &s.ClockSample
			continue
		}
		if err := r.appendHeld(); err != nil {
			return n, err
		}
		if err := r.w.AppendClock(s.ClockSample); err != nil {
			return n, err
		}
		r.last = &s.ClockSample
		n++
	}
	return n, nil
}

// appendHeld appends the sample held back, if any.
func (r *run) appendHeld() error {
	if r.held == nil {
		return nil
	}
	s := *r.held
	r.last, r.held = r.held, nil
	return r.w.AppendClock(s)
}

// acks tells the source what is durable and recorded, and repeats it while
// nothing moves, because a source drops a replica that falls silent. Behind a
// diskless RDB the master sends nothing before an ACK, and ignores one that comes
// before its child has exited, which is later than we have the last byte (Redis
// 7, replicaStartCommandStream): so the first ones follow each other quickly.
func (l *live) acks() {
	t := time.NewTimer(0)
	defer t.Stop()
	early := 0
	for {
		select {
		case <-t.C:
		case <-l.r.book.recorded:
		case <-l.stop:
			return
		}
		if err := l.link.Ack(l.r.book.acknowledgeable()); err != nil {
			l.ackErr = err
			l.conn.unblock()
			return
		}
		pause := l.r.s.o.AckEvery
		if l.mute.Load() && early < earlyAcks {
			early++
			pause = min(pause, earlyPause)
		}
		t.Reset(pause)
	}
}

// spawn starts a goroutine that ends with the link.
func (l *live) spawn(name string, f func()) {
	l.wg.Go(func() { l.r.guard(name, f) })
}

// quiet stops reading and waits for the link's goroutines. Writes still go.
func (l *live) quiet() {
	l.stopOnce.Do(func() { close(l.stop) })
	l.conn.unblock()
	l.wg.Wait()
}

// goodbye is the clean stop while a link is up: what was read becomes durable,
// and the source hears of it before the connection closes.
func (l *live) goodbye() error {
	r := l.r
	if isStop(context.Cause(r.ctx)) || r.w == nil {
		return nil
	}
	if l.stream {
		for {
			n, ended, err := r.drain(l.appendStream)
			var full *NoRoom
			if err != nil && !errors.As(err, &full) {
				return r.s.spoolFailed(err)
			}
			if n == 0 || ended != nil || full != nil {
				break // what is left was not acknowledged
			}
		}
	}
	if err := r.finish(); err != nil {
		return err
	}
	// An ACK that does not arrive costs nothing: the next run asks from what
	// is recorded.
	_ = l.link.Ack(r.book.acknowledgeable())
	return nil
}

func isStop(err error) bool {
	var stop *StopError
	return errors.As(err, &stop)
}
