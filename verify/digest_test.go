package verify

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"tairlift/internal/rdb"
)

// What a hostile server sends must not crash the digester, and a digest must
// not depend on what was digested before, nor on whether the payload was held.
func FuzzDigest(f *testing.F) {
	f.Add(byte(rdb.TypeString), []byte("\x03abc"))
	f.Add(byte(rdb.TypeHash), []byte("\x01\x01f\x01v"))
	f.Add(byte(rdb.TypeHashListpack), []byte{})
	used := newDigester(3)
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		p := rdb.AppendDump(nil, typ, body, 9)
		a, errA := used.of(p)
		b, errB := newDigester(3).of(p)
		if a != b || (errA == nil) != (errB == nil) {
			t.Errorf("two digests of one payload: %v (%v) and %v (%v)", a, errA, b, errB)
		}
		c := used.arriving(bytes.NewReader(p), int64(len(p)))
		if c.said != a || (c.err == nil) != (errA == nil) || c.raw != used.opaque(p[:len(p)-dumpFooter]) || c.typ != typ {
			t.Errorf("digest of a payload that arrived: %+v, of one that is held %v (%v)", c, a, errA)
		}
	})
}

// A string has one digest, whether it comes whole or in pieces.
func TestTheDigestOfAStringDoesNotDependOnItsPieces(t *testing.T) {
	d := newDigester(7)
	for _, n := range []int{0, 1, 15, 16, 240, 241, 1024, 64 << 10, 64<<10 + 1, 300_000} {
		for _, start := range []string{"", "HYLL"} {
			text := append([]byte(start), bytes.Repeat([]byte("0123456789abcdefg"), n/17+1)[:n]...)
			p := stringDump(string(text))
			want, err := d.of(p)
			if err != nil {
				t.Fatal(err)
			}
			for how, r := range map[string]io.Reader{"whole": bytes.NewReader(p), "byte by byte": iotest.OneByteReader(bytes.NewReader(p))} {
				if got := d.arriving(r, int64(len(p))); got.said != want || got.err != nil || want.count != int64(len(text)) {
					t.Errorf("%d bytes, %s: got %v, %v, want %v", len(text), how, got.said, got.err, want)
				}
			}
		}
	}
}

func TestDigestsTellEverySplitApart(t *testing.T) {
	// Each payload says something else; all with a plain length byte.
	payloads := map[string][]byte{
		"string ab":         rdb.AppendDump(nil, rdb.TypeString, []byte("\x02ab"), 9),
		"list a b":          rdb.AppendDump(nil, rdb.TypeList, []byte("\x02\x01a\x01b"), 9),
		"list b a":          rdb.AppendDump(nil, rdb.TypeList, []byte("\x02\x01b\x01a"), 9),
		"list ab":           rdb.AppendDump(nil, rdb.TypeList, []byte("\x01\x02ab"), 9),
		"list ab, empty":    rdb.AppendDump(nil, rdb.TypeList, []byte("\x02\x02ab\x00"), 9),
		"list empty, ab":    rdb.AppendDump(nil, rdb.TypeList, []byte("\x02\x00\x02ab"), 9),
		"set a b":           rdb.AppendDump(nil, rdb.TypeSet, []byte("\x02\x01a\x01b"), 9),
		"set a a":           rdb.AppendDump(nil, rdb.TypeSet, []byte("\x02\x01a\x01a"), 9),
		"set b b":           rdb.AppendDump(nil, rdb.TypeSet, []byte("\x02\x01b\x01b"), 9),
		"hash a b":          rdb.AppendDump(nil, rdb.TypeHash, []byte("\x01\x01a\x01b"), 9),
		"hash b a":          rdb.AppendDump(nil, rdb.TypeHash, []byte("\x01\x01b\x01a"), 9),
		"hash ab, empty":    rdb.AppendDump(nil, rdb.TypeHash, []byte("\x01\x02ab\x00"), 9),
		"hash a b until 5":  rdb.AppendDump(nil, rdb.TypeHashFieldTTL, []byte("\x05\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01a\x01b"), 12),
		"hash a b until 6":  rdb.AppendDump(nil, rdb.TypeHashFieldTTL, []byte("\x05\x00\x00\x00\x00\x00\x00\x00\x01\x02\x01a\x01b"), 12),
		"zset a 1":          rdb.AppendDump(nil, rdb.TypeZSet, []byte("\x01\x01a\x011"), 9),
		"zset a 2":          rdb.AppendDump(nil, rdb.TypeZSet, []byte("\x01\x01a\x012"), 9),
		"zset a inf":        rdb.AppendDump(nil, rdb.TypeZSet, []byte("\x01\x01a\xfe"), 9),
		"no string at all":  rdb.AppendDump(nil, rdb.TypeString, []byte("\x00"), 9),
		"module, undecoded": rdb.AppendDump(nil, rdb.TypeModule2, []byte("ab"), 9),
	}
	seen := map[digest]string{}
	d := newDigester(5)
	for name, p := range payloads {
		got, err := d.of(p)
		if (err != nil) != (name == "module, undecoded") {
			t.Errorf("%s: got error %v", name, err)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s: got the same digest, want two", name, other)
		}
		seen[got] = name
	}
}

func TestDigestsOfOrdersAndZerosAreTheSame(t *testing.T) {
	for name, pair := range map[string][2][]byte{
		"set":            {rdb.AppendDump(nil, rdb.TypeSet, []byte("\x02\x01a\x01b"), 9), rdb.AppendDump(nil, rdb.TypeSet, []byte("\x02\x01b\x01a"), 7)},
		"hash":           {rdb.AppendDump(nil, rdb.TypeHash, []byte("\x02\x01a\x011\x01b\x012"), 9), rdb.AppendDump(nil, rdb.TypeHash, []byte("\x02\x01b\x012\x01a\x011"), 9)},
		"zset, -0 and 0": {rdb.AppendDump(nil, rdb.TypeZSet, []byte("\x01\x01a\x02-0"), 9), rdb.AppendDump(nil, rdb.TypeZSet2, []byte("\x01\x01a\x00\x00\x00\x00\x00\x00\x00\x00"), 9)},
		"zset, texts":    {rdb.AppendDump(nil, rdb.TypeZSet, []byte("\x01\x01a\x030.1"), 9), rdb.AppendDump(nil, rdb.TypeZSet, []byte("\x01\x01a\x130.10000000000000001"), 9)},
	} {
		a, errA := newDigester(1).of(pair[0])
		b, errB := newDigester(1).of(pair[1])
		if errA != nil || errB != nil || a != b {
			t.Errorf("%s: got %v (%v) and %v (%v), want the same", name, a, errA, b, errB)
		}
	}
}
