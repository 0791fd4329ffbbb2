package spool

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"testing"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// A follower in another process sees the files only.
func TestFollowerSeesWhatIsSyncedAndNoMore(t *testing.T) {
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 600
	w := inStream(t, o, "R")
	r := must(group(t, m).OpenStream(1, 1000))(t)
	defer r.Close()
	var got, synced []byte
	for i := range 200 {
		p := noise(uint64(i), 1+i%90)
		ok(t, w.AppendStream(p, testStart))
		ok(t, w.flush()) // in the file, but not durable
		more, _, end := drain(r)
		if got = append(got, more...); !bytes.Equal(got, synced) || end != ErrEnd {
			t.Fatalf("before sync %d: got %d bytes and %v, want %d and ErrEnd", i, len(got), end, len(synced))
		}
		must(w.Sync())(t)
		synced = append(synced, p...)
		more, _, end = drain(r)
		if got = append(got, more...); !bytes.Equal(got, synced) || end != ErrEnd {
			t.Fatalf("after sync %d: got %d bytes and %v, want %d and ErrEnd", i, len(got), end, len(synced))
		}
	}
	ok(t, w.Seal())
	if more, _, end := drain(r); len(more) != 0 || end != ErrEnd {
		t.Errorf("after the seal: got %d bytes and %v, want none and ErrEnd", len(more), end)
	}
}

// A follower in the same process learns from the writer, and at the end costs
// no system call.
func TestLiveFollowerReadsAlongConcurrently(t *testing.T) {
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 100 << 10
	w := inStream(t, o, "R")
	g := group(t, m)
	g.Live(w)
	r := must(g.OpenStream(1, 1000))(t)
	defer r.Close()
	var want []byte
	for i := range 300 {
		want = append(want, noise(uint64(i), 1000)...)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 300 {
			if err := w.AppendStream(want[i*1000:][:1000], testStart); err != nil {
				t.Error(err)
			}
			if _, err := w.Sync(); err != nil {
				t.Error(err)
			}
		}
	})
	var got []byte
	for len(got) < len(want) {
		changed := w.Changed()
		more, _, end := drain(r)
		if got = append(got, more...); end != ErrEnd {
			t.Fatalf("after %d bytes: got %v, want ErrEnd", len(got), end)
		}
		if len(more) == 0 {
			<-changed
		}
	}
	wg.Wait()
	if !bytes.Equal(got, want) {
		t.Errorf("stream: got other bytes, first difference at %d", firstDiff(got, want))
	}
	counted := &countingFS{FS: m}
	g.fs = counted
	if r.c.seg != nil {
		r.c.seg.fs = counted
	}
	if _, err := r.Next(); err != ErrEnd {
		t.Fatal(err)
	}
	if counted.n != 0 {
		t.Errorf("next at the end: got %d file system calls, want none", counted.n)
	}
}

// countingFS counts the calls that look for something.
type countingFS struct {
	fsx.FS
	n int
}

func (c *countingFS) Open(name string) (fsx.File, error)         { c.n++; return c.FS.Open(name) }
func (c *countingFS) Stat(name string) (fs.FileInfo, error)      { c.n++; return c.FS.Stat(name) }
func (c *countingFS) ReadDir(name string) ([]fs.DirEntry, error) { c.n++; return c.FS.ReadDir(name) }

func TestFollowerGoesOnAfterACaptureRestart(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("one "), testStart))
	vouched := must(w.Sync())(t)
	r := must(group(t, m).OpenStream(1, 1000))(t)
	defer r.Close()
	if got, _, _ := drain(r); string(got) != "one " {
		t.Fatalf("got %q, want one", got)
	}
	ok(t, w.AppendStream([]byte("two "), testStart))
	ok(t, w.flush())
	ok(t, w.write([]byte("half a frame"))) // and kill -9
	w.Close()
	if got, _, end := drain(r); len(got) != 0 || end != ErrEnd {
		t.Errorf("while capture is down: got %q, %v, want nothing and ErrEnd", got, end)
	}
	w, rec, err := Recover(testDir, testJob, 1, vouched, options(m))
	ok(t, err)
	if rec.Durable.Offset != 1008 || rec.TornBytes != int64(len("half a frame")) {
		t.Errorf("recovery: got %+v, want offset 1008 and the half frame torn", rec)
	}
	ok(t, w.AppendStream([]byte("three"), testStart))
	must(w.Sync())(t)
	if got, _, end := drain(r); string(got) != "two three" || end != ErrEnd {
		t.Errorf("after the restart: got %q, %v, want two three and ErrEnd", got, end)
	}
}

