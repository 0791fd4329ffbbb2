package rdb

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// small is a dump with one of everything the decoder itself reads.
func small() []byte {
	return newFile("0011").
		raw(byte(opAux), "redis-ver", "7.2.6", byte(opAux), "ctime", plain("\xc2\x01\x02\x03\x04")).
		raw(byte(opModuleAux), 1<<20, 2, 1, 1, 7, 2, 8, 3, plain("four"), 4, int64(1), 5, "text", 0).
		raw(byte(opFunction2), "#!lua name=mylib\n").
		raw(byte(opSelectDB), 0, byte(opResizeDB), 3, 1).
		raw(byte(TypeString), "k", "v").
		raw(byte(opExpireMS), int64(4102444800123), byte(opFreq), byte(200), byte(TypeString), "int", plain("\xc1\xfe\xff")).
		raw(byte(opSelectDB), 9, byte(opSlotInfo), 1, 2, 3).
		raw(byte(opExpire), plain("\x80\x51\x01\x00"), byte(opIdle), 70000, byte(TypeString), "lzf", plain("\xc3\x04\x04\x00a\x20\x00")).
		raw(byte(TypeList), "list", 2, "a", plain("\xc0\x05")).
		raw(byte(TypeZSet), "zset", 4, "a", plain("\x031.5"), "b", plain("\xfd"), "c", plain("\xfe"), "d", plain("\xff")).
		raw(byte(TypeModule2), "module", 1<<30, 2, 5, 5, "part", 0).
		end()
}

func TestDecoderReadsEntriesWithTheirAttributes(t *testing.T) {
	var aux []string
	var functions [][]byte
	data := small()
	d := NewDecoder(bytes.NewReader(data), Options{
		OnAux:      func(k, v []byte) { aux = append(aux, string(k)+"="+string(v)) },
		OnFunction: func(p []byte) { functions = append(functions, bytes.Clone(p)) },
	})
	got := mustReadAll(t, d)
	type key struct {
		DB       int
		Key      string
		ExpireMS int64
		Idle     int64
		Freq     int
		Type     byte
		Body     string
		IsString bool
		String   string
	}
	var keys []key
	for _, e := range got {
		typ, body, version, err := ParseDump(e.Payload)
		if err != nil || typ != e.Type || version != 11 {
			t.Errorf("key %q: payload of type %d, version %d, %v, want type %d, version 11", e.Key, typ, version, err, e.Type)
		}
		keys = append(keys, key{e.DB, string(e.Key), e.ExpireMS, e.Idle, e.Freq, e.Type, string(body), e.IsString, string(e.String)})
	}
	want := []key{
		{0, "k", 0, -1, -1, TypeString, "\x01v", true, "v"},
		{0, "int", 4102444800123, -1, 200, TypeString, "\xc1\xfe\xff", true, "-2"},
		{9, "lzf", 86400 * 1000, 70000, -1, TypeString, "\xc3\x04\x04\x00a\x20\x00", true, "aaaa"},
		{9, "list", 0, -1, -1, TypeList, "\x02\x01a\xc0\x05", false, ""},
		{9, "zset", 0, -1, -1, TypeZSet, "\x04\x01a\x031.5\x01b\xfd\x01c\xfe\x01d\xff", false, ""},
		{9, "module", 0, -1, -1, TypeModule2, string(enc(1<<30, 2, 5, 5, "part", 0)), false, ""},
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"redis-ver=7.2.6", "ctime=67305985"}, aux); diff != "" {
		t.Errorf("AUX fields (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]byte{AppendDump(nil, opFunction2, enc("#!lua name=mylib\n"), 11)}, functions); diff != "" {
		t.Errorf("functions (-want +got):\n%s", diff)
	}
	if got, want := d.Offset(), int64(len(data)); got != want {
		t.Errorf("offset at the end: got %d, want %d", got, want)
	}
	if e, err := d.Next(); e != nil || err != io.EOF {
		t.Errorf("after the end: got %v, %v, want io.EOF again", e, err)
	}
}

