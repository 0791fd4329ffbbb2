package rdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// narrow makes the windows of a Decoder that has not read yet so small that
// values of a few hundred bytes are too big for them.
func narrow(d *Decoder) *Decoder {
	d.w.buf = make([]byte, 48)
	d.w.whole = 16
	d.w.far = &far{text: text{win: make([]byte, lzfReach+2*lzfMaxRun)}, in: source{buf: make([]byte, 48)}}
	return d
}

// valueText is a walked value with all its elements as text.
type valueText struct {
	key      string
	db       int
	typ      byte
	expireMS int64
	elements []string
	n        int64
	end      Boundary
}

func (v valueText) equal(o valueText) bool {
	return v.key == o.key && v.db == o.db && v.typ == o.typ && v.expireMS == o.expireMS && v.n == o.n && v.end == o.end &&
		slices.Equal(v.elements, o.elements)
}

// walk reads the entry in hand through Decoder.Elements.
func walk(d *Decoder, e *Entry) (valueText, error) {
	v := valueText{key: string(e.Key), db: e.DB, typ: e.Type, expireMS: e.ExpireMS}
	more := false
	kind, n, err := d.Elements(func(el Element) error {
		text := elementText(KindOf(e.Type), el)
		if more {
			v.elements[len(v.elements)-1] += text
		} else {
			v.elements = append(v.elements, text)
		}
		more = el.More
		return nil
	})
	v.n, v.end = n, e.End
	if err == nil && more || kind != KindOf(e.Type) {
		err = fmt.Errorf("a %v ends in a piece that is not the last: %v", kind, more)
	}
	return v, err
}

// walkAll reads a file through Decoder.Elements.
func walkAll(d *Decoder) (all []valueText, err error) {
	for {
		e, err := d.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		v, err := walk(d, e)
		if err != nil && !errors.Is(err, ErrModule) {
			return all, err
		}
		v.end = e.End
		all = append(all, v)
	}
}

// held is what walkAll is to give, from payloads that were held.
func held(t *testing.T, data []byte) (all []valueText) {
	t.Helper()
	for _, e := range mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{})) {
		_, body, _, err := ParseDump(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		v := valueText{key: string(e.Key), db: e.DB, typ: e.Type, expireMS: e.ExpireMS, end: e.End}
		if KindOf(e.Type) != KindModule {
			if _, v.n, err = Elements(e.Type, body, func(el Element) error {
				v.elements = append(v.elements, elementText(KindOf(e.Type), el))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, v)
	}
	return all
}

func sameValues(t *testing.T, what string, want, got []valueText) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if !want[i].equal(got[i]) {
			t.Errorf("%s: entry %d: got %.500v, want %.500v", what, i, got[i], want[i])
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: got %d values, want %d", what, len(got), len(want))
	}
}

// everything is a file of all built values.
func everything() []byte {
	f := newFile("0080")
	values := builtValues()
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f.raw(values[name].typ, name, values[name].body)
	}
	return f.end()
}

func valueInputs(t *testing.T) map[string][]byte {
	in := inputs(t)
	in["everything"] = everything()
	return in
}

func TestWalkedValuesAreThoseOfThePayloads(t *testing.T) {
	for name, data := range valueInputs(t) {
		t.Run(name, func(t *testing.T) {
			want := held(t, data)
			for _, hold := range []int64{0, -1, 1, 20, 100, 1000} {
				for kind, r := range map[string]func() io.Reader{
					"in one piece": func() io.Reader { return bytes.NewReader(data) },
					"one byte":     func() io.Reader { return iotest.OneByteReader(bytes.NewReader(data)) },
				} {
					if hold >= 0 && kind == "one byte" && len(data) > 100_000 {
						continue
					}
					for size, d := range map[string]*Decoder{
						"": NewDecoder(r(), Options{Hold: hold}), " into a small window": narrow(NewDecoder(r(), Options{Hold: hold})),
					} {
						got, err := walkAll(d)
						if err != nil {
							t.Errorf("hold %d, %s%s: %v", hold, kind, size, err)
						}
						sameValues(t, fmt.Sprintf("hold %d, %s%s", hold, kind, size), want, got)
					}
				}
			}
		})
	}
}

