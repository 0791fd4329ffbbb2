package spool

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

func TestWhatIsAppendedComesBack(t *testing.T) {
	for _, tc := range []struct {
		name   string
		rdb    []byte
		stream [][]byte // appended one by one, synced in between
		o      WriterOptions
	}{
		{"nothing at all", nil, nil, WriterOptions{}},
		{"one byte each", []byte{'R'}, [][]byte{{'a'}, {'b'}, {'c'}}, WriterOptions{}},
		{"text compresses", text(0, 3<<20), [][]byte{text(9, 2<<20), text(7, 100), text(1, 300<<10)}, WriterOptions{}},
		{"noise does not", noise(1, 3<<20), [][]byte{noise(2, 2<<20), noise(3, 100), noise(4, 64)}, WriterOptions{}},
		{"every sync rotates", text(0, 2<<20), [][]byte{text(1, 10), text(2, 1000), text(3, 1<<20)}, WriterOptions{SegmentBytes: 1}},
		{"exactly one frame", text(0, frameTarget), [][]byte{text(1, frameTarget), text(2, frameTarget-1), text(3, frameTarget+1)}, WriterOptions{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := fsx.NewMem()
			o := options(m)
			o.SegmentBytes = tc.o.SegmentBytes
			w := must(Create(testDir, testIdentity(), o))(t)
			ok(t, w.BeginRDB(int64(len(tc.rdb))))
			for p := tc.rdb; len(p) > 0; {
				n := min(len(p), 100<<10)
				ok(t, w.AppendRDB(p[:n], testStart))
				must(w.Sync())(t)
				p = p[n:]
			}
			ok(t, w.EndRDB(42, true))
			var all []byte
			for _, p := range tc.stream {
				ok(t, w.AppendStream(p, testStart))
				d := must(w.Sync())(t)
				all = append(all, p...)
				if want := repl.Offset(1000 + len(all)); d.Offset != want {
					t.Errorf("durable offset: got %d, want %d", d.Offset, want)
				}
			}
			for _, seal := range []bool{false, true} {
				if seal {
					ok(t, w.Seal())
				}
				g := group(t, m)
				wantRDB(t, g, 1, tc.rdb)
				for _, after := range []int{0, 1, len(all) / 3, len(all) / 2, len(all) - 1, len(all)} {
					if after >= 0 && after <= len(all) {
						wantStream(t, g, 1, repl.Offset(1000+after), all[after:], ErrEnd)
					}
				}
				wantCheck(t, m, CheckOptions{Job: testJob, Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 0, 0)
			}
		})
	}
}

func TestRDBSeeksToAnyByte(t *testing.T) {
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 1 << 20
	w := must(Create(testDir, testIdentity(), o))(t)
	rdb := noise(5, 4<<20)
	for i := 0; i < len(rdb); i += 50000 {
		ok(t, w.AppendRDB(rdb[i:min(i+50000, len(rdb))], testStart))
		must(w.Sync())(t)
	}
	if _, err := group(t, m).OpenRDB(1); !errors.Is(err, ErrRDBIncomplete) {
		t.Errorf("open before the end: got %v, want ErrRDBIncomplete", err)
	}
	ok(t, w.EndRDB(7, false))
	r := must(group(t, m).OpenRDB(1))(t)
	defer r.Close()
	for _, off := range []int{0, 1, 49999, 50000, 1 << 20, 3<<20 + 17, len(rdb) - 1, len(rdb), 5} {
		ok(t, r.SeekTo(int64(off)))
		if err := iotest.TestReader(readerOnly{r}, rdb[off:]); err != nil {
			t.Errorf("read from %d: %v", off, err)
		}
		if crc, checked := r.CRC64(); crc != 7 || checked {
			t.Errorf("crc64: got %d, %v, want 7, false", crc, checked)
		}
	}
	for _, off := range []int64{-1, int64(len(rdb)) + 1} {
		if err := r.SeekTo(off); err == nil {
			t.Errorf("seek to %d: got nil, want an error", off)
		}
	}
}

type readerOnly struct{ io.Reader }

func TestSmallAppendsShareAFrame(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	for range 100 {
		ok(t, w.AppendStream([]byte("*1\r\n$4\r\nPING\r\n"), testStart))
	}
	must(w.Sync())(t)
	ok(t, w.AppendStream([]byte("a"), testStart))
	ok(t, w.AppendStream([]byte("b"), testStart.Add(frameSpan+time.Millisecond)))
	must(w.Sync())(t)
	r := must(group(t, m).OpenStream(1, 1000))(t)
	defer r.Close()
	var lens []int
	for {
		f, err := r.Next()
		if err != nil {
			break
		}
		lens = append(lens, len(f.Data))
	}
	if want := []int{1400, 1, 1}; !slices.Equal(lens, want) {
		t.Errorf("frame lengths: got %v, want %v", lens, want)
	}
}

func TestSyncWithoutNewBytesWritesNothing(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("x"), testStart))
	want := must(w.Sync())(t)
	ops := m.Ops()
	if got := must(w.Sync())(t); got != want || m.Ops() != ops {
		t.Errorf("second sync: got %+v and %d operations, want %+v and none", got, m.Ops()-ops, want)
	}
}