// inputs are the dumps on which boundaries and readers are tried.
func inputs(t *testing.T) map[string][]byte {
	in := map[string][]byte{"small": small()}
	for _, name := range fixtures(t) {
		in[name[strings.LastIndexByte(name, '/')+1:]] = readFixture(t, name)
	}
	return in
}

func TestResumeAtEveryBoundaryGivesTheSameRest(t *testing.T) {
	for name, data := range inputs(t) {
		t.Run(name, func(t *testing.T) {
			all := mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{}))
			d := NewDecoder(bytes.NewReader(data), Options{})
			for i := -1; i < len(all); i++ {
				at := d.Boundary()
				if i >= 0 {
					if e, err := d.Next(); err != nil || e.End != all[i].End {
						t.Fatalf("entry %d: got end %v, %v, want %v", i, e, err, all[i].End)
					}
					if at = d.Boundary(); at != all[i].End {
						t.Fatalf("entry %d: got boundary %+v, want %+v", i, at, all[i].End)
					}
				}
				rest := mustReadAll(t, Resume(bytes.NewReader(data[at.Offset:]), at, Options{}))
				if diff := diffEntries(all[i+1:], rest); diff != "" {
					t.Fatalf("resumed behind entry %d at %+v: %s", i, at, diff)
				}
			}
		})
	}
}

func TestChunksOfTheReaderDoNotMatter(t *testing.T) {
	for name, data := range inputs(t) {
		t.Run(name, func(t *testing.T) {
			want := mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{}))
			for kind, r := range map[string]io.Reader{
				"one byte":         iotest.OneByteReader(bytes.NewReader(data)),
				"half":             iotest.HalfReader(bytes.NewReader(data)),
				"data with EOF":    iotest.DataErrReader(bytes.NewReader(data)),
				"one with EOF":     iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(data))),
				"empty in between": &hesitant{r: bytes.NewReader(data)},
			} {
				if diff := diffEntries(want, mustReadAll(t, NewDecoder(r, Options{}))); diff != "" {
					t.Errorf("%s: %s", kind, diff)
				}
			}
		})
	}
}

// hesitant reads nothing every other time, as io.Reader allows.
type hesitant struct {
	r    io.Reader
	turn bool
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.turn = !h.turn; h.turn {
		return 0, nil
	}
	return h.r.Read(p)
}

func TestAReaderThatGivesNothingForEverIsGivenUp(t *testing.T) {
	d := NewDecoder(readerFunc(func([]byte) (int, error) { return 0, nil }), Options{})
	if _, err := d.Next(); err != io.ErrNoProgress {
		t.Errorf("got %v, want %v", err, io.ErrNoProgress)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAFileCutAnywhereIsAnUnexpectedEnd(t *testing.T) {
	data := small()
	want := mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{}))
	for n := range data {
		got, err := readAll(NewDecoder(bytes.NewReader(data[:n]), Options{}))
		var fe *FormatError
		if !errors.As(err, &fe) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: got %v, want a FormatError with io.ErrUnexpectedEOF", n, err)
		}
		if fe.Offset > int64(n) || fe.At > int64(n) || fe.At < fe.Offset {
			t.Errorf("cut at %d: error at %d, stopped at %d", n, fe.Offset, fe.At)
		}
		if diff := diffEntries(want[:min(len(got), len(want))], got); diff != "" {
			t.Errorf("cut at %d: %s", n, diff)
		}
	}
}

func TestEveryFlippedBitIsAnError(t *testing.T) {
	data := small()
	for bit := range 8 * len(data) {
		broken := bytes.Clone(data)
		broken[bit/8] ^= 1 << (bit % 8)
		for _, e := range flippedEntries(broken) {
			// The file's checksum comes last: until then a flipped entry can
			// be handed out, but only one whose own decoding stays in bounds.
			_, _, _ = decodeValue(e.Payload)
		}
		if _, err := readAll(NewDecoder(bytes.NewReader(broken), Options{})); err == nil {
			t.Errorf("bit %d of byte %d (%#02x): no error", bit%8, bit/8, data[bit/8])
		}
	}
}

func flippedEntries(data []byte) []Entry {
	all, _ := readAll(NewDecoder(bytes.NewReader(data), Options{MaxBytes: 1 << 20}))
	return all
}

