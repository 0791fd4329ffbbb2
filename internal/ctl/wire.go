package ctl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// version is of the protocol; what is added to a verb does not change it.
const version = 1

// maxLine is more than a request or an answer of ours can have.
const maxLine = 64 << 10

// Request asks for something.
type Request struct {
	Version int               `json:"version"`
	Verb    string            `json:"verb"`
	Set     map[string]string `json:"set,omitempty"`
}

// Response answers. One of its fields beside Version is set.
type Response struct {
	Version int             `json:"version"`
	Error   *Error          `json:"error,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

// Error is why a request was not done: what, and what to do about it.
type Error struct {
	What string `json:"what"`
	Hint string `json:"hint"`
}

func (e *Error) Error() string { return e.What }

// Refuse makes the answer to a request that is not done.
func Refuse(hint, format string, args ...any) Response {
	return Response{Error: &Error{What: fmt.Sprintf(format, args...), Hint: hint}}
}

// Result makes the answer to one that is.
func Result(v any) Response {
	raw, err := json.Marshal(v)
	if err != nil {
		return Refuse("report this with the log", "the answer cannot be written: %v", err)
	}
	return Response{Result: raw}
}

// errLong says that a line is longer than any of ours.
var errLong = errors.New("the line is too long")

// readLine reads a line of JSON into v. io.EOF is only returned when there was
// nothing at all.
func readLine(r io.Reader, v any) error {
	br := bufio.NewReaderSize(io.LimitReader(r, maxLine+1), 4<<10)
	line, err := br.ReadBytes('\n')
	switch {
	case err == nil:
	case len(line) > maxLine:
		return errLong
	case errors.Is(err, io.EOF) && len(line) > 0:
		return io.ErrUnexpectedEOF
	default:
		return err
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("read JSON: %w", err)
	}
	return nil
}

func writeLine(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(raw) >= maxLine {
		return errLong
	}
	_, err = w.Write(append(raw, '\n'))
	return err
}
