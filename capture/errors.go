package capture

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"tairlift/internal/psync"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// StopError is why a session ended for good. What it had recorded as durable
// is kept: Run may be called again once the cause is gone.
type StopError struct {
	Group  repl.GroupID
	Reason string // a slug, as in Status
	What   string // one line for people
	Hint   string // what to do

	// NeverReached says that no source of this group ever answered as one
	// under this folder, so that the address or the secret may be wrong.
	NeverReached bool

	Err error // the cause; may be nil
}

func (e *StopError) Error() string {
	return fmt.Sprintf("group %s: %s", e.Group, e.What)
}

func (e *StopError) Unwrap() error { return e.Err }

// ErrOtherHistory says that the source's offsets cannot be compared with the
// session's: it restarted, failed over, or no epoch has begun.
var ErrOtherHistory = errors.New("source follows another history than the spool")

// ErrNotRunning says that Run is not running.
var ErrNotRunning = errors.New("capture is not running")

// errQueue ends a link that needs a full sync while others have theirs.
var errQueue = errors.New("other groups load their full sync first")

// rdbError says that an RDB did not arrive whole, so that its epoch is given up.
type rdbError struct {
	err     error
	damaged bool // it came to its end, or is none
}

func (e *rdbError) Error() string { return "receive RDB: " + e.err.Error() }
func (e *rdbError) Unwrap() error { return e.err }

// reasonOf names why a connection to the source failed.
func reasonOf(err error) string {
	var auth *resp.AuthError
	var refused *psync.RefusedError
	var rdb *rdbError
	switch {
	case errors.As(err, &rdb) && rdb.damaged:
		return ReasonDamaged
	case errors.As(err, &rdb):
		return ReasonCut
	case errors.As(err, &auth):
		return ReasonAuth
	case errors.Is(err, psync.ErrLoading):
		return ReasonLoading
	case errors.Is(err, psync.ErrMasterDown):
		return ReasonMasterDown
	case errors.As(err, &refused):
		return ReasonRefused
	case errors.Is(err, errQueue):
		return ReasonQueue
	case errors.Is(err, resp.ErrProtocol):
		return ReasonProtocol
	}
	return ReasonUnreachable
}

// final tells refusals that lie in what the address is from those that a later
// try may not meet again.
func final(err error) bool {
	var refused *psync.RefusedError
	return errors.As(err, &refused) && refused.Permanent()
}

const (
	hintSecret   = "set TAIRLIFT_SOURCE_PASSWORD or --source-password-file to the password of this source"
	hintRefused  = "give the address of the group's own server, not of a proxy, with a user that may run PSYNC and REPLCONF"
	hintProtocol = "give the address of the group's own server, not of a proxy"
)

// neverReached is the answer to a source that did not prove to be one.
func (s *Session) neverReached(reason string, err error) *StopError {
	stop := &StopError{Group: s.o.Group, Reason: reason, NeverReached: true, Err: err}
	switch reason {
	case ReasonAuth:
		stop.What = fmt.Sprintf("source %s refused the password: %s", s.o.Addr, replyOf(err))
		stop.Hint = hintSecret
	case ReasonRefused:
		stop.What = fmt.Sprintf("source %s refused PSYNC: %s", s.o.Addr, replyOf(err))
		stop.Hint = hintRefused
	case ReasonProtocol:
		stop.What = fmt.Sprintf("source %s does not answer as a Redis server: %s", s.o.Addr, oneLine(err))
		stop.Hint = hintProtocol
	default:
		stop.What = fmt.Sprintf("source %s was never reached: %s", s.o.Addr, oneLine(err))
		stop.Hint = "check the address of the group and that this machine may connect to it"
	}
	return stop
}

// waitedOut is the answer to a source that did not come back within MaxWait.
func (s *Session) waitedOut(reason string, err error) *StopError {
	stop := &StopError{
		Group: s.o.Group, Reason: reason, Err: err,
		What: fmt.Sprintf("source %s gave no stream for %s: %s", s.o.Addr, s.o.MaxWait, oneLine(err)),
	}
	switch reason {
	case ReasonAuth:
		stop.Hint = hintSecret
	case ReasonRefused:
		stop.Hint = hintRefused
	case ReasonProtocol:
		stop.Hint = hintProtocol
	case ReasonCut:
		stop.Hint = "look into the source's log: its BGSAVE fails, or its client-output-buffer-limit or repl-timeout for replicas is too small; then start it again"
	case ReasonDamaged:
		stop.Hint = "the network or the source's memory damages data: check both, then start it again"
	default:
		stop.Hint = "start it again when the source is back; it goes on where it stopped"
	}
	return stop
}

// spoolFailed is the answer to a spool that cannot be read or written.
func (s *Session) spoolFailed(err error) *StopError {
	stop := &StopError{
		Group: s.o.Group, Reason: ReasonSpool, Err: err,
		What: oneLine(err),
		Hint: "check the disk and its log, then start it again; what was recorded as durable is kept",
	}
	var corrupt *spool.CorruptError
	var missing *spool.MissingError
	var foreign *spool.IdentityError
	var newer *spool.VersionError
	switch {
	case errors.As(err, &foreign):
		stop.Reason = ReasonForeign
		stop.Hint = "use the folder that this job began in; a new job needs a folder of its own"
	case errors.As(err, &newer):
		stop.Reason = ReasonVersion
		stop.Hint = "use the tairlift that wrote it, or a newer one"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		stop.Reason = ReasonDiskFull
		stop.What = fmt.Sprintf("no space left for the spool in %s: %s", s.o.SpoolDir, oneLine(err))
		stop.Hint = "free some space and start it again; it goes on behind the last durable byte"
	case errors.As(err, &corrupt), errors.As(err, &missing):
		stop.Reason = ReasonCorrupt
		stop.Hint = "run `tairlift spool check`; restore the file, or capture into a new folder"
	}
	return stop
}

// recordFailed is the answer to a store that cannot be read or written.
func (s *Session) recordFailed(err error) *StopError {
	stop := s.spoolFailed(err)
	switch stop.Reason {
	case ReasonDiskFull:
		// No reason to wait: a store that has failed once takes nothing more, and
		// would say so for ever, also when there is room again.
		stop.What = "no space left to record the position: " + oneLine(err)
		stop.Hint = "free some space, then start the same command again; it goes on behind the last durable byte"
		fallthrough
	case ReasonSpool:
		stop.Reason = ReasonRecord
	}
	return stop
}

// replyOf is the server's own text within err.
func replyOf(err error) string {
	var auth *resp.AuthError
	var refused *psync.RefusedError
	switch {
	case errors.As(err, &auth):
		return auth.Reply
	case errors.As(err, &refused):
		return refused.Reply
	case errors.Is(err, io.EOF):
		return "connection closed"
	}
	return oneLine(err)
}

// oneLine is err without the line ends of errors that were joined.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", ": ") }
