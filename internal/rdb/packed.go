package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// errCut is an entry of a packed node that is not at hand as a whole.
var errCut = errors.New("entry not at hand")

// blob is what is at hand of a packed node's text: all of it, or for a big
// node in a file a window, which refill moves on. Readers of a node's format
// work on it as if it were all, until an entry is cut.
type blob struct {
	place
	b     []byte // at hand, without the end mark
	base  int    // of b in the text
	limit int    // of the entries in the text
	need  int    // behind errCut: bytes from pos on that the entry has at least
}

// place is how far a blob has been read.
type place struct {
	pos   int // of the next entry, in b
	prev  int // of the one before it, in b
	count int // of entries before it
}

// begin sets b to the first entry, behind header bytes, of a text of size
// bytes that ends in an end mark. At is what is at hand of it.
func (b *blob) begin(at []byte, size, header int) {
	*b = blob{place: place{pos: header, prev: header}, b: at[:min(len(at), size-1)], limit: size - 1}
}

// at is the position of the next entry in the text.
func (b *blob) at() int { return b.base + b.pos }

// cut is the error of an entry of at least n bytes, more than are at hand.
func (b *blob) cut(n uint64) error {
	if n > uint64(b.limit-b.at()) {
		return fmt.Errorf("entry at %d leaves its packed node", b.at())
	}
	b.need = int(n)
	return errCut
}

// openBlob begins to read the string that a packed node is stored as: what is
// at hand of its text, and the size of all.
func (w *walker) openBlob() (at []byte, size int, err error) {
	h, err := w.readStringHead()
	if err != nil {
		return nil, 0, err
	}
	size = h.length()
	if w.long = size > w.whole && (w.r != nil || h.form == formLZF); !w.long {
		at, err = w.readText(h, &w.blob)
		return at, len(at), err
	}
	if err := w.openFar(h); err != nil {
		return nil, 0, err
	}
	in := &w.far.in
	if err := in.fill(zipHeader); err != nil { // the largest header
		return nil, 0, err
	}
	return in.buf[in.pos:in.end], size, nil
}

// refill brings at least n bytes from the next entry on to hand.
func (w *walker) refill(b *blob, n int) error {
	in, have := &w.far.in, len(b.b)-b.pos
	in.pos += b.pos
	in.keep = in.pos
	b.base += b.pos
	b.prev -= b.pos
	b.pos = 0
	left := b.limit - b.base
	in.shrink()
	// Twice as much as there was: an entry of many parts starts over each time.
	if err := in.fill(max(n, min(2*have, left, in.max))); err != nil {
		return err
	}
	b.b = in.buf[in.pos : in.pos+min(in.end-in.pos, left)]
	return nil
}

// again tells whether the entry at was, which came to err, is to be read once
// more because more of it is at hand now.
func (w *walker) again(b *blob, was place, err error) (bool, error) {
	if err != errCut {
		return false, err
	}
	n := b.pos + b.need - was.pos
	b.place = was
	err = w.refill(b, n)
	return err == nil, err
}

// closeBlob finds the end of the text right behind the last entry and the end
// mark, if there is one. Of a text that was at hand whole that is known.
func (w *walker) closeBlob(b *blob, mark bool) error {
	if !w.long {
		return nil
	}
	in := &w.far.in
	in.pos += b.pos
	in.keep = in.pos
	if mark {
		if c, err := in.readByte(); err != nil {
			return err
		} else if c != endMark {
			return fmt.Errorf("packed node ends in %#02x, expected %#02x", c, endMark)
		}
	}
	err := in.fill(1)
	if in.err == io.EOF {
		return nil
	}
	return err
}

// endMark is the last byte of ziplists, listpacks and zipmaps.
const endMark = 0xff

// ziplist reads the format of ziplist.c: total bytes (LE32), offset of the last
// entry (LE32), count (LE16, 65535 = unknown), entries, 0xff. It checks what
// the server's deep sanitizing checks.
type ziplist struct {
	blob
	last int // where the header says the last entry begins
	want int
}

const zipHeader = 10

func (z *ziplist) open(b []byte, size int) error {
	if size < zipHeader+1 || len(b) == size && b[size-1] != endMark {
		return fmt.Errorf("ziplist of %d bytes without header and end mark", size)
	}
	if n := binary.LittleEndian.Uint32(b); uint64(n) != uint64(size) {
		return fmt.Errorf("ziplist says it has %d bytes, has %d", n, size)
	}
	z.begin(b, size, zipHeader)
	z.last, z.want = int(binary.LittleEndian.Uint32(b[4:])), int(binary.LittleEndian.Uint16(b[8:]))
	return nil
}

