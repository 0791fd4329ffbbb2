package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Options of a Decoder. The zero value works.
type Options struct {
	// MaxBytes bounds the encoded size of one value, of one key, and of a
	// string once decompressed. 0 = 1 GiB. A larger one is ErrTooLarge.
	MaxBytes int64
	// NoStringPayload leaves Entry.Payload nil for plain strings, which spares
	// their second checksum where only Entry.String is used.
	NoStringPayload bool
	// OnAux is told each AUX field: "redis-ver", "repl-stream-db", "lua" (the
	// body of a script) and others. Both slices are valid during the call.
	OnAux func(key, value []byte)
	// OnFunction is told each function library as a payload that FUNCTION
	// RESTORE takes, valid during the call.
	OnFunction func(payload []byte)
}

// defaultMaxBytes is twice what a Redis string can be.
const defaultMaxBytes = 1 << 30

// Boundary is a place between two entries from which Resume can go on. The
// zero Boundary is the file's beginning.
type Boundary struct {
	Offset  int64 // bytes before it
	DB      int   // selected database there
	Version int   // RDB version of the header; 0 = the header is still to come
}

// Entry is one key and its value. It and all its slices are valid until the
// next call of Next.
type Entry struct {
	DB       int
	Key      []byte
	ExpireMS int64  // deadline, ms since 1970; 0 = none
	Type     byte   // one of the Type constants
	Payload  []byte // as DUMP would give it: type, body as it was in the file, version, CRC64
	IsString bool   // Type is TypeString: String holds the value
	String   []byte // a plain string's text, integers and LZF decoded; else nil
	Idle     int64  // seconds since the last access (LRU policies), or -1
	Freq     int    // LFU counter, 0 to 255, or -1
	End      Boundary
}

// Decoder reads the entries of one RDB file.
type Decoder struct {
	s     source
	o     Options
	at    Boundary
	item  int64 // offset of the type or opcode in hand
	typ   int   // that byte, or NoType
	sum   uint64
	check bool // sum covers the file from its first byte
	err   error

	entry Entry
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
	limit := int(min(o.MaxBytes, math.MaxInt/8))
	return &Decoder{s: newSource(r, at.Offset, limit), o: o, at: at, check: at == Boundary{}}
}

// Boundary is where the last entry ended, or where reading began.
func (d *Decoder) Boundary() Boundary { return d.at }

// Offset counts the file's bytes that have been understood so far; after
// io.EOF it is the file's size.
func (d *Decoder) Offset() int64 { return d.s.base + int64(d.s.keep) }

// Version is the RDB version of the file, or 0 while the header has not been
// read.
func (d *Decoder) Version() int { return d.at.Version }

