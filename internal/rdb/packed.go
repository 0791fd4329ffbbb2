package rdb

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// ziplist reads the format of ziplist.c: total bytes (LE32), offset of the last
// entry (LE32), count (LE16, 65535 = unknown), entries, 0xff. It checks what
// the server's deep sanitizing checks.
type ziplist struct {
	b     []byte
	pos   int
	prev  int // where the entry before pos began
	last  int // where the header says the last entry begins
	count int
	want  int
}

const (
	zipHeader = 10
	zipEnd    = 0xff
)

func (z *ziplist) open(b []byte) error {
	if len(b) < zipHeader+1 || b[len(b)-1] != zipEnd {
		return fmt.Errorf("ziplist of %d bytes without header and end mark", len(b))
	}
	if n := binary.LittleEndian.Uint32(b); uint64(n) != uint64(len(b)) {
		return fmt.Errorf("ziplist says it has %d bytes, has %d", n, len(b))
	}
	*z = ziplist{
		b: b[:len(b)-1], pos: zipHeader, prev: zipHeader,
		last: int(binary.LittleEndian.Uint32(b[4:])), want: int(binary.LittleEndian.Uint16(b[8:])),
	}
	return nil
}

func (z *ziplist) next(num *[24]byte) ([]byte, bool, error) {
	b := z.b[z.pos:]
	if len(b) == 0 {
		if z.want != 0xffff && z.want != z.count {
			return nil, false, fmt.Errorf("ziplist says it has %d entries, has %d", z.want, z.count)
		}
		if z.count > 0 && z.last != z.prev {
			return nil, false, fmt.Errorf("ziplist says its last entry is at %d, it is at %d", z.last, z.prev)
		}
		return nil, false, nil
	}
	cut := func() ([]byte, bool, error) {
		return nil, false, fmt.Errorf("ziplist entry at %d leaves the list", z.pos)
	}
	// The length of the entry before: one byte, or 254 and four.
	back, at := uint64(b[0]), 1
	if b[0] == 254 {
		if len(b) < 5 {
			return cut()
		}
		back, at = uint64(binary.LittleEndian.Uint32(b[1:])), 5
	}
	if b[0] == zipEnd || back != uint64(z.pos-z.prev) {
		return nil, false, fmt.Errorf("ziplist entry at %d says %d bytes precede it, %d do", z.pos, back, z.pos-z.prev)
	}
	if len(b) == at {
		return cut()
	}
	enc := b[at]
	var text, size uint64 // of a string; or bytes of an integer
	switch enc >> 6 {
	case 0:
		text, at = uint64(enc&0x3f), at+1
	case 1:
		if len(b) < at+2 {
			return cut()
		}
		text, at = uint64(enc&0x3f)<<8|uint64(b[at+1]), at+2
	case 2:
		if len(b) < at+5 {
			return cut()
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
			return nil, false, fmt.Errorf("ziplist entry at %d has encoding %#02x", z.pos, enc)
		}
		if uint64(len(b)-at) < size {
			return cut()
		}
		v := int64(enc&0x0f) - 1 // 0xf1 to 0xfd hold 0 to 12
		if size > 0 {
			v = littleInt(b[at : at+int(size)])
		}
		z.step(at + int(size))
		return strconv.AppendInt(num[:0], v, 10), true, nil
	}
	if uint64(len(b)-at) < text {
		return cut()
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
	b     []byte
	pos   int
	count int
	want  int
}

const (
	listHeader = 6
	listEnd    = 0xff
)

func (l *listpack) open(b []byte) error {
	if len(b) < listHeader+1 || b[len(b)-1] != listEnd {
		return fmt.Errorf("listpack of %d bytes without header and end mark", len(b))
	}
	if n := binary.LittleEndian.Uint32(b); uint64(n) != uint64(len(b)) {
		return fmt.Errorf("listpack says it has %d bytes, has %d", n, len(b))
	}
	*l = listpack{b: b[:len(b)-1], pos: listHeader, want: int(binary.LittleEndian.Uint16(b[4:]))}
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
		return nil, 0, false, false, fmt.Errorf("listpack entry at %d has encoding %#02x", l.pos, enc)
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
		return nil, 0, false, false, fmt.Errorf("listpack entry at %d leaves the list", l.pos)
	}
	end := head + int(size)
	if isInt && size > 0 {
		v = littleInt(b[head:end])
	}
	back := backLength(end)
	if len(b)-end < back || !isBackLength(b[end:end+back], end) {
		return nil, 0, false, false, fmt.Errorf("listpack entry at %d does not end in its length", l.pos)
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
func (w *walker) zipmap() error {
	b, err := w.readBlob()
	if err != nil {
		return err
	}
	if len(b) < 2 || b[len(b)-1] != 0xff {
		return fmt.Errorf("zipmap of %d bytes without header and end mark", len(b))
	}
	pos, count := 1, 0
	item := func(extra int) ([]byte, bool) { // length, extra bytes, text
		n, head := uint64(b[pos]), 1
		if n == 254 && len(b)-pos > 5 {
			n, head = uint64(binary.LittleEndian.Uint32(b[pos+1:])), 5
		} else if n >= 254 {
			return nil, false
		}
		from := pos + head + extra
		if from > len(b)-1 || uint64(len(b)-1-from) < n {
			return nil, false
		}
		pos = from + int(n)
		return b[from:pos:pos], true
	}
	for pos < len(b)-1 {
		at := pos
		field, ok := item(0)
		if !ok || pos == len(b)-1 {
			return fmt.Errorf("zipmap field at %d leaves the map", at)
		}
		value, ok := item(1)
		if !ok {
			return fmt.Errorf("zipmap value of the field at %d leaves the map", at)
		}
		free := int(b[pos-len(value)-1])
		if len(b)-1-pos < free {
			return fmt.Errorf("zipmap value of the field at %d leaves the map", at)
		}
		pos += free
		count++
		if err := w.emit(Element{A: field, B: value}); err != nil {
			return err
		}
	}
	if n := int(b[0]); n < 254 && n != count {
		return fmt.Errorf("zipmap says it has %d fields, has %d", n, count)
	}
	return nil
}
