package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"unsafe"
)

// Element is one part of a value. Its slices and Stream are valid during the
// call only.
type Element struct {
	A      []byte         // string: the text; list, set: the member; zset: the member; hash: the field
	B      []byte         // hash: the field's value
	Score  float64        // zset
	Stream *StreamElement // stream
}

// Elements decodes the body of a value of type typ, as ParseDump or a file
// gives it, and calls fn for each element: once for a string, in order for a
// list, in stored order for the others. Members that the server keeps as
// integers come as decimal text. It holds no more of the value than one packed
// node or string decompressed, 1 GiB at most. N counts the elements (of a stream its entries).
//
// What is out of bounds, and bytes behind the value, are a *FormatError; then
// fn may have been called for what came before. Modules give ErrModule and
// unknown types ErrUnknownType, both inside a *FormatError and before any call
// of fn. An error of fn ends the walk and is returned as it is.
func Elements(typ byte, body []byte, fn func(Element) error) (kind Kind, n int64, err error) {
	kind = KindOf(typ)
	switch {
	case kind == KindModule:
		return kind, 0, &FormatError{Type: int(typ), Err: ErrModule}
	case !readable(typ):
		return kind, 0, &FormatError{Type: int(typ), Err: ErrUnknownType}
	}
	w := walkers.Get().(*walker)
	w.source = source{buf: body, end: len(body), max: defaultMaxBytes}
	w.fn = fn
	if err = w.walk(typ); err == nil && w.pos != w.end {
		err = fmt.Errorf("%d bytes follow the value", w.end-w.pos)
	}
	n = w.n
	switch {
	case w.fnErr != nil:
		err = w.fnErr
	case err != nil:
		err = &FormatError{Type: int(typ), At: w.offset(), Err: err}
	}
	w.release()
	return kind, n, err
}

var walkers = sync.Pool{New: func() any { return new(walker) }}

// walker is the state of one Elements call.
type walker struct {
	source
	fn    func(Element) error
	fnErr error
	n     int64

	text   [2][]byte // decoded strings: member or field, and value
	num    [2][24]byte
	blob   []byte // a packed node, decompressed
	list   listpack
	zip    ziplist
	stream streamWalker
}

// release gives w back without what belongs to the caller, or what one big
// value has made of its buffers.
func (w *walker) release() {
	w.source, w.fn, w.fnErr, w.n = source{}, nil, nil, 0
	w.list, w.zip = listpack{}, ziplist{}
	if cap(w.text[0])+cap(w.text[1])+cap(w.blob)+w.stream.size() > windowKeep {
		return
	}
	w.stream.reset()
	walkers.Put(w)
}

func (w *walker) emit(e Element) error {
	w.n++
	return w.call(e)
}

func (w *walker) call(e Element) error {
	w.fnErr = w.fn(e)
	return w.fnErr
}

func (w *walker) walk(typ byte) error {
	switch typ {
	case TypeString:
		v, err := w.readString(0)
		if err != nil {
			return err
		}
		return w.emit(Element{A: v})
	case TypeList, TypeSet:
		return w.counted(w.member)
	case TypeHash:
		return w.counted(w.pair)
	case TypeZSet:
		return w.counted(w.textScored)
	case TypeZSet2:
		return w.counted(w.scored)
	case TypeListQuicklist:
		return w.counted(func() error { return w.packed(&w.zip, each) })
	case TypeListQuicklist2:
		return w.counted(w.quicklist2)
	case TypeListZiplist:
		return w.packed(&w.zip, each)
	case TypeSetListpack:
		return w.packed(&w.list, each)
	case TypeHashZiplist:
		return w.packed(&w.zip, pairs)
	case TypeHashListpack:
		return w.packed(&w.list, pairs)
	case TypeZSetZiplist:
		return w.packed(&w.zip, scores)
	case TypeZSetListpack:
		return w.packed(&w.list, scores)
	case TypeSetIntset:
		return w.intset()
	case TypeHashZipmap:
		return w.zipmap()
	}
	return w.walkStream(typ)
}

// counted reads a count and calls one that many times.
func (w *walker) counted(one func() error) error {
	n, err := w.readLength()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := one(); err != nil {
			return err
		}
	}
	return nil
}

// readString reads a string: a part of the body where it is stored plainly,
// else decoded into buffer i.
func (w *walker) readString(i int) ([]byte, error) {
	at := w.pos
	h, err := w.readStringHead()
	if err != nil {
		return nil, err
	}
	if h.form == formRaw {
		if err := w.skip(h.size); err != nil {
			return nil, err
		}
		return w.buf[w.pos-h.size : w.pos : w.pos], nil
	}
	w.pos = at
	w.text[i], err = w.appendString(w.text[i][:0])
	return w.text[i], err
}

