package command

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"tairlift/internal/held"
)

// ArgError says that a command cannot be understood.
type ArgError struct {
	Command string // upper case
	Index   int    // of the argument; 0 when the command as a whole is meant
	Arg     string // its text, cut at 64 bytes
	Reason  string
	Err     error // ErrTooLate, or nil
}

// ErrTooLate says that a deadline lies so far away that it would be taken for one
// that is held back.
var ErrTooLate = errors.New("the deadline lies too far away")

// Error is one line naming command, argument and reason.
func (e *ArgError) Error() string {
	if e.Index == 0 {
		return fmt.Sprintf("%s: %s", e.Command, e.Reason)
	}
	return fmt.Sprintf("%s argument %d %q: %s", e.Command, e.Index, e.Arg, e.Reason)
}

// Unwrap is Err.
func (e *ArgError) Unwrap() error { return e.Err }

// bad makes the ArgError of args[i].
func (s *Spec) bad(args [][]byte, i int, reason string) error {
	e := &ArgError{Command: s.Name, Index: i, Reason: reason}
	if i < len(args) {
		e.Arg = string(args[i][:min(len(args[i]), 64)])
	}
	return e
}

// parseInt reads a decimal 64-bit integer. A leading '+' and leading zeros are taken,
// as the strtoll of a 3.2 source takes them: the stream has the client's own text.
func parseInt(b []byte) (int64, bool) {
	neg := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		neg = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	switch {
	case neg && n <= 1<<63:
		return -int64(n), true // -1<<63 negates to itself
	case !neg && n <= math.MaxInt64:
		return int64(n), true
	}
	return 0, false
}

// number reads args[i].
func (s *Spec) number(args [][]byte, i int) (int64, error) {
	if i >= len(args) {
		return 0, s.bad(args, i, "missing")
	}
	n, ok := parseInt(args[i])
	if !ok {
		return 0, s.bad(args, i, "not a 64-bit integer")
	}
	return n, nil
}

// deadline turns the time at args[i], in units of unit ms and counted from base (ms;
// 0 for an absolute time), into ms since 1970. A time before 1970 becomes 1, because
// 0 says "none": both are long past. One that cannot be told from a held deadline is
// an error.
func (s *Spec) deadline(args [][]byte, i int, unit, base int64) (int64, error) {
	n, err := s.number(args, i)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, s.bad(args, i, "time overflows")
	}
	n *= unit
	if n > math.MaxInt64-base {
		return 0, s.bad(args, i, "time overflows")
	}
	if held.TooLate(n + base) {
		return 0, &ArgError{Command: s.Name, Index: i, Arg: string(args[i]), Reason: ErrTooLate.Error(), Err: ErrTooLate}
	}
	return max(n+base, 1), nil
}

// positiveDeadline is deadline for a time that must be above 0.
func (s *Spec) positiveDeadline(args [][]byte, i int, unit, base int64) (int64, error) {
	n, err := s.number(args, i)
	if err != nil {
		return 0, err
	}
	if n <= 0 {
		return 0, s.bad(args, i, "time is not positive")
	}
	return s.deadline(args, i, unit, base)
}

// appendHeader begins a command of n arguments.
func appendHeader(dst []byte, n int) []byte {
	dst = append(dst, '*')
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

func appendArg(dst, arg []byte) []byte {
	dst = appendLen(dst, len(arg))
	dst = append(dst, arg...)
	return append(dst, '\r', '\n')
}

func appendWord(dst []byte, word string) []byte {
	dst = appendLen(dst, len(word))
	dst = append(dst, word...)
	return append(dst, '\r', '\n')
}

func appendNumber(dst []byte, n int64) []byte {
	var text [20]byte
	return appendArg(dst, strconv.AppendInt(text[:0], n, 10))
}

func appendLen(dst []byte, n int) []byte {
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

// appendArgs appends word and args as one command.
func appendArgs(dst []byte, word string, args ...[]byte) []byte {
	dst = appendHeader(dst, 1+len(args))
	dst = appendWord(dst, word)
	for _, a := range args {
		dst = appendArg(dst, a)
	}
	return dst
}