func TestAgeSealsASegment(t *testing.T) {
	m := fsx.NewMem()
	now := testStart
	o := WriterOptions{FS: m, Now: func() time.Time { return now }, SegmentAge: time.Minute}
	w := inStream(t, o, "R")
	ok(t, w.AppendStream([]byte("x"), now))
	if d := must(w.Sync())(t); d.Sealed {
		t.Errorf("young segment: got it sealed, want it open")
	}
	now = now.Add(time.Minute)
	d := must(w.Sync())(t)
	if !d.Sealed || d.Seq != 2 {
		t.Errorf("old segment: got %+v, want segment 2 sealed", d)
	}
	ok(t, w.AppendStream([]byte("y"), now))
	if d := must(w.Sync())(t); d.Sealed || d.Seq != 3 {
		t.Errorf("next segment: got %+v, want segment 3 open", d)
	}
	wantStream(t, group(t, m), 1, 1000, []byte("xy"), ErrEnd)
}

func TestCallsOutOfOrderAreRefused(t *testing.T) {
	m := fsx.NewMem()
	w := must(Create(testDir, testIdentity(), options(m)))(t)
	order := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrOrder) {
			t.Errorf("%s: got %v, want ErrOrder", what, err)
		}
	}
	order("stream before the rdb", w.AppendStream([]byte("x"), testStart))
	order("replid before the rdb's end", w.SetReplID(repl.ReplID(strings.Repeat("b", 40))))
	ok(t, w.AppendRDB([]byte("R"), testStart))
	order("second begin", w.BeginRDB(1))
	ok(t, w.EndRDB(0, false))
	order("rdb after its end", w.AppendRDB([]byte("R"), testStart))
	order("second end", w.EndRDB(0, false))
	order("begin after the end", w.BeginRDB(1))
	ok(t, w.Seal())
	if err := w.AppendStream([]byte("x"), testStart); !errors.Is(err, ErrClosed) {
		t.Errorf("append after seal: got %v, want ErrClosed", err)
	}
	if _, err := Create(testDir, testIdentity(), options(m)); err == nil {
		t.Error("create the same epoch again: got nil, want an error")
	}
	skip := testIdentity()
	skip.Epoch = 3
	if _, err := Create(testDir, skip, options(m)); err == nil {
		t.Error("create with an epoch left out: got nil, want an error")
	}
}

