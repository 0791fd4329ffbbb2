package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// named is the key of an entry or command, and where that begins.
type named struct {
	at int64
	fp Fingerprint
}

// source is what a group sent: its bytes, and the keys in them.
type source struct {
	rdb, stream     []byte
	inRDB, inStream []named
	ends            []int64 // where commands end
}

func (s *source) entry(db int, key string, size int) {
	at := int64(len(s.rdb))
	if len(s.inRDB) == 0 {
		at = 0 // the header belongs to the first one
	}
	length := func(n int) { s.rdb = append(s.rdb, 0x80, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)) }
	s.rdb = append(s.rdb, 0xfe, byte(db), 0)
	length(len(key))
	s.rdb = append(s.rdb, key...)
	length(size)
	s.rdb = append(s.rdb, text(size, size)...)
	s.inRDB = append(s.inRDB, named{at, FingerprintOf(db, []byte(key))})
}

// command appends a command; keys are "db/key".
func (s *source) command(args []string, keys ...Fingerprint) {
	at := int64(testIdentity().Start) + int64(len(s.stream))
	s.stream = fmt.Appendf(s.stream, "*%d\r\n", len(args))
	for _, a := range args {
		s.stream = fmt.Appendf(s.stream, "$%d\r\n%s\r\n", len(a), a)
	}
	s.ends = append(s.ends, int64(testIdentity().Start)+int64(len(s.stream)))
	for _, fp := range keys {
		s.inStream = append(s.inStream, named{at, fp})
	}
}

func (s *source) set(db int, key string, size int) {
	s.command([]string{"SET", key, string(text(size, size))}, FingerprintOf(db, []byte(key)))
}

// before are the fingerprints of what begins before an offset of the phase.
func before(list []named, at int64) map[Fingerprint]bool {
	out := map[Fingerprint]bool{}
	for _, n := range list {
		if n.at < at {
			out[n.fp] = true
		}
	}
	return out
}

