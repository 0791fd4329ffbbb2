package capture

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tairlift/spool"
)

// Room says whether the spool may grow. It is shared by all sessions.
type Room interface {
	// Take asks for room for n more bytes, before they are written; nil grants
	// it. A refusal is asked again now and then, with n = 0. It is called for
	// every piece of the stream, so it must not wait.
	Take(n int64) *NoRoom
}

// NoRoom says why the spool may not grow now.
type NoRoom struct {
	Reason string // ReasonQuota or ReasonDiskFull
	What   string // how much there is, and how much is needed
}

func (e *NoRoom) Error() string { return e.What }

const (
	// roomEvery is how often a refused session asks again.
	roomEvery = 250 * time.Millisecond
	// roomTell is how long the log is spared the next wait.
	roomTell = 30 * time.Second
	// roomPiece is how much room is asked for at most.
	roomPiece = 256 << 10
	// rotateBytes is the size of a tail that is sealed when the quota is
	// reached: only what is sealed can be pruned.
	rotateBytes = 256 << 10
)

// take asks for room.
func (r *run) take(n int) error {
	if r.s.o.Room == nil {
		return nil
	}
	if no := r.s.o.Room.Take(int64(n)); no != nil {
		return no
	}
	return nil
}

// awaitRoom waits until the spool may grow. Meanwhile the link stays: what is
// durable is acknowledged, what comes waits in the ring and in the source's
// buffers. It returns a *StopError or ctx's error.
func (r *run) awaitRoom(no *NoRoom) error {
	s := r.s
	if no.Reason == ReasonQuota && r.w.Durable().Bytes >= rotateBytes {
		if err := r.w.Rotate(); err != nil {
			return s.spoolFailed(err)
		}
		r.publish(r.w.Durable())
	}
	before := s.Status()
	if err := s.awaitRoom(r.ctx, no, time.Now()); err != nil {
		return err
	}
	s.setState(before.State, "", "")
	return nil
}

// awaitRoom waits until Room grants something. The wait began at since.
func (s *Session) awaitRoom(ctx context.Context, no *NoRoom, since time.Time) error {
	level := s.tellOfRoom(ctx, no)
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for no != nil {
		s.setState(Waiting, no.Reason, no.What)
		if s.o.MaxWait > 0 && time.Since(since) >= s.o.MaxWait {
			return s.noRoomInTime(no)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		no = s.o.Room.Take(0)
	}
	s.o.Log.Log(ctx, min(level, slog.LevelInfo), "there is room again", "waited", time.Since(since).Round(time.Millisecond))
	return nil
}

// tellOfRoom logs a wait for room, and returns how loud the log is about it.
func (s *Session) tellOfRoom(ctx context.Context, no *NoRoom) slog.Level {
	now := time.Now()
	level := slog.LevelDebug // at the limit there may be room for a moment, again and again
	if now.Sub(s.roomTold) >= roomTell {
		level, s.roomTold = slog.LevelWarn, now
	}
	s.o.Log.Log(ctx, level, "capture waits for room", "reason", no.Reason, "what", no.What)
	return level
}

// noRoomInTime is the answer to MaxWait without room.
func (s *Session) noRoomInTime(no *NoRoom) *StopError {
	return &StopError{
		Group: s.o.Group, Reason: no.Reason, What: no.What, Err: no,
		Hint: "make room and start it again; it goes on behind the last durable byte",
	}
}

// fullDisk tells whether a run ended because the disk is full: then it may
// begin again as soon as there is room, without a person.
func fullDisk(err error) (*StopError, bool) {
	var stop *StopError
	ok := errors.As(err, &stop) && stop.Reason == ReasonDiskFull && !stop.waited()
	return stop, ok
}

// waited tells whether the error is the end of a wait for room.
func (e *StopError) waited() bool {
	var no *NoRoom
	return errors.As(e.Err, &no)
}

// roomWait is a wait for room that outlives the runs within it, for there may
// be less room than Room sees: a run that brought nothing is part of the wait.
type roomWait struct {
	since time.Time     // zero: no write has failed yet
	had   spool.Durable // what the run that ended last has left
	tries int           // runs in a row that brought nothing
}

// outOfSpace waits for room behind a write that failed for lack of it: until
// Room sees some, if there is one to ask, and longer from one run that brought
// nothing to the next.
func (s *Session) outOfSpace(ctx context.Context, stop *StopError, w *roomWait) error {
	no := &NoRoom{Reason: ReasonDiskFull, What: stop.What}
	d := s.Status().Durable
	// A part of an RDB is nothing: the next run begins another one.
	if w.since.IsZero() || d.RDBDone && (d.Epoch != w.had.Epoch || d.Offset > w.had.Offset) {
		w.since, w.tries = time.Now(), 0
	}
	w.had = d
	w.tries++
	pause := s.backoff(w.tries)
	if s.resynced && w.tries > 1 {
		pause *= resyncPauses
	}
	s.resynced = false
	if s.o.MaxWait > 0 {
		left := s.o.MaxWait - time.Since(w.since)
		if left <= 0 {
			return s.noRoomInTime(no)
		}
		pause = min(pause, left)
	}
	s.tellOfRoom(ctx, no)
	s.setState(Waiting, no.Reason, no.What)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.o.Room != nil {
		if no := s.o.Room.Take(0); no != nil {
			return s.awaitRoom(ctx, no, w.since)
		}
	}
	return nil
}
