package spool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/rdb"
	"tairlift/internal/redistest"
	"tairlift/internal/repl"
)

// goldenSession is a spool of the recorded session as version 1 wrote it: see
// the README in it.
const goldenSession = "testdata/v1-session"

// writeSession makes the spool of goldenSession. It is here to tell what that
// holds; the files stay as they are.
func writeSession(t *testing.T) *fsx.Mem {
	t.Helper()
	s := redistest.RecordedSession(t)
	m := fsx.NewMem()
	now := testStart
	o := WriterOptions{FS: m, Now: func() time.Time { return now }, SegmentBytes: 1 << 10}
	id := testIdentity()
	id.ReplID, id.Start = s.ReplID, s.Offset
	sample := func(w *Writer, at repl.Offset) {
		t.Helper()
		ok(t, w.AppendClock(ClockSample{SourceMicros: now.UnixMicro(), Offset: at, LocalMicros: now.UnixMicro() + 250}))
	}
	pieces := func(b []byte, size int, put func([]byte, time.Time) error, every func(n int)) {
		t.Helper()
		for n := 0; len(b) > 0; n++ {
			p := b[:min(size, len(b))]
			b = b[len(p):]
			now = now.Add(20 * time.Millisecond)
			ok(t, put(p, now))
			every(n)
		}
	}

	w := must(Create(testDir, id, o))(t)
	ok(t, w.BeginRDB(int64(len(s.RDB))))
	pieces(s.RDB, 15, w.AppendRDB, func(n int) {
		if n%2 == 0 {
			sample(w, s.Offset+repl.Offset(n*10)) // the source goes on meanwhile
			must(w.Sync())(t)
		}
	})
	ok(t, w.EndRDB(rdb.CRC64(0, s.RDB[:len(s.RDB)-8]), true))
	half := len(s.Stream) / 2
	stream := func(b []byte, at repl.Offset) {
		t.Helper()
		pieces(b, 777, w.AppendStream, func(n int) {
			if n%5 == 0 {
				sample(w, at+repl.Offset(min(len(b), (n+1)*777)))
			}
			if n%3 == 0 {
				must(w.Sync())(t)
			}
		})
	}
	stream(s.Stream[:half], s.Offset)
	ok(t, w.SetReplID(repl.ReplID(strings.Repeat("f0", 20)))) // a failover that the source survived
	stream(s.Stream[half:], s.Offset+repl.Offset(half))
	ok(t, w.Seal())

	// A second epoch, whose RDB came without a size, and whose tail has no seal:
	// one frame behind the last sync frame, and a part of another.
	id.Epoch, id.ReplID, id.Start = 2, repl.ReplID(strings.Repeat("ab", 20)), 5000
	w = must(Create(testDir, id, o))(t)
	ok(t, w.BeginRDB(-1))
	ok(t, w.AppendRDB(s.RDB, now))
	ok(t, w.EndRDB(rdb.CRC64(0, s.RDB[:len(s.RDB)-8]), false))
	sample(w, 5000)
	ok(t, w.AppendStream(s.Stream[:1234], now))
	must(w.Sync())(t)
	ok(t, w.AppendStream([]byte("*1\r\n$4\r\nPING\r\n"), now))
	ok(t, w.flush())
	ok(t, w.write([]byte{byte(kindStream), 0, 0, 0, 99}))
	w.Close()

	// A group whose RDB was cut short.
	id.Group, id.Epoch = 2, 1
	w = must(Create(testDir, id, o))(t)
	ok(t, w.BeginRDB(int64(len(s.RDB))))
	ok(t, w.AppendRDB(s.RDB[:100], now))
	must(w.Sync())(t)
	w.Close()
	return m
}

