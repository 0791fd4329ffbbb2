package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Decoder reads the entries of one RDB file.
type Decoder struct {
	w    walker // over the file
	o    Options
	at   Boundary
	hold int   // bound of a value that is held; below 0 none is
	max  int   // bound of everything else that is held
	db   int   // selected
	item int64 // offset of the type or opcode in hand
	typ  int   // that byte, or NoType
	err  error

	checked bool // the footer held the right checksum

	entry Entry
	open  bool   // the value of entry is still to be read
	text  []byte // keys, and whatever is decoded outside entries
	value []byte // Entry.String where it is not in the file as it is
	under [dumpTail]byte
	lent  bool // under holds what the footer of a payload covers
}

// NewDecoder reads an RDB file from its first byte. It reads ahead: r should
// end where the file does, and bytes behind its footer are an error.
func NewDecoder(r io.Reader, o Options) *Decoder { return Resume(r, Boundary{}, o) }

// Resume reads on at a boundary got from Entry.End or Decoder.Boundary of the
// same file; r gives the bytes from at.Offset on. What came before is not seen
// again, so that the file's checksum is not verified, and AUX fields and
// functions before the boundary are not told again.
func Resume(r io.Reader, at Boundary, o Options) *Decoder {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	d := &Decoder{o: o, at: at, db: at.DB, max: int(min(o.MaxBytes, math.MaxInt/8))}
	d.w.whole = wholeSize
	d.w.source = newSource(r, at.Offset, d.max)
	d.w.check = at == Boundary{}
	switch {
	case o.Hold == 0:
		d.hold = d.max
	case o.Hold < 0:
		d.hold = -1
	default:
		d.hold = int(min(o.Hold, int64(d.max)))
	}
	return d
}

// Boundary is where the last entry whose value has been passed ended, or where
// reading began.
func (d *Decoder) Boundary() Boundary { return d.at }

// Offset counts the file's bytes that have been understood so far; after
// io.EOF it is the file's size.
func (d *Decoder) Offset() int64 { return d.w.base + int64(d.w.keep) }

// Checked tells, after io.EOF, whether the file's checksum was there and right.
// It is not there before version 5 and from servers that have it switched off,
// and not computed after Resume.
func (d *Decoder) Checked() bool { return d.checked }

// Version is the RDB version of the file, or 0 while the header has not been
// read.
func (d *Decoder) Version() int { return d.at.Version }

// Next gives the next entry; an unread value before it is skipped. It returns
// io.EOF after the end mark, a good footer (the CRC64 of the whole file, zero
// where the server had checksums switched off, absent before version 5) and
// the end of the reader. What cannot be understood is a *FormatError; an error
// of the reader other than io.EOF is returned as it is. Every error is final.
func (d *Decoder) Next() (*Entry, error) {
	if err := d.Skip(); err != nil {
		return nil, err
	}
	d.giveBack()
	d.w.shrink()
	if cap(d.text) > windowKeep {
		d.text = nil
	}
	e, err := d.next()
	if err != nil {
		d.err = d.place(err)
		return nil, d.err
	}
	return e, nil
}

// Skip passes the value of the entry in hand if it is still unread, holding
// nothing of it, so that its end is known. Its errors are those of Next.
func (d *Decoder) Skip() error {
	if d.err != nil || !d.open {
		return d.err
	}
	d.w.drop = true
	err := d.w.skipValue(d.entry.Type)
	d.w.drop = false
	return d.passed(err)
}

// Elements decodes the value of the entry in hand, as the function of that
// name does from a payload, with one difference: a large plain string comes in
// pieces (Element.More). Of an unread value it holds no more than one element,
// and can be called once. Errors then are those of Next, and final, fn's too:
// Resume at the Boundary reads the entry again. A module's value gives
// ErrModule and is passed over.
func (d *Decoder) Elements(fn func(Element) error) (kind Kind, n int64, err error) {
	e := &d.entry
	kind = KindOf(e.Type)
	switch {
	case d.err != nil:
		return kind, 0, d.err
	case kind == KindModule:
		err = d.place(ErrModule)
		if err := d.Skip(); err != nil {
			return kind, 0, err
		}
		return kind, 0, err
	case !e.Unread && e.IsString:
		return kind, 1, fn(Element{A: e.String})
	case !e.Unread && e.Payload != nil:
		kind, n, err = Elements(e.Type, e.Payload[1:len(e.Payload)-dumpTail], fn)
		var fe *FormatError
		if errors.As(err, &fe) && fe.Offset == 0 {
			fe.Offset, fe.At = e.Offset, e.Body+fe.At
		}
		return kind, n, err
	case !d.open:
		return kind, 0, errPassed
	}
	w := &d.w
	w.fn, w.fnErr, w.n = fn, nil, 0
	err = w.walk(e.Type)
	if w.fnErr != nil {
		d.err = w.fnErr
	} else {
		_ = d.passed(err)
	}
	w.fn, w.fnErr = nil, nil
	return kind, w.n, d.err
}