// exampleSource has entries and commands of all sizes, in two databases.
func exampleSource() *source {
	s := &source{rdb: []byte("REDIS0009")}
	for i := range 40 {
		s.entry(i%2, fmt.Sprintf("rdb:%d", i), []int{3, 900, 20, 2500}[i%4])
	}
	s.rdb = append(s.rdb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
	db := 0
	s.command([]string{"SELECT", "0"})
	for i := range 60 {
		switch i % 12 {
		case 5:
			db = 1 - db
			s.command([]string{"select", fmt.Sprint(db)})
		case 6:
			s.command([]string{"MOVE", "moved", "7"}, FingerprintOf(db, []byte("moved")), FingerprintOf(7, []byte("moved")))
		case 7:
			s.command([]string{"COPY", "from", "to", "REPLACE", "db", "9"},
				FingerprintOf(db, []byte("from")), FingerprintOf(9, []byte("to")))
		case 8:
			s.command([]string{"PING"})
			s.command([]string{"MULTI"})
			s.set(db, "in:multi", 10)
			s.command([]string{"EXEC"})
		case 9:
			s.command([]string{"NEWCMD", "unknown"}, FingerprintOf(db, []byte("unknown")))
		}
		s.set(db, fmt.Sprintf("key:%d", i%17), []int{5, 70, 1500, 3000}[i%4])
	}
	return s
}

// write brings the source into a spool of small segments.
func (s *source) write(t testing.TB, o WriterOptions) *Writer {
	t.Helper()
	w := must(Create(testDir, testIdentity(), o))(t)
	ok(t, w.BeginRDB(int64(len(s.rdb))))
	for p := s.rdb; len(p) > 0; {
		n := min(len(p), 333)
		ok(t, w.AppendRDB(p[:n], testStart))
		must(w.Sync())(t)
		p = p[n:]
	}
	ok(t, w.EndRDB(1, false))
	for i, p := 0, s.stream; len(p) > 0; i++ {
		n := min(len(p), 277)
		ok(t, w.AppendStream(p[:n], testStart))
		if i%3 == 0 {
			ok(t, w.AppendClock(ClockSample{SourceMicros: int64(i), Offset: repl.Offset(w.offset), LocalMicros: 1}))
		}
		must(w.Sync())(t)
		p = p[n:]
	}
	return w
}

// keysOf reads all key files of epoch 1.
func keysOf(t testing.TB, g *Group) (rdb, stream map[Fingerprint]bool, opaque uint64, list []PrunedSegment) {
	t.Helper()
	rdb, stream = map[Fingerprint]bool{}, map[Fingerprint]bool{}
	seqs := must(listKeys(g.fs, "/spool/group-0001/epoch-0001"))(t)
	for _, seq := range seqs {
		var fps []Fingerprint
		p, err := g.ReadKeys(1, seq, func(fp Fingerprint) error { fps = append(fps, fp); return nil })
		ok(t, err)
		for _, fp := range fps {
			if p.Stream {
				stream[fp] = true
			} else {
				rdb[fp] = true
			}
		}
		opaque += p.Opaque
		list = append(list, p)
	}
	return rdb, stream, opaque, list
}

func prune(t testing.TB, g *Group, f Floor) []PrunedSegment {
	t.Helper()
	return must(g.Prune(context.Background(), f, PruneOptions{Now: func() time.Time { return testStart }}))(t)
}

func TestPruneKeepsWhatLiesBehindTheFloorAndTheKeysOfTheRest(t *testing.T) {
	s := exampleSource()
	start := int64(testIdentity().Start)
	for _, f := range []Floor{
		{Epoch: 0},
		{Epoch: 1},
		{Epoch: 1, Stream: true, Offset: testIdentity().Start},
		{Epoch: 1, Stream: true, Offset: repl.Offset(s.ends[10])},
		{Epoch: 1, Stream: true, Offset: repl.Offset(s.ends[40])},
		{Epoch: 1, Stream: true, Offset: repl.Offset(start + int64(len(s.stream)))},
		{Epoch: 2},
	} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			m := fsx.NewMem()
			o := options(m)
			o.SegmentBytes = 600
			w := s.write(t, o)
			g := group(t, m)
			all := must(g.Epochs())(t)[0].Segments
			done := prune(t, g, f)
			left := must(g.Epochs())(t)[0]
			if len(left.Segments) != len(all)-len(done) || left.Pruned != len(done) {
				t.Fatalf("got %d segments and %d pruned, want %d and %d", len(left.Segments), left.Pruned, len(all)-len(done), len(done))
			}
			for i, seg := range all {
				goes := f.Epoch > 1 || f.Epoch == 1 && f.Stream && (!seg.Stream || seg.To <= int64(f.Offset))
				goes = goes && seg.Sealed && i < len(all)-1
				if goes != (i < len(done)) {
					t.Errorf("segment %d: pruned %v, want %v", seg.Seq, i < len(done), goes)
				}
			}
			// The keys are those of the entries that begin in what went.
			rdb, stream, opaque, list := keysOf(t, g)
			rdbTo, streamTo := int64(0), start
			for _, p := range list {
				if p.Stream {
					streamTo = p.To
				} else {
					rdbTo = p.To
				}
			}
			if want := before(s.inRDB, rdbTo); !maps.Equal(rdb, want) {
				t.Errorf("keys of the rdb: got %d, want %d", len(rdb), len(want))
			}
			if want := before(s.inStream, streamTo); !maps.Equal(stream, want) {
				t.Errorf("keys of the stream: got %d, want %d", len(stream), len(want))
			}
			if f.Epoch == 2 && opaque != 5 {
				t.Errorf("opaque commands: got %d, want 5", opaque)
			}
			// What is left is read as before.
			_, err := g.OpenRDB(1)
			var gone *PrunedError
			if errors.As(err, &gone) != (len(done) > 0) {
				t.Errorf("open rdb: got %v with %d segments pruned", err, len(done))
			}
			wantStream(t, g, 1, repl.Offset(streamTo), s.stream[streamTo-start:], ErrEnd)
			if streamTo > start {
				_, err := g.OpenStream(1, repl.Offset(streamTo-1))
				var gap *GapError
				if !errors.As(err, &gap) || int64(gap.First) != streamTo {
					t.Errorf("open stream before: got %v, want a gap up to %d", err, streamTo)
				}
			}
			rep := wantCheck(t, m, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 0, 0)
			if rep.Pruned != int64(len(done)) {
				t.Errorf("check: got %d pruned segments, want %d", rep.Pruned, len(done))
			}
			// The writer goes on, and so does the next one.
			ok(t, w.AppendStream([]byte("*1\r\n$4\r\nPING\r\n"), testStart))
			must(w.Sync())(t)
			ok(t, w.Close())
			w, _, err = Recover(testDir, testJob, 1, w.Durable(), o)
			ok(t, err)
			ok(t, w.Seal())
			wantCheck(t, m, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 0, 0)
		})
	}
}

