package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// testDir is the spool folder in every memory file system.
const testDir = "/spool"

var (
	testJob   = JobID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	testStart = time.UnixMilli(1700000000000)
)

func testIdentity() Identity {
	return Identity{Job: testJob, Group: 1, Epoch: 1, ReplID: repl.ReplID(strings.Repeat("0123456789", 4)), Start: 1000}
}

// options are those of a writer on m whose clock stands still.
func options(m *fsx.Mem) WriterOptions {
	return WriterOptions{FS: m, Now: func() time.Time { return testStart }}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inStream creates an epoch whose RDB is rdb, so that stream bytes may follow.
func inStream(t testing.TB, o WriterOptions, rdb string) *Writer {
	t.Helper()
	w := must(Create(testDir, testIdentity(), o))(t)
	ok(t, w.BeginRDB(int64(len(rdb))))
	ok(t, w.AppendRDB([]byte(rdb), testStart))
	ok(t, w.EndRDB(0x1122334455667788, true))
	return w
}

func group(t testing.TB, m *fsx.Mem) *Group {
	t.Helper()
	return must(openGroup(m, testDir, testJob, 1))(t)
}

// drain reads until the reader has no more, and returns the bytes and what it
// said.
func drain(r *StreamReader) (data []byte, clock []ClockSample, end error) {
	at := r.Offset()
	for {
		f, err := r.Next()
		if err != nil {
			return data, clock, err
		}
		if f.Data != nil && f.After != at {
			return data, clock, fmt.Errorf("frame comes after %d, expected %d", f.After, at)
		}
		data = append(data, f.Data...)
		clock = append(clock, f.Clock...)
		if f.Data != nil {
			at = f.End()
		}
		if r.Offset() != at {
			return data, clock, fmt.Errorf("reader stands at %d, expected %d", r.Offset(), at)
		}
	}
}

// wantStream reads the stream behind after and compares it.
func wantStream(t testing.TB, g *Group, e repl.Epoch, after repl.Offset, want []byte, wantEnd error) {
	t.Helper()
	r, err := g.OpenStream(e, after)
	if err != nil {
		t.Fatalf("open stream after %d: %v", after, err)
	}
	defer r.Close()
	got, _, end := drain(r)
	if !bytes.Equal(got, want) {
		t.Errorf("stream after %d: got %d bytes, want %d bytes, first difference at %d", after, len(got), len(want), firstDiff(got, want))
	}
	if !errors.Is(end, wantEnd) {
		t.Errorf("end of the stream: got %v, want %v", end, wantEnd)
	}
}

func wantRDB(t testing.TB, g *Group, e repl.Epoch, want []byte) {
	t.Helper()
	r, err := g.OpenRDB(e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("rdb: got %d bytes and %v, want %d bytes, first difference at %d", len(got), err, len(want), firstDiff(got, want))
	}
	if r.Size() != int64(len(want)) {
		t.Errorf("rdb size: got %d, want %d", r.Size(), len(want))
	}
}

func firstDiff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// wantCheck fails unless Check finds as many problems and notes.
func wantCheck(t testing.TB, m *fsx.Mem, o CheckOptions, problems, notes int) Report {
	t.Helper()
	rep, err := check(m, testDir, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Problems) != problems || len(rep.Notes) != notes {
		var b strings.Builder
		rep.Text(&b)
		t.Errorf("check: got %d problems and %d notes, want %d and %d:\n%s", len(rep.Problems), len(rep.Notes), problems, notes, b.String())
	}
	return rep
}

func readFile(t testing.TB, m *fsx.Mem, path string) []byte {
	t.Helper()
	f := must(m.Open(path))(t)
	info := must(f.Stat())(t)
	b := make([]byte, info.Size())
	if len(b) > 0 {
		must(f.ReadAt(b, 0))(t)
	}
	return b
}

// writeFile puts b into path in place, as cp does.
func writeFile(t testing.TB, m *fsx.Mem, path string, b []byte) {
	t.Helper()
	f, err := m.Edit(path)
	if err != nil {
		f = must(m.Create(path))(t)
	}
	ok(t, f.Truncate(0))
	must(f.WriteAt(b, 0))(t)
}

// replaceFile puts b into path under a new inode, as rsync does.
func replaceFile(t testing.TB, m *fsx.Mem, path string, b []byte) {
	t.Helper()
	m.Remove(path)
	writeFile(t, m, path, b)
}

// text is compressible and tells its position.
func text(from, n int) []byte {
	var b []byte
	for i := from; len(b) < n; i++ {
		b = fmt.Appendf(b, "*3\r\n$3\r\nSET\r\n$12\r\nkey:%08d\r\n$5\r\nvalue\r\n", i)
	}
	return b[:n]
}

// noise does not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed*2862933555777941757 + 3037000493
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}