// A copy starts over while the reader stands in the middle of a segment: first
// the old file shrinks, then a new one takes its name.
func TestReaderTakesUpTheNewFileOfACopyThatStartedOver(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	want := noise(1, 1<<20)
	ok(t, w.AppendStream(want, testStart))
	ok(t, w.Seal())
	path := Path(testDir, 1, 1, 2)
	whole := readFile(t, m, path)
	r := must(group(t, m).OpenStream(1, 1000))(t)
	defer r.Close()
	f := must(r.Next())(t)
	got := slices.Clone(f.Data)
	writeFile(t, m, path, whole[:1000])
	var missing *MissingError
	for range 3 {
		if _, err := r.Next(); !errors.As(err, &missing) || missing.Have != 1000 {
			t.Fatalf("while it is short: got %v, want 1000 bytes and the rest missing", err)
		}
	}
	replaceFile(t, m, path, whole)
	more, _, end := drain(r)
	if got = append(got, more...); !bytes.Equal(got, want) || end != ErrEnd {
		t.Errorf("when it is whole: got %d bytes and %v, want %d and ErrEnd", len(got), end, len(want))
	}
}

// The spool is copied, file by file and piece by piece, in place or under a
// new name, while it grows. The follower of the copy reads the same bytes.
func TestFollowerOfACopyUnderWay(t *testing.T) {
	for _, inPlace := range []bool{true, false} {
		src, dst := fsx.NewMem(), fsx.NewMem()
		o := options(src)
		o.SegmentBytes = 1000
		w := inStream(t, o, "the rdb")
		path := func(seq Seq) string { return Path(testDir, 1, 1, seq) }
		ok(t, dst.MkdirAll(testDir+"/group-0001/epoch-0001"))
		put := func(seq Seq, b []byte) {
			if inPlace {
				writeFile(t, dst, path(seq), b)
			} else {
				replaceFile(t, dst, path(seq), b)
			}
		}
		put(1, readFile(t, src, path(1)))
		g := group(t, dst)
		r := must(g.OpenStream(1, 1000))(t)
		defer r.Close()
		var got, want []byte
		follow := func(what string) {
			t.Helper()
			more, _, end := drain(r)
			got = append(got, more...)
			var missing *MissingError
			if end != ErrEnd && !errors.As(end, &missing) {
				t.Fatalf("%s: got %v, want ErrEnd or a MissingError", what, end)
			}
			if !bytes.HasPrefix(want, got) {
				t.Fatalf("%s: got bytes that were never captured, from %d on", what, firstDiff(got, want))
			}
		}
		for i := range 60 {
			p := noise(uint64(i), 20+i*7%100)
			want = append(want, p...)
			ok(t, w.AppendStream(p, testStart))
			d := must(w.Sync())(t)
			if i%3 == 0 {
				g.Vouch(d) // the status file comes before the segments
				follow("vouched for and not copied")
			}
			if i%4 != 3 {
				continue // the copy runs only now and then
			}
			for seq := Seq(2); seq <= d.Seq; seq++ {
				b := readFile(t, src, path(seq))
				if _, err := dst.Stat(path(seq)); err == nil && slices.Equal(readFile(t, dst, path(seq)), b) {
					continue
				}
				for n := 0; n < len(b); n += 1 + len(b)/5 {
					put(seq, b[:n]) // it shrinks first, when it was there
					follow("half copied")
				}
				put(seq, b)
				follow("copied")
			}
		}
		ok(t, w.Seal())
		for seq := Seq(2); seq <= w.Durable().Seq; seq++ {
			put(seq, readFile(t, src, path(seq)))
		}
		g.Vouch(w.Durable())
		follow("all there")
		follow("all there, once more")
		if !bytes.Equal(got, want) {
			t.Errorf("in place %v: got %d bytes of %d", inPlace, len(got), len(want))
		}
		wantRDB(t, g, 1, []byte("the rdb"))
		wantCheck(t, dst, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 0, 0)
	}
}