// Of a segment that its source pruned while it was being copied, what is here
// of it is all that there will be. Without its key file, or with a part of that,
// it is a copy under way.
func TestHalfASegmentBesideItsKeyFileWasPruned(t *testing.T) {
	s := exampleSource()
	start := testIdentity().Start
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 1500
	w := s.write(t, o)
	ok(t, w.Seal())
	g := group(t, m)
	var rdbSeq, streamSeq Seq // from the middle of each phase
	var from repl.Offset      // of the latter
	for _, seg := range must(g.Epochs())(t)[0].Segments {
		if !seg.Stream {
			rdbSeq = (seg.Seq + 1) / 2
		} else if streamSeq == 0 && seg.From > int64(start)+4000 {
			streamSeq, from = seg.Seq, repl.Offset(seg.From)
		}
	}
	whole := map[Seq][]byte{}
	for _, seg := range must(g.Epochs())(t)[0].Segments {
		whole[seg.Seq] = readFile(t, m, seg.Path)
	}
	prune(t, g, Floor{Epoch: 1, Stream: true, Offset: w.Durable().Offset})
	keys := map[Seq][]byte{}
	for seq := range whole {
		if seq != w.Durable().Seq {
			keys[seq] = readFile(t, m, KeysPath(testDir, 1, 1, seq))
		}
	}
	stream := func(g *Group, at repl.Offset) error {
		r, err := g.OpenStream(1, at)
		if err == nil {
			_, _, err = drain(r)
			ok(t, r.Close())
		}
		return err
	}
	rdb := func(g *Group) error {
		r, err := g.OpenRDB(1)
		if err == nil {
			_, err = io.ReadAll(r)
			ok(t, r.Close())
		}
		return err
	}
	for _, tt := range []struct {
		claim string
		seq   Seq
		have  int // per cent of the segment
		read  func(*Group) error
	}{
		{"the rdb, half a segment", rdbSeq, 50, rdb},
		{"the rdb, a segment without a header", rdbSeq, 0, rdb},
		{"the stream up to half a segment", streamSeq, 50, func(g *Group) error { return stream(g, start) }},
		{"the stream up to one without its seal", streamSeq, 99, func(g *Group) error { return stream(g, start) }},
		{"the stream up to one without a header", streamSeq, 0, func(g *Group) error { return stream(g, start) }},
		{"the stream within half a segment", streamSeq, 50, func(g *Group) error { return stream(g, from+1) }},
		{"the stream behind what half a segment holds", streamSeq, 15, func(g *Group) error { return stream(g, from+1) }},
	} {
		for seq, b := range whole {
			replaceFile(t, m, Path(testDir, 1, 1, seq), b)
		}
		for seq := range keys {
			ok(t, m.Remove(KeysPath(testDir, 1, 1, seq)))
		}
		b := whole[tt.seq]
		writeFile(t, m, Path(testDir, 1, 1, tt.seq), b[:len(b)*tt.have/100])
		key := KeysPath(testDir, 1, 1, tt.seq)
		var pruned *PrunedError
		var missing *MissingError
		if err := tt.read(group(t, m)); !errors.As(err, &missing) || errors.As(err, &pruned) {
			t.Errorf("%s, no key file: got %v, want a MissingError", tt.claim, err)
		}
		writeFile(t, m, key, keys[tt.seq][:len(keys[tt.seq])-1])
		var bad *CorruptError // which a follower of a copy waits out
		if err := tt.read(group(t, m)); !errors.As(err, &missing) && !(errors.As(err, &bad) && bad.Path == key) {
			t.Errorf("%s, a part of its key file: got %v, want a MissingError, or that file's CorruptError", tt.claim, err)
		}
		writeFile(t, m, key, keys[tt.seq])
		if err := tt.read(group(t, m)); !errors.As(err, &pruned) || pruned.Path != Path(testDir, 1, 1, tt.seq) {
			t.Errorf("%s, its key file: got %v, want a PrunedError of segment %s", tt.claim, err, tt.seq)
		}
		for seq := range keys {
			writeFile(t, m, KeysPath(testDir, 1, 1, seq), keys[seq])
		}
	}
}

