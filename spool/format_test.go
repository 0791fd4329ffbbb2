package spool

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tairlift/internal/fsx"
)

var update = flag.Bool("update", false, "rewrite golden files and FORMAT.md's example")

// golden compares got with a file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		ok(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; regenerate it with `go test ./spool -update`\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// example is the spool whose stream segment FORMAT.md shows.
func example(t *testing.T) *fsx.Mem {
	m := fsx.NewMem()
	now := testStart
	w := must(Create(testDir, testIdentity(), WriterOptions{FS: m, Now: func() time.Time { return now }}))(t)
	ok(t, w.AppendClock(ClockSample{SourceMicros: 1700000000000000, Offset: 1000, LocalMicros: 1700000000000250}))
	ok(t, w.BeginRDB(9))
	ok(t, w.AppendRDB([]byte("REDIS0009"), now))
	ok(t, w.EndRDB(0x0102030405060708, true))
	now = now.Add(time.Second)
	ok(t, w.AppendStream([]byte("*1\r\n$4\r\nPING\r\n"), now))
	ok(t, w.AppendStream(bytes.Repeat([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"), 4), now))
	must(w.Sync())(t)
	ok(t, w.Seal())
	return m
}

// annotated is a hexdump with a line for each field.
type annotated struct {
	strings.Builder
	b   []byte
	pos int
}

func (a *annotated) field(n int, name string) {
	for first := true; n > 0; first = false {
		k := min(n, 16)
		line := fmt.Sprintf("%04x  %-48s", a.pos, fmt.Sprintf("% x", a.b[a.pos:a.pos+k]))
		if first {
			line += " " + name
		}
		a.WriteString(strings.TrimRight(line, " ") + "\n")
		a.pos, n = a.pos+k, n-k
	}
}

// fields takes pairs of length and name.
func (a *annotated) fields(list ...any) {
	for pair := range slices.Chunk(list, 2) {
		a.field(pair[0].(int), pair[1].(string))
	}
}

// annotateKeys shows the key file of the example's stream segment.
func annotateKeys(t *testing.T, b []byte) string {
	out := annotated{b: b}
	k := must(parseKeysHeader("", b[:keysHeaderSize]))(t)
	end := parseKeysEnd(b[len(b)-keysEndSize:])
	out.WriteString("header\n")
	out.fields(8, "magic \"tairkeys\"", 4, "version 1", 4, "header length 272", 4, "flags: none", 4, "reserved",
		segHeaderSize, "the segment's header", footerFixed, "its footer, without clock samples",
		8, fmt.Sprintf("size of its file %d", k.size), 8, fmt.Sprintf("pruned %d", k.pruned), 4, "header crc")
	for out.pos < len(b)-keysBlockHead-keysEndSize {
		n := int(le.Uint32(b[out.pos:]))
		out.WriteString("block\n")
		out.fields(4, fmt.Sprintf("fingerprints %d", n), 4, "block crc")
		for range n {
			out.field(len(Fingerprint{}), "fingerprint")
		}
	}
	out.WriteString("end mark\n")
	out.fields(4, "0", 4, "crc", 8, fmt.Sprintf("fingerprints %d", end.Keys), 8, fmt.Sprintf("opaque commands %d", end.Opaque),
		8, fmt.Sprintf("next command at %d", end.Next.Offset), 4, fmt.Sprintf("database %d", end.Next.DB), 4, "rdb version 0")
	return out.String()
}

// annotate prints a segment with a line for each field.
func annotate(t *testing.T, b []byte) string {
	out := annotated{b: b}
	fields := out.fields
	out.WriteString("segment header\n")
	fields(8, "magic \"tairlift\"", 4, "version 1", 4, "header length 148", 4, "flags: stream phase", 4, "group 1",
		4, "epoch 1", 4, "reserved", 16, "job", 8, "sequence number 2", 8, "first of the epoch: 1", 40, "replid",
		8, "epoch start offset 1000", 8, "stream offset 1000", 8, "rdb bytes before: 9", 8, "rdb size 9",
		8, "created 1700000001000", 4, "header crc")
	salt := le.Uint32(b[segHeaderSize-4:])
	for out.pos < len(b)-trailerSize {
		h, err := parseFrameHeader(b[out.pos:], salt, int64(out.pos))
		ok(t, err)
		fmt.Fprintf(&out, "%s frame\n", h.Kind)
		flags := "flags: none"
		if h.Flags&frameZstd != 0 {
			flags = "flags: zstd"
		}
		if h.Flags&frameCarried != 0 {
			flags = "flags: carried"
		}
		fields(1, fmt.Sprintf("kind %d", h.Kind), 1, flags, 2, "reserved", 4, fmt.Sprintf("raw length %d", h.RawLen),
			4, fmt.Sprintf("stored length %d", h.StoredLen), 8, fmt.Sprintf("offset %d", h.Offset),
			8, fmt.Sprintf("received %d", h.Recv), 4, "payload crc", 4, "frame header crc")
		switch h.Kind {
		case kindClock:
			fields(8, "source clock, us", 8, "offset", 8, "local clock, us")
		case kindFooter:
			f := must(parseFooter(b[out.pos:][:h.StoredLen]))(t)
			fields(8, fmt.Sprintf("stream end %d", f.StreamEnd), 8, fmt.Sprintf("rdb end %d", f.RDBEnd),
				8, fmt.Sprintf("rdb size %d", f.RDBSize), 4, "flags: rdb complete", 4, fmt.Sprintf("frames %d", f.Frames),
				8, fmt.Sprintf("raw bytes %d", f.RawBytes), 8, fmt.Sprintf("stored bytes %d", f.StoredBytes),
				8, "first received", 8, "last received", 4, "file crc", 4, fmt.Sprintf("index entries %d", len(f.Index)),
				4, fmt.Sprintf("clock samples %d", len(f.Clock)), 4, "reserved")
			for range f.Clock {
				fields(8, "source clock, us", 8, "offset", 8, "local clock, us")
			}
		default:
			out.field(int(h.StoredLen), "payload")
		}
	}
	out.WriteString("trailer\n")
	fields(8, fmt.Sprintf("footer position %d", le.Uint64(b[out.pos:])), 4, "footer frame length", 4, "trailer crc", 8, "magic \"tairseal\"")
	return out.String()
}

// The examples in FORMAT.md are what is written.
func TestFormatDocShowsWhatIsWritten(t *testing.T) {
	doc := string(must(os.ReadFile("FORMAT.md"))(t))
	put := func(name, got string) {
		t.Helper()
		open, end := "<!-- "+name+" -->\n```\n", "```\n<!-- end of "+name+" -->"
		before, rest, found := strings.Cut(doc, open)
		_, after, foundEnd := strings.Cut(rest, end)
		if !found || !foundEnd {
			t.Fatalf("FORMAT.md has no %s to compare", name)
		}
		doc = before + open + got + end + after
	}
	put("example", annotate(t, readFile(t, example(t), Path(testDir, 1, 1, 2))))
	put("example of a key file", annotateKeys(t, exampleKeys(t)))
	golden(t, "FORMAT.md", doc)
}

// exampleKeys prunes a stream segment such as the example's.
func exampleKeys(t *testing.T) []byte {
	t.Helper()
	m := fsx.NewMem()
	w := inStream(t, options(m), "REDIS0009\xff\x00\x00\x00\x00\x00\x00\x00\x00")
	ok(t, w.AppendStream(bytes.Repeat([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"), 4), testStart))
	ok(t, w.Seal())
	id := testIdentity()
	id.Epoch = 2
	ok(t, must(Create(testDir, id, options(m)))(t).Seal())
	prune(t, group(t, m), Floor{Epoch: 2})
	return readFile(t, m, KeysPath(testDir, 1, 1, 2))
}

// Key files of version 1 are read by every later version. The file stays as it
// is: -update makes it only when it is not there.
func TestGoldenKeyFileIsRead(t *testing.T) {
	const path = "testdata/keys-v1/group-0001/epoch-0001/00000002.keys"
	if _, err := os.Stat(path); *update && os.IsNotExist(err) {
		ok(t, os.MkdirAll(filepath.Dir(path), 0o755))
		ok(t, os.WriteFile(path, exampleKeys(t), 0o644))
	}
	g := &Group{fs: fsx.OS, dir: "testdata/keys-v1", job: testJob, id: 1}
	got := []Fingerprint{}
	p, err := g.ReadKeys(1, 2, func(fp Fingerprint) error { got = append(got, fp); return nil })
	ok(t, err)
	if want := []Fingerprint{FingerprintOf(0, []byte("k"))}; !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	want := PrunedSegment{
		Path: path, Epoch: 1, Seq: 2, Stream: true, From: 1000, To: 1108, Bytes: 400, KeyBytes: 336, Keys: 1,
		Pruned: testStart,
	}
	if p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
}

// A fingerprint is what FORMAT.md says, for good.
func TestFingerprintsNeverChange(t *testing.T) {
	got := FingerprintOf(3, []byte("user:1"))
	sum := sha256.Sum256(append([]byte{3, 0, 0, 0}, "user:1"...))
	if want := "c79ab19cca66f50eeb077e67f84d2fcf"; !bytes.Equal(got[:], sum[:16]) || fmt.Sprintf("%x", got) != want {
		t.Errorf("got %x, want %s and %x", got, want, sum[:16])
	}
}

// Segments written by version 1 are read by every later one. The files stay
// as they are: -update makes them only when they are not there.
func TestGoldenSpoolIsRead(t *testing.T) {
	const dir = "testdata/v1"
	if _, err := os.Stat(dir); *update && os.IsNotExist(err) {
		m := example(t)
		ok(t, os.MkdirAll(filepath.Dir(Path(dir, 1, 1, 1)), 0o755))
		for seq := Seq(1); seq <= 2; seq++ {
			ok(t, os.WriteFile(Path(dir, 1, 1, seq), readFile(t, m, Path(testDir, 1, 1, seq)), 0o644))
		}
	}
	g := must(OpenGroup(dir, testJob, 1))(t)
	wantRDB(t, g, 1, []byte("REDIS0009"))
	want := "*1\r\n$4\r\nPING\r\n" + strings.Repeat("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", 4)
	wantStream(t, g, 1, 1000, []byte(want), ErrEnd)
	rep := must(Check(dir, CheckOptions{Job: testJob}))(t)
	var b strings.Builder
	ok(t, rep.Text(&b))
	if got, want := b.String(), "ok: 1 group, 1 epoch, 2 segments, 8 frames, "+count(rep.Bytes, "byte")+"\n"; got != want {
		t.Errorf("check: got %q, want %q", got, want)
	}
}

func TestDumpShowsEveryFrame(t *testing.T) {
	m := example(t)
	var b strings.Builder
	ok(t, dump(m, &b, testDir, DumpOptions{Data: true}))
	golden(t, "testdata/dump.golden", b.String())
	b.Reset()
	ok(t, dump(m, &b, testDir, DumpOptions{Group: 1, Epoch: 1, Seq: 2}))
	if n := strings.Count("\n"+b.String(), "\nsegment "); n != 1 {
		t.Errorf("dump of one segment: got %d", n)
	}
	if err := dump(m, &b, testDir, DumpOptions{Group: 7}); err == nil {
		t.Error("dump of a group that is not there: got nil, want an error")
	}
}