func TestMissingSegmentsAreNoEnd(t *testing.T) {
	build := func() (*fsx.Mem, []byte, *Writer) {
		m := fsx.NewMem()
		o := options(m)
		o.SegmentBytes = 1
		w := inStream(t, o, "R")
		for i := range 5 { // segments 2 to 6, three bytes each
			ok(t, w.AppendStream(text(i, 3), testStart))
			must(w.Sync())(t)
		}
		ok(t, w.Seal())
		return m, bytes.Repeat(text(0, 3), 5), w
	}
	path := func(seq Seq) string { return Path(testDir, 1, 1, seq) }
	var missing *MissingError

	t.Run("in the middle", func(t *testing.T) {
		m, want, _ := build()
		gone := readFile(t, m, path(4))
		ok(t, m.Remove(path(4)))
		r := must(group(t, m).OpenStream(1, 1000))(t)
		got, _, end := drain(r)
		if !bytes.Equal(got, want[:6]) || !errors.As(end, &missing) || missing.Path != path(4) {
			t.Errorf("got %q, %v, want six bytes and segment 4 missing", got, end)
		}
		writeFile(t, m, path(4), gone)
		if got, _, end := drain(r); !bytes.Equal(got, want[6:]) || end != ErrEnd {
			t.Errorf("when it came: got %q, %v, want the rest and ErrEnd", got, end)
		}
		ok(t, m.Remove(path(4)))
		wantCheck(t, m, CheckOptions{}, 1, 0)
	})
	t.Run("at the end, vouched for", func(t *testing.T) {
		m, want, w := build()
		ok(t, m.Remove(path(6)))
		g := group(t, m)
		wantStream(t, g, 1, 1000, want[:12], ErrEnd)
		g.Vouch(w.Durable())
		r := must(g.OpenStream(1, 1000))(t)
		if got, _, end := drain(r); !bytes.Equal(got, want[:12]) || !errors.As(end, &missing) {
			t.Errorf("got %q, %v, want twelve bytes and a MissingError", got, end)
		}
		wantCheck(t, m, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 1, 0)
	})
	t.Run("the last of an epoch that is over", func(t *testing.T) {
		m, want, _ := build()
		next := testIdentity()
		next.Epoch, next.Start = 2, 9000
		must(Create(testDir, next, options(m)))(t)
		ok(t, m.Remove(path(6)))
		r := must(group(t, m).OpenStream(1, 1000))(t)
		if got, _, end := drain(r); !bytes.Equal(got, want[:12]) || !errors.As(end, &missing) {
			t.Errorf("got %q, %v, want twelve bytes and a MissingError", got, end)
		}
		wantCheck(t, m, CheckOptions{}, 1, 0)
	})
	t.Run("the seal of one that another follows", func(t *testing.T) {
		m, want, _ := build()
		b := readFile(t, m, path(4))
		writeFile(t, m, path(4), b[:len(b)-1])
		r := must(group(t, m).OpenStream(1, 1000))(t)
		if got, _, end := drain(r); !bytes.Equal(got, want[:9]) || !errors.As(end, &missing) {
			t.Errorf("got %q, %v, want nine bytes and a MissingError", got, end)
		}
		wantCheck(t, m, CheckOptions{}, 1, 0)
		writeFile(t, m, path(4), b)
		if got, _, end := drain(r); !bytes.Equal(got, want[9:]) || end != ErrEnd {
			t.Errorf("when it came: got %q, %v, want the rest and ErrEnd", got, end)
		}
	})
	t.Run("of the rdb", func(t *testing.T) {
		m, _, _ := build()
		gone := readFile(t, m, path(1))
		ok(t, m.Remove(path(1)))
		if _, err := group(t, m).OpenRDB(1); !errors.As(err, &missing) {
			t.Errorf("open rdb: got %v, want a MissingError", err)
		}
		wantCheck(t, m, CheckOptions{}, 1, 0)
		writeFile(t, m, path(1), gone)
		wantRDB(t, group(t, m), 1, []byte("R"))
	})
}

