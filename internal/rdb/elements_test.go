package rdb

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lzfOf stores text as an LZF string without compressing it.
func lzfOf(text []byte) []byte {
	var packed []byte
	for from := 0; from < len(text); from += 32 {
		run := text[from:min(from+32, len(text))]
		packed = append(append(packed, byte(len(run)-1)), run...)
	}
	return enc(plain("\xc3"), len(packed), len(text), packed)
}

// collect gives the values that Elements makes, as "a", "a=b" or "a:score".
func collect(typ byte, body []byte) ([]string, error) {
	var got []string
	_, n, err := Elements(typ, body, func(e Element) error {
		got = append(got, elementText(KindOf(typ), e))
		return nil
	})
	if err == nil && KindOf(typ) != KindStream && n != int64(len(got)) {
		err = errors.New("wrong count")
	}
	return got, err
}

func elementText(kind Kind, e Element) string {
	switch s := string(e.A); kind {
	case KindHash:
		if e.DeadlineMS != 0 {
			return s + "=" + string(e.B) + " until " + strconv.FormatInt(e.DeadlineMS, 10)
		}
		return s + "=" + string(e.B)
	case KindZSet:
		return s + ":" + scoreText(e.Score)
	case KindStream:
		return streamText(e.Stream)
	default:
		return s
	}
}

func scoreText(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsNaN(f):
		return "nan"
	}
	return strings.ToLower(strconv.FormatFloat(f, 'g', -1, 64))
}

