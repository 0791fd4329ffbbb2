package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
)

const (
	// windowSize is the usual size of a Decoder's window. Nothing that a file
	// declares makes it larger, only bytes that have arrived do.
	windowSize = 128 << 10
	// windowKeep is the size above which a window is given back once the big
	// value that it grew for has been passed.
	windowKeep = 4 << 20
	// head is room before the kept bytes, for the type byte of a payload;
	// behind the read ones dumpTail bytes stay free for its version and CRC.
	head = 1
)

// source is a window over a reader. buf[keep:pos] has been read and must stay
// contiguous, buf[pos:end] is still to be read. With r == nil the window is
// all there is, and it is never written to.
type source struct {
	r     io.Reader
	buf   []byte
	low   int // buf[low:keep] is let go, and not in sum yet
	keep  int
	pos   int
	end   int
	base  int64 // offset of buf[0]
	max   int   // bound of pos-keep
	err   error // of r, sticky
	sum   uint64
	check bool // sum covers what r gave up to buf[low]
	drop  bool // what is skipped need not be kept
	moves int  // of the window: slices of it from before one are worth nothing
}

// newSource reads r, whose next byte has the given offset.
func newSource(r io.Reader, offset int64, limit int) source {
	return source{r: r, buf: make([]byte, windowSize), low: head, keep: head, pos: head, end: head, base: offset - head, max: limit}
}

func (s *source) offset() int64 { return s.base + int64(s.pos) }

// fill makes the next n bytes readable at buf[pos:]. It may move the window:
// indexes into buf do not survive it, distances from keep do.
func (s *source) fill(n int) error {
	if s.end-s.pos >= n {
		return nil
	}
	return s.more(n)
}

func (s *source) more(n int) error {
	if s.r == nil {
		return io.ErrUnexpectedEOF
	}
	if s.drop {
		s.keep = s.pos
	}
	if n > s.max-(s.pos-s.keep) {
		return ErrTooLarge
	}
	for idle := 0; s.end-s.pos < n; {
		if s.err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if s.err != nil {
			return s.err
		}
		if s.end == len(s.buf)-dumpTail {
			s.room()
		}
		// A window that a big value has widened is not filled further than
		// that value needs, or the bytes behind it would keep it wide.
		upto := min(len(s.buf)-dumpTail, max(s.pos+min(n, len(s.buf)), s.end+windowSize/2))
		m, err := s.r.Read(s.buf[s.end:upto])
		s.end += m
		s.err = err
		if idle++; m > 0 {
			idle = 0
		} else if idle == 100 {
			s.err = io.ErrNoProgress
		}
	}
	return nil
}

// room makes space behind end: by moving what is kept to the front, or, when
// that is most of the window, by doubling it.
func (s *source) room() {
	kept := s.end - s.keep
	to := s.buf
	if kept > len(s.buf)/2 {
		to = make([]byte, 2*len(s.buf))
	}
	s.move(to)
}

func (s *source) move(to []byte) {
	s.sumUp(s.keep)
	copy(to[head:], s.buf[s.keep:s.end])
	shift := s.keep - head
	s.base += int64(shift)
	s.buf, s.low, s.keep, s.pos, s.end = to, head, head, s.pos-shift, s.end-shift
	s.moves++
}

// sumUp takes the window up to to into the checksum.
func (s *source) sumUp(to int) {
	if s.check {
		s.sum = CRC64(s.sum, s.buf[s.low:to])
	}
	s.low = to
}

// settle lets go of what has been read.
func (s *source) settle() {
	s.sumUp(s.pos)
	s.keep = s.pos
}

// shrink gives back a window that has grown for one big value.
func (s *source) shrink() {
	if n := s.end - s.keep; len(s.buf) > windowKeep && n < windowKeep/2 {
		s.move(make([]byte, max(windowSize, 2*n)))
	}
}

func (s *source) readByte() (byte, error) {
	if s.pos == s.end {
		if err := s.more(1); err != nil {
			return 0, err
		}
	}
	b := s.buf[s.pos]
	s.pos++
	return b, nil
}

func (s *source) skip(n int) error {
	if s.end-s.pos >= n {
		s.pos += n
		return nil
	}
	return s.skipFar(n)
}

func (s *source) skipFar(n int) error {
	if !s.drop {
		if err := s.more(n); err != nil {
			return err
		}
	}
	for n > s.end-s.pos {
		n -= s.end - s.pos
		s.pos = s.end
		if err := s.more(1); err != nil {
			return err
		}
	}
	s.pos += n
	return nil
}

