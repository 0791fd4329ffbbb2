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
	A     []byte  // string: the text, or the next piece of it; list, set: the member; zset: the member; hash: the field
	B     []byte  // hash: the field's value
	Score float64 // zset
	// DeadlineMS is when a hash's field expires, in ms since 1970; 0 = never.
	DeadlineMS int64
	Stream     *StreamElement // stream
	More       bool           // string: another piece follows (Decoder.Elements only)
}

// Elements decodes the body of a value of type typ, as ParseDump or a file
// gives it, and calls fn for each element: once for a string, in order for a
// list, in stored order for the others. Members that the server keeps as
// integers come as decimal text. Beside the body it holds one string decompressed,
// 1 GiB at most, or 256 KiB of a packed node. N counts the elements (of a stream its entries).
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
	w.buf, w.keep, w.pos, w.end = body, 0, 0, len(body)
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

var walkers = sync.Pool{New: func() any {
	return &walker{source: source{max: defaultMaxBytes}, whole: wholeSize}
}}

// wholeSize is up to which size the text of a packed node is held whole.
const wholeSize = 256 << 10

// walker is the state of one Elements call.
type walker struct {
	source
	whole int // wholeSize, or less in tests
	fn    func(Element) error
	fnErr error
	n     int64

	text   [2][]byte // decoded strings: member or field, and value
	num    [3][24]byte
	blob   []byte // a packed node, decompressed
	list   listpack
	zip    ziplist
	zipmap zipmap
	ints   blob
	stream streamWalker

	long bool // the text of the packed node in hand is not held whole:
	far  *far // it is read through this
}

// far reads a text that is not held whole.
type far struct {
	text
	in source // a window over the text
}

// openFar begins to read the text behind h.
func (w *walker) openFar(h stringHead) error {
	if w.far == nil {
		w.far = &far{in: newSource(nil, 0, 0)}
	}
	f := w.far
	f.in = source{r: &f.text, buf: f.in.buf, low: head, keep: head, pos: head, end: head, base: -head, max: w.max}
	w.long = true
	return f.text.open(&w.source, h)
}

// release gives w back without what belongs to the caller, or what one big
// value has made of its buffers.
func (w *walker) release() {
	w.buf, w.fn, w.fnErr, w.n = nil, nil, nil, 0
	w.list.b, w.zip.b, w.zipmap.b, w.ints.b = nil, nil, nil, nil
	size := cap(w.text[0]) + cap(w.text[1]) + cap(w.blob) + w.stream.size()
	if w.long {
		w.long = false
		w.far.text = text{win: w.far.win}
		size += cap(w.far.in.buf)
	}
	if size > windowKeep {
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
		if w.r != nil {
			return w.pieces()
		}
		return w.member()
	case TypeList, TypeSet:
		return w.counted(w.member)
	case TypeHash:
		return w.counted(w.pair)
	case TypeZSet:
		return w.counted(w.textScored)
	case TypeZSet2:
		return w.counted(w.scored)
	case TypeListQuicklist:
		return w.counted(func() error { return w.packed(&w.zip, &w.zip.blob, each) })
	case TypeListQuicklist2:
		return w.counted(w.quicklist2)
	case TypeListZiplist:
		return w.packed(&w.zip, &w.zip.blob, each)
	case TypeSetListpack:
		return w.packed(&w.list, &w.list.blob, each)
	case TypeHashZiplist:
		return w.packed(&w.zip, &w.zip.blob, pairs)
	case TypeHashListpack:
		return w.packed(&w.list, &w.list.blob, pairs)
	case TypeZSetZiplist:
		return w.packed(&w.zip, &w.zip.blob, scores)
	case TypeZSetListpack:
		return w.packed(&w.list, &w.list.blob, scores)
	case TypeHashFieldTTL:
		return w.fieldTTLs()
	case TypeHashFieldTTLPacked:
		if _, err := w.readUint64(); err != nil { // the first deadline
			return err
		}
		return w.packed(&w.list, &w.list.blob, timed)
	case TypeHashFieldTTLPacked0:
		return w.packed(&w.list, &w.list.blob, timed)
	case TypeHashValkey:
		return w.counted(w.valkeyField)
	case TypeSetIntset:
		return w.intset()
	case TypeHashZipmap:
		return w.packed(&w.zipmap, &w.zipmap.blob, pairs)
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
		w.keep = w.pos // lets go of the element before
		if w.r != nil {
			w.slim()
		}
		if err := one(); err != nil {
			return err
		}
	}
	return nil
}

// slim gives back what one big element has made of the buffers.
func (w *walker) slim() {
	w.shrink()
	for i := range w.text {
		if cap(w.text[i]) > windowKeep {
			w.text[i] = nil
		}
	}
}

// pieces gives a string in pieces as they arrive, unless it is small.
func (w *walker) pieces() error {
	h, err := w.readStringHead()
	if err != nil {
		return err
	}
	left := h.length()
	if left <= min(pieceSize, w.whole) {
		text, err := w.readText(h, &w.text[0])
		if err != nil {
			return err
		}
		return w.emit(Element{A: text})
	}
	if err := w.openFar(h); err != nil {
		return err
	}
	w.n++
	for in := &w.far.in; left > 0; {
		if err := in.fill(1); err != nil {
			return err
		}
		piece := in.buf[in.pos:min(in.end, in.pos+pieceSize)]
		in.pos += len(piece)
		in.keep = in.pos
		if left -= len(piece); left == 0 && w.far.left > 0 {
			return fmt.Errorf("%w: more follows the last of %d bytes", errLZF, h.full)
		}
		if err := w.call(Element{A: piece, More: left > 0}); err != nil {
			return err
		}
	}
	return nil
}

