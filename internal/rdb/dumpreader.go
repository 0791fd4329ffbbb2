package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// DumpReader reads a DUMP payload as it arrives, where ParseDump and Elements
// need it whole: of a value of any size it holds one element.
type DumpReader struct {
	typ  byte
	r    io.Reader
	size int64
	w    walker // over type and body
	open bool
}

// NewDumpReader reads a payload of size bytes from r up to its type. R is read
// no further than those size bytes, and must have them: io.EOF before their end is
// the payload's fault, any other error of r is returned as it is.
func NewDumpReader(r io.Reader, size int64) (*DumpReader, error) {
	if size <= dumpTail || size > math.MaxInt64/8 {
		return nil, &FormatError{Type: NoType, At: size, Err: fmt.Errorf("dump payload has %d bytes: %w", size, io.ErrUnexpectedEOF)}
	}
	d := &DumpReader{r: r, size: size, open: true}
	d.w.whole = wholeSize
	d.w.source = source{
		r: io.LimitReader(r, size-dumpTail), buf: make([]byte, min(windowSize, head+size+dumpTail)), low: head, keep: head, pos: head, end: head,
		base: -1 - head, // offsets count from the body
		max:  defaultMaxBytes, check: true,
	}
	typ, err := d.w.readByte()
	if err != nil {
		return nil, d.place(err)
	}
	d.w.settle()
	d.typ = typ
	return d, nil
}

// Type is that of the value.
func (d *DumpReader) Type() byte { return d.typ }

// Elements is the function of that name on the payload's value, with two
// differences: a large plain string comes in pieces (Element.More), and the
// checksum is verified behind the last element. It can be called once, and what it
// leaves unread of r after an error is the caller's.
func (d *DumpReader) Elements(fn func(Element) error) (kind Kind, n int64, err error) {
	kind = KindOf(d.typ)
	switch {
	case kind == KindModule:
		return kind, 0, &FormatError{Type: int(d.typ), Err: ErrModule}
	case !readable(d.typ):
		return kind, 0, &FormatError{Type: int(d.typ), Err: ErrUnknownType}
	case !d.open:
		return kind, 0, errPassed
	}
	d.open = false
	d.w.fn = fn
	if err = d.w.walk(d.typ); err == nil {
		err = d.end()
	}
	if d.w.fnErr != nil {
		return kind, d.w.n, d.w.fnErr
	}
	return kind, d.w.n, d.place(err)
}

// end reads what follows the value.
func (d *DumpReader) end() error {
	if left := d.size - dumpTail - 1 - d.w.offset(); left > 0 {
		return fmt.Errorf("%d bytes follow the value", left)
	}
	d.w.settle()
	var tail [dumpTail]byte
	if _, err := io.ReadFull(d.r, tail[:]); err != nil {
		if err != io.EOF && err != io.ErrUnexpectedEOF {
			d.w.err = err
		}
		return err
	}
	if sum, stored := CRC64(d.w.sum, tail[:2]), binary.LittleEndian.Uint64(tail[2:]); sum != stored {
		return checksumError(sum, stored)
	}
	if binary.LittleEndian.Uint16(tail[:]) == 0 {
		return fmt.Errorf("dump payload has version 0")
	}
	return nil
}

// place adds to err where it was met, unless it is the reader's own.
func (d *DumpReader) place(err error) error {
	if err == nil || err == d.w.err && err != io.EOF {
		return err
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return &FormatError{Type: int(d.typ), At: max(d.w.offset(), 0), Err: err}
}