func TestStreamOpensOnlyWhereItIsHeld(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	g := group(t, m)
	var gap *GapError
	try := func(after repl.Offset, first, last repl.Offset) {
		t.Helper()
		_, err := g.OpenStream(1, after)
		if !errors.As(err, &gap) || gap.First != first || gap.Last != last {
			t.Errorf("open after %d: got %v, want a gap: %d to %d", after, err, first, last)
		}
	}
	try(999, 1000, 1000)
	try(1001, 1000, 1000)
	ok(t, w.AppendStream([]byte("0123456789"), testStart))
	must(w.Sync())(t)
	try(999, 1000, 1010)
	try(1011, 1000, 1010)
	d := w.Durable()
	d.Offset += 5
	d.Bytes += 50
	g.Vouch(d)
	var missing *MissingError
	if _, err := g.OpenStream(1, 1011); !errors.As(err, &missing) {
		t.Errorf("open where it is vouched for: got %v, want a MissingError", err)
	}
}

func TestVouchedTailIsReadWithoutItsSyncFrame(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("durable"), testStart))
	d := must(w.Sync())(t)
	path := Path(testDir, 1, 1, 2)
	writeFile(t, m, path, readFile(t, m, path)[:d.Bytes]) // a power cut took the sync frame
	g := group(t, m)
	wantStream(t, g, 1, 1000, nil, ErrEnd)
	g.Vouch(d)
	wantStream(t, g, 1, 1000, []byte("durable"), ErrEnd)
	wantCheck(t, m, CheckOptions{Vouched: map[repl.GroupID]Durable{1: d}}, 0, 0)
}

func TestForeignSegmentsAreRefused(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("x"), testStart))
	ok(t, w.Seal())
	var identity *IdentityError
	if _, err := openGroup(m, testDir, JobID{9}, 1); !errors.As(err, &identity) || identity.Field != "job" {
		t.Errorf("open with another job: got %v, want an IdentityError", err)
	}
	if _, _, err := Recover(testDir, JobID{9}, 1, Durable{}, options(m)); !errors.As(err, &identity) {
		t.Errorf("recover with another job: got %v, want an IdentityError", err)
	}
	if g := must(openGroup(m, testDir, JobID{}, 1))(t); g.Job() != testJob {
		t.Errorf("job: got %s, want %s", g.Job(), testJob)
	}
	if _, err := openGroup(m, testDir, testJob, 2); !errors.Is(err, ErrNoSpool) {
		t.Errorf("open another group: got %v, want ErrNoSpool", err)
	}
	b := readFile(t, m, Path(testDir, 1, 1, 2))
	ok(t, m.MkdirAll(testDir+"/group-0002/epoch-0001"))
	writeFile(t, m, Path(testDir, 2, 1, 2), b)
	if _, err := openGroup(m, testDir, testJob, 2); !errors.As(err, &identity) || identity.Field != "group" {
		t.Errorf("a segment in another group's folder: got %v, want an IdentityError", err)
	}
	wantCheck(t, m, CheckOptions{}, 1, 0)
	rep := wantCheck(t, m, CheckOptions{Job: JobID{9}, Groups: []repl.GroupID{1}}, 2, 0)
	if rep.OK() || rep.Verdict != VerdictCorrupt {
		t.Errorf("verdict: got %q", rep.Verdict)
	}
}

func TestNewerVersionIsRefusedByName(t *testing.T) {
	m := fsx.NewMem()
	ok(t, inStream(t, options(m), "R").Seal())
	path := Path(testDir, 1, 1, 1)
	b := readFile(t, m, path)
	b[8] = 7
	writeFile(t, m, path, b)
	var version *VersionError
	if _, err := openGroup(m, testDir, testJob, 1); !errors.As(err, &version) || version.Found != 7 {
		t.Errorf("open: got %v, want version 7 refused", err)
	}
	rep := wantCheck(t, m, CheckOptions{}, 1, 0)
	if got, want := rep.Problems[0].Text, "format version is 7, this tairlift reads up to 1"; got != want {
		t.Errorf("problem: got %q, want %q", got, want)
	}
}
