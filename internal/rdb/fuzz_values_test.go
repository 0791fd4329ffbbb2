package rdb

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// FuzzWalk reads any bytes as a value in a file, walked through windows that
// are too small for it: what is accepted, and what comes of it, must be as
// from the body whole, and skipping must find the same end.
func FuzzWalk(f *testing.F) {
	f.Fuzz(func(t *testing.T, typ byte, hold uint8, body []byte) {
		if !readable(typ) || typ == TypeModule2 {
			return
		}
		want, werr := collect(typ, body)
		file := append(*newFile("0080").raw(typ, "k"), body...)
		at := int64(len(file) - len(body))
		o := Options{Hold: int64(hold) - 1, MaxBytes: 1 << 20}
		if o.Hold == 0 {
			o.Hold = 1
		}
		for _, r := range []func() io.Reader{
			func() io.Reader { return bytes.NewReader(file) },
			func() io.Reader { return iotest.OneByteReader(bytes.NewReader(file)) },
		} {
			d := narrow(NewDecoder(r(), o))
			e, err := d.Next()
			var got valueText
			if err == nil {
				got, err = walk(d, e)
			}
			var fe *FormatError
			if err != nil && !errors.As(err, &fe) {
				t.Errorf("got %v, want a FormatError", err)
			}
			if errors.Is(err, ErrTooLarge) {
				continue
			}
			whole := err == nil && got.end.Offset == int64(len(file))
			if whole != (werr == nil) {
				t.Fatalf("type %d, hold %d: got %v, end at %d of %d; from the body: %v", typ, o.Hold, err, got.end.Offset, len(file), werr)
			}
			if whole && !slices.Equal(got.elements, want) {
				t.Fatalf("type %d, hold %d: got %.500q, from the body %.500q", typ, o.Hold, got.elements, want)
			}
			if err != nil {
				continue
			}
			d = narrow(Resume(bytes.NewReader(file[at-3:]), Boundary{Offset: at - 3, Version: 80}, o))
			if _, err := d.Next(); err != nil {
				t.Fatal(err)
			}
			if err := d.Skip(); err != nil || d.Boundary() != got.end {
				t.Fatalf("type %d, hold %d: skipped to %+v, %v, walked to %+v", typ, o.Hold, d.Boundary(), err, got.end)
			}
		}
	})
}

// FuzzWalkFile reads any bytes as a file, both ways: what the walk accepts, the
// decoder must find the same boundaries in.
func FuzzWalkFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		walked, werr := walkAll(narrow(NewDecoder(bytes.NewReader(data), Options{Hold: -1, MaxBytes: 1 << 20})))
		whole, err := readAll(narrow(NewDecoder(bytes.NewReader(data), Options{MaxBytes: 1 << 20})))
		if errors.Is(err, ErrTooLarge) {
			return // a walk holds less
		}
		if len(walked) > len(whole) {
			t.Fatalf("walked %d values (%v), held %d (%v)", len(walked), werr, len(whole), err)
		}
		for i, v := range walked {
			if e := whole[i]; v.key != string(e.Key) || v.db != e.DB || v.typ != e.Type || v.expireMS != e.ExpireMS || v.end != e.End {
				t.Fatalf("entry %d: walked %.300v, held %.300v", i, v, e)
			}
		}
		if werr == nil && err != nil {
			t.Fatalf("walked well, held: %v", err)
		}
	})
}
