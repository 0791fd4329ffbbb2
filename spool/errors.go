package spool

import (
	"errors"
	"fmt"
	"time"

	"tairlift/internal/repl"
)

// These errors tell a reader what to do next.
var (
	// ErrNoSpool is returned when the folder holds no segment of the group:
	// nothing was captured here, or nothing has been copied yet.
	ErrNoSpool = errors.New("no spool")

	// ErrNoEpoch is returned by Recover when there is nothing to go on from,
	// and by readers when the epoch asked for is not there.
	ErrNoEpoch = errors.New("no epoch")

	// ErrEnd is returned when everything durable has been read. More may
	// follow: ask again.
	ErrEnd = errors.New("end of what is durable")

	// ErrEpochEnd is returned when this epoch is read to its end and a newer
	// one has taken its place.
	ErrEpochEnd = errors.New("end of epoch")

	// ErrRDBIncomplete is returned when the epoch's RDB has not arrived
	// whole. It may still, unless a newer epoch exists.
	ErrRDBIncomplete = errors.New("rdb is incomplete")
)

// These errors are returned by a Writer.
var (
	// ErrBroken is returned, joined with the first failure, by every call
	// after a write or an fsync has failed. What the disk holds behind the
	// last Durable is unknown then; Recover finds out.
	ErrBroken = errors.New("spool writer is broken")

	// ErrClosed is returned by calls on a writer that was sealed or closed.
	ErrClosed = errors.New("spool writer is closed")

	// ErrOrder is returned by calls that do not fit the phase, such as stream
	// bytes before the end of the RDB.
	ErrOrder = errors.New("call out of order")
)

// CorruptError is returned for bytes that are there, are vouched for, and are
// not what was written. Offset is a position in the file, -1 when it is the
// file as a whole.
type CorruptError struct {
	Path   string
	Offset int64
	Err    error
}

func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("corrupt %s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("corrupt %s at %d: %v", e.Path, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(path string, offset int64, format string, args ...any) error {
	return &CorruptError{Path: path, Offset: offset, Err: fmt.Errorf(format, args...)}
}

// MissingError is returned when bytes that must exist are not there: a copy
// under way, or a lost file. A reader may be asked again. Have and Want are
// bytes of the file; Want is 0 when the size it should have is not known. With
// Hole the file has its size, and from Have on is not what was written, with
// zeros there: what a copy has not filled yet, or damage beside zeros that the
// source sent. Only time tells: a caller believes a file that does not change
// any more as little as it believes damage.
type MissingError struct {
	Path       string
	Have, Want int64
	Hole       bool
}

func (e *MissingError) Error() string {
	switch {
	case e.Hole:
		return fmt.Sprintf("missing bytes of %s: zeros at %d, where nothing may be written yet", e.Path, e.Have)
	case e.Have == 0 && e.Want == 0:
		return fmt.Sprintf("missing %s", e.Path)
	case e.Want == 0:
		return fmt.Sprintf("missing bytes of %s: found %d, expected its seal", e.Path, e.Have)
	}
	return fmt.Sprintf("missing bytes of %s: found %d, expected %d", e.Path, e.Have, e.Want)
}

// PrunedError is returned when bytes are asked for that were pruned: they will
// not come back, nor will the rest of a segment that is here in part.
type PrunedError struct {
	Path   string    // of the segment
	Pruned time.Time // when
}

func (e *PrunedError) Error() string {
	return fmt.Sprintf("segment %s was pruned at %s", e.Path, e.Pruned.UTC().Format(time.RFC3339))
}

// IdentityError is returned for a segment that belongs elsewhere.
type IdentityError struct {
	Path            string
	Field           string // job, group, epoch, replid, start, seq
	Found, Expected string
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("segment %s belongs elsewhere: %s is %s, expected %s", e.Path, e.Field, e.Found, e.Expected)
}

// VersionError is returned for a segment written by a newer tairlift.
type VersionError struct {
	Path             string
	Found, Supported uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("segment %s has format version %d, this tairlift reads up to %d", e.Path, e.Found, e.Supported)
}

// GapError is returned by OpenStream for a position outside of what is held.
type GapError struct {
	Path        string // the epoch's folder
	Wanted      repl.Offset
	First, Last repl.Offset // positions from which reading is possible
}

func (e *GapError) Error() string {
	return fmt.Sprintf("open stream of %s after %d: it holds %d to %d", e.Path, e.Wanted, e.First, e.Last)
}