// tellSpool is all that readers say of a spool.
func tellSpool(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, info := range must(List(dir))(t) {
		g := must(OpenGroup(dir, testJob, info.Group))(t)
		for _, e := range info.Epochs {
			fmt.Fprintf(&b, "group %s epoch %s: replid %s, start %s, rdb %d of %d, done %v, end %s, segments %s to %s, sealed %v\n",
				info.Group, e.Epoch, e.ReplID, e.Start, e.RDBBytes, e.RDBSize, e.RDBDone, e.EndOffset, e.FirstSeq, e.LastSeq, e.Sealed)
			for _, s := range e.Segments {
				fmt.Fprintf(&b, "  segment %s: replid %s, stream %v, %d to %d, %d bytes, sealed %v, created %s\n",
					s.Seq, s.ReplID, s.Stream, s.From, s.To, s.Bytes, s.Sealed, s.Created.UTC().Format(time.RFC3339Nano))
			}
			if in, err := g.OpenRDB(e.Epoch); err != nil {
				fmt.Fprintf(&b, "  rdb: incomplete %v\n", errors.Is(err, ErrRDBIncomplete))
			} else {
				raw := must(io.ReadAll(in))(t)
				crc, checked := in.CRC64()
				fmt.Fprintf(&b, "  rdb: %d bytes, sha256 %x, crc64 %016x, checked %v\n", len(raw), sha256.Sum256(raw), crc, checked)
				ok(t, in.Close())
			}
			if in, err := g.OpenStream(e.Epoch, e.Start); err != nil {
				fmt.Fprintf(&b, "  stream: incomplete %v\n", errors.Is(err, ErrRDBIncomplete))
			} else {
				raw, clock, end := drain(in)
				fmt.Fprintf(&b, "  stream: %d bytes, sha256 %x, then %v\n", len(raw), sha256.Sum256(raw), end)
				fmt.Fprintf(&b, "  clock: %d samples, sha256 %x\n", len(clock), sha256.Sum256(appendClock(nil, clock)))
				ok(t, in.Close())
			}
		}
	}
	rep := must(Check(dir, CheckOptions{Job: testJob}))(t)
	ok(t, rep.Text(&b))
	return b.String()
}

// What version 1 wrote is read by every later one, as it was then. Neither the
// segments nor what is told of them is made anew.
func TestGoldenSessionIsRead(t *testing.T) {
	told := filepath.Join(goldenSession, "told.txt")
	if _, err := os.Stat(told); *update && os.IsNotExist(err) {
		m := writeSession(t)
		for _, at := range []struct {
			g   repl.GroupID
			e   repl.Epoch
			all bool
		}{{1, 1, true}, {1, 2, true}, {2, 1, true}} {
			for _, seq := range must(listSeqs(m, filepath.Dir(Path(testDir, at.g, at.e, 1))))(t) {
				ok(t, os.MkdirAll(filepath.Dir(Path(goldenSession, at.g, at.e, seq)), 0o755))
				ok(t, os.WriteFile(Path(goldenSession, at.g, at.e, seq), readFile(t, m, Path(testDir, at.g, at.e, seq)), 0o644))
			}
		}
		ok(t, os.WriteFile(told, []byte(tellSpool(t, goldenSession)), 0o644))
	}
	want := string(must(os.ReadFile(told))(t))
	if got := tellSpool(t, goldenSession); got != want {
		t.Errorf("a spool of version 1 reads otherwise than it did; that is to be mended, not %s\ngot:\n%s\nwant:\n%s", told, got, want)
	}
	// The digests are of what was recorded.
	s := redistest.RecordedSession(t)
	for _, b := range [][]byte{s.RDB, s.Stream} {
		if sum := fmt.Sprintf("%x", sha256.Sum256(b)); !strings.Contains(want, sum) {
			t.Errorf("%s does not hold %s, the digest of what was recorded", told, sum)
		}
	}
	// And the writer of today goes on where the one of then stopped, on a copy.
	m := fsx.NewMem()
	copyIn(t, m, goldenSession)
	w, rec, err := Recover(testDir, testJob, 1, Durable{}, options(m))
	ok(t, err)
	if rec.Durable.Epoch != 2 || rec.Durable.Offset != 5000+1234+14 || rec.TornBytes != 5 {
		t.Errorf("recovery: got %+v, want epoch 2 up to the last whole frame, and the rest torn", rec)
	}
	ok(t, w.AppendStream([]byte("more"), testStart))
	ok(t, w.Seal())
	g := group(t, m)
	wantRDB(t, g, 2, s.RDB)
	wantStream(t, g, 2, 5000, append(append([]byte(nil), s.Stream[:1234]...), "*1\r\n$4\r\nPING\r\nmore"...), ErrEnd)
}

// copyIn copies the spool in the folder dir into a memory file system.
func copyIn(t *testing.T, m *fsx.Mem, dir string) {
	t.Helper()
	ok(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		at := filepath.Join(testDir, rel)
		if e.IsDir() {
			return m.MkdirAll(at)
		}
		writeFile(t, m, at, must(os.ReadFile(path))(t))
		return nil
	}))
}