// The record of what is durable may be a little older than a prune.
func TestRecoveryTakesAPrunedSegmentForWhole(t *testing.T) {
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 600
	w := s.write(t, o)
	g := group(t, m)
	done := prune(t, g, Floor{Epoch: 1, Stream: true, Offset: repl.Offset(s.ends[30])})
	last := done[len(done)-1]
	vouched := Durable{Epoch: 1, ReplID: testIdentity().ReplID, Seq: last.Seq, Bytes: 200, RDBBytes: int64(len(s.rdb)), RDBDone: true, Offset: repl.Offset(last.From)}
	ok(t, w.Close())
	_, rec, err := Recover(testDir, testJob, 1, vouched, o)
	if err != nil || rec.Durable.Offset != w.Durable().Offset {
		t.Errorf("got %+v and %v, want up to %d", rec.Durable, err, w.Durable().Offset)
	}
	ok(t, m.Remove(last.Path))
	if _, _, err := Recover(testDir, testJob, 1, vouched, o); !errors.As(err, new(*CorruptError)) {
		t.Errorf("neither segment nor keys: got %v, want CorruptError", err)
	}
}

func TestPruneInStepsLeavesTheSameKeysAsAtOnce(t *testing.T) {
	s := exampleSource()
	keys := func(floors []repl.Offset) []PrunedSegment {
		m := fsx.NewMem()
		o := options(m)
		o.SegmentBytes = 600
		s.write(t, o)
		g := group(t, m)
		for _, f := range floors {
			prune(t, g, Floor{Epoch: 1, Stream: true, Offset: f})
		}
		_, _, _, list := keysOf(t, g)
		return list
	}
	end := testIdentity().Start + repl.Offset(len(s.stream))
	var steps []repl.Offset
	for o := testIdentity().Start; o < end; o += 97 {
		steps = append(steps, o)
	}
	if once, many := keys([]repl.Offset{end}), keys(append(steps, end)); !slices.Equal(once, many) {
		t.Errorf("got %+v\nwant %+v", many, once)
	}
}

func TestPruneNeverTakesADamagedSegment(t *testing.T) {
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 600
	s.write(t, o)
	g := group(t, m)
	third := must(g.Epochs())(t)[0].Segments[2].Path
	b := readFile(t, m, third)
	b[segHeaderSize+frameHeaderSize+5] ^= 1
	writeFile(t, m, third, b)
	done, err := g.Prune(context.Background(), Floor{Epoch: 2}, PruneOptions{})
	var bad *CorruptError
	if len(done) > 2 || !errors.As(err, &bad) || bad.Path != third { // reading runs ahead of what is pruned
		t.Errorf("got %d pruned and %v, want 2 at most, and damage in %s", len(done), err, third)
	}
	if keys := must(listKeys(m, "/spool/group-0001/epoch-0001"))(t); slices.Contains(keys, 3) {
		t.Error("a damaged segment got a key file")
	}
}

func TestAnRDBThatNeverArrivedWholeLeavesNoKeys(t *testing.T) {
	m := fsx.NewMem()
	o := options(m)
	w := must(Create(testDir, testIdentity(), o))(t)
	ok(t, w.AppendRDB([]byte("REDIS0009 and no more"), testStart))
	ok(t, w.Seal())
	id := testIdentity()
	id.Epoch = 2
	w = must(Create(testDir, id, o))(t)
	ok(t, w.Seal())
	g := group(t, m)
	if done := prune(t, g, Floor{Epoch: 2}); len(done) != 1 || !done[0].Incomplete || done[0].Keys != 0 {
		t.Fatalf("got %+v, want one incomplete segment without keys", done)
	}
	wantCheck(t, m, CheckOptions{}, 0, 0)
	if _, err := g.OpenStream(1, 1000); !errors.As(err, new(*PrunedError)) {
		t.Errorf("open a pruned epoch: got %v, want PrunedError", err)
	}
}

