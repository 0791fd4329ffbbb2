package resp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

const (
	maxLine  = 64 << 10 // a reply's line, as long as an inline command
	maxElems = 1 << 24
	maxDepth = 16
	grow     = 64 << 10 // allocated at most ahead of bytes seen
)

// Reply is one reply of RESP2, or RESP3's null.
type Reply struct {
	Type  byte    // '+' '-' ':' '$' '*' '_'
	Str   []byte  // of '+', '-' and '$'
	Int   int64   // of ':'
	Elems []Reply // of '*'
	Null  bool    // "$-1", "*-1", "_"
}

// String is the reply for people and for single values: text as it is, a
// number in decimal, "(nil)", and an array in brackets.
func (r Reply) String() string {
	switch {
	case r.Null:
		return "(nil)"
	case r.Type == ':':
		return strconv.FormatInt(r.Int, 10)
	case r.Type == '*':
		parts := make([]string, len(r.Elems))
		for i, e := range r.Elems {
			parts[i] = e.String()
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return string(r.Str)
}

// Strings is String of each element.
func (r Reply) Strings() []string {
	out := make([]string, len(r.Elems))
	for i, e := range r.Elems {
		out[i] = e.String()
	}
	return out
}

// Reader reads replies, lines and raw bytes from one buffer. Where a reply
// breaks off or is not RESP, what follows has no meaning: every later read of
// a reply returns the same error. A read that fails before a reply's first
// byte (a deadline that passed) may be repeated.
type Reader struct {
	br  *bufio.Reader
	err error
}

// NewReader is a Reader with a 64 KiB buffer.
func NewReader(r io.Reader) *Reader { return &Reader{br: bufio.NewReaderSize(r, maxLine)} }

// Read reads raw bytes, buffered ones first.
func (r *Reader) Read(p []byte) (int, error) { return r.br.Read(p) }

// Buffered is the number of bytes that can be read without waiting.
func (r *Reader) Buffered() int { return r.br.Buffered() }

// Peek waits for n bytes (at most 64 KiB) and leaves them unread.
func (r *Reader) Peek(n int) ([]byte, error) { return r.br.Peek(n) }

// Discard reads n bytes and drops them.
func (r *Reader) Discard(n int) (int, error) { return r.br.Discard(n) }

// ReadLine reads up to a newline and returns the line without it and without a
// carriage return before it. The bytes are valid until the next read. A line of
// more than 64 KiB is an ErrProtocol.
func (r *Reader) ReadLine() ([]byte, error) {
	b, err := r.br.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			err = fmt.Errorf("%w: line longer than %d bytes", ErrProtocol, maxLine)
		} else if errors.Is(err, io.EOF) && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	b = b[:len(b)-1]
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b, nil
}

// ReadReply reads one reply. An error reply is returned both as a Reply and as
// a ServerError; errors inside an array are elements of Type '-'.
func (r *Reader) ReadReply() (Reply, error) {
	if err := r.begin(); err != nil {
		return Reply{}, err
	}
	rep, err := r.reply(0)
	if err != nil {
		return Reply{}, r.fail(err)
	}
	if rep.Type == '-' {
		return rep, ServerError(rep.Str)
	}
	return rep, nil
}

// SkipReply reads one reply and keeps nothing of it but its type. An error
// reply is a ServerError. Nothing is allocated for other replies.
func (r *Reader) SkipReply() (typ byte, err error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	h, err := r.head()
	if err == nil {
		err = r.skipBody(h, 0)
	}
	if err != nil {
		return 0, r.fail(err)
	}
	if h.typ == '-' {
		return h.typ, ServerError(h.line)
	}
	return h.typ, nil
}

// ReadBulk reads a reply that is a bulk or null and appends the bulk to dst. An
// error reply is a ServerError, any other type an ErrProtocol.
func (r *Reader) ReadBulk(dst []byte) (b []byte, null bool, err error) {
	b, null, _, err = r.ReadOrOpenBulk(dst, math.MaxInt64)
	return b, null, err
}

// ReadBulkWithin is ReadBulk that reads a bulk of more than limit bytes and
// keeps nothing of it. size is that of the bulk, kept or not.
func (r *Reader) ReadBulkWithin(dst []byte, limit int64) (b []byte, null bool, size int64, err error) {
	b, null, open, err := r.ReadOrOpenBulk(dst, limit)
	if open == nil {
		return b, null, int64(len(b) - len(dst)), err
	}
	return b, false, open.Size, open.Close()
}

// ReadOrOpenBulk is ReadBulk that leaves a bulk of more than limit bytes to be
// read from open as it arrives; else open is nil.
func (r *Reader) ReadOrOpenBulk(dst []byte, limit int64) (b []byte, null bool, open *Bulk, err error) {
	if err := r.begin(); err != nil {
		return dst, false, nil, err
	}
	h, err := r.head()
	if err != nil {
		return dst, false, nil, r.fail(err)
	}
	switch {
	case h.typ == '-':
		return dst, false, nil, ServerError(h.line)
	case h.null && h.typ != '*':
		return dst, true, nil, nil
	case h.typ != '$':
		return dst, false, nil, r.fail(fmt.Errorf("%w: expected a bulk reply, got type %q", ErrProtocol, h.typ))
	case h.n > limit:
		r.err = errOpen
		return dst, false, &Bulk{Size: h.n, r: r, left: h.n}, nil
	}
	if b, err = r.bulk(dst, h.n); err != nil {
		return dst, false, nil, r.fail(err)
	}
	return b, false, nil, nil
}

// errOpen meets whoever reads a reply before a Bulk is closed.
var errOpen = errors.New("the bulk before this reply is still open")

// Bulk is a bulk reply that is read as it arrives. Close must be called before
// the next reply is read.
type Bulk struct {
	Size int64
	r    *Reader
	left int64
	err  error
}

// Read reads the bulk's bytes, and io.EOF behind them.
func (b *Bulk) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.r.br.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return n, err
}