// A newer version is refused by its name wherever it is met, and so is what
// this version does not know within its own.
func TestWhatIsNewerIsRefusedEverywhere(t *testing.T) {
	for seq := Seq(1); seq <= 2; seq++ {
		m, _, stream, d := small(t, true)
		path := Path(testDir, 1, 1, seq)
		b := readFile(t, m, path)
		b[8] = 2
		follower := must(group(t, m).OpenStream(1, 1000))(t)
		writeFile(t, m, path, b)
		refused := func(where string, err error) {
			t.Helper()
			var version *VersionError
			if !errors.As(err, &version) || version.Found != 2 || version.Supported != Version || version.Path != path {
				t.Errorf("segment %s, %s: got %v, want version 2 of it refused", seq, where, err)
			}
		}
		g, err := openGroup(m, testDir, testJob, 1)
		if seq == 1 {
			refused("open the group", err)
			continue // there is no way to the rest
		}
		ok(t, err)
		_, err = g.Epochs()
		refused("epochs", err)
		_, err = list(m, testDir)
		refused("list", err)
		_, err = g.OpenRDB(1)
		refused("open the rdb", err)
		_, err = g.OpenStream(1, 1000)
		refused("open the stream", err)
		refused("dump", dump(m, io.Discard, testDir, DumpOptions{}))
		_, _, err = Recover(testDir, testJob, 1, d, options(m))
		refused("recover", err)
		next := testIdentity()
		next.Epoch = 2
		_, err = Create(testDir, next, options(m))
		refused("create the next epoch", err)
		rep := wantCheck(t, m, CheckOptions{}, 1, 0)
		if got, want := rep.Problems[0].Text, "format version is 2, this tairlift reads up to 1"; got != want {
			t.Errorf("check: got %q, want %q", got, want)
		}
		// The file that is open is read to its end; what takes its place is not.
		replaceFile(t, m, path, b)
		got, _, _ := drain(follower)
		if len(got) > len(stream) {
			t.Errorf("follower: got %d bytes of %d", len(got), len(stream))
		}
		ok(t, follower.Close())
	}
	t.Run("what comes while it is followed", func(t *testing.T) {
		m := fsx.NewMem()
		o := options(m)
		o.SegmentBytes = 1
		w := inStream(t, o, "R")
		ok(t, w.AppendStream([]byte("one"), testStart))
		must(w.Sync())(t)
		r := must(group(t, m).OpenStream(1, 1000))(t)
		ok(t, w.AppendStream([]byte("two"), testStart))
		must(w.Sync())(t)
		path := Path(testDir, 1, 1, 3)
		b := readFile(t, m, path)
		b[8] = 2
		writeFile(t, m, path, b)
		got, _, err := drain(r)
		var version *VersionError
		if string(got) != "one" || !errors.As(err, &version) || version.Path != path {
			t.Errorf("got %q, %v, want the first segment, and version 2 of the second refused", got, err)
		}
	})
}

// An unknown flag, kind or reserved field is refused, though every checksum is
// right: what it would mean is not known.
func TestUnknownFlagsAndKindsAreRefused(t *testing.T) {
	m, _, stream, _ := small(t, true)
	path := Path(testDir, 1, 1, 2)
	whole := readFile(t, m, path)
	first := int64(segHeaderSize) // a carried clock frame
	at := func(n int) int64 {     // the n-th frame
		pos := first
		for range n {
			h := must(parseFrameHeader(whole[pos:], le.Uint32(whole[144:]), pos))(t)
			pos += h.size()
		}
		return pos
	}
	header := func(change func(b []byte)) func([]byte) {
		return func(b []byte) {
			change(b)
			le.PutUint32(b[144:], crc(b[:144])) // and every frame's salt with it
		}
	}
	frame := func(n int, change func(h []byte)) func([]byte) {
		return func(b []byte) {
			pos := at(n)
			change(b[pos:])
			le.PutUint32(b[pos+32:], frameCRC(b[pos:], le.Uint32(b[144:]), pos))
		}
	}
	for _, tt := range []struct {
		claim  string
		change func(b []byte)
	}{
		{"a flag of the segment", header(func(b []byte) { b[16] |= 2 })},
		{"its reserved field", header(func(b []byte) { b[28] = 1 })},
		{"its length", header(func(b []byte) { b[12]++ })},
		{"a flag of a frame", frame(1, func(h []byte) { h[1] |= 4 })},
		{"a flag that its kind does not have", frame(1, func(h []byte) { h[1] |= frameCarried })},
		{"its reserved field", frame(1, func(h []byte) { h[2] = 1 })},
		{"a kind", frame(1, func(h []byte) { h[0] = byte(kindFooter) + 1 })},
		{"the kind 0", frame(1, func(h []byte) { h[0] = 0 })},
	} {
		b := append([]byte(nil), whole...)
		tt.change(b)
		writeFile(t, m, path, b)
		var bad *CorruptError
		r, err := group(t, m).OpenStream(1, 1000)
		if err == nil {
			_, _, err = drain(r)
			ok(t, r.Close())
		}
		if !errors.As(err, &bad) {
			t.Errorf("unknown %s: got %v, want a CorruptError", tt.claim, err)
		}
		if rep := must(check(m, testDir, CheckOptions{}))(t); rep.OK() {
			t.Errorf("unknown %s: check says ok", tt.claim)
		}
	}
	writeFile(t, m, path, whole)
	wantStream(t, group(t, m), 1, 1000, stream, ErrEnd)
}

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