// TestPowerCutAtEveryOperationOfPrune stops a prune after each operation,
// drops unsynced blocks, and prunes again.
func TestPowerCutAtEveryOperationOfPrune(t *testing.T) {
	s := exampleSource()
	s.inRDB, s.rdb = nil, []byte("REDIS0009\xff\x00\x00\x00\x00\x00\x00\x00\x00")
	o := options(nil)
	o.SegmentBytes = 2500
	f := Floor{Epoch: 1, Stream: true, Offset: repl.Offset(s.ends[30])}
	for stop := 0; ; stop++ {
		m := fsx.NewMem()
		ok(t, m.MkdirAll("/"))
		o.FS = m
		w := s.write(t, o)
		ok(t, w.Seal())
		written := m.Ops()
		m.SetFail(func(op fsx.Op) error {
			if op.N >= written+stop {
				return errPower
			}
			return nil
		})
		_, err := group(t, m).Prune(context.Background(), f, PruneOptions{})
		if err != nil && !errors.Is(err, errPower) {
			t.Fatal(err)
		}
		for seed := range uint64(6) {
			c := m.Crash(rand.New(rand.NewPCG(seed, 5)))
			rep := must(check(c, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}))(t)
			if !rep.OK() {
				t.Fatalf("cut at operation %d, seed %d: %+v", stop, seed, rep.Problems)
			}
			g := group(t, c)
			wantStream(t, g, 1, f.Offset, s.stream[f.Offset-testIdentity().Start:], ErrEnd)
			prune(t, g, f)
			_, stream, _, list := keysOf(t, g)
			if want := before(s.inStream, list[len(list)-1].To); !maps.Equal(stream, want) {
				t.Fatalf("cut at operation %d, seed %d: got %d keys, want %d", stop, seed, len(stream), len(want))
			}
			wantCheck(t, c, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 0, 0)
		}
		if err == nil {
			return
		}
	}
}

// TestPruneAgainstModel prunes at random floors, with crashes.
func TestPruneAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &source{rdb: []byte("REDIS0007")}
		for i := range rapid.IntRange(0, 12).Draw(rt, "entries") {
			s.entry(rapid.IntRange(0, 2).Draw(rt, "db"), fmt.Sprint("r", i), rapid.IntRange(0, 900).Draw(rt, "size"))
		}
		s.rdb = append(s.rdb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
		db := 0
		s.command([]string{"SELECT", "0"})
		for range rapid.IntRange(1, 25).Draw(rt, "commands") {
			if rapid.IntRange(0, 4).Draw(rt, "select") == 0 {
				db = rapid.IntRange(0, 3).Draw(rt, "db")
				s.command([]string{"SELECT", fmt.Sprint(db)})
			}
			s.set(db, fmt.Sprint("k", rapid.IntRange(0, 5).Draw(rt, "key")), rapid.IntRange(0, 1200).Draw(rt, "size"))
		}
		m := fsx.NewMem()
		ok(t, m.MkdirAll("/"))
		o := options(m)
		o.SegmentBytes = rapid.SampledFrom([]int64{1, 300, 1000, 5000}).Draw(rt, "segment bytes")
		w := s.write(t, o)
		ok(t, w.Seal())
		start := int64(testIdentity().Start)
		floor := start
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			floor = rapid.Int64Range(floor, start+int64(len(s.stream))).Draw(rt, "floor")
			left := m.Ops() + rapid.IntRange(0, 60).Draw(rt, "operations left")
			m.SetFail(func(op fsx.Op) error {
				if op.N >= left {
					return errPower
				}
				return nil
			})
			f := Floor{Epoch: 1, Stream: true, Offset: repl.Offset(floor)}
			if _, err := group(t, m).Prune(context.Background(), f, PruneOptions{}); err != nil && !errors.Is(err, errPower) {
				rt.Fatal(err)
			}
			m.SetFail(nil)
			m = m.Crash(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "lost blocks"), 0)))
			if rep, err := check(m, testDir, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}); err != nil || !rep.OK() {
				rt.Fatalf("check: %+v, %v", rep, err)
			}
			g := group(t, m)
			prune(t, g, f)
			rdb, stream, _, list := keysOf(t, g)
			rdbTo, streamTo := int64(0), start
			for _, p := range list {
				if p.Stream {
					streamTo = p.To
				} else {
					rdbTo = p.To
				}
			}
			if streamTo > floor || !maps.Equal(rdb, before(s.inRDB, rdbTo)) || !maps.Equal(stream, before(s.inStream, streamTo)) {
				rt.Fatalf("pruned to %d and %d for the floor %d: got %d and %d keys", rdbTo, streamTo, floor, len(rdb), len(stream))
			}
			wantStream(t, g, 1, repl.Offset(floor), s.stream[floor-start:], ErrEnd)
		}
	})
}

