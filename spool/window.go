package spool

import (
	"errors"
	"io"
)

// window reads a file through one buffer that is reused, so that many small
// frames cost one read.
type window struct {
	f    io.ReaderAt
	base int64
	buf  []byte // bytes of the file from base on
}

// readAhead is how much a window reads at least, if the limit allows.
const readAhead = 64 << 10

// at returns n bytes of the file from pos, reading ahead up to limit and no
// further: what lies behind may still change. The bytes are valid until the
// next call. It returns io.ErrUnexpectedEOF when the file ends before pos+n.
func (w *window) at(pos int64, n int, limit int64) ([]byte, error) {
	if pos >= w.base && pos+int64(n) <= w.base+int64(len(w.buf)) {
		return w.buf[pos-w.base:][:n], nil
	}
	have := 0
	want := int(max(int64(n), min(readAhead, limit-pos)))
	var kept []byte
	if pos >= w.base && pos < w.base+int64(len(w.buf)) {
		kept = w.buf[pos-w.base:]
		have = len(kept)
	}
	if cap(w.buf) < want {
		grown := make([]byte, (want+4095)&^4095) // a small file needs no more
		copy(grown, kept)
		w.buf = grown
	} else {
		w.buf = w.buf[:cap(w.buf)]
		copy(w.buf, kept)
	}
	w.base = pos
	got, err := w.f.ReadAt(w.buf[have:want], pos+int64(have))
	w.buf = w.buf[:have+got]
	if len(w.buf) >= n {
		return w.buf[:n], nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}

// forget drops what was read, because the file may have changed.
func (w *window) forget() { w.buf = w.buf[:0] }