// errPassed is a second reading of a value that was not held.
var errPassed = errors.New("the value has been passed already")

// passed ends the entry in hand behind its value, whose reading came to err.
func (d *Decoder) passed(err error) error {
	if err != nil {
		d.err = d.place(err)
		return d.err
	}
	d.open = false
	d.w.settle()
	d.at.Offset, d.at.DB = d.w.offset(), d.db
	d.entry.End = d.at
	return nil
}

// place adds to err where it was met, unless it is the end or the reader's own.
func (d *Decoder) place(err error) error {
	if err == io.EOF || err == d.w.err {
		return err
	}
	return &FormatError{Offset: d.item, Type: d.typ, At: d.w.offset(), Err: err}
}

func (d *Decoder) next() (*Entry, error) {
	d.item, d.typ = d.w.offset(), NoType
	if d.at.Version == 0 {
		if err := d.header(); err != nil {
			return nil, err
		}
	}
	e := &d.entry
	*e = Entry{Idle: -1, Freq: -1}
	var attrs byte // the opcode that last said something about the coming key
	for {
		d.item, d.typ = d.w.offset(), NoType
		typ, err := d.w.readByte()
		if err != nil {
			return nil, err
		}
		d.typ = int(typ)
		switch typ {
		case opExpireMS, opExpire, opFreq, opIdle:
			attrs = typ
			err = d.attribute(e, typ)
		case opEOF:
			if attrs != 0 {
				return nil, fmt.Errorf("no key follows %s", TypeName(attrs))
			}
			return nil, d.footer()
		default:
			if typ < opSlotInfo {
				return e, d.read(e, typ)
			}
			if attrs != 0 {
				return nil, fmt.Errorf("no key follows %s", TypeName(attrs))
			}
			err = d.global(typ)
		}
		if err != nil {
			return nil, err
		}
		d.w.settle()
	}
}

func (d *Decoder) header() error {
	if err := d.w.fill(HeaderSize); err != nil {
		return err
	}
	v, err := ParseHeader(d.w.buf[d.w.pos : d.w.pos+HeaderSize])
	if err != nil {
		return err
	}
	d.w.pos += HeaderSize
	d.w.settle()
	d.at = Boundary{Offset: d.w.offset(), Version: v}
	return nil
}

// attribute reads an opcode that belongs to the coming key.
func (d *Decoder) attribute(e *Entry, op byte) error {
	switch op {
	case opExpireMS:
		v, err := d.w.readUint64()
		e.ExpireMS = deadline(int64(v))
		return err
	case opExpire:
		if err := d.w.fill(4); err != nil {
			return err
		}
		e.ExpireMS = deadline(int64(int32(binary.LittleEndian.Uint32(d.w.buf[d.w.pos:]))) * 1000)
		d.w.pos += 4
		return nil
	case opFreq:
		v, err := d.w.readByte()
		e.Freq = int(v)
		return err
	}
	v, err := d.w.readLength()
	e.Idle = int64(min(v, math.MaxInt64))
	return err
}

// deadline keeps a time long past from being read as "no deadline".
func deadline(ms int64) int64 {
	if ms == -1 { // a server's own "none"
		return 0
	}
	return max(ms, 1)
}

// global reads an opcode that belongs to no key.
func (d *Decoder) global(op byte) error {
	s := &d.w.source
	switch op {
	case opSelectDB:
		v, err := s.readLength()
		if err == nil && v > math.MaxInt32 {
			err = fmt.Errorf("database %d", v)
		}
		if err == nil {
			d.db = int(v)
		}
		return err
	case opResizeDB:
		return s.skipLengths(2)
	case opSlotInfo:
		return s.skipLengths(3)
	case opAux:
		return d.aux()
	case opFunction2:
		return d.function()
	case opModuleAux:
		if err := s.skipLengths(1); err != nil { // the module's id
			return err
		}
		when, err := s.readLength()
		if err == nil && when != moduleUInt {
			err = fmt.Errorf("module part %d where the time of loading belongs", when)
		}
		if err == nil {
			err = s.skipLengths(1)
		}
		if err == nil {
			err = s.skipModule()
		}
		return err
	}
	return ErrUnknownType
}

func (d *Decoder) aux() error {
	if d.o.OnAux == nil {
		if err := d.w.skipString(); err != nil {
			return err
		}
		return d.w.skipString()
	}
	text, err := d.w.appendString(d.text[:0])
	d.text = text
	if err != nil {
		return err
	}
	n := len(text)
	d.text, err = d.w.appendString(text)
	if err == nil {
		d.o.OnAux(d.text[:n:n], d.text[n:])
	}
	return err
}