func TestFooter(t *testing.T) {
	body := func(version string) *file { return newFile(version).raw(byte(TypeString), "k", "v") }
	good := body("0007").end()
	wrong := bytes.Clone(good)
	wrong[len(wrong)-1] ^= 1
	resumeAt := Boundary{Offset: 9, Version: 7}
	for name, c := range map[string]struct {
		data []byte
		want error // nil: read well
	}{
		"a right checksum is good":                       {good, nil},
		"a wrong checksum is an error":                   {wrong, ErrChecksum},
		"a zero checksum was switched off":               {body("0007").endUnsummed(), nil},
		"version 5 has one":                              {body("0005").end(), nil},
		"version 5 without one is cut":                   {*body("0005").raw(byte(opEOF)), io.ErrUnexpectedEOF},
		"version 4 has none":                             {*body("0004").raw(byte(opEOF)), nil},
		"bytes behind the footer are an error":           {append(bytes.Clone(good), 0), errAny},
		"bytes behind the end of version 4 are an error": {*body("0004").raw(byte(opEOF), byte(0)), errAny},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder(bytes.NewReader(c.data), Options{})
			entries, err := readAll(d)
			if want := bytes.Equal(c.data, good) || name == "version 5 has one"; d.Checked() != want && err == nil {
				t.Errorf("got checked %v, want %v", d.Checked(), want)
			}
			if len(entries) != 1 || (err == nil) != (c.want == nil) || c.want != errAny && !errors.Is(err, c.want) {
				t.Errorf("got %d entries, %v, want 1, %v", len(entries), err, c.want)
			}
		})
	}
	if _, err := readAll(Resume(bytes.NewReader(wrong[9:]), resumeAt, Options{})); err != nil {
		t.Errorf("resumed: got %v, want the checksum unread", err)
	}
}

var errAny = errors.New("any error")

func TestWhatIsNotKnownStopsWithTypeAndOffset(t *testing.T) {
	at := int64(len("REDIS0012") + len(enc(byte(TypeString), "k", "v")))
	head := func() *file { return newFile("0012").raw(byte(TypeString), "k", "v") }
	for name, c := range map[string]struct {
		data []byte
		typ  int
		text string
	}{
		"a type of a later version":  {head().raw(byte(26), "h", "x").end(), 26, "type 26: not supported"},
		"a type that never was":      {head().raw(byte(8), "h", "x").end(), 8, "type 8: not supported"},
		"a pre-release module":       {head().raw(byte(6), "h", 1, 2).end(), 6, "type 6 (module of a 4.0 release candidate): not supported"},
		"a pre-release function":     {head().raw(byte(246), "f").end(), 246, "type 246 (FUNCTION_PRE_GA of a 7.0 release candidate): not supported"},
		"a pre-release hash":         {head().raw(byte(22), "h").end(), 22, "type 22 (hash with field TTLs of Valkey 9, or of a Redis 7.4 release candidate): not supported"},
		"the last below the opcodes": {head().raw(byte(243), "h").end(), 243, "type 243 (SLOT_IMPORT of Valkey 9): not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			entries, err := readAll(NewDecoder(bytes.NewReader(c.data), Options{}))
			var fe *FormatError
			if len(entries) != 1 || !errors.As(err, &fe) || !errors.Is(err, ErrUnknownType) {
				t.Fatalf("got %d entries, %v, want 1 and ErrUnknownType", len(entries), err)
			}
			if fe.Type != c.typ || fe.Offset != at || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got type %d at %d: %v, want type %d at %d: %q", fe.Type, fe.Offset, err, c.typ, at, c.text)
			}
		})
	}
}

func TestHeadersOfAllVersions(t *testing.T) {
	for header, want := range map[string]int{
		"REDIS0001": 1, "REDIS0006": 6, "REDIS0012": 12, "REDIS0013": 13, "VALKEY080": 80, "REDIS9999": 9999,
		"REDIS0000": 0, "REDIS00x7": 0, "REDIS007": 0, "VALKEY": 0, "VALKEY08x": 0, "": 0, "RADIS0007": 0, "REDIS-001": 0,
	} {
		if got, err := ParseHeader([]byte(header)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %d, %v, want %d", header, got, err, want)
		}
		if want == 0 {
			continue
		}
		f := file(header)
		data := f.raw(byte(TypeString), "k", "v", byte(TypeSet), "s", 1, "m").end()
		if want < 5 {
			data = data[:len(data)-8]
		}
		for _, e := range mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{})) {
			if _, _, version, err := ParseDump(e.Payload); version != want || e.End.Version != want || err != nil {
				t.Errorf("%s: got a payload of version %d, boundary %+v, %v", header, version, e.End, err)
			}
		}
	}
}

