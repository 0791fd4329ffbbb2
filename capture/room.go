package capture

import (
	"context"
	"errors"
	"log/slog"
	"time"
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
	if err := s.awaitRoom(r.ctx, no); err != nil {
		return err
	}
	s.setState(before.State, "", "")
	return nil
}

// awaitRoom waits until Room grants something.
func (s *Session) awaitRoom(ctx context.Context, no *NoRoom) error {
	since := time.Now()
	level := slog.LevelDebug // at the limit there may be room for a moment, again and again
	if since.Sub(s.roomTold) >= roomTell {
		level, s.roomTold = slog.LevelWarn, since
	}
	s.o.Log.Log(ctx, level, "capture waits for room", "reason", no.Reason, "what", no.What)
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for no != nil {
		s.setState(Waiting, no.Reason, no.What)
		if s.o.MaxWait > 0 && time.Since(since) >= s.o.MaxWait {
			return &StopError{
				Group: s.o.Group, Reason: no.Reason, What: no.What, Err: no,
				Hint: "make room and start it again; it goes on behind the last durable byte",
			}
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

// outOfSpace waits for room behind a write that failed for lack of it. Without
// a Room to ask it tries again now and then.
func (s *Session) outOfSpace(ctx context.Context, stop *StopError) error {
	no := &NoRoom{Reason: ReasonDiskFull, What: stop.What}
	if s.o.Room != nil {
		return s.awaitRoom(ctx, no)
	}
	s.setState(Waiting, no.Reason, no.What)
	t := time.NewTimer(roomEvery)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