// builtValues are bodies of every type and encoding, each with its elements.
func builtValues() map[string]struct {
	typ  byte
	body []byte
	want []string
} {
	type value = struct {
		typ  byte
		body []byte
		want []string
	}
	long, longer := strings.Repeat("l", 300), strings.Repeat("L", 70000)
	zip := func(values ...any) []byte { return enc(string(ziplistOf(values...))) }
	list := func(values ...any) []byte { return enc(string(listpackOf(values...))) }
	return map[string]value{
		"string":                  {TypeString, enc("text"), []string{"text"}},
		"empty string":            {TypeString, enc(""), []string{""}},
		"string of an int8":       {TypeString, enc(plain("\xc0\x80")), []string{"-128"}},
		"string of an int16":      {TypeString, enc(plain("\xc1\x39\x30")), []string{"12345"}},
		"string of an int32":      {TypeString, enc(plain("\xc2\x00\x00\x00\x80")), []string{"-2147483648"}},
		"string in LZF":           {TypeString, lzfOf([]byte(long)), []string{long}},
		"string of 32-bit length": {TypeString, enc(plain("\x80\x00\x00\x00\x02ab")), []string{"ab"}},
		"string of 64-bit length": {TypeString, enc(plain("\x81\x00\x00\x00\x00\x00\x00\x00\x02ab")), []string{"ab"}},
		"list":                    {TypeList, enc(3, "a", plain("\xc0\x07"), lzfOf([]byte("zzz"))), []string{"a", "7", "zzz"}},
		"list of nothing":         {TypeList, enc(0), nil},
		"set":                     {TypeSet, enc(2, "a", "b"), []string{"a", "b"}},
		"hash":                    {TypeHash, enc(2, lzfOf([]byte("field")), lzfOf([]byte("value")), plain("\xc0\x01\xc0\x02")), []string{"field=value", "1=2"}},
		"zset of text": {
			TypeZSet, enc(6, "a", plain("\x031.5"), "b", plain("\xfd"), "c", plain("\xfe"), "d", plain("\xff"), "e", plain("\x02-0"), "f", plain("\x051e400")),
			[]string{"a:1.5", "b:nan", "c:inf", "d:-inf", "e:-0", "f:inf"},
		},
		"zset of doubles": {TypeZSet2, enc(2, "a", int64(math.Float64bits(0.1)), "b", int64(math.Float64bits(-3))), []string{"a:0.1", "b:-3"}},
		"zipmap":          {TypeHashZipmap, enc("\x02\x01a\x02\x00xy\x01b\x01\x03z...\xff"), []string{"a=xy", "b=z"}},
		"zipmap of more": {
			TypeHashZipmap, enc("\xfe\xfe\x2c\x01\x00\x00" + long + "\xfe\x2c\x01\x00\x00\x01" + long + "!\xff"), []string{long + "=" + long},
		},
		"empty zipmap": {TypeHashZipmap, enc("\x00\xff"), nil},
		"list ziplist": {
			TypeListZiplist, zip("", "a", []byte("\xf1"), []byte("\xfd"), []byte("\xfe\x80"), []byte("\xc0\x00\x80"), []byte("\xf0\x00\x00\x80"),
				[]byte("\xd0\x00\x00\x00\x80"), []byte("\xe0\x00\x00\x00\x00\x00\x00\x00\x80"), long, "after", longer, "end"),
			[]string{"", "a", "0", "12", "-128", "-32768", "-8388608", "-2147483648", "-9223372036854775808", long, "after", longer, "end"},
		},
		"list ziplist in LZF": {TypeListZiplist, lzfOf(ziplistOf("a", "b")), []string{"a", "b"}},
		"empty list ziplist":  {TypeListZiplist, zip(), nil},
		"hash ziplist":        {TypeHashZiplist, zip("f", []byte("\xf5"), []byte("\xf6"), "v"), []string{"f=4", "5=v"}},
		"zset ziplist": {
			TypeZSetZiplist, zip("a", []byte("\xf2"), "b", "2.5", "c", "-inf", "d", "0.10000000000000001"),
			[]string{"a:1", "b:2.5", "c:-inf", "d:0.1"},
		},
		"intset of 2 bytes": {TypeSetIntset, enc("\x02\x00\x00\x00\x02\x00\x00\x00\xff\xff\x05\x00"), []string{"-1", "5"}},
		"intset of 4 bytes": {TypeSetIntset, enc("\x04\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x80"), []string{"-2147483648"}},
		"intset of 8 bytes": {TypeSetIntset, enc("\x08\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f"), []string{"9223372036854775807"}},
		"quicklist":         {TypeListQuicklist, enc(2, zip("a", "b"), lzfOf(ziplistOf("c"))), []string{"a", "b", "c"}},
		"quicklist2": {
			TypeListQuicklist2, enc(4, 2, list("a", int64(1)), 1, "plain", 1, plain("\xc0\x05"), 2, lzfOf(listpackOf("z"))),
			[]string{"a", "1", "plain", "5", "z"},
		},
		"hash listpack": {TypeHashListpack, list("f", int64(-1), int64(200), "v"), []string{"f=-1", "200=v"}},
		"zset listpack": {TypeZSetListpack, list("a", int64(3), "b", "1e300"), []string{"a:3", "b:1e+300"}},
		"set listpack": {
			TypeSetListpack, list("", int64(0), int64(127), int64(128), int64(-1), int64(4095), int64(-4096), int64(4096), int64(-32768), int64(1<<23-1),
				int64(-1<<23), int64(1<<31-1), int64(math.MinInt32), int64(math.MaxInt64), int64(math.MinInt64), strings.Repeat("s", 63), strings.Repeat("m", 64),
				long, longer),
			[]string{
				"", "0", "127", "128", "-1", "4095", "-4096", "4096", "-32768", "8388607", "-8388608", "2147483647", "-2147483648",
				"9223372036854775807", "-9223372036854775808", strings.Repeat("s", 63), strings.Repeat("m", 64), long, longer,
			},
		},
		"hash of Valkey": {
			TypeHashValkey, enc(2, "f", lzfOf([]byte("value")), int64(-1), "g", "w", int64(4100000000000)),
			[]string{"f=value", "g=w until 4100000000000"},
		},
		"hash with field TTLs": {
			TypeHashFieldTTL, enc(int64(4100000000000), 3, 0, "f", "v", 1, "g", lzfOf([]byte("value")), 100001, lzfOf([]byte(long)), "w"),
			[]string{"f=v", "g=value until 4100000000000", long + "=w until 4100000100000"},
		},
		"hash with field TTLs, none": {TypeHashFieldTTL, enc(int64(0), 1, 0, "f", "v"), []string{"f=v"}},
		"hash listpack with field TTLs": {
			TypeHashFieldTTLPacked, enc(int64(4100000000000), string(listpackOf("f", "v", int64(4100000000000), int64(-1), int64(200), int64(0), long, long, "4200000000000"))),
			[]string{"f=v until 4100000000000", "-1=200", long + "=" + long + " until 4200000000000"},
		},
		"hash listpack with field TTLs, before the release": {TypeHashFieldTTLPacked0, list("f", "v", int64(4100000000000), "g", "w", int64(0)), []string{"f=v until 4100000000000", "g=w"}},
		"stream":  {TypeStreamListpacks, streamBody(TypeStreamListpacks), streamParts(TypeStreamListpacks)},
		"stream2": {TypeStreamListpacks2, streamBody(TypeStreamListpacks2), streamParts(TypeStreamListpacks2)},
		"stream3": {TypeStreamListpacks3, streamBody(TypeStreamListpacks3), streamParts(TypeStreamListpacks3)},
	}
}