func TestEpochsShareOneRowOfSegments(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("first"), testStart))
	must(w.Sync())(t)
	next := testIdentity()
	next.Epoch, next.Start = 2, 5000
	if _, err := Create(testDir, next, options(m)); err == nil || !strings.Contains(err.Error(), "not sealed") {
		t.Errorf("create before the seal: got %v, want it refused", err)
	}
	g := group(t, m)
	r := must(g.OpenStream(1, 1000))(t)
	defer r.Close()
	ok(t, w.Seal())
	w2 := must(Create(testDir, next, options(m)))(t)
	if d := w2.Durable(); d.Seq != 3 || d.Offset != 5000 {
		t.Errorf("new epoch: got %+v, want segment 3 at 5000", d)
	}
	got, _, end := drain(r)
	if string(got) != "first" || end != ErrEpochEnd {
		t.Errorf("old epoch: got %q, %v, want first and ErrEpochEnd", got, end)
	}
	if _, err := r.Next(); err != ErrEpochEnd {
		t.Errorf("asked again: got %v, want ErrEpochEnd", err)
	}
	if _, err := g.OpenStream(2, 5000); !errors.Is(err, ErrRDBIncomplete) {
		t.Errorf("stream before the rdb is whole: got %v, want ErrRDBIncomplete", err)
	}
	ok(t, w2.EndRDB(0, false))
	wantStream(t, g, 2, 5000, nil, ErrEnd)
	ok(t, w2.AppendStream([]byte("second"), testStart))
	ok(t, w2.Seal())
	wantStream(t, g, 2, 5000, []byte("second"), ErrEnd)
	infos := must(g.Epochs())(t)
	if len(infos) != 2 || infos[0].LastSeq != 2 || infos[1].FirstSeq != 3 || infos[1].EndOffset != 5006 || !infos[1].RDBDone {
		t.Errorf("epochs: got %+v", infos)
	}
	wantCheck(t, m, CheckOptions{}, 0, 0)
	if _, err := g.OpenStream(3, 0); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("open an unknown epoch: got %v, want ErrNoEpoch", err)
	}
}

func TestReplIDMayChangeInTheStream(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("old"), testStart))
	want := repl.ReplID(strings.Repeat("b", 40))
	ok(t, w.SetReplID(want))
	if d := w.Durable(); d.ReplID != want || d.Offset != 1003 || !d.Sealed {
		t.Errorf("durable: got %+v, want the new replid at 1003", d)
	}
	// The id is published before any segment bears it.
	_, rec, err := Recover(testDir, testJob, 1, w.Durable(), options(m.Clone()))
	if err != nil || rec.Durable.ReplID != want || rec.Identity.ReplID != want {
		t.Errorf("recovered: got %+v, %v, want the new replid", rec, err)
	}
	ok(t, w.AppendStream([]byte("new"), testStart))
	ok(t, w.Seal())
	wantStream(t, group(t, m), 1, 1000, []byte("oldnew"), ErrEnd)
	wantCheck(t, m, CheckOptions{}, 0, 0)
	_, rec, err = Recover(testDir, testJob, 1, Durable{}, options(m))
	if err != nil || rec.Durable.ReplID != want {
		t.Errorf("recovered without a record: got %+v, %v, want the new replid", rec, err)
	}
}

