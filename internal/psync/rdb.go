package psync

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"tairlift/internal/resp"
)

const (
	markLen = 40 // CONFIG_RUN_ID_SIZE: the length of the mark behind a diskless RDB
	// maxRDB is a size that no server's memory has. One beyond it would let the
	// stream pass for the rest of the RDB, for ever.
	maxRDB = 1 << 50
)

// OpenRDB waits for the RDB of a full sync, as long as the source sends signs
// of life. It is called once.
func (l *Link) OpenRDB() (*RDBReader, error) {
	if !l.Start.Full || l.rdb != nil {
		return nil, errors.New("open RDB: there is none to come")
	}
	line, err := l.line()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("wait for the RDB: %w", err)
	}
	r := &RDBReader{l: l}
	head, ok := strings.CutPrefix(line, "$")
	if mark, marked := strings.CutPrefix(head, "EOF:"); ok && marked {
		if len(mark) != markLen {
			return nil, fmt.Errorf("%w: RDB announced by %.80q", resp.ErrProtocol, line)
		}
		r.mark, r.size = []byte(mark), -1
	} else {
		size, err := strconv.ParseUint(head, 10, 63)
		switch {
		case strings.HasPrefix(line, "-"): // the source's BGSAVE failed
			return nil, l.refusal(line[1:])
		case !ok || err != nil || size > maxRDB:
			return nil, fmt.Errorf("%w: RDB announced by %.80q", resp.ErrProtocol, line)
		}
		r.size = int64(size)
		r.left = r.size
	}
	l.rdb = r
	return r, nil
}

// RDBReader reads the RDB of a full sync and not a byte of what follows.
type RDBReader struct {
	l    *Link
	size int64
	left int64  // of a sized RDB
	mark []byte // of a marked one, else nil
	done bool
}

// Size is the number of bytes, -1 when only a mark will end them.
func (r *RDBReader) Size() int64 { return r.size }

// Read reads the RDB's bytes. io.EOF is its end, io.ErrUnexpectedEOF a
// connection that ended before it.
func (r *RDBReader) Read(p []byte) (n int, err error) {
	switch {
	case r.done:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	case r.mark != nil:
		n, err = r.readMarked(p)
	case r.left == 0:
		err = io.EOF
		r.done = true
	default:
		r.l.arm()
		n, err = r.l.c.Read(p[:min(int64(len(p)), r.left)])
		r.left -= int64(n)
		if n > 0 {
			return n, nil // an error comes again
		}
	}
	if errors.Is(err, io.EOF) && !r.done {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// readMarked hands out what cannot be a part of the mark any more.
func (r *RDBReader) readMarked(p []byte) (int, error) {
	c := r.l.c
	for need := 1; ; {
		r.l.arm()
		if _, err := c.Peek(need); err != nil {
			return 0, err
		}
		// Further bytes than p takes are looked at by the next Read.
		b, err := c.Peek(min(c.Buffered(), len(p)+markLen))
		if err != nil {
			return 0, err
		}
		at := bytes.Index(b, r.mark)
		if at == 0 {
			_, _ = c.Discard(markLen) // what Peek has shown
			r.done, r.l.deaf = true, true
			return 0, io.EOF
		}
		if at < 0 {
			at = len(b) - beginsAtEnd(b, r.mark)
		}
		if at > 0 {
			n := copy(p, b[:at])
			_, _ = c.Discard(n)
			return n, nil
		}
		need = len(b) + 1
	}
}

// beginsAtEnd is the length of the longest end of b that begins mark.
func beginsAtEnd(b, mark []byte) int {
	for n := min(len(b), len(mark)-1); n > 0; n-- {
		if bytes.HasPrefix(mark, b[len(b)-n:]) {
			return n
		}
	}
	return 0
}