func TestBadFilesAreFormatErrors(t *testing.T) {
	for name, data := range map[string][]byte{
		"another magic":                     []byte("RADIS0007\xff"),
		"a version that is no number":       []byte("REDIS00x7\xff"),
		"version zero":                      []byte("REDIS0000\xff"),
		"a length byte of no meaning":       newFile("0007").raw(byte(TypeString), plain("\x82abcdefgh")).end(),
		"a string encoding of no meaning":   newFile("0007").raw(byte(TypeString), plain("\xc4abc")).end(),
		"an encoding where a count belongs": newFile("0007").raw(byte(TypeList), "k", plain("\xc0\x01")).end(),
		"an encoding where a db belongs":    newFile("0007").raw(byte(opSelectDB), plain("\xc0\x01")).end(),
		"a db that is none":                 newFile("0007").raw(byte(opSelectDB), 1<<40).end(),
		"a quicklist container of no kind":  newFile("0010").raw(byte(TypeListQuicklist2), "k", 1, 3, "x").end(),
		"a module part of no kind":          newFile("0010").raw(byte(TypeModule2), "k", 1, 6, 0).end(),
		"module data without its time":      newFile("0010").raw(byte(opModuleAux), 1, 1, 1, 0).end(),
		"an expiry before the end":          newFile("0007").raw(byte(opExpireMS), int64(1)).end(),
		"an expiry before a database":       newFile("0007").raw(byte(opExpireMS), int64(1), byte(opSelectDB), 1).end(),
		"a length of 2^62":                  newFile("0009").raw(byte(TypeString), "k", uint64(1)<<62).end(),
		"LZF that does not decompress":      newFile("0009").raw(byte(TypeString), "k", plain("\xc3\x03\x04\x00a\x20")).end(),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readAll(NewDecoder(bytes.NewReader(data), Options{}))
			var fe *FormatError
			if !errors.As(err, &fe) || errors.Is(err, ErrChecksum) {
				t.Errorf("got %v, want a FormatError about the format", err)
			}
		})
	}
}

func TestDeadlinesLongPastStayDeadlines(t *testing.T) {
	data := newFile("0009").
		raw(byte(opExpireMS), int64(0), byte(TypeString), "zero", "v").
		raw(byte(opExpireMS), int64(-5), byte(TypeString), "negative", "v").
		raw(byte(opExpire), plain("\x00\x00\x00\x00"), byte(TypeString), "seconds", "v").
		raw(byte(opExpireMS), int64(-1), byte(TypeString), "none", "v").end()
	var got []int64
	for _, e := range mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{})) {
		got = append(got, e.ExpireMS)
	}
	if want := []int64{1, 1, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestErrorsOfTheReaderPassAsTheyAre(t *testing.T) {
	data, broken := small(), errors.New("wire broke")
	for n := range data {
		r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken))
		if _, err := readAll(NewDecoder(r, Options{})); err != broken {
			t.Fatalf("broken at %d: got %v, want %v", n, err, broken)
		}
	}
}

func TestValuesAboveTheBoundAreRefused(t *testing.T) {
	big := strings.Repeat("x", 1000)
	entry := func(parts ...any) []byte { return newFile("0010").raw(parts...).end() }
	for name, data := range map[string][]byte{
		"a string":              entry(byte(TypeString), "k", big),
		"a key":                 entry(byte(TypeString), big, "v"),
		"a list":                entry(byte(TypeList), "k", 3, big[:400], big[:400], big[:400]),
		"a decompressed string": entry(byte(TypeString), "k", plain("\xc3"), 16, 1000, plain("\x00x\xe0\xff\x00\xe0\xff\x00\xe0\xff\x00\xe0\xa2\x00\x00")),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data))} {
				if _, err := readAll(NewDecoder(r, Options{MaxBytes: 999})); !errors.Is(err, ErrTooLarge) {
					t.Errorf("got %v, want %v", err, ErrTooLarge)
				}
			}
		})
	}
	if _, err := readAll(NewDecoder(bytes.NewReader(entry(byte(TypeString), "k", big)), Options{MaxBytes: 1002})); err != nil {
		t.Errorf("a value of exactly the bound: got %v", err)
	}
}