// readBlob reads the string that a packed node is stored as.
func (w *walker) readBlob() (b []byte, err error) {
	w.text[0], w.blob = w.blob, w.text[0]
	b, err = w.readString(0)
	w.text[0], w.blob = w.blob, w.text[0]
	return b, err
}

func (w *walker) member() error {
	v, err := w.readString(0)
	if err != nil {
		return err
	}
	return w.emit(Element{A: v})
}

func (w *walker) pair() error {
	f, err := w.readString(0)
	if err != nil {
		return err
	}
	v, err := w.readString(1)
	if err != nil {
		return err
	}
	return w.emit(Element{A: f, B: v})
}

func (w *walker) scored() error {
	m, err := w.readString(0)
	if err != nil {
		return err
	}
	bits, err := w.readUint64()
	if err != nil {
		return err
	}
	return w.emit(Element{A: m, Score: math.Float64frombits(bits)})
}

func (w *walker) textScored() error {
	m, err := w.readString(0)
	if err != nil {
		return err
	}
	score, err := w.readTextScore()
	if err != nil {
		return err
	}
	return w.emit(Element{A: m, Score: score})
}

func (w *walker) readTextScore() (float64, error) {
	n, err := w.readByte()
	if err != nil {
		return 0, err
	}
	switch n {
	case scoreNaN:
		return math.NaN(), nil
	case scorePosInf:
		return math.Inf(1), nil
	case scoreNegInf:
		return math.Inf(-1), nil
	}
	if err := w.skip(int(n)); err != nil {
		return 0, err
	}
	return parseScore(w.buf[w.pos-int(n) : w.pos])
}

// parseScore reads a score as strtod does for what servers print: decimal,
// "inf", "-inf", "nan".
func parseScore(text []byte) (float64, error) {
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(text), len(text)), 64)
	if err != nil {
		if ne := err.(*strconv.NumError); ne.Err == strconv.ErrRange {
			return f, nil // strtod overflows to infinity without complaint
		}
		return 0, fmt.Errorf("score %q", text)
	}
	return f, nil
}

func (w *walker) quicklist2() error {
	container, err := w.readLength()
	if err != nil {
		return err
	}
	switch container {
	case nodePlain:
		return w.member()
	case nodePacked:
		return w.packed(&w.list, each)
	}
	return fmt.Errorf("quicklist container %d", container)
}

// packer is a ziplist or listpack being read.
type packer interface {
	open(b []byte) error
	// next gives the next value, rendered into num when it is an integer;
	// ok is false at the end, whose bookkeeping has then been found right.
	next(num *[24]byte) (v []byte, ok bool, err error)
}

// shape says how the values of a packed node make elements.
type shape uint8

const (
	each   shape = iota // one each
	pairs               // field, value
	scores              // member, score
)

func (w *walker) packed(p packer, sh shape) error {
	b, err := w.readBlob()
	if err != nil {
		return err
	}
	if err := p.open(b); err != nil {
		return err
	}
	for {
		e := Element{}
		var ok bool
		if e.A, ok, err = p.next(&w.num[0]); err != nil || !ok {
			return err
		}
		if sh != each {
			if e.B, ok, err = p.next(&w.num[1]); err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("odd number of values in a packed node")
			}
		}
		if sh == scores {
			if e.Score, err = parseScore(e.B); err != nil {
				return err
			}
			e.B = nil
		}
		if err := w.emit(e); err != nil {
			return err
		}
	}
}

// intset reads intset.c's format: width of a number in bytes and their count
// (LE32 both), then the numbers, little endian.
func (w *walker) intset() error {
	b, err := w.readBlob()
	if err != nil {
		return err
	}
	if len(b) < 8 {
		return io.ErrUnexpectedEOF
	}
	width, n := int(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	if width != 2 && width != 4 && width != 8 {
		return fmt.Errorf("intset of numbers of %d bytes", width)
	}
	if b = b[8:]; uint64(len(b)) != n*uint64(width) {
		return fmt.Errorf("intset of %d numbers of %d bytes holds %d bytes", n, width, len(b))
	}
	for ; len(b) > 0; b = b[width:] {
		v := strconv.AppendInt(w.num[0][:0], littleInt(b[:width]), 10)
		if err := w.emit(Element{A: v}); err != nil {
			return err
		}
	}
	return nil
}
