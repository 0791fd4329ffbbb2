package resp

import (
	"errors"
	"fmt"
	"strings"

	"tairlift/internal/repl"
)

// ServerError is an error reply: the text behind '-', without the line end.
type ServerError string

func (e ServerError) Error() string { return string(e) }

// Code is the first word, such as "ERR", "OOM" or "LOADING".
func (e ServerError) Code() string {
	code, _, _ := strings.Cut(string(e), " ")
	return code
}

// HasCode tells whether err is or wraps a ServerError with one of these codes.
func HasCode(err error, codes ...string) bool {
	var se ServerError
	if !errors.As(err, &se) {
		return false
	}
	for _, c := range codes {
		if se.Code() == c {
			return true
		}
	}
	return false
}

// IsNoAuth tells whether err says that the server wants a secret and was given
// none: the first command's answer, because Dial without a secret asks nothing.
func IsNoAuth(err error) bool {
	var ae *AuthError
	if errors.As(err, &ae) {
		return ServerError(ae.Reply).Code() == "NOAUTH"
	}
	return HasCode(err, "NOAUTH")
}

// DialError says that a server was never reached.
type DialError struct {
	Addr string
	Err  error
}

func (e *DialError) Error() string { return fmt.Sprintf("connect to %s: %v", e.Addr, e.Err) }
func (e *DialError) Unwrap() error { return e.Err }

// AuthError says that a server was reached and did not accept the secret, or
// wants one where none was given. Reply is its text without '-'.
type AuthError struct {
	Addr  string
	Reply string
}

func (e *AuthError) Error() string { return fmt.Sprintf("authenticate to %s: %s", e.Addr, e.Reply) }

// ErrProtocol is wrapped by errors about bytes that are not RESP, or that no
// sane server sends (lengths beyond the limits below).
var ErrProtocol = errors.New("protocol error")

// ParseError is where a replication stream stopped being commands. Offset is
// the number of stream bytes before the one that is wrong.
type ParseError struct {
	Offset repl.Offset
	Err    error
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("parse stream at offset %s: %v", e.Offset, e.Err)
}
func (e *ParseError) Unwrap() error { return e.Err }
