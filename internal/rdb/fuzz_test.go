package rdb

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// FuzzDecoder reads any bytes as a file: twice, in one piece and byte by byte,
// which must agree, and once more from the last boundary.
func FuzzDecoder(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		o := Options{MaxBytes: 1 << 20, OnAux: func(k, v []byte) {}, OnFunction: func(p []byte) {
			if _, _, _, err := ParseDump(p); err != nil {
				t.Errorf("function payload: %v", err)
			}
		}}
		d := NewDecoder(bytes.NewReader(data), o)
		var all []Entry
		var err error
		for {
			var e *Entry
			if e, err = d.Next(); err != nil {
				break
			}
			typ, body, _, perr := ParseDump(e.Payload)
			if perr != nil || typ != e.Type || !bytes.Equal(body, data[e.End.Offset-int64(len(body)):e.End.Offset]) {
				t.Errorf("entry that ends at %d: payload of type %d, %v, is not what the file holds", e.End.Offset, typ, perr)
			}
			_, _, _ = Elements(typ, body, func(el Element) error {
				if e.IsString && !bytes.Equal(el.A, e.String) {
					t.Errorf("string %q decodes to %q", e.String, el.A)
				}
				return nil
			})
			all = append(all, own(e))
		}
		dripped, derr := readAll(NewDecoder(iotest.OneByteReader(bytes.NewReader(data)), o))
		if err == io.EOF {
			err = nil
		}
		if diff := diffEntries(all, dripped); diff != "" || (err == nil) != (derr == nil) || err != nil && err.Error() != derr.Error() {
			t.Errorf("byte by byte: %v, in one piece %v: %s", derr, err, diff)
		}
		if n := len(all); n > 0 {
			at := all[n/2].End
			rest, _ := readAll(Resume(bytes.NewReader(data[at.Offset:]), at, o))
			if diff := diffEntries(all[n/2+1:], rest); diff != "" {
				t.Errorf("resumed at %+v: %s", at, diff)
			}
		}
	})
}

// FuzzElements decodes any bytes as a body, whole and as a payload that arrives,
// which must agree: what it accepts, the decoder must find the same end of.
func FuzzElements(f *testing.F) {
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		want, werr := collect(typ, body)
		p := AppendDump(nil, typ, body, 80)
		d, err := NewDumpReader(iotest.OneByteReader(bytes.NewReader(p)), int64(len(p)))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := collectDump(narrowDump(d))
		if (err == nil) != (werr == nil) || err == nil && !slices.Equal(got, want) {
			t.Errorf("type %d, body %q: arriving: got %.500q, %v, whole: %.500q, %v", typ, body, got, err, want, werr)
		}
		if werr != nil {
			return
		}
		data := newFile("0080").raw(typ, "k", body).end()
		entries, err := readAll(NewDecoder(bytes.NewReader(data), Options{}))
		if err != nil || len(entries) != 1 || !bytes.Equal(entries[0].Payload, AppendDump(nil, typ, body, 80)) {
			t.Errorf("type %d, body %q: got %d entries, %v, want the body whole", typ, body, len(entries), err)
		}
	})
}