func TestElementsOfEveryTypeAndEncoding(t *testing.T) {
	for name, c := range builtValues() {
		t.Run(name, func(t *testing.T) {
			got, err := collect(c.typ, c.body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%.3000s", diff)
			}
		})
	}
}

func TestTheDecoderFindsTheEndOfEveryTypeAndEncoding(t *testing.T) {
	f := newFile("0080")
	all := builtValues()
	var want [][]byte
	for name, c := range all {
		f.raw(c.typ, name, c.body)
		want = append(want, AppendDump(nil, c.typ, c.body, 80))
	}
	for i, e := range mustReadAll(t, NewDecoder(bytes.NewReader(f.end()), Options{})) {
		if !bytes.Equal(e.Payload, want[i]) {
			t.Errorf("%s: got payload %.200q, want %.200q", e.Key, e.Payload, want[i])
		}
	}
}

func TestElementsRefusesTrailingBytesAndCutsEverywhere(t *testing.T) {
	for name, c := range builtValues() {
		t.Run(name, func(t *testing.T) {
			var fe *FormatError
			if _, err := collect(c.typ, append(bytes.Clone(c.body), 0)); !errors.As(err, &fe) || fe.At != int64(len(c.body)) {
				t.Errorf("a byte more: got %v, want a FormatError at %d", err, len(c.body))
			}
			step := 1 + len(c.body)/2000
			for n := 0; n < len(c.body); n += step {
				if _, err := collect(c.typ, c.body[:n]); !errors.As(err, &fe) || fe.At > int64(n) {
					t.Errorf("cut at %d: got %v, want a FormatError at most there", n, err)
				}
			}
		})
	}
}

func TestElementsOfFlippedBodiesNeverPanics(t *testing.T) {
	for _, c := range builtValues() {
		step := 1 + 8*len(c.body)/2000
		for bit := 0; bit < 8*len(c.body); bit += step {
			broken := bytes.Clone(c.body)
			broken[bit/8] ^= 1 << (bit % 8)
			_, _ = collect(c.typ, broken)
			if bit%9 == 0 { // not always: a decoder's window costs time
				_, _ = readAll(NewDecoder(bytes.NewReader(newFile("0080").raw(c.typ, "k", broken).end()), Options{}))
			}
		}
	}
}

