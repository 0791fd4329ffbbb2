package rdb

import (
	"bytes"
	"encoding/binary"
	"flag"
	"io"
	"math"
	"runtime"
	"slices"
	"testing"
)

var bigBytes = flag.Int("big", 32<<20, "size of each value that is made up to be too big to hold")

// part is bytes that occur n times in a row.
type part struct {
	b []byte
	n int
}

func once(b []byte) part { return part{b, 1} }

func sizeOf(parts []part) (n int) {
	for _, p := range parts {
		n += len(p.b) * p.n
	}
	return n
}

// maker reads parts one after the other, and looks at the heap on the way.
type maker struct {
	parts []part
	off   int
	since int
	peak  uint64
}

func (m *maker) Read(p []byte) (n int, err error) {
	for n < len(p) && len(m.parts) > 0 {
		at := &m.parts[0]
		if at.n == 0 {
			m.parts = m.parts[1:]
			continue
		}
		c := copy(p[n:], at.b[m.off:])
		n += c
		if m.off += c; m.off == len(at.b) {
			m.off = 0
			at.n--
		}
	}
	if m.since += n; m.since > 4<<20 || n == 0 {
		m.since = 0
		m.peak = max(m.peak, heap())
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// growth makes a packed node of many groups of values out of one of few: what
// a group adds to a node that has three already is added over and over. Fix
// is given the header, and the size and number of groups to put into it.
func growth(pack func(groups int) []byte, size int, end int, fix func(head []byte, size, groups int)) (text []part, groups int) {
	three, four := pack(3), pack(4)
	unit := four[len(three)-end : len(four)-end]
	n := size / len(unit)
	head := bytes.Clone(three[:len(three)-end])
	text = []part{once(head), {unit, n}, once(four[len(four)-end:])}
	fix(head, sizeOf(text), n+3)
	return text, n + 3
}

func repeated(groups int, values ...any) (all []any) {
	for range groups {
		all = append(all, values...)
	}
	return all
}

func bigZiplist(size int, values ...any) ([]part, int) {
	pack := func(groups int) []byte { return ziplistOf(repeated(groups, values...)...) }
	four := pack(4)
	behindLast := len(four) - int(binary.LittleEndian.Uint32(four[4:]))
	return growth(pack, size, 1, func(head []byte, size, groups int) {
		binary.LittleEndian.PutUint32(head, uint32(size))
		binary.LittleEndian.PutUint32(head[4:], uint32(size-behindLast))
		binary.LittleEndian.PutUint16(head[8:], uint16(min(groups*len(values), 0xffff)))
	})
}

func bigListpack(size int, first []any, values ...any) ([]part, int) {
	pack := func(groups int) []byte {
		return listpackOf(append(first[:len(first):len(first)], repeated(groups, values...)...)...)
	}
	return growth(pack, size, 1, func(head []byte, size, groups int) {
		binary.LittleEndian.PutUint32(head, uint32(size))
		binary.LittleEndian.PutUint16(head[4:], uint16(min(len(first)+groups*len(values), 0xffff)))
	})
}

// rawOf and lzfParts store a text as a string.
func rawOf(text []part) []part {
	return append([]part{once(appendLength(nil, uint64(sizeOf(text))))}, text...)
}

func lzfParts(text []part) []part {
	var packed []part
	for _, p := range text {
		packed = append(packed, once(literals(p.b)))
		left := len(p.b) * (p.n - 1)
		if left <= 0 {
			continue
		}
		dist := len(p.b) - 1
		packed = append(packed, part{[]byte{7<<5 | byte(dist>>8), lzfMaxRun - 9, byte(dist)}, left / lzfMaxRun})
		rest := append(bytes.Clone(p.b), p.b...)[(left/lzfMaxRun*lzfMaxRun)%len(p.b):]
		packed = append(packed, once(literals(rest[:left%lzfMaxRun])))
	}
	head := append([]byte{0xc3}, appendLength(nil, uint64(sizeOf(packed)))...)
	return append([]part{once(appendLength(head, uint64(sizeOf(text))))}, packed...)
}

func literals(b []byte) (packed []byte) {
	for len(b) > 0 {
		run := b[:min(len(b), 32)]
		packed = append(append(packed, byte(len(run)-1)), run...)
		b = b[len(run):]
	}
	return packed
}

type bigValue struct {
	typ  byte
	body []part
	n    int64 // elements
}

// bigValues are values of about size bytes in every encoding that has its own
// way of being large.
func bigValues(size int) map[string]bigValue {
	text := string(randomBytes(11, 1000))
	counted := func(typ byte, unit ...any) bigValue {
		b := enc(unit...)
		n := size / len(b)
		return bigValue{typ, []part{once(enc(n)), {b, n}}, int64(n)}
	}
	node := func(typ byte, store func([]part) []part, before []byte, per int, parts []part, groups int) bigValue {
		return bigValue{typ, append([]part{once(before)}, store(parts)...), int64(groups * per)}
	}
	score := int64(math.Float64bits(1.5))
	str := []part{{[]byte(text), size / len(text)}}
	zip, zipN := bigZiplist(size, text)
	zips, zipsN := bigZiplist(size, text, "2.5")
	list, listN := bigListpack(size, nil, text)
	lists, listsN := bigListpack(size, nil, text, "2.5")
	zipmap, zipmapN := growth(func(groups int) []byte {
		b := []byte{254}
		for range groups {
			b = append(b, enc(plain("\x05field\xfe\xe8\x03\x00\x00\x02"), plain(text), plain("ab"))...)
		}
		return append(b, 0xff)
	}, size, 1, func([]byte, int, int) {})
	ints, intsN := growth(func(groups int) []byte {
		return append(make([]byte, 8), bytes.Repeat([]byte("\x01\x02\x03\x04\x05\x06\x07\x08"), 1000*groups)...)
	}, size/4, 0, func(head []byte, size, _ int) {
		binary.LittleEndian.PutUint32(head, 8)
		binary.LittleEndian.PutUint32(head[4:], uint32(size/8-1))
	})
	master := func(n int) []any { return []any{int64(n), int64(0), int64(1), "f", int64(0)} }
	entry := []any{int64(2), int64(0), int64(0), text, int64(4)}
	_, entries := bigListpack(size, master(1<<31), entry...)
	stream, _ := bigListpack(size, master(entries), entry...)
	if got := listpackOf(master(entries)...); len(got) != len(listpackOf(master(1<<31)...)) {
		_, entries = bigListpack(size, master(entries), entry...)
		stream, _ = bigListpack(size, master(entries), entry...)
	}
	id := rawStreamID(1, 1)
	streamHead := enc(1, string(id))
	streamTail := once(enc(entries, 1, 1, 0))
	small := listpackOf(append(master(1), entry...)...)
	pel := enc(id, int64(1700000000000), 1)
	return map[string]bigValue{
		"string":                    {TypeString, rawOf(str), 1},
		"string in LZF":             {TypeString, lzfParts(str), 1},
		"list":                      counted(TypeList, text),
		"set":                       counted(TypeSet, text),
		"hash":                      counted(TypeHash, text, text),
		"zset of text":              counted(TypeZSet, text, plain("\x031.5")),
		"zset of doubles":           counted(TypeZSet2, text, score),
		"quicklist of small nodes":  counted(TypeListQuicklist, string(ziplistOf(text))),
		"quicklist of one node":     node(TypeListQuicklist, rawOf, enc(1), 1, zip, zipN),
		"quicklist in LZF":          node(TypeListQuicklist, lzfParts, enc(1), 1, zip, zipN),
		"quicklist2 of small nodes": counted(TypeListQuicklist2, 2, string(listpackOf(text))),
		"quicklist2 of one node":    node(TypeListQuicklist2, rawOf, enc(1, 2), 1, list, listN),
		"quicklist2 in LZF":         node(TypeListQuicklist2, lzfParts, enc(1, 2), 1, list, listN),
		"list ziplist":              node(TypeListZiplist, rawOf, nil, 1, zip, zipN),
		"hash ziplist":              node(TypeHashZiplist, rawOf, nil, 1, zips, zipsN),
		"zset ziplist":              node(TypeZSetZiplist, rawOf, nil, 1, zips, zipsN),
		"zset ziplist in LZF":       node(TypeZSetZiplist, lzfParts, nil, 1, zips, zipsN),
		"set listpack":              node(TypeSetListpack, rawOf, nil, 1, list, listN),
		"hash listpack":             node(TypeHashListpack, rawOf, nil, 1, lists, listsN),
		"zset listpack in LZF":      node(TypeZSetListpack, lzfParts, nil, 1, lists, listsN),
		"zipmap":                    node(TypeHashZipmap, rawOf, nil, 1, zipmap, zipmapN),
		"zipmap in LZF":             node(TypeHashZipmap, lzfParts, nil, 1, zipmap, zipmapN),
		"intset":                    node(TypeSetIntset, rawOf, nil, 1000, ints, intsN),
		"intset in LZF":             node(TypeSetIntset, lzfParts, nil, 1000, ints, intsN),
		"stream of one node": {
			TypeStreamListpacks, append(append([]part{once(streamHead)}, rawOf(stream)...), streamTail), int64(entries),
		},
		"stream in LZF": {
			TypeStreamListpacks, append(append([]part{once(streamHead)}, lzfParts(stream)...), streamTail), int64(entries),
		},
		"stream of small nodes": {
			TypeStreamListpacks, []part{once(enc(size / 1100)), {enc(string(id), string(small)), size / 1100}, once(enc(size/1100, 1, 1, 0))}, int64(size / 1100),
		},
		"stream with a long list of pending entries": {
			TypeStreamListpacks,
			[]part{
				once(enc(0, 0, 1, 1, 1, "g", 1, 1, size/8/len(pel))),
				{pel, size / 8 / len(pel)},
				once(enc(1, "c", int64(1700000000000), size/8/16)),
				{id, size / 8 / 16},
			},
			0,
		},
	}
}

// open begins a file of one value between two small ones.
func (v bigValue) open(hold int64) (*Decoder, *maker, int64) {
	before := newFile("0011").raw(byte(TypeString), "before", "x", v.typ, "big")
	parts := append([]part{once(*before)}, v.body...)
	for i := range parts { // long runs of few bytes are slow to copy
		if p := &parts[i]; len(p.b) < 300 && p.n > 1000 {
			block := bytes.Repeat(p.b, 1000)
			rest := part{p.b, p.n % 1000}
			parts = append(parts[:i+1:i+1], append([]part{rest}, parts[i+1:]...)...)
			parts[i] = part{block, p.n / 1000}
		}
	}
	end := int64(sizeOf(parts))
	parts = append(parts, once(enc(byte(TypeString), "behind", "y", byte(opEOF), int64(0))))
	m := &maker{parts: parts}
	return NewDecoder(m, Options{Hold: hold}), m, end
}

func TestAValueOfAnySizeIsReadInLittleMemory(t *testing.T) {
	const bound = 8 << 20
	for name, v := range bigValues(*bigBytes) {
		for use, pass := range map[string]func(d *Decoder) (int64, error){
			"elements": func(d *Decoder) (int64, error) {
				pieces := 0
				_, n, err := d.Elements(func(e Element) error {
					if pieces += len(e.A); len(e.A) > pieceSize {
						t.Errorf("%s: got a piece of %d bytes", name, len(e.A))
					}
					return nil
				})
				if v.typ == TypeString && pieces != *bigBytes/1000*1000 {
					t.Errorf("%s: got %d bytes, want %d", name, pieces, *bigBytes)
				}
				return n, err
			},
			"skip": func(d *Decoder) (int64, error) { return v.n, d.Skip() },
		} {
			t.Run(name+"/"+use, func(t *testing.T) {
				hold := int64(1 << 20)
				if use == "elements" {
					hold = -1
				}
				d, m, end := v.open(hold)
				runtime.GC()
				before := heap()
				if e, err := d.Next(); err != nil || string(e.Key) != "before" {
					t.Fatalf("got %v, %v", e, err)
				}
				e, err := d.Next()
				if err != nil || !e.Unread && end > hold+100 || e.Payload != nil && e.Unread {
					t.Fatalf("got %v, %v, want an unread entry", e, err)
				}
				if n, err := pass(d); err != nil || n != v.n {
					t.Errorf("got %d elements, %v, want %d", n, err, v.n)
				}
				if e.End.Offset != end || d.Boundary() != e.End {
					t.Errorf("got end %+v, boundary %+v, want %d", e.End, d.Boundary(), end)
				}
				if e, err := d.Next(); err != nil || string(e.Key) != "behind" {
					t.Errorf("got %v, %v, want the entry behind", e, err)
				}
				if _, err := d.Next(); err != io.EOF {
					t.Errorf("got %v, want io.EOF", err)
				}
				if m.peak > before+bound {
					t.Errorf("got a heap of %d bytes over the %d before, want at most %d", m.peak-before, before, bound)
				}
			})
		}
	}
}

func TestBigPackedNodesOfABodyComeAsFromAFile(t *testing.T) {
	for name, v := range bigValues(1 << 20) {
		var body []byte
		for _, p := range v.body {
			body = append(body, bytes.Repeat(p.b, p.n)...)
		}
		want, err := collect(v.typ, body)
		if _, n, nerr := Elements(v.typ, body, func(Element) error { return nil }); err != nil || nerr != nil || n != v.n {
			t.Errorf("%s: got %d elements, %v, %v, want %d", name, n, err, nerr, v.n)
			continue
		}
		d := Resume(bytes.NewReader(append(enc(v.typ, "k"), body...)), Boundary{Offset: 9, Version: 11}, Options{Hold: -1})
		e, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := walk(d, e); err != nil || !slices.Equal(got.elements, want) {
			t.Errorf("%s: walked to %d elements, %v, want the %d of the body", name, len(got.elements), err, len(want))
		}
		if _, _, err := Elements(v.typ, body[:len(body)-1], func(Element) error { return nil }); err == nil {
			t.Errorf("%s: cut by a byte: no error", name)
		}
	}
}