func (s *source) readUint64() (uint64, error) {
	if err := s.fill(8); err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(s.buf[s.pos:])
	s.pos += 8
	return v, nil
}

// readLength reads a length; a specially encoded string is an error here.
func (s *source) readLength() (uint64, error) {
	v, enc, err := s.readLengthOrEnc()
	if err == nil && enc {
		return 0, fmt.Errorf("encoding %d where a length belongs", v)
	}
	return v, err
}

// readLengthOrEnc reads a length (rdbLoadLenByRef), or with enc the number of
// a special string encoding.
func (s *source) readLengthOrEnc() (v uint64, enc bool, err error) {
	b, err := s.readByte()
	if err != nil {
		return 0, false, err
	}
	switch b >> 6 {
	case 0:
		return uint64(b), false, nil
	case 1:
		lo, err := s.readByte()
		return uint64(b&0x3f)<<8 | uint64(lo), false, err
	case 3:
		return uint64(b & 0x3f), true, nil
	}
	switch b {
	case 0x80:
		if err := s.fill(4); err != nil {
			return 0, false, err
		}
		v = uint64(binary.BigEndian.Uint32(s.buf[s.pos:]))
		s.pos += 4
		return v, false, nil
	case 0x81:
		if err := s.fill(8); err != nil {
			return 0, false, err
		}
		v = binary.BigEndian.Uint64(s.buf[s.pos:])
		s.pos += 8
		return v, false, nil
	}
	return 0, false, fmt.Errorf("length byte %#02x", b)
}

// stringHead says how a string is stored.
type stringHead struct {
	form stringForm
	size int    // stored bytes that follow: raw, or LZF
	full uint64 // formLZF: the length once decompressed
	num  int64  // formInt
}

type stringForm uint8

const (
	formRaw stringForm = iota
	formInt
	formLZF
)

// length is that of the text, decoded where it is stored as text.
func (h *stringHead) length() int {
	if h.form == formLZF {
		return int(h.full)
	}
	return h.size
}

// readStringHead reads all of a string but the size bytes of its text.
func (s *source) readStringHead() (h stringHead, err error) {
	v, enc, err := s.readLengthOrEnc()
	if err != nil {
		return h, err
	}
	if !enc {
		h.size, err = asSize(v)
		return h, err
	}
	switch v {
	case 0, 1, 2:
		h.form = formInt
		n := 1 << v
		if err := s.fill(n); err != nil {
			return h, err
		}
		h.num = littleInt(s.buf[s.pos : s.pos+n])
		s.pos += n
		return h, nil
	case 3:
		h.form = formLZF
		stored, err := s.readLength()
		if err != nil {
			return h, err
		}
		if h.full, err = s.readLength(); err != nil {
			return h, err
		}
		if _, err := asSize(h.full); err != nil {
			return h, err
		}
		h.size, err = asSize(stored)
		return h, err
	}
	return h, fmt.Errorf("string encoding %d", v)
}

// skipString passes a string without looking at its text.
func (s *source) skipString() error {
	h, err := s.readStringHead()
	if err != nil {
		return err
	}
	return s.skip(h.size)
}

// appendString reads a string and appends it to dst, decoded.
func (s *source) appendString(dst []byte) ([]byte, error) {
	h, err := s.readStringHead()
	if err != nil {
		return dst, err
	}
	return s.appendText(dst, h)
}

// appendText reads the text behind h and appends it to dst, decoded.
func (s *source) appendText(dst []byte, h stringHead) ([]byte, error) {
	if err := s.fill(h.size); err != nil {
		return dst, err
	}
	text := s.buf[s.pos : s.pos+h.size]
	s.pos += h.size
	switch h.form {
	case formInt:
		return strconv.AppendInt(dst, h.num, 10), nil
	case formLZF:
		if h.full > uint64(s.max) {
			return dst, ErrTooLarge
		}
		return decompressLZF(dst, text, h.full)
	}
	return append(dst, text...), nil
}

// asSize bounds a declared length so that sums of a few of them are still ints.
func asSize(v uint64) (int, error) {
	if v > math.MaxInt/8 {
		return 0, fmt.Errorf("length %d", v)
	}
	return int(v), nil
}

// littleInt is the signed little-endian number in b, of 1 to 8 bytes.
func littleInt(b []byte) int64 {
	var v uint64
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	shift := 64 - 8*len(b)
	return int64(v<<shift) >> shift
}