func TestBadBodiesAreRefused(t *testing.T) {
	edit := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return enc(string(b))
	}
	zip, list := ziplistOf("ab", "cd"), listpackOf("ab", "cd")
	for name, c := range map[string]struct {
		typ  byte
		body []byte
	}{
		"ziplist: total bytes":             {TypeListZiplist, edit(zip, 0, 99)},
		"ziplist: last entry":              {TypeListZiplist, edit(zip, 4, 10)},
		"ziplist: count":                   {TypeListZiplist, edit(zip, 8, 3)},
		"ziplist: bytes before":            {TypeListZiplist, edit(zip, 14, 3)},
		"ziplist: text leaves the list":    {TypeListZiplist, edit(zip, 15, 3)},
		"ziplist: encoding":                {TypeListZiplist, edit(zip, 15, 0xff)},
		"ziplist: end in the middle":       {TypeListZiplist, edit(zip, 14, 0xff)},
		"ziplist: no end":                  {TypeListZiplist, edit(zip, len(zip)-1, 0)},
		"ziplist: too short":               {TypeListZiplist, enc("\x05\x00\x00\x00\xff")},
		"ziplist: a field without value":   {TypeHashZiplist, enc(string(ziplistOf("f")))},
		"ziplist: a score that is none":    {TypeZSetZiplist, enc(string(ziplistOf("m", "score")))},
		"listpack: total bytes":            {TypeSetListpack, edit(list, 0, 99)},
		"listpack: count":                  {TypeSetListpack, edit(list, 4, 3)},
		"listpack: text leaves the list":   {TypeSetListpack, edit(list, 10, 0x85)},
		"listpack: encoding":               {TypeSetListpack, edit(list, 10, 0xf5)},
		"listpack: end in the middle":      {TypeSetListpack, edit(list, 10, 0xff)},
		"listpack: own length":             {TypeSetListpack, edit(list, 9, 4)},
		"listpack: no end":                 {TypeSetListpack, edit(list, len(list)-1, 0)},
		"listpack: a field without value":  {TypeHashListpack, enc(string(listpackOf("f")))},
		"listpack: a score that is none":   {TypeZSetListpack, enc(string(listpackOf("m", "1.5x")))},
		"intset: width":                    {TypeSetIntset, enc("\x03\x00\x00\x00\x01\x00\x00\x00\x01\x02\x03")},
		"intset: less than counted":        {TypeSetIntset, enc("\x02\x00\x00\x00\x02\x00\x00\x00\x01\x02")},
		"intset: more than counted":        {TypeSetIntset, enc("\x02\x00\x00\x00\x00\x00\x00\x00\x01\x02")},
		"intset: a count beyond all":       {TypeSetIntset, enc("\x08\x00\x00\x00\xff\xff\xff\xff\x01\x02")},
		"intset: too short":                {TypeSetIntset, enc("\x02\x00")},
		"zipmap: count":                    {TypeHashZipmap, enc("\x02\x01a\x01\x00b\xff")},
		"zipmap: field leaves the map":     {TypeHashZipmap, enc("\x01\x09a\x01\x00b\xff")},
		"zipmap: field without value":      {TypeHashZipmap, enc("\x01\x01a\xff")},
		"zipmap: value leaves the map":     {TypeHashZipmap, enc("\x01\x01a\x09\x00b\xff")},
		"zipmap: value without free count": {TypeHashZipmap, enc("\x01\x01a\x00\xff")},
		"zipmap: free bytes leave the map": {TypeHashZipmap, enc("\x01\x01a\x01\x09b\xff")},
		"zipmap: a length of 255":          {TypeHashZipmap, enc("\x01\x01a\xff\x00b\xff")},
		"zipmap: no end":                   {TypeHashZipmap, enc("\x00\x00")},
		"quicklist: container":             {TypeListQuicklist2, enc(1, 3, "x")},
		"list: fewer than counted":         {TypeList, enc(2, "a")},
		"list: a count beyond all":         {TypeList, enc(uint64(math.MaxUint64), "a")},
		"string: length beyond all":        {TypeString, enc(uint64(math.MaxUint64), plain("a"))},
		"zset: a score that is none":       {TypeZSet, enc(1, "m", plain("\x02xx"))},
		"zset: an empty score":             {TypeZSet, enc(1, "m", plain("\x00"))},
		"field TTL: a field alone":         {TypeHashFieldTTLPacked, enc(int64(0), string(listpackOf("f")))},
		"field TTL: a field without one":   {TypeHashFieldTTLPacked, enc(int64(0), string(listpackOf("f", "v")))},
		"field TTL: text":                  {TypeHashFieldTTLPacked, enc(int64(0), string(listpackOf("f", "v", "soon")))},
		"field TTL: below zero":            {TypeHashFieldTTLPacked, enc(int64(0), string(listpackOf("f", "v", int64(-1))))},
		"field TTL: beyond all":            {TypeHashFieldTTLPacked, enc(int64(0), string(listpackOf("f", "v", int64(1<<48))))},
		"field TTL: the sum beyond all":    {TypeHashFieldTTL, enc(int64(1<<48-1), 1, 2, "f", "v")},
		"field TTL: an overflow":           {TypeHashFieldTTL, enc(int64(-1), 1, uint64(math.MaxUint64), "f", "v")},
		"field TTL: the first one cut":     {TypeHashFieldTTL, enc(plain("1234567"))},
		"field TTL: Valkey's cut":          {TypeHashValkey, enc(1, "f", "v", plain("1234567"))},
		"zset: a score cut":                {TypeZSet2, enc(1, "m", plain("1234567"))},
	} {
		t.Run(name, func(t *testing.T) {
			var fe *FormatError
			if got, err := collect(c.typ, c.body); !errors.As(err, &fe) || fe.Type != int(c.typ) {
				t.Errorf("got %q, %v, want a FormatError of type %d", got, err, c.typ)
			}
		})
	}
}