func (d *Decoder) function() error {
	d.w.settle()
	if err := d.w.skipString(); err != nil {
		return err
	}
	if p := d.lend(opFunction2, true); d.o.OnFunction != nil {
		d.o.OnFunction(p)
	}
	d.giveBack()
	return nil
}

// read reads key and value behind a type byte.
func (d *Decoder) read(e *Entry, typ byte) (err error) {
	if !readsType(typ, d.at.Version) {
		return ErrUnknownType
	}
	s := &d.w.source
	if d.text, err = s.appendString(d.text[:0]); err != nil {
		return err
	}
	if len(d.text) > s.max {
		return ErrTooLarge
	}
	s.settle()
	e.DB, e.Key, e.Type, e.IsString = d.db, d.text, typ, typ == TypeString
	e.Offset, e.Body = d.item, s.offset()
	if d.hold >= 0 && (d.o.Want == nil || d.o.Want(e.DB, e.Key)) {
		s.max = d.hold
		err = d.readHeld(e)
		s.max = d.max
		if err != ErrTooLarge || d.o.Hold == 0 {
			return err
		}
		s.pos = s.keep // all that was looked at is still at hand
	}
	e.Unread, d.open = true, true
	return nil
}

// readHeld reads the value as a whole.
func (d *Decoder) readHeld(e *Entry) (err error) {
	s := &d.w.source
	var h stringHead
	if e.IsString {
		if h, err = s.readStringHead(); err == nil {
			err = s.skip(h.size)
		}
	} else {
		err = s.skipValue(e.Type)
	}
	if err != nil {
		return err
	}
	if s.pos-s.keep > s.max {
		return ErrTooLarge
	}
	if e.IsString {
		if err := d.decode(e, h); err != nil {
			return err
		}
	}
	e.Payload = d.lend(e.Type, !e.IsString || !d.o.NoStringPayload)
	d.at.Offset, d.at.DB = s.offset(), d.db
	e.End = d.at
	return nil
}

// decode sets the text of a plain string that has just been passed.
func (d *Decoder) decode(e *Entry, h stringHead) (err error) {
	text := d.w.buf[d.w.pos-h.size : d.w.pos]
	if cap(d.value) > windowKeep {
		d.value = nil
	}
	switch h.form {
	case formRaw:
		e.String = text[:len(text):len(text)]
		return nil
	case formInt:
		d.value = strconv.AppendInt(d.value[:0], h.num, 10)
	case formLZF:
		if h.full > uint64(d.w.max) {
			return ErrTooLarge
		}
		d.value, err = decompressLZF(d.value[:0], text, h.full)
	}
	e.String = d.value
	return err
}

// lend settles what has been kept and, with build, makes a payload of it in
// place: its type goes over the byte before (read and summed up already), its
// footer over the next bytes of the file, which giveBack puts back.
func (d *Decoder) lend(typ byte, build bool) []byte {
	s := &d.w.source
	if !build {
		d.w.settle()
		return nil
	}
	body := s.buf[s.keep:s.pos]
	sum := crcTables[0][typ]
	if s.check {
		s.sum, sum = crc64Pair(s.sum, sum, body)
	} else {
		sum = CRC64(sum, body)
	}
	tail := s.buf[s.pos : s.pos+dumpTail]
	copy(d.under[:], tail)
	d.lent = true
	version := d.at.Version
	if d.o.OldestVersion {
		version = oldestVersion(typ, version)
	}
	binary.LittleEndian.PutUint16(tail, uint16(version))
	binary.LittleEndian.PutUint64(tail[2:], CRC64(sum, tail[:2]))
	s.buf[s.keep-1] = typ
	p := s.buf[s.keep-1 : s.pos+dumpTail : s.pos+dumpTail]
	s.keep, s.low = s.pos, s.pos
	return p
}

func (d *Decoder) giveBack() {
	if d.lent {
		copy(d.w.buf[d.w.pos:], d.under[:])
		d.lent = false
	}
}

// footer reads what follows the end mark and checks that nothing follows that.
func (d *Decoder) footer() error {
	d.w.settle()
	if d.at.Version >= 5 {
		stored, err := d.w.readUint64()
		if err != nil {
			return err
		}
		if d.w.check && stored != 0 && stored != d.w.sum {
			return checksumError(d.w.sum, stored)
		}
		d.checked = d.w.check && stored != 0
		d.w.low, d.w.keep = d.w.pos, d.w.pos
	}
	switch err := d.w.fill(1); {
	case err == nil:
		return fmt.Errorf("more bytes follow the end of the file")
	case d.w.err == io.EOF:
		return io.EOF
	default:
		return err
	}
}
