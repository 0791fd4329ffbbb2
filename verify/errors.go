package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"tairlift/internal/resp"
)

// Error is why a run stopped before its end: one line of what, one of what to
// do. Err is the cause: *resp.DialError when a server was never reached,
// *resp.AuthError when it did not take the secret, resp.ServerError when it
// refused a command.
type Error struct {
	What string
	Hint string
	Err  error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.What
	}
	return fmt.Sprintf("%s: %v", e.What, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

const harmless = "; start verify again, it writes nothing on either side"

// explain makes an Error of what went wrong with a server. Context errors pass
// unwrapped.
func explain(ctx context.Context, doing, name string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	e := &Error{What: doing + " " + name, Err: err}
	var (
		dial *resp.DialError
		auth *resp.AuthError
		se   resp.ServerError
		nerr net.Error
	)
	// go-redis has an error type of its own for "-ERR ..." replies.
	var foreign interface{ RedisError() }
	if !errors.As(err, &se) && errors.As(err, &foreign) {
		se = resp.ServerError(err.Error())
	}
	switch {
	case errors.As(err, &dial):
		e.Hint = "is the server up, and is the address reachable from here?"
	case errors.As(err, &auth), se.Code() == "NOAUTH", se.Code() == "WRONGPASS":
		e.Hint = "give this server's password (or user:password)"
	case se.Code() == "LOADING":
		e.Hint = "it is still loading its data" + harmless
	case se.Code() == "NOPERM":
		e.Hint = "the user needs SCAN, DUMP, TYPE, PTTL, EXISTS, SELECT, TIME and INFO"
	case se.Code() == "MOVED":
		e.Hint = "this is a node of a cluster; compare with a standalone address or a proxy that takes DUMP"
	case se.Code() == "MASTERDOWN":
		e.Hint = "this replica has lost its master; name the master of the group"
	case se != "":
		e.Hint = "the server must know SCAN, DUMP, TYPE, PTTL, EXISTS, SELECT, TIME and INFO; a proxy may not"
	case errors.As(err, &nerr) && nerr.Timeout():
		e.Hint = "no answer in time" + harmless
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &nerr):
		e.Hint = "the connection was lost" + harmless
	default:
		e.Hint = "see the reason above" + harmless
	}
	return e
}