func TestWhatIsLargerThanHoldIsUnread(t *testing.T) {
	var compressed []byte // 400 bytes that stand for 900
	for _, p := range lzfParts([]part{{randomBytes(1, 300), 3}}) {
		compressed = append(compressed, bytes.Repeat(p.b, p.n)...)
	}
	data := newFile("0009").raw(byte(TypeString), "k", strings.Repeat("x", 100), byte(TypeList), "l", 1, strings.Repeat("x", 100)).
		raw(byte(TypeString), "lzf", compressed).end()
	for hold, want := range map[int64]string{0: "k l lzf", 1000: "k l lzf", 600: "k l", 103: "k l", 102: "k", 101: "", 1: "", -1: ""} {
		var got []string
		d := NewDecoder(bytes.NewReader(data), Options{Hold: hold})
		for {
			e, err := d.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Unread != (e.Payload == nil) || e.Unread != (e.End == Boundary{}) || e.Unread && e.String != nil {
				t.Errorf("hold %d, %s: got unread %v with %d bytes, end %+v", hold, e.Key, e.Unread, len(e.Payload), e.End)
			}
			if !e.Unread {
				got = append(got, string(e.Key))
			}
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("hold %d: got %q held, want %q", hold, got, want)
		}
	}
}

func TestWalksResumeAtEveryBoundary(t *testing.T) {
	for name, data := range valueInputs(t) {
		t.Run(name, func(t *testing.T) {
			want, err := walkAll(NewDecoder(bytes.NewReader(data), Options{Hold: -1}))
			if err != nil {
				t.Fatal(err)
			}
			step := 1 + len(want)/40
			for i := 0; i < len(want); i += step {
				at := want[i].end
				for hold, d := range map[int64]*Decoder{
					-1: Resume(bytes.NewReader(data[at.Offset:]), at, Options{Hold: -1}),
					64: narrow(Resume(bytes.NewReader(data[at.Offset:]), at, Options{Hold: 64})),
				} {
					got, err := walkAll(d)
					if err != nil {
						t.Fatalf("behind entry %d, hold %d: %v", i, hold, err)
					}
					sameValues(t, fmt.Sprintf("behind entry %d, hold %d", i, hold), want[i+1:], got)
				}
			}
		})
	}
}

func TestAnUnreadValueIsSkippedByNext(t *testing.T) {
	for name, data := range valueInputs(t) {
		want := mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{}))
		for _, d := range []*Decoder{
			NewDecoder(bytes.NewReader(data), Options{Hold: -1}),
			narrow(NewDecoder(bytes.NewReader(data), Options{Hold: -1})),
		} {
			for i := range want {
				e, err := d.Next()
				if err != nil || !e.Unread || !bytes.Equal(e.Key, want[i].Key) || e.Offset != want[i].Offset || e.Body != want[i].Body {
					t.Fatalf("%s: entry %d: got %+v, %v, want %+v", name, i, e, err, want[i])
				}
				if i > 0 && d.Boundary() != want[i-1].End {
					t.Fatalf("%s: entry %d unread: got boundary %+v, want the end before, %+v", name, i, d.Boundary(), want[i-1].End)
				}
				if i%2 == 0 {
					continue // the next Next skips it
				}
				if err := d.Skip(); err != nil || e.End != want[i].End || d.Boundary() != e.End {
					t.Fatalf("%s: entry %d skipped: got end %+v, boundary %+v, %v, want %+v", name, i, e.End, d.Boundary(), err, want[i].End)
				}
			}
			if _, err := d.Next(); err != io.EOF {
				t.Errorf("%s: got %v, want io.EOF", name, err)
			}
		}
	}
}

func TestAValueIsBetweenBodyAndEnd(t *testing.T) {
	for name, data := range valueInputs(t) {
		for _, e := range mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{})) {
			if body := e.Payload[1 : len(e.Payload)-dumpTail]; data[e.Offset] != e.Type || !bytes.Equal(data[e.Body:e.End.Offset], body) {
				t.Errorf("%s: key %q says its value is at %d to %d", name, e.Key, e.Body, e.End.Offset)
			}
		}
	}
}

func TestAWalkCutAnywhereIsAnUnexpectedEnd(t *testing.T) {
	for name, data := range map[string][]byte{"small": small(), "everything": everything()} {
		want := held(t, data)
		step := 1 + len(data)/1000
		for n := 0; n < len(data); n += step {
			for size, d := range map[string]*Decoder{
				"":                     NewDecoder(bytes.NewReader(data[:n]), Options{Hold: -1}),
				" into a small window": narrow(NewDecoder(bytes.NewReader(data[:n]), Options{Hold: -1})),
			} {
				got, err := walkAll(d)
				var fe *FormatError
				if !errors.As(err, &fe) || !errors.Is(err, io.ErrUnexpectedEOF) || fe.At > int64(n) {
					t.Fatalf("%s cut at %d%s: got %v, want a FormatError with io.ErrUnexpectedEOF", name, n, size, err)
				}
				sameValues(t, fmt.Sprintf("%s cut at %d%s", name, n, size), want[:min(len(got), len(want))], got)
				if _, again := d.Next(); again != err {
					t.Errorf("%s cut at %d%s: got %v from Next, want the same error again", name, n, size, again)
				}
			}
		}
	}
}