func (z *ziplist) next(num *[24]byte) ([]byte, bool, error) {
	b := z.b[z.pos:]
	if len(b) == 0 {
		if z.at() < z.limit {
			return nil, false, z.cut(1)
		}
		if z.want != 0xffff && z.want != z.count {
			return nil, false, fmt.Errorf("ziplist says it has %d entries, has %d", z.want, z.count)
		}
		if z.count > 0 && z.last != z.base+z.prev {
			return nil, false, fmt.Errorf("ziplist says its last entry is at %d, it is at %d", z.last, z.base+z.prev)
		}
		return nil, false, nil
	}
	// The length of the entry before: one byte, or 254 and four.
	back, at := uint64(b[0]), 1
	if b[0] == 254 {
		if len(b) < 5 {
			return nil, false, z.cut(5)
		}
		back, at = uint64(binary.LittleEndian.Uint32(b[1:])), 5
	}
	if b[0] == endMark || back != uint64(z.pos-z.prev) {
		return nil, false, fmt.Errorf("ziplist entry at %d says %d bytes precede it, %d do", z.at(), back, z.pos-z.prev)
	}
	if len(b) == at {
		return nil, false, z.cut(uint64(at + 1))
	}
	enc := b[at]
	var text, size uint64 // of a string; or bytes of an integer
	switch enc >> 6 {
	case 0:
		text, at = uint64(enc&0x3f), at+1
	case 1:
		if len(b) < at+2 {
			return nil, false, z.cut(uint64(at + 2))
		}
		text, at = uint64(enc&0x3f)<<8|uint64(b[at+1]), at+2
	case 2:
		if len(b) < at+5 {
			return nil, false, z.cut(uint64(at + 5))
		}
		text, at = uint64(binary.BigEndian.Uint32(b[at+1:])), at+5
	default:
		at++
		switch {
		case enc == 0xc0:
			size = 2
		case enc == 0xd0:
			size = 4
		case enc == 0xe0:
			size = 8
		case enc == 0xf0:
			size = 3
		case enc == 0xfe:
			size = 1
		case enc < 0xf1 || enc == 0xff:
			return nil, false, fmt.Errorf("ziplist entry at %d has encoding %#02x", z.at(), enc)
		}
		if uint64(len(b)-at) < size {
			return nil, false, z.cut(uint64(at) + size)
		}
		v := int64(enc&0x0f) - 1 // 0xf1 to 0xfd hold 0 to 12
		if size > 0 {
			v = littleInt(b[at : at+int(size)])
		}
		z.step(at + int(size))
		return strconv.AppendInt(num[:0], v, 10), true, nil
	}
	if uint64(len(b)-at) < text {
		return nil, false, z.cut(uint64(at) + text)
	}
	end := at + int(text)
	z.step(end)
	return b[at:end:end], true, nil
}

func (z *ziplist) step(n int) {
	z.prev = z.pos
	z.pos += n
	z.count++
}

// listpack reads the format of listpack.c: total bytes (LE32), count (LE16,
// 65535 = unknown), entries, each followed by its own length in 7-bit groups
// for walking backwards, 0xff.
type listpack struct {
	blob
	want int
}

const listHeader = 6

func (l *listpack) open(b []byte, size int) error {
	if size < listHeader+1 || len(b) == size && b[size-1] != endMark {
		return fmt.Errorf("listpack of %d bytes without header and end mark", size)
	}
	if n := binary.LittleEndian.Uint32(b); uint64(n) != uint64(size) {
		return fmt.Errorf("listpack says it has %d bytes, has %d", n, size)
	}
	l.begin(b, size, listHeader)
	l.want = int(binary.LittleEndian.Uint16(b[4:]))
	return nil
}

func (l *listpack) next(num *[24]byte) ([]byte, bool, error) {
	text, v, isInt, ok, err := l.read()
	if isInt {
		text = strconv.AppendInt(num[:0], v, 10)
	}
	return text, ok, err
}