func TestPruneKeepsWhatRecoveryNeeds(t *testing.T) {
	s := exampleSource()
	for name, leave := range map[string]func(m *fsx.Mem, d Durable){
		"a segment without a header": func(m *fsx.Mem, d Durable) { must(m.Create(Path(testDir, 1, 1, d.Seq+1)))(t) },
		"an epoch without a segment": func(m *fsx.Mem, _ Durable) { ok(t, m.MkdirAll(testDir+"/group-0001/epoch-0002")) },
		"an epoch without a header": func(m *fsx.Mem, d Durable) {
			ok(t, m.MkdirAll(testDir+"/group-0001/epoch-0002"))
			must(m.Create(Path(testDir, 1, 2, d.Seq+1)))(t)
		},
	} {
		m := fsx.NewMem()
		o := options(m)
		o.SegmentBytes = 1500
		w := s.write(t, o)
		ok(t, w.Seal())
		d := w.Durable()
		leave(m, d)
		prune(t, group(t, m), Floor{Epoch: 3})
		if _, rec, err := Recover(testDir, testJob, 1, d, o); err != nil || rec.Durable != d {
			t.Errorf("%s: got %+v and %v, want %+v", name, rec.Durable, err, d)
		}
	}
}

// The end of the floor's epoch stays, so that a reader there learns that the
// epoch is over.
func TestPruneKeepsTheEndOfTheFloorsEpoch(t *testing.T) {
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 1500
	w := s.write(t, o)
	ok(t, w.Seal())
	end := w.Durable().Offset
	id := testIdentity()
	id.Epoch = 2
	ok(t, must(Create(testDir, id, o))(t).Seal())
	g := group(t, m)
	prune(t, g, Floor{Epoch: 1, Stream: true, Offset: end})
	wantStream(t, g, 1, end, nil, ErrEpochEnd)
	wantCheck(t, m, CheckOptions{}, 0, 0)
}

// An RDB that was cut short was never applied: it goes wherever it stands.
func TestPruneTakesEpochsThatWereGivenUp(t *testing.T) {
	s := exampleSource()
	m := fsx.NewMem()
	o := options(m)
	o.SegmentBytes = 1500
	w := s.write(t, o)
	ok(t, w.Seal())
	end := w.Durable().Offset
	id := testIdentity()
	for e := repl.Epoch(2); e <= 4; e++ {
		id.Epoch = e
		w := must(Create(testDir, id, o))(t)
		ok(t, w.AppendRDB(s.rdb[:4000], testStart))
		if e == 3 {
			ok(t, w.AppendRDB(s.rdb[4000:], testStart))
			ok(t, w.EndRDB(1, false))
		}
		ok(t, w.Seal())
	}
	g := group(t, m)
	done, err := g.Prune(context.Background(), Floor{}, PruneOptions{GivenUp: true})
	if err != nil || len(done) != 1 || done[0].Epoch != 2 || !done[0].Incomplete {
		t.Errorf("got %+v and %v, want epoch 2 alone: 4 is the newest", done, err)
	}
	wantCheck(t, m, CheckOptions{}, 0, 0)
	wantRDB(t, g, 1, s.rdb)
	wantStream(t, g, 1, end, nil, ErrEpochEnd)
}
