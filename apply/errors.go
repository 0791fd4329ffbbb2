package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"tairlift/internal/resp"
)

// StopError ends one group: a person has to look. Others go on.
type StopError struct {
	Reason string // a slug, such as flush-in-stream
	What   string // one line of what
	Hint   string // one line of what to do
	Err    error  // what lies behind it, or nil
}

func (e *StopError) Error() string { return e.What }
func (e *StopError) Unwrap() error { return e.Err }

// RefusedError says that applying here would be unsafe; nothing was written.
type RefusedError struct {
	What string
	Hint string
}

func (e *RefusedError) Error() string { return e.What }

// ErrNeverReached wraps the reason why a target that was never reached under
// this folder cannot be reached now.
var ErrNeverReached = errors.New("target never reached")

// ErrTaken says that another process has taken the mark over.
var ErrTaken = errors.New("another apply of this job has taken over the target")

// waitError is a condition that passes by itself: the session ends, waits and
// begins again from the mark.
type waitError struct {
	reason string
	err    error
}

func (e *waitError) Error() string { return e.err.Error() }
func (e *waitError) Unwrap() error { return e.err }

// class says what an error reply at queue time, or outside EXEC, means.
type class uint8

const (
	classPermanent class = iota // the command will never be accepted
	classWait                   // nothing happened; it clears by itself
)

// transient maps the code of an error reply to the reason shown while it is
// waited for. The codes are those of Redis 2.8 to 7.4 (server.c, cluster.c).
var transient = map[string]string{
	"OOM":         "target-oom",
	"LOADING":     "target-loading",
	"READONLY":    "target-readonly",
	"MISCONF":     "target-misconf",
	"CLUSTERDOWN": "target-cluster-down",
	"TRYAGAIN":    "target-try-again",
	"BUSY":        "target-busy-script",
	"MASTERDOWN":  "target-master-down",
	"NOREPLICAS":  "target-no-replicas",
	"UNBLOCKED":   "target-failover",
	"NOAUTH":      "target-auth",
	"WRONGPASS":   "target-auth",
}

func classify(e resp.ServerError) (class, string) {
	if reason, ok := transient[e.Code()]; ok {
		return classWait, reason
	}
	if strings.HasPrefix(string(e), "ERR max number of clients") { // the one such error without a code
		return classWait, "target-clients"
	}
	return classPermanent, ""
}

func isPermanent(e resp.ServerError) bool {
	c, _ := classify(e)
	return c == classPermanent
}

// connErr turns any error of a connection to the target into one that is
// waited for, or, when the target refuses for good what apply cannot do
// without, into a StopError. Ours pass unchanged.
func connErr(err error) error {
	var (
		stop    *StopError
		refused *RefusedError
		wait    *waitError
		queue   *queueError
		server  resp.ServerError
		auth    *resp.AuthError
		dial    *resp.DialError
		netErr  net.Error
	)
	if errors.As(err, &queue) {
		server = queue.Err
	}
	switch {
	case err == nil, errors.As(err, &stop), errors.As(err, &refused), errors.As(err, &wait), errors.Is(err, ErrTaken),
		errors.Is(err, context.Canceled):
		return err
	case server != "" || errors.As(err, &server):
		if c, reason := classify(server); c == classWait {
			return &waitError{reason: reason, err: fmt.Errorf("the target refuses: %w", err)}
		}
		return &StopError{
			Reason: "target-refuses",
			What:   fmt.Sprintf("the target refuses what apply cannot do without: %v", err),
			Hint:   "give the target's account the rights it lacks (every command on every key), then start the same command again",
			Err:    err,
		}
	case errors.As(err, &auth):
		return &waitError{reason: "target-auth", err: err}
	case errors.As(err, &dial):
		return &waitError{reason: "target-unreachable", err: err}
	case errors.Is(err, resp.ErrProtocol):
		return &waitError{reason: "target-protocol", err: fmt.Errorf("the target does not answer as a Redis server does: %w", err)}
	case errors.As(err, &netErr) && netErr.Timeout():
		return &waitError{reason: "target-silent", err: fmt.Errorf("the target does not answer: %w", err)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &netErr):
		return &waitError{reason: "target-unreachable", err: fmt.Errorf("connection to the target lost: %w", err)}
	}
	return err
}