func TestElementsLeavesModulesAndLaterTypesAlone(t *testing.T) {
	for typ, want := range map[byte]struct {
		kind Kind
		err  error
	}{
		TypeModule2: {KindModule, ErrModule}, TypeModulePreGA: {KindModule, ErrModule},
		8: {KindUnknown, ErrUnknownType}, 26: {KindUnknown, ErrUnknownType}, 255: {KindUnknown, ErrUnknownType},
	} {
		kind, n, err := Elements(typ, enc(1, "f", "v"), func(Element) error { t.Error("called"); return nil })
		if kind != want.kind || n != 0 || !errors.Is(err, want.err) {
			t.Errorf("type %d: got %v, %d, %v, want %v, 0, %v", typ, kind, n, err, want.kind, want.err)
		}
	}
}

func TestAnErrorOfTheCallerEndsTheWalk(t *testing.T) {
	stop := errors.New("enough")
	for name, c := range builtValues() {
		calls := 0
		_, _, err := Elements(c.typ, c.body, func(Element) error { calls++; return stop })
		if len(c.want) > 0 && (err != stop || calls != 1) {
			t.Errorf("%s: got %v after %d calls, want %v after 1", name, err, calls, stop)
		}
	}
}

func TestParseDump(t *testing.T) {
	p := AppendDump([]byte("before")[:0:0], TypeString, enc("text"), 7)
	if typ, body, version, err := ParseDump(p); typ != TypeString || string(body) != "\x04text" || version != 7 || err != nil {
		t.Errorf("got %d, %q, %d, %v", typ, body, version, err)
	}
	for n := range p {
		if _, _, _, err := ParseDump(p[:n]); err == nil {
			t.Errorf("cut at %d: no error", n)
		}
	}
	if _, _, _, err := ParseDump(p[:10]); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut at 10: got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	for bit := range 8 * len(p) {
		broken := bytes.Clone(p)
		broken[bit/8] ^= 1 << (bit % 8)
		if _, _, _, err := ParseDump(broken); !errors.Is(err, ErrChecksum) {
			t.Errorf("bit %d flipped: got %v, want %v", bit, err, ErrChecksum)
		}
	}
	if _, _, _, err := ParseDump(AppendDump(nil, TypeString, enc("text"), 0)); err == nil {
		t.Error("version 0: no error")
	}
	if got := AppendDump([]byte("kept"), TypeString, enc("text"), 7); string(got) != "kept"+string(p) {
		t.Errorf("appended: got %q, want %q behind what was there", got, p)
	}
}

func TestDecodingAllocatesNothingPerElement(t *testing.T) {
	for _, name := range []string{"set listpack", "list ziplist", "hash", "zset of doubles", "zset ziplist", "quicklist2", "string in LZF", "stream3", "hash with field TTLs", "hash listpack with field TTLs"} {
		c := builtValues()[name]
		count := 0
		fn := func(Element) error { count++; return nil }
		allocs := testing.AllocsPerRun(200, func() {
			if _, _, err := Elements(c.typ, c.body, fn); err != nil {
				t.Fatal(err)
			}
		})
		// The race detector makes sync.Pool forget at random.
		if allocs > 8 {
			t.Errorf("%s: got %v allocations, want none in the steady state", name, allocs)
		}
	}
}