func TestClockSamplesDateAnyStart(t *testing.T) {
	m := fsx.NewMem()
	w := must(Create(testDir, testIdentity(), options(m)))(t)
	sample := func(i int) ClockSample {
		return ClockSample{SourceMicros: int64(i) * 1e6, Offset: repl.Offset(1000 + i*100<<10), LocalMicros: int64(i)*1e6 + 5}
	}
	// The source is far ahead while the RDB comes in.
	for i := range 20 {
		ok(t, w.AppendClock(sample(i)))
	}
	ok(t, w.EndRDB(0, false))
	data := noise(9, 4<<20)
	for i := 0; i < len(data); i += 100 << 10 {
		ok(t, w.AppendStream(data[i:min(i+100<<10, len(data))], testStart))
		if n := i / (100 << 10); n >= 20 {
			ok(t, w.AppendClock(sample(n)))
		}
		must(w.Sync())(t)
	}
	for _, sealed := range []bool{false, true} {
		if sealed {
			ok(t, w.Seal())
		}
		for _, after := range []int{0, 100 << 10, 150 << 10, 1500 << 10, 3 << 20, 4 << 20} {
			r := must(group(t, m).OpenStream(1, repl.Offset(1000+after)))(t)
			got, clock, end := drain(r)
			r.Close()
			if end != ErrEnd || !bytes.Equal(got, data[after:]) {
				t.Errorf("stream after %d: got %d bytes and %v", after, len(got), end)
			}
			if !slices.IsSortedFunc(clock, func(a, b ClockSample) int { return int(a.Offset - b.Offset) }) {
				t.Errorf("samples after %d: got them out of order or doubled: %v", after, clock)
			}
			if len(clock) == 0 || clock[0].Offset > repl.Offset(1000+after) {
				t.Fatalf("samples after %d: got %v, want one at or before it", after, clock)
			}
			var want []ClockSample
			for i := range 41 {
				if s := sample(i); s.Offset >= clock[0].Offset {
					want = append(want, s)
				}
			}
			if diff := cmp.Diff(want, clock); diff != "" {
				t.Errorf("samples after %d (-want +got):\n%s", after, diff)
			}
		}
	}
	wantCheck(t, m, CheckOptions{}, 0, 0)
}

func TestPendingClockSamplesAreBounded(t *testing.T) {
	m := fsx.NewMem()
	w := must(Create(testDir, testIdentity(), options(m)))(t)
	for i := range 3 * maxPending {
		ok(t, w.AppendClock(ClockSample{Offset: repl.Offset(2000 + i), SourceMicros: int64(i)}))
	}
	ok(t, w.EndRDB(0, false))
	ok(t, w.AppendStream([]byte("x"), testStart))
	ok(t, w.Seal())
	wantCheck(t, m, CheckOptions{}, 0, 0)
	r := must(group(t, m).OpenStream(1, 1000))(t)
	defer r.Close()
	_, clock, _ := drain(r)
	if n := len(clock); n == 0 || n > maxPending || clock[0].SourceMicros != 0 || clock[n-1].SourceMicros != 3*maxPending-1 {
		t.Errorf("samples: got %d, want at most %d from the first to the last", n, maxPending)
	}
}

func TestFullDiskBreaksTheWriterAndLosesNothing(t *testing.T) {
	for space := int64(0); space < 1200; space += 7 {
		m := fsx.NewMem()
		o := options(m)
		o.SegmentBytes = 400
		w := inStream(t, o, "R")
		m.SetSpace(space)
		var data []byte
		var broken error
		for i := 0; broken == nil && i < 100; i++ {
			p := noise(uint64(i), 50)
			data = append(data, p...)
			if broken = w.AppendStream(p, testStart); broken == nil {
				_, broken = w.Sync()
			}
		}
		if !errors.Is(broken, syscall.ENOSPC) || !errors.Is(broken, ErrBroken) {
			t.Fatalf("space %d: got %v, want ErrBroken and ENOSPC", space, broken)
		}
		if err := w.AppendStream([]byte("x"), testStart); !errors.Is(err, ErrBroken) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("space %d: next call: got %v, want the first failure again", space, err)
		}
		vouched := w.Durable()
		w.Close()
		// Still full: recovery fails, and harms nothing.
		m.SetSpace(20)
		if _, _, err := Recover(testDir, testJob, 1, vouched, o); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("space %d: recover on a full disk: got %v, want ENOSPC", space, err)
		}
		m.SetSpace(-1)
		w, rec, err := Recover(testDir, testJob, 1, vouched, o)
		if err != nil {
			t.Fatalf("space %d: %v", space, err)
		}
		if rec.Durable.Offset < vouched.Offset {
			t.Fatalf("space %d: recovered to %d, and %d was vouched for", space, rec.Durable.Offset, vouched.Offset)
		}
		kept := data[:rec.Durable.Offset-1000]
		ok(t, w.AppendStream([]byte("goes on"), testStart))
		ok(t, w.Seal())
		wantStream(t, group(t, m), 1, 1000, append(slices.Clone(kept), "goes on"...), ErrEnd)
		wantCheck(t, m, CheckOptions{}, 0, 0)
	}
}