// pieceSize bounds the pieces that a string comes in.
const pieceSize = 64 << 10

// readString reads a string: a part of the body where it is stored plainly,
// else decoded into buffer i.
func (w *walker) readString(i int) ([]byte, error) {
	h, err := w.readStringHead()
	if err != nil {
		return nil, err
	}
	if h.form == formRaw {
		if err := w.fill(h.size); err != nil {
			return nil, err
		}
		w.pos += h.size
		return w.buf[w.pos-h.size : w.pos : w.pos], nil
	}
	w.text[i], err = w.appendText(w.text[i][:0], h)
	return w.text[i], err
}

// readText is readString behind the head, with the buffer to decode into.
func (w *walker) readText(h stringHead, buf *[]byte) (text []byte, err error) {
	if h.form == formRaw {
		if err := w.fill(h.size); err != nil {
			return nil, err
		}
		w.pos += h.size
		return w.buf[w.pos-h.size : w.pos : w.pos], nil
	}
	*buf, err = w.appendText((*buf)[:0], h)
	return *buf, err
}

func (w *walker) member() error {
	v, err := w.readString(0)
	if err != nil {
		return err
	}
	return w.emit(Element{A: v})
}

// An element of two parts is read once more when the second has moved the
// window away from under the first: then all of it is at hand.

func (w *walker) pair() error {
	return w.pairUntil(func() (int64, error) { return 0, nil })
}

// pairUntil is pair with a deadline behind the two.
func (w *walker) pairUntil(deadline func() (int64, error)) error {
	for {
		moves := w.moves
		f, err := w.readString(0)
		if err != nil {
			return err
		}
		v, err := w.readString(1)
		if err != nil {
			return err
		}
		ms, err := deadline()
		if err != nil {
			return err
		}
		if w.moves == moves {
			return w.emit(Element{A: f, B: v, DeadlineMS: ms})
		}
		w.pos = w.keep
	}
}

func (w *walker) scored() error {
	for {
		moves := w.moves
		m, err := w.readString(0)
		if err != nil {
			return err
		}
		bits, err := w.readUint64()
		if err != nil {
			return err
		}
		if w.moves == moves {
			return w.emit(Element{A: m, Score: math.Float64frombits(bits)})
		}
		w.pos = w.keep
	}
}

func (w *walker) textScored() error {
	for {
		moves := w.moves
		m, err := w.readString(0)
		if err != nil {
			return err
		}
		score, err := w.readTextScore()
		if err != nil {
			return err
		}
		if w.moves == moves {
			return w.emit(Element{A: m, Score: score})
		}
		w.pos = w.keep
	}
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
		return w.packed(&w.list, &w.list.blob, each)
	}
	return fmt.Errorf("quicklist container %d", container)
}

// packer is a ziplist, listpack or zipmap being read.
type packer interface {
	// open is given what is at hand of a text of size bytes: its header at least.
	open(b []byte, size int) error
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
	timed               // field, value, deadline
)

// packed gives the elements of a packed node. B is the blob that p reads.
func (w *walker) packed(p packer, b *blob, sh shape) error {
	text, size, err := w.openBlob()
	if err != nil {
		return err
	}
	if err := p.open(text, size); err != nil {
		return err
	}
	for {
		var was place
		if w.long {
			was = b.place
		}
		e := Element{}
		var ok bool
		if e.A, ok, err = p.next(&w.num[0]); err == nil && ok && sh != each {
			if e.B, ok, err = p.next(&w.num[1]); err == nil && !ok {
				return fmt.Errorf("odd number of values in a packed node")
			}
		}
		var at []byte
		if err == nil && ok && sh == timed {
			if at, ok, err = p.next(&w.num[2]); err == nil && !ok {
				return fmt.Errorf("a field without deadline in a packed node")
			}
		}
		if err != nil {
			if again, err := w.again(b, was, err); !again {
				return err
			}
			continue
		}
		if !ok {
			return w.closeBlob(b, true)
		}
		if sh == scores {
			if e.Score, err = parseScore(e.B); err != nil {
				return err
			}
			e.B = nil
		}
		if sh == timed {
			if e.DeadlineMS, err = parseDeadline(at); err != nil {
				return err
			}
		}
		if err := w.emit(e); err != nil {
			return err
		}
	}
}

// intset reads intset.c's format: width of a number in bytes and their count
// (LE32 both), then the numbers, little endian.
func (w *walker) intset() error {
	text, size, err := w.openBlob()
	if err != nil {
		return err
	}
	if size < 8 {
		return io.ErrUnexpectedEOF
	}
	width, n := int(binary.LittleEndian.Uint32(text)), uint64(binary.LittleEndian.Uint32(text[4:]))
	if width != 2 && width != 4 && width != 8 {
		return fmt.Errorf("intset of numbers of %d bytes", width)
	}
	if uint64(size-8) != n*uint64(width) {
		return fmt.Errorf("intset of %d numbers of %d bytes holds %d bytes", n, width, size-8)
	}
	b := &w.ints
	*b = blob{place: place{pos: 8}, b: text, limit: size}
	for {
		for ; len(b.b)-b.pos >= width; b.pos += width {
			v := strconv.AppendInt(w.num[0][:0], littleInt(b.b[b.pos:b.pos+width]), 10)
			if err := w.emit(Element{A: v}); err != nil {
				return err
			}
		}
		if b.at() == b.limit {
			return w.closeBlob(b, false)
		}
		if err := w.refill(b, width); err != nil {
			return err
		}
	}
}
