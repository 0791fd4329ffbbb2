package resp

import (
	"errors"
	"fmt"
)

// ExecReply is what EXEC answered, without the replies that are not errors.
type ExecReply struct {
	Null   bool        // a watched key had changed: nothing was executed
	Err    ServerError // EXEC itself was refused (EXECABORT, NOAUTH, ...): nothing was executed
	N      int         // replies in the array
	Errors []ExecError // commands that failed, in order; the others took effect
}

// ExecError is the error of one command of a transaction, counted from 0.
type ExecError struct {
	Index int
	Err   ServerError
}

// Done tells whether the transaction was executed.
func (e ExecReply) Done() bool { return !e.Null && e.Err == "" }

// ReadExec reads the reply of EXEC. It allocates for errors only. The error is
// of the connection: what EXEC itself answered is in the ExecReply.
func (r *Reader) ReadExec() (ExecReply, error) { return r.ReadExecInts(nil) }

// ReadExecInts is ReadExec that tells each reply which is an integer, and each
// integer of one that is an array, by the index of its command. In an array the
// text of an integer counts as one: TIME answers so.
func (r *Reader) ReadExecInts(tell func(i int, n int64)) (ExecReply, error) {
	if err := r.begin(); err != nil {
		return ExecReply{}, err
	}
	h, err := r.head()
	if err != nil {
		return ExecReply{}, r.fail(err)
	}
	switch {
	case h.null:
		return ExecReply{Null: true}, nil
	case h.typ == '-':
		return ExecReply{Err: ServerError(h.line)}, nil
	case h.typ != '*':
		return ExecReply{}, r.fail(fmt.Errorf("%w: expected EXEC's array, got type %q", ErrProtocol, h.typ))
	}
	rep := ExecReply{N: int(h.n)}
	for i := range rep.N {
		e, err := r.head()
		if err == nil && e.typ == '-' {
			rep.Errors = append(rep.Errors, ExecError{Index: i, Err: ServerError(e.line)})
		}
		if err == nil && e.typ == ':' && tell != nil {
			tell(i, e.n)
		}
		switch {
		case err != nil:
		case e.typ == '*' && tell != nil:
			err = r.tellElements(e, func(n int64) { tell(i, n) })
		default:
			err = r.skipBody(e, 1)
		}
		if err != nil {
			return ExecReply{}, r.fail(err)
		}
	}
	return rep, nil
}

// maxIntText is how long the text of an integer is at most.
const maxIntText = 20

// tellElements reads an array and tells those of its elements that are integers.
func (r *Reader) tellElements(array replyHead, tell func(n int64)) error {
	for range array.n {
		e, err := r.head()
		if err != nil {
			return err
		}
		switch {
		case e.typ == ':':
			tell(e.n)
		case e.typ == '$' && !e.null && e.n <= maxIntText:
			text, err := r.br.Peek(int(e.n))
			if err != nil {
				return err
			}
			if n, ok := parseInt(text); ok {
				tell(n)
			}
		}
		if err := r.skipBody(e, 2); err != nil {
			return err
		}
	}
	return nil
}

// ErrNotQueued says that a command of a transaction ran at once.
var ErrNotQueued = errors.New("a command ran outside its transaction")

var queued = []byte("+QUEUED\r\n")

// ReadQueued reads what a server says to n commands of an open transaction: the
// first error among them, by its index, and how many were read, all of them
// unless most is fewer. A reply that is neither +QUEUED nor an error is that of a
// command that ran at once, outside any transaction: an ErrNotQueued.
func (r *Reader) ReadQueued(n, most int) (read int, refused *ExecError, err error) {
	for read < min(n, most) {
		// Nearly always all that is buffered is this one word.
		if b := r.br.Buffered(); b >= len(queued) {
			p, _ := r.br.Peek(b - b%len(queued))
			k := 0
			for k < min(n, most)-read && len(p) > 0 && string(p[:len(queued)]) == string(queued) {
				p, k = p[len(queued):], k+1
			}
			if k > 0 {
				_, _ = r.br.Discard(k * len(queued)) // they are buffered
				read += k
				continue
			}
		}
		if err := r.begin(); err != nil {
			return read, refused, err
		}
		h, err := r.head()
		if err == nil && h.typ != '-' && (h.typ != '+' || string(h.line) != "QUEUED") {
			err = fmt.Errorf("%w: it was answered by type %q, expected +QUEUED", ErrNotQueued, h.typ)
		}
		if err != nil {
			return read, refused, r.fail(err)
		}
		if h.typ == '-' && refused == nil {
			refused = &ExecError{Index: read, Err: ServerError(h.line)}
		}
		read++
	}
	return read, refused, nil
}