func TestFailedFsyncIsFatal(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	ok(t, w.AppendStream([]byte("kept"), testStart))
	vouched := must(w.Sync())(t)
	ok(t, w.AppendStream([]byte("doubtful"), testStart))
	syncs := 0
	m.SetFail(func(op fsx.Op) error {
		if op.Name == "sync" {
			syncs++
			return syscall.EIO
		}
		return nil
	})
	for range 3 {
		if _, err := w.Sync(); !errors.Is(err, ErrBroken) || !errors.Is(err, syscall.EIO) {
			t.Errorf("sync: got %v, want ErrBroken and EIO", err)
		}
	}
	if syncs != 1 {
		t.Errorf("fsync was tried %d times, want once", syncs)
	}
	if got := w.Durable(); got != vouched {
		t.Errorf("durable: got %+v, want %+v", got, vouched)
	}
	// Recovery writes the doubtful bytes again before it trusts an fsync.
	rewritten := false
	m.SetFail(func(op fsx.Op) error {
		rewritten = rewritten || op.Name == "write" && op.Bytes == len("doubtful")+2*frameHeaderSize
		return nil
	})
	_, rec, err := Recover(testDir, testJob, 1, vouched, options(m))
	if err != nil || rec.Durable.Offset != 1012 || !rewritten {
		t.Errorf("recover: got %+v, %v, rewritten %v, want offset 1012 and the bytes rewritten", rec, err, rewritten)
	}
}

func TestWriterKeepsNoBigBuffers(t *testing.T) {
	m := fsx.NewMem()
	w := inStream(t, options(m), "R")
	for i := range 40 {
		ok(t, w.AppendStream(noise(uint64(i), 1<<20), testStart))
		ok(t, w.AppendStream(text(i, 100<<10), testStart))
	}
	if got := cap(w.pend) + cap(w.out); got > 1<<20 {
		t.Errorf("buffers: got %d bytes, want at most 1 MiB", got)
	}
}

func TestOnTheRealFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "job", "spool")
	w := must(Create(dir, testIdentity(), WriterOptions{SegmentBytes: 2000}))(t)
	ok(t, w.AppendRDB([]byte("REDIS"), time.Now()))
	ok(t, w.EndRDB(0, false))
	g := must(OpenGroup(dir, testJob, 1))(t)
	r := must(g.OpenStream(1, 1000))(t)
	defer r.Close()
	var got, want []byte
	for i := range 20 {
		p := noise(uint64(i), 300)
		want = append(want, p...)
		ok(t, w.AppendStream(p, time.Now()))
		d := must(w.Sync())(t)
		if i%7 == 6 { // kill -9
			w.Close()
			var rec Recovery
			var err error
			w, rec, err = Recover(dir, testJob, 1, d, WriterOptions{SegmentBytes: 2000})
			if err != nil || rec.Durable.Offset != d.Offset {
				t.Fatalf("recover: got %+v, %v, want offset %d", rec, err, d.Offset)
			}
		}
		more, _, end := drain(r)
		if got = append(got, more...); !bytes.Equal(got, want) || end != ErrEnd {
			t.Fatalf("follower: got %d bytes and %v, want %d and ErrEnd", len(got), end, len(want))
		}
	}
	ok(t, w.Seal())
	wantRDB(t, g, 1, []byte("REDIS"))
	groups := must(Groups(dir))(t)
	infos := must(List(dir))(t)
	rep := must(Check(dir, CheckOptions{Job: testJob, Vouched: map[repl.GroupID]Durable{1: w.Durable()}}))(t)
	if len(groups) != 1 || len(infos) != 1 || !infos[0].Epochs[0].Sealed || !rep.OK() || rep.RawBytes != int64(len(want)+5) {
		t.Errorf("got groups %v, list %+v, report %+v", groups, infos, rep)
	}
	ok(t, Dump(io.Discard, dir, DumpOptions{}))
}