func TestErrorsOfTheReaderPassAWalkAsTheyAre(t *testing.T) {
	data, broken := everything(), errors.New("wire broke")
	for n := 0; n < len(data); n += 1 + len(data)/1000 {
		for _, wrap := range []func(*Decoder) *Decoder{narrow, func(d *Decoder) *Decoder { return d }} {
			r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken))
			if _, err := walkAll(wrap(NewDecoder(r, Options{Hold: -1}))); err != broken {
				t.Fatalf("broken at %d: got %v, want %v", n, err, broken)
			}
		}
	}
}

func TestAnErrorOfTheCallerEndsTheDecoder(t *testing.T) {
	stop := errors.New("enough")
	data := everything()
	all := mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{}))
	for i, e := range all {
		d := Resume(bytes.NewReader(data[e.Offset:]), Boundary{Offset: e.Offset, Version: 80}, Options{Hold: -1})
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Elements(func(Element) error { return stop }); err == nil {
			continue // it has no elements
		} else if err != stop {
			t.Errorf("entry %d: got %v, want %v", i, err, stop)
		}
		if _, err := d.Next(); err != stop {
			t.Errorf("entry %d: got %v from Next, want %v", i, err, stop)
		}
		if d.Boundary().Offset != e.Offset {
			t.Errorf("entry %d: got boundary %+v, want it before the entry at %d", i, d.Boundary(), e.Offset)
		}
	}
}

func TestAValueIsWalkedOnce(t *testing.T) {
	nothing := func(Element) error { return nil }
	d := NewDecoder(bytes.NewReader(small()), Options{Hold: -1})
	if _, _, err := d.Elements(nothing); err == nil {
		t.Error("before the first entry: no error")
	}
	for {
		e, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Elements(nothing); err != nil && e.Type != TypeModule2 {
			t.Errorf("%s: %v", e.Key, err)
		}
		if _, _, err := d.Elements(nothing); err == nil {
			t.Errorf("%s: a second time: no error", e.Key)
		}
	}
	d = NewDecoder(bytes.NewReader(small()), Options{NoStringPayload: true})
	for range 2 {
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // what is held can be read again
			if _, n, err := d.Elements(nothing); err != nil || n != 1 {
				t.Errorf("held: got %d, %v", n, err)
			}
		}
	}
}

func TestErrorsInsideAValueSayWhereInTheFile(t *testing.T) {
	before := newFile("0009").raw(byte(TypeString), "k", "v")
	at := int64(len(*before))
	data := before.raw(byte(TypeSetIntset), "set", "\x03\x00\x00\x00\x00\x00\x00\x00").end()
	for _, hold := range []int64{0, -1} {
		_, err := walkAll(NewDecoder(bytes.NewReader(data), Options{Hold: hold}))
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Offset != at || fe.Type != TypeSetIntset || fe.At < at {
			t.Errorf("hold %d: got %v (%+v), want it at offset %d", hold, err, fe, at)
		}
	}
}

func TestFlippedValuesComeTheSameBothWays(t *testing.T) {
	for name, c := range builtValues() {
		step := 1 + 8*len(c.body)/500
		for bit := 0; bit < 8*len(c.body); bit += step {
			broken := bytes.Clone(c.body)
			broken[bit/8] ^= 1 << (bit % 8)
			want, werr := collect(c.typ, broken)
			file := append(*newFile("0080").raw(c.typ, "k"), broken...)
			d := narrow(NewDecoder(bytes.NewReader(file), Options{Hold: -1}))
			e, err := d.Next()
			if err != nil {
				t.Fatal(err)
			}
			got, err := walk(d, e)
			whole := err == nil && e.End.Offset == int64(len(file))
			if whole != (werr == nil) {
				t.Errorf("%s, bit %d: got %v at %d of %d, want as from the body: %v", name, bit, err, e.End.Offset, len(file), werr)
			}
			if whole && !slices.Equal(got.elements, want) {
				t.Errorf("%s, bit %d: got %.500q, want %.500q", name, bit, got.elements, want)
			}
		}
	}
}
