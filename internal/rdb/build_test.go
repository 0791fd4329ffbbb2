package rdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// file builds an RDB file in memory; its methods append to it.
type file []byte

func newFile(version string) *file {
	f := file("REDIS" + version)
	return &f
}

func (f *file) raw(parts ...any) *file {
	*f = append(*f, enc(parts...)...)
	return f
}

// end appends the end mark and the right footer.
func (f *file) end() []byte {
	f.raw(byte(opEOF))
	return binary.LittleEndian.AppendUint64(*f, CRC64(0, *f))
}

// endUnsummed is a file of a server with checksums switched off.
func (f *file) endUnsummed() []byte { return *f.raw(byte(opEOF), make([]byte, 8)) }

// plain is text that is stored without a length before it.
type plain string

// enc encodes: byte as itself, int as a length, string as an RDB string,
// []byte and plain as they are, int64 and float as 8 bytes little endian.
func enc(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case byte:
			b = append(b, p)
		case int:
			b = appendLength(b, uint64(p))
		case uint64:
			b = appendLength(b, p)
		case int64:
			b = binary.LittleEndian.AppendUint64(b, uint64(p))
		case string:
			b = append(appendLength(b, uint64(len(p))), p...)
		case plain:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		default:
			panic(p)
		}
	}
	return b
}

func appendLength(b []byte, n uint64) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, 0x40|byte(n>>8), byte(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, 0x80), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0x81), n)
}

// listpackOf packs strings and int64s as a server would.
func listpackOf(values ...any) []byte {
	b := make([]byte, listHeader)
	for _, v := range values {
		from := len(b)
		switch v := v.(type) {
		case string:
			switch {
			case len(v) < 64:
				b = append(b, 0x80|byte(len(v)))
			case len(v) < 4096:
				b = append(b, 0xe0|byte(len(v)>>8), byte(len(v)))
			default:
				b = binary.LittleEndian.AppendUint32(append(b, 0xf0), uint32(len(v)))
			}
			b = append(b, v...)
		case int64:
			switch {
			case v >= 0 && v < 128:
				b = append(b, byte(v))
			case v >= -4096 && v < 4096:
				b = append(b, 0xc0|byte(v>>8)&0x1f, byte(v))
			case v >= -1<<15 && v < 1<<15:
				b = append(b, 0xf1, byte(v), byte(v>>8))
			case v >= -1<<23 && v < 1<<23:
				b = append(b, 0xf2, byte(v), byte(v>>8), byte(v>>16))
			case v >= -1<<31 && v < 1<<31:
				b = binary.LittleEndian.AppendUint32(append(b, 0xf3), uint32(v))
			default:
				b = binary.LittleEndian.AppendUint64(append(b, 0xf4), uint64(v))
			}
		}
		n := len(b) - from
		for i := backLength(n) - 1; i >= 0; i-- {
			g := byte(n>>(7*i)) & 0x7f
			if i < backLength(n)-1 {
				g |= 0x80
			}
			b = append(b, g)
		}
	}
	b = append(b, endMark)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint16(b[4:], uint16(min(len(values), 0xffff)))
	return b
}

// ziplistOf packs strings (by length) and raw encodings of integers.
func ziplistOf(values ...any) []byte {
	b := make([]byte, zipHeader)
	last, prev := zipHeader, 0
	for _, v := range values {
		from := len(b)
		if prev < 254 {
			b = append(b, byte(prev))
		} else {
			b = binary.LittleEndian.AppendUint32(append(b, 254), uint32(prev))
		}
		switch v := v.(type) {
		case string:
			switch {
			case len(v) < 64:
				b = append(b, byte(len(v)))
			case len(v) < 1<<14:
				b = append(b, 0x40|byte(len(v)>>8), byte(len(v)))
			default:
				b = binary.BigEndian.AppendUint32(append(b, 0x80), uint32(len(v)))
			}
			b = append(b, v...)
		case []byte:
			b = append(b, v...)
		}
		last, prev = from, len(b)-from
	}
	b = append(b, endMark)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], uint32(last))
	binary.LittleEndian.PutUint16(b[8:], uint16(len(values)))
	return b
}

// own is an Entry that outlives Next.
func own(e *Entry) Entry {
	c := *e
	c.Key = append([]byte{}, e.Key...)
	if e.Payload != nil {
		c.Payload = append([]byte{}, e.Payload...)
	}
	if e.String != nil {
		c.String = append([]byte{}, e.String...)
	}
	return c
}

// readAll gives all entries up to the error that ended them, io.EOF being nil.
func readAll(d *Decoder) ([]Entry, error) {
	var all []Entry
	for {
		e, err := d.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, own(e))
	}
}

// diffEntries says how got differs from want, or nothing. go-cmp is asked only
// when it does: it is too slow for the loops over all boundaries.
func diffEntries(want, got []Entry) string {
	if slices.EqualFunc(want, got, func(a, b Entry) bool {
		return a.DB == b.DB && bytes.Equal(a.Key, b.Key) && a.ExpireMS == b.ExpireMS && a.Type == b.Type &&
			bytes.Equal(a.Payload, b.Payload) && a.IsString == b.IsString && bytes.Equal(a.String, b.String) &&
			a.Idle == b.Idle && a.Freq == b.Freq && a.End == b.End
	}) {
		return ""
	}
	return fmt.Sprintf("%d entries, want %d (-want +got):\n%.2000s", len(got), len(want), cmp.Diff(want, got))
}

func mustReadAll(t *testing.T, d *Decoder) []Entry {
	t.Helper()
	all, err := readAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
