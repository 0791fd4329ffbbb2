package rdb

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"
)

// collectDump is collect of a payload that is read as it arrives.
func collectDump(d *DumpReader) (got []string, n int64, err error) {
	more := false
	_, n, err = d.Elements(func(e Element) error {
		if text := elementText(KindOf(d.Type()), e); more {
			got[len(got)-1] += text
		} else {
			got = append(got, text)
		}
		more = e.More
		return nil
	})
	return got, n, err
}

// readers give a payload in one piece and byte by byte, and the bytes of others
// behind it.
func readers(p []byte) map[string]io.Reader {
	p = append(bytes.Clone(p), "behind"...)
	return map[string]io.Reader{
		"in one piece":        bytes.NewReader(p),
		"byte by byte":        iotest.OneByteReader(bytes.NewReader(p)),
		"with an early error": iotest.DataErrReader(bytes.NewReader(p)),
	}
}

// narrowDump is narrow for a payload.
func narrowDump(d *DumpReader) *DumpReader {
	d.w.whole = 16
	d.w.far = &far{text: text{win: make([]byte, lzfReach+2*lzfMaxRun)}, in: source{buf: make([]byte, 48)}}
	return d
}

func TestAPayloadIsReadAsItArrives(t *testing.T) {
	for name, c := range builtValues() {
		want, err := collect(c.typ, c.body)
		if err != nil {
			t.Fatal(err)
		}
		p := AppendDump(nil, c.typ, c.body, 12)
		for how, r := range readers(p) {
			d, err := NewDumpReader(r, int64(len(p)))
			if err != nil || d.Type() != c.typ {
				t.Fatalf("%s, %s: got %v, want type %d", name, how, err, c.typ)
			}
			if got, _, err := collectDump(narrowDump(d)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %s: got %q, %v, want %q", name, how, got, err, want)
			}
			if _, _, err := d.Elements(func(Element) error { return nil }); !errors.Is(err, errPassed) {
				t.Errorf("%s: read twice: got %v, want %v", name, err, errPassed)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "behind" {
				t.Errorf("%s, %s: left behind the payload: got %q", name, how, rest)
			}
		}
	}
}

func TestAPayloadThatArrivesBrokenIsRefused(t *testing.T) {
	stop := errors.New("link lost")
	for name, c := range builtValues() {
		p := AppendDump(nil, c.typ, c.body, 12)
		read := func(r io.Reader, size int) error {
			d, err := NewDumpReader(r, int64(size))
			if err == nil {
				_, _, err = collectDump(narrowDump(d))
			}
			return err
		}
		step := len(p)/300 + 1 // of those that are long
		for n := 0; n < len(p); n += step {
			var fe *FormatError
			if err := read(bytes.NewReader(p[:n]), len(p)); !errors.As(err, &fe) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s: cut at %d: got %v", name, n, err)
			}
			if err := read(bytes.NewReader(p[:n]), n); !errors.As(err, &fe) {
				t.Fatalf("%s: %d bytes in all: got %v, want a FormatError", name, n, err)
			}
			if err := read(io.MultiReader(bytes.NewReader(p[:n]), iotest.ErrReader(stop)), len(p)); err != stop {
				t.Fatalf("%s: lost at %d: got %v, want the reader's own", name, n, err)
			}
		}
		for bit := 0; bit < 8*len(p); bit += 8*step - 7 {
			broken := bytes.Clone(p)
			broken[bit/8] ^= 1 << (bit % 8)
			var fe *FormatError
			if err := read(bytes.NewReader(broken), len(p)); !errors.As(err, &fe) {
				t.Fatalf("%s: bit %d flipped: got %v, want a FormatError", name, bit, err)
			}
		}
		longer := AppendDump(nil, c.typ, append(bytes.Clone(c.body), 0), 12)
		if err := read(bytes.NewReader(longer), len(longer)); err == nil {
			t.Errorf("%s: a byte too many: no error", name)
		}
	}
	for typ, want := range map[byte]error{TypeModule2: ErrModule, 99: ErrUnknownType} {
		p := AppendDump(nil, typ, enc("body"), 12)
		d, err := NewDumpReader(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := collectDump(d); !errors.Is(err, want) {
			t.Errorf("type %d: got %v, want %v", typ, err, want)
		}
	}
	p := AppendDump(nil, TypeString, enc("text"), 0)
	if d, err := NewDumpReader(bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	} else if _, _, err := collectDump(d); err == nil {
		t.Error("version 0: no error")
	}
	p = AppendDump(nil, TypeSet, enc(2, "a", "b"), 9)
	d, err := NewDumpReader(bytes.NewReader(p), int64(len(p)))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Elements(func(Element) error { return stop }); err != stop {
		t.Errorf("an error of the caller: got %v, want %v", err, stop)
	}
}

func TestAPayloadOfAnySizeIsReadInLittleMemory(t *testing.T) {
	const bound = 8 << 20
	for name, v := range bigValues(*bigBytes) {
		t.Run(name, func(t *testing.T) {
			m := &maker{parts: append([]part{once([]byte{v.typ})}, v.body...)}
			size := sizeOf(m.parts) + dumpTail
			m.parts = append(m.parts, once(make([]byte, dumpTail)))
			runtime.GC()
			before := heap()
			d, err := NewDumpReader(m, int64(size))
			if err != nil {
				t.Fatal(err)
			}
			_, n, err := d.Elements(func(Element) error { return nil })
			if !errors.Is(err, ErrChecksum) || n != v.n { // which was not made up
				t.Errorf("got %d elements, %v, want %d, %v", n, err, v.n, ErrChecksum)
			}
			if m.peak > before+bound {
				t.Errorf("got a heap of %d bytes over the %d before, want at most %d", m.peak-before, before, bound)
			}
		})
	}
}