func TestADeclaredLengthAllocatesNothingByItself(t *testing.T) {
	for name, data := range map[string][]byte{
		"a string":       *newFile("0009").raw(byte(TypeString), "k", 900<<20, plain("short")),
		"a key":          *newFile("0009").raw(byte(TypeString), 900<<20, plain("short")),
		"an AUX field":   *newFile("0009").raw(byte(opAux), 900<<20, plain("short")),
		"LZF text":       *newFile("0009").raw(byte(TypeString), "k", plain("\xc3"), 800<<20, 900<<20, plain("short")),
		"what LZF gives": *newFile("0009").raw(byte(TypeString), "k", plain("\xc3"), 5, 900<<20, plain("short")),
		"a list":         *newFile("0009").raw(byte(TypeList), "k", 900<<20, "short"),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := readAll(NewDecoder(bytes.NewReader(data), Options{OnAux: func(k, v []byte) {}}))
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("no error")
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 4*windowSize {
				t.Errorf("got %d bytes allocated, want at most %d", got, 4*windowSize)
			}
		})
	}
}

func TestBigValuesBetweenSmallOnesComeWholeAndAreLetGo(t *testing.T) {
	f := newFile("0009")
	for i, size := range []int{10, windowSize - 20, windowSize, windowSize + 1, 3 << 20, 5, 1 << 20, 9 << 20, 1} {
		f.raw(byte(TypeString), "raw", string(randomBytes(uint64(i), size)), byte(TypeSet), "set", 2, "a", string(randomBytes(uint64(i), size)))
	}
	for range 50 {
		f.raw(byte(TypeString), "small", string(randomBytes(9, 9000)))
	}
	data := f.end()
	d := NewDecoder(bytes.NewReader(data), Options{})
	at := int64(9)
	for {
		e, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body := e.Payload[1 : len(e.Payload)-dumpTail]
		if from := e.End.Offset - int64(len(body)); from < at || !bytes.Equal(body, data[from:e.End.Offset]) {
			t.Fatalf("entry that ends at %d is not what the file holds", e.End.Offset)
		}
		if _, _, _, err := ParseDump(e.Payload); err != nil {
			t.Fatal(err)
		}
		at = e.End.Offset
	}
	if got := len(d.w.buf); got > windowKeep {
		t.Errorf("got a window of %d bytes at the end, want at most %d", got, windowKeep)
	}
}

func TestNoStringPayloadLeavesTheRestAsItIs(t *testing.T) {
	for name, data := range inputs(t) {
		want := mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{}))
		for i := range want {
			if want[i].IsString {
				want[i].Payload = nil
			}
		}
		got := mustReadAll(t, NewDecoder(bytes.NewReader(data), Options{NoStringPayload: true}))
		if diff := diffEntries(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReadingAllocatesNothingPerEntry(t *testing.T) {
	f := newFile("0007").raw(byte(opAux), "redis-ver", "3.2.11")
	for range 5000 {
		f.raw(byte(opExpireMS), int64(1), byte(TypeString), "key", "value", byte(TypeString), "n", plain("\xc0\x05")).
			raw(byte(TypeString), "lzf", plain("\xc3\x04\x04\x00a\x20\x00"), byte(TypeHash), "hash", 1, "f", "v")
	}
	data := f.end()
	allocs := testing.AllocsPerRun(3, func() {
		d := NewDecoder(bytes.NewReader(data), Options{})
		for {
			if _, err := d.Next(); err != nil {
				return
			}
		}
	})
	if allocs > 20 {
		t.Errorf("got %v allocations for 20000 entries, want at most 20 in all", allocs)
	}
}
