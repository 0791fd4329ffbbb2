package native

import (
	"errors"
	"slices"
	"testing"

	"tairlift/internal/rdb"
)

// FuzzWriter writes any body that can be decoded: the chunks must be whole
// commands within their bounds, and make what the body holds.
func FuzzWriter(f *testing.F) {
	for _, e := range fixtures(f) {
		if len(e.Payload) < 300 {
			typ, b := body(f, e.Payload)
			f.Add(typ, b, uint16(40), uint8(3), uint8(7), uint8(4), true)
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, body []byte, chunk uint16, most, major, minor uint8, survey bool) {
		kind := rdb.KindOf(typ)
		if tooMuch(typ, body) {
			return
		}
		want, err := wanted(typ, body)
		if err != nil {
			return
		}
		w, r := recorder(Options{
			Target: Target{Major: int(major), Minor: int(minor)}, ChunkBytes: 1 + int(chunk), MaxElements: 1 + int(most),
		})
		if w.Begin([]byte("k"), kind) != nil {
			return
		}
		for _, walk := range []func(rdb.Element) error{w.Survey, w.Add} {
			if !survey {
				survey = true
				continue
			}
			if _, _, err = rdb.Elements(typ, body, walk); err != nil {
				break
			}
		}
		if err == nil {
			err = w.Finish()
		}
		if r.wrong != nil {
			t.Fatal(r.wrong)
		}
		if err != nil {
			return // of a value that no command makes
		}
		got, err := replay(r.commands, kind)
		if err != nil {
			t.Fatal(err)
		}
		if kind == rdb.KindStream { // among ghosts
			got = slices.DeleteFunc(got, func(l string) bool { return !slices.Contains(want, l) })
		}
		if !slices.Equal(got, want) {
			t.Errorf("type %d: got %.1000q, want %.1000q", typ, got, want)
		}
	})
}

// tooMuch tells bodies of a lot of text, in LZF: cut into bytes they take long.
func tooMuch(typ byte, body []byte) bool {
	size := 0
	_, _, err := rdb.Elements(typ, body, func(e rdb.Element) error {
		if size += 1 + len(e.A) + len(e.B); size > 10000 {
			return errTooMuch
		}
		return nil
	})
	return err == errTooMuch
}

var errTooMuch = errors.New("too much")