// Close drops what is left of the bulk. Its error is that of the connection,
// which Read may have met before.
func (b *Bulk) Close() error {
	r := b.r
	if r.err != errOpen { // closed before
		return nil
	}
	err := b.err
	if err == nil {
		if err = r.discard(b.left); err == nil {
			err = r.lineEnd()
		}
	}
	b.left, r.err = 0, nil
	if err != nil {
		return r.fail(err)
	}
	return nil
}

// begin waits for a reply's first byte, before which an error costs nothing.
func (r *Reader) begin() error {
	if r.err != nil {
		return r.err
	}
	_, err := r.br.Peek(1)
	return err
}

func (r *Reader) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	r.err = err
	return err
}

// replyHead is a reply's first line. line is valid until the next read.
type replyHead struct {
	typ  byte
	line []byte // of '+' and '-'
	n    int64  // of ':', '$', '*'
	null bool
}

func (r *Reader) head() (replyHead, error) {
	b, err := r.br.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			err = fmt.Errorf("%w: reply line longer than %d bytes", ErrProtocol, maxLine)
		}
		return replyHead{}, err
	}
	if len(b) < 3 || b[len(b)-2] != '\r' {
		return replyHead{}, fmt.Errorf("%w: reply line %q", ErrProtocol, clip(b))
	}
	h := replyHead{typ: b[0], line: b[1 : len(b)-2]}
	switch h.typ {
	case '+', '-':
		return h, nil
	case '_':
		h.null = true
		if len(h.line) == 0 {
			return h, nil
		}
	case ':', '$', '*':
		n, ok := parseInt(h.line)
		h.n = n
		switch {
		case !ok:
		case h.typ == ':':
			return h, nil
		case n == -1:
			h.null = true
			return h, nil
		case n >= 0 && (h.typ == '$' || n <= maxElems):
			return h, nil
		}
	}
	return replyHead{}, fmt.Errorf("%w: reply line %q", ErrProtocol, clip(b))
}

func (r *Reader) reply(depth int) (Reply, error) {
	h, err := r.head()
	if err != nil {
		return Reply{}, err
	}
	rep := Reply{Type: h.typ, Null: h.null}
	switch {
	case h.null:
	case h.typ == '+', h.typ == '-':
		rep.Str = append([]byte{}, h.line...)
	case h.typ == ':':
		rep.Int = h.n
	case h.typ == '$':
		rep.Str, err = r.bulk(make([]byte, 0, min(h.n, grow)), h.n)
	case h.typ == '*':
		if depth == maxDepth {
			return Reply{}, fmt.Errorf("%w: reply nested deeper than %d", ErrProtocol, maxDepth)
		}
		rep.Elems = make([]Reply, 0, min(h.n, 256))
		for range h.n {
			e, err := r.reply(depth + 1)
			if err != nil {
				return Reply{}, err
			}
			rep.Elems = append(rep.Elems, e)
		}
	}
	return rep, err
}

// skipBody drops what belongs to h behind its line.
func (r *Reader) skipBody(h replyHead, depth int) error {
	switch {
	case h.null:
	case h.typ == '$':
		if err := bounded(h.n); err != nil {
			return err
		}
		if err := r.discard(h.n); err != nil {
			return err
		}
		return r.lineEnd()
	case h.typ == '*':
		if depth == maxDepth {
			return fmt.Errorf("%w: reply nested deeper than %d", ErrProtocol, maxDepth)
		}
		for range h.n {
			e, err := r.head()
			if err == nil {
				err = r.skipBody(e, depth+1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// bounded refuses a bulk that no sane server sends, where it is not opened.
func bounded(size int64) error {
	if size > MaxBulk {
		return fmt.Errorf("%w: a bulk of %d bytes, expected %d at most", ErrProtocol, size, MaxBulk)
	}
	return nil
}

// discard drops n bytes.
func (r *Reader) discard(n int64) error {
	for n > 0 {
		step, err := r.br.Discard(int(min(n, math.MaxInt32)))
		if err != nil {
			return err
		}
		n -= int64(step)
	}
	return nil
}

// bulk appends a bulk of size bytes to dst, never reserving much more than has
// arrived.
func (r *Reader) bulk(dst []byte, size int64) ([]byte, error) {
	if err := bounded(size); err != nil {
		return nil, err
	}
	for n := int(size); n > 0; {
		step := min(n, grow)
		at := len(dst)
		if cap(dst)-at < step {
			bigger := make([]byte, at, at+max(step, min(n, at)))
			copy(bigger, dst)
			dst = bigger
		}
		dst = dst[:at+step]
		if _, err := io.ReadFull(r.br, dst[at:]); err != nil {
			return nil, err
		}
		n -= step
	}
	return dst, r.lineEnd()
}

func (r *Reader) lineEnd() error {
	b, err := r.br.Peek(2)
	if err != nil {
		return err
	}
	if b[0] != '\r' || b[1] != '\n' {
		return fmt.Errorf("%w: expected the line end behind a bulk, got %q", ErrProtocol, b)
	}
	_, err = r.br.Discard(2)
	return err
}

// parseInt reads a decimal int64 without allocating.
func parseInt(b []byte) (int64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	switch {
	case neg && n <= 1<<63:
		return -int64(n), true
	case !neg && n < 1<<63:
		return int64(n), true
	}
	return 0, false
}