// Next gives the next entry. It returns io.EOF after the end mark, a good
// footer (the CRC64 of the whole file, zero where the server had checksums
// switched off, absent before version 5) and the end of the reader. What
// cannot be understood is a *FormatError; an error of the reader other than
// io.EOF is returned as it is. Every error is final.
func (d *Decoder) Next() (*Entry, error) {
	if d.err != nil {
		return nil, d.err
	}
	d.giveBack()
	d.s.shrink()
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

// place adds to err where it was met, unless it is the end or the reader's own.
func (d *Decoder) place(err error) error {
	if err == io.EOF || err == d.s.err {
		return err
	}
	return &FormatError{Offset: d.item, Type: d.typ, At: d.s.offset(), Err: err}
}

// settle takes what has been read into the checksum and lets go of it.
func (d *Decoder) settle() {
	if d.check {
		d.sum = CRC64(d.sum, d.s.buf[d.s.keep:d.s.pos])
	}
	d.s.keep = d.s.pos
}

func (d *Decoder) next() (*Entry, error) {
	d.item, d.typ = d.s.offset(), NoType
	if d.at.Version == 0 {
		if err := d.header(); err != nil {
			return nil, err
		}
	}
	e := &d.entry
	*e = Entry{Idle: -1, Freq: -1}
	var attrs byte // the opcode that last said something about the coming key
	for {
		d.item, d.typ = d.s.offset(), NoType
		typ, err := d.s.readByte()
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
		d.settle()
	}
}

func (d *Decoder) header() error {
	const size = len("REDIS0007")
	if err := d.s.fill(size); err != nil {
		return err
	}
	h := string(d.s.buf[d.s.pos : d.s.pos+size])
	v, err := strconv.ParseUint(h[5:], 10, 16)
	if h[:5] != "REDIS" || err != nil || v == 0 {
		return fmt.Errorf("header %q, expected REDIS and a version of 4 digits", h)
	}
	d.s.pos += size
	d.settle()
	d.at = Boundary{Offset: d.s.offset(), Version: int(v)}
	return nil
}

// attribute reads an opcode that belongs to the coming key.
func (d *Decoder) attribute(e *Entry, op byte) error {
	switch op {
	case opExpireMS:
		v, err := d.s.readUint64()
		e.ExpireMS = deadline(int64(v))
		return err
	case opExpire:
		if err := d.s.fill(4); err != nil {
			return err
		}
		e.ExpireMS = deadline(int64(int32(binary.LittleEndian.Uint32(d.s.buf[d.s.pos:]))) * 1000)
		d.s.pos += 4
		return nil
	case opFreq:
		v, err := d.s.readByte()
		e.Freq = int(v)
		return err
	}
	v, err := d.s.readLength()
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
	s := &d.s
	switch op {
	case opSelectDB:
		v, err := s.readLength()
		if err == nil && v > math.MaxInt32 {
			err = fmt.Errorf("database %d", v)
		}
		if err == nil {
			d.at.DB = int(v)
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
		if err := d.s.skipString(); err != nil {
			return err
		}
		return d.s.skipString()
	}
	text, err := d.s.appendString(d.text[:0])
	d.text = text
	if err != nil {
		return err
	}
	n := len(text)
	d.text, err = d.s.appendString(text)
	if err == nil {
		d.o.OnAux(d.text[:n:n], d.text[n:])
	}
	return err
}

func (d *Decoder) function() error {
	d.settle()
	if err := d.s.skipString(); err != nil {
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
	if !readable(typ) {
		return ErrUnknownType
	}
	s := &d.s
	if d.text, err = s.appendString(d.text[:0]); err != nil {
		return err
	}
	if len(d.text) > s.max {
		return ErrTooLarge
	}
	d.settle()
	e.DB, e.Key, e.Type, e.IsString = d.at.DB, d.text, typ, typ == TypeString
	var h stringHead
	if e.IsString {
		if h, err = s.readStringHead(); err == nil {
			err = s.skip(h.size)
		}
	} else {
		err = s.skipValue(typ)
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
	e.Payload = d.lend(typ, !e.IsString || !d.o.NoStringPayload)
	d.at.Offset = s.offset()
	e.End = d.at
	return nil
}

// decode sets the text of a plain string that has just been passed.
func (d *Decoder) decode(e *Entry, h stringHead) (err error) {
	text := d.s.buf[d.s.pos-h.size : d.s.pos]
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
		if h.full > uint64(d.s.max) {
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
	s := &d.s
	if !build {
		d.settle()
		return nil
	}
	body := s.buf[s.keep:s.pos]
	sum := crcTables[0][typ]
	if d.check {
		d.sum, sum = crc64Pair(d.sum, sum, body)
	} else {
		sum = CRC64(sum, body)
	}
	tail := s.buf[s.pos : s.pos+dumpTail]
	copy(d.under[:], tail)
	d.lent = true
	binary.LittleEndian.PutUint16(tail, uint16(d.at.Version))
	binary.LittleEndian.PutUint64(tail[2:], CRC64(sum, tail[:2]))
	s.buf[s.keep-1] = typ
	p := s.buf[s.keep-1 : s.pos+dumpTail : s.pos+dumpTail]
	s.keep = s.pos
	return p
}

func (d *Decoder) giveBack() {
	if d.lent {
		copy(d.s.buf[d.s.pos:], d.under[:])
		d.lent = false
	}
}

// footer reads what follows the end mark and checks that nothing follows that.
func (d *Decoder) footer() error {
	d.settle()
	if d.at.Version >= 5 {
		stored, err := d.s.readUint64()
		if err != nil {
			return err
		}
		if d.check && stored != 0 && stored != d.sum {
			return checksumError(d.sum, stored)
		}
		d.s.keep = d.s.pos
	}
	switch err := d.s.fill(1); {
	case err == nil:
		return fmt.Errorf("more bytes follow the end of the file")
	case d.s.err == io.EOF:
		return io.EOF
	default:
		return err
	}
}