// read gives the next value as it is stored: text, or an integer.
func (l *listpack) read() (text []byte, v int64, isInt, ok bool, err error) {
	b := l.b[l.pos:]
	if len(b) == 0 {
		if l.at() < l.limit {
			return nil, 0, false, false, l.cut(1)
		}
		if l.want != 0xffff && l.want != l.count {
			err = fmt.Errorf("listpack says it has %d entries, has %d", l.want, l.count)
		}
		return nil, 0, false, false, err
	}
	enc := b[0]
	head, size := 1, uint64(0) // bytes before the text or integer, and its own
	switch {
	case enc < 0x80:
		v, isInt = int64(enc), true
	case enc < 0xc0:
		size = uint64(enc & 0x3f)
	case enc < 0xe0:
		head, isInt = 2, true
	case enc < 0xf0:
		head = 2
	case enc == 0xf0:
		head = 5
	case enc == 0xf1:
		size, isInt = 2, true
	case enc == 0xf2:
		size, isInt = 3, true
	case enc == 0xf3:
		size, isInt = 4, true
	case enc == 0xf4:
		size, isInt = 8, true
	default:
		return nil, 0, false, false, fmt.Errorf("listpack entry at %d has encoding %#02x", l.at(), enc)
	}
	if len(b) >= head {
		switch {
		case enc >= 0xc0 && enc < 0xe0: // 13 bits, signed
			v = int64(enc&0x1f)<<8 | int64(b[1])
			v = v << 51 >> 51
		case enc >= 0xe0 && enc < 0xf0:
			size = uint64(enc&0x0f)<<8 | uint64(b[1])
		case enc == 0xf0:
			size = uint64(binary.LittleEndian.Uint32(b[1:]))
		}
	}
	if len(b) < head || uint64(len(b)-head) < size {
		return nil, 0, false, false, l.cut(uint64(head) + size)
	}
	end := head + int(size)
	if isInt && size > 0 {
		v = littleInt(b[head:end])
	}
	back := backLength(end)
	if len(b)-end < back {
		return nil, 0, false, false, l.cut(uint64(end + back))
	}
	if !isBackLength(b[end:end+back], end) {
		return nil, 0, false, false, fmt.Errorf("listpack entry at %d does not end in its length", l.at())
	}
	l.pos += end + back
	l.count++
	if isInt {
		return nil, v, true, true, nil
	}
	return b[head:end:end], 0, false, true, nil
}

// backLength is how many bytes lpEncodeBacklen takes for n, whose limits are
// one below what the bytes could hold.
func backLength(n int) int {
	switch {
	case n <= 127:
		return 1
	case n < 1<<14-1:
		return 2
	case n < 1<<21-1:
		return 3
	case n < 1<<28-1:
		return 4
	}
	return 5
}

// isBackLength tells whether b is n, most significant group first, with the
// high bit set in all groups but that one.
func isBackLength(b []byte, n int) bool {
	for i := len(b) - 1; i >= 0; i-- {
		want := byte(n & 0x7f)
		if i > 0 {
			want |= 0x80
		}
		if b[i] != want {
			return false
		}
		n >>= 7
	}
	return n == 0
}

// zipmap reads zipmap.c's format, of servers before 2.6: count (254 = more),
// then length, field, length, free bytes (one byte), value, that many bytes
// free, then 0xff. A length is one byte, or 254 and four, little endian.
type zipmap struct {
	blob
	want int
}

func (z *zipmap) open(b []byte, size int) error {
	if size < 2 || len(b) == size && b[size-1] != endMark {
		return fmt.Errorf("zipmap of %d bytes without header and end mark", size)
	}
	z.begin(b, size, 1)
	z.want = int(b[0])
	return nil
}

func (z *zipmap) next(*[24]byte) ([]byte, bool, error) {
	b := z.b[z.pos:]
	if len(b) == 0 {
		if z.at() < z.limit {
			return nil, false, z.cut(1)
		}
		if z.want < 254 && 2*z.want != z.count {
			return nil, false, fmt.Errorf("zipmap says it has %d fields, has %d", z.want, (z.count+1)/2)
		}
		return nil, false, nil
	}
	n, at := uint64(b[0]), 1
	switch n {
	case 254:
		if len(b) < 5 {
			return nil, false, z.cut(5)
		}
		n, at = uint64(binary.LittleEndian.Uint32(b[1:])), 5
	case 255:
		return nil, false, fmt.Errorf("zipmap entry at %d has length byte 0xff", z.at())
	}
	free := 0
	if z.count%2 == 1 { // a value
		if len(b) == at {
			return nil, false, z.cut(uint64(at + 1))
		}
		free = int(b[at])
		at++
	}
	if uint64(len(b)-at) < n+uint64(free) {
		return nil, false, z.cut(uint64(at+free) + n)
	}
	end := at + int(n)
	z.pos += end + free
	z.count++
	return b[at:end:end], true, nil
}
