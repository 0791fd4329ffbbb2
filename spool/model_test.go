package spool

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
)

// model is what a spool must hold, beside the real one.
type model struct {
	t *rapid.T
	m *fsx.Mem
	w *Writer
	o WriterOptions

	now     time.Time
	rdb     []byte // of the epoch at hand, appended
	done    bool
	stream  []byte
	epoch   repl.Epoch
	vouched Durable // recorded by the caller, perhaps not the latest
	follow  *StreamReader
	read    []byte // by follow
}

var errPower = errors.New("power is gone")

func (s *model) create() {
	id := testIdentity()
	s.epoch++
	id.Epoch = s.epoch
	w, err := Create(testDir, id, s.o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.w, s.rdb, s.stream, s.done = w, nil, nil, false
	s.unfollow()
}

func (s *model) unfollow() {
	if s.follow != nil {
		s.follow.Close()
	}
	s.follow, s.read = nil, nil
}

// use has the writer do something while the file system may fail; it returns
// whether it did. Bytes of a failed call may be there or not.
func (s *model) do(fn func() error) bool {
	err := fn()
	if err == nil {
		return true
	}
	if !errors.Is(err, errPower) || !errors.Is(err, ErrBroken) {
		s.t.Fatalf("writer: %v", err)
	}
	return false
}

func (s *model) append() bool {
	p := noise(rapid.Uint64().Draw(s.t, "seed"), rapid.IntRange(1, 900).Draw(s.t, "size"))
	if rapid.Bool().Draw(s.t, "text") {
		p = text(len(p), len(p))
	}
	s.now = s.now.Add(time.Duration(rapid.IntRange(0, 150).Draw(s.t, "ms")) * time.Millisecond)
	if s.done {
		s.stream = append(s.stream, p...)
		return s.do(func() error { return s.w.AppendStream(p, s.now) })
	}
	s.rdb = append(s.rdb, p...)
	return s.do(func() error { return s.w.AppendRDB(p, s.now) })
}

func (s *model) clock() bool {
	offset := testIdentity().Start + repl.Offset(len(s.stream)+rapid.IntRange(0, 500).Draw(s.t, "ahead"))
	return s.do(func() error {
		return s.w.AppendClock(ClockSample{SourceMicros: s.now.UnixMicro(), Offset: offset, LocalMicros: s.now.UnixMicro()})
	})
}

func (s *model) sync() bool {
	return s.do(func() error {
		d, err := s.w.Sync()
		if err == nil && (d.Offset != testIdentity().Start+repl.Offset(len(s.stream)) || d.RDBBytes != int64(len(s.rdb))) {
			s.t.Fatalf("sync: got %+v, want %d rdb and %d stream bytes", d, len(s.rdb), len(s.stream))
		}
		if err == nil && rapid.Bool().Draw(s.t, "record") {
			s.vouched = d
		}
		return err
	})
}

func (s *model) endRDB() bool {
	if s.done {
		return true
	}
	s.done = true
	return s.do(func() error { return s.w.EndRDB(7, true) })
}

// recover takes up what is there, which must hold all that was published and
// nothing that was not appended.
func (s *model) recover() {
	published := s.w.Durable()
	s.w.Close()
	w, rec, err := Recover(testDir, testJob, 1, s.vouched, s.o)
	if err != nil {
		s.t.Fatalf("recover: %v", err)
	}
	d := rec.Durable
	if d.Offset < published.Offset || d.RDBBytes < published.RDBBytes || published.RDBDone && !d.RDBDone {
		s.t.Fatalf("recover: got %+v, and %+v was published", d, published)
	}
	if d.RDBDone && !s.done || d.RDBBytes > int64(len(s.rdb)) || int(d.Offset-testIdentity().Start) > len(s.stream) {
		s.t.Fatalf("recover: got %+v, which is more than was appended", d)
	}
	s.w, s.vouched = w, d
	s.rdb, s.stream, s.done = s.rdb[:d.RDBBytes], s.stream[:d.Offset-testIdentity().Start], d.RDBDone
	if !d.RDBDone {
		if err := w.Seal(); err != nil {
			s.t.Fatal(err)
		}
		s.create()
	}
}

// look compares what readers get with what is durable.
func (s *model) look() {
	g, err := openGroup(s.m, testDir, testJob, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	g.Vouch(s.vouched)
	d := s.w.Durable()
	want := s.stream[:d.Offset-testIdentity().Start]
	if !d.RDBDone {
		if _, err := g.OpenRDB(s.epoch); !errors.Is(err, ErrRDBIncomplete) {
			s.t.Fatalf("rdb that is not complete: got %v, want ErrRDBIncomplete", err)
		}
		return
	}
	r, err := g.OpenRDB(s.epoch)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	from := rapid.IntRange(0, len(s.rdb)).Draw(s.t, "rdb from")
	if err := r.SeekTo(int64(from)); err != nil {
		s.t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, s.rdb[from:]) {
		s.t.Fatalf("rdb from %d: got %d bytes and %v, want %d", from, len(got), err, len(s.rdb)-from)
	}
	after := rapid.IntRange(0, len(want)).Draw(s.t, "after")
	sr, err := g.OpenStream(s.epoch, testIdentity().Start+repl.Offset(after))
	if err != nil {
		s.t.Fatal(err)
	}
	defer sr.Close()
	if got, _, end := drain(sr); end != ErrEnd || !bytes.Equal(got, want[after:]) {
		s.t.Fatalf("stream after %d: got %d bytes and %v, want %d", after, len(got), end, len(want)-after)
	}
	if s.follow == nil {
		if s.follow, err = g.OpenStream(s.epoch, testIdentity().Start); err != nil {
			s.t.Fatal(err)
		}
	}
	more, _, end := drain(s.follow)
	if s.read = append(s.read, more...); end != ErrEnd || !bytes.Equal(s.read, want) {
		s.t.Fatalf("follower: got %d bytes and %v, want %d", len(s.read), end, len(want))
	}
}

func (s *model) check() {
	rep, err := check(s.m, testDir, CheckOptions{Job: testJob, Vouched: map[repl.GroupID]Durable{1: s.w.Durable()}})
	if err != nil || !rep.OK() {
		s.t.Fatalf("check: got %+v, %v", rep, err)
	}
}

// TestSpoolAgainstModel runs writer, crashes, power cuts and readers at
// random.
func TestSpoolAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &model{t: rt, m: fsx.NewMem(), now: testStart}
		s.o = WriterOptions{FS: s.m, Now: func() time.Time { return s.now }}
		s.o.SegmentBytes = rapid.SampledFrom([]int64{1, 1000, 4000, 1 << 20}).Draw(rt, "segment bytes")
		s.create()
		steps := func() bool { // until the power goes
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0:
				return s.clock()
			case 1:
				return s.endRDB()
			case 2, 3, 4:
				return s.sync()
			}
			return s.append()
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(*rapid.T) { steps() },
			"sync":  func(*rapid.T) { s.sync() },
			"look":  func(*rapid.T) { s.look() },
			"check": func(*rapid.T) { s.check() },
			"clean restart": func(*rapid.T) {
				if err := s.w.Seal(); err != nil {
					rt.Fatal(err)
				}
				s.recover()
			},
			"kill": func(*rapid.T) {
				// The process dies inside a write: the tail ends in a piece of it.
				if s.w.f != nil {
					if err := s.w.flush(); err != nil {
						rt.Fatal(err)
					}
					b := noise(rapid.Uint64().Draw(rt, "garbage"), rapid.IntRange(0, 100).Draw(rt, "garbage size"))
					s.w.f.Write(b)
					size := s.w.tally.pos + int64(len(b))
					durable := max(s.w.Durable().Bytes, segHeaderSize)
					if s.w.Durable().Seq == s.w.seq && rapid.Bool().Draw(rt, "cut") {
						s.w.f.Truncate(durable + rapid.Int64Range(0, max(0, size-durable)).Draw(rt, "size"))
					}
				}
				s.recover()
			},
			"power cut": func(*rapid.T) {
				left := s.m.Ops() + rapid.IntRange(0, 12).Draw(rt, "operations left")
				s.m.SetFail(func(op fsx.Op) error {
					if op.N >= left {
						return errPower
					}
					return nil
				})
				for i := 0; i < 10 && steps(); i++ {
				}
				s.m.SetFail(nil)
				s.m = s.m.Crash(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "lost blocks"), 0)))
				s.o.FS = s.m
				s.unfollow()
				s.recover()
			},
			"new epoch": func(*rapid.T) {
				if err := s.w.Seal(); err != nil {
					rt.Fatal(err)
				}
				s.create()
			},
		})
		s.unfollow()
	})
}

// TestPowerCutAtEveryOperation stops one fixed life of a spool after each of
// its operations, drops unsynced blocks, and takes it up again.
func TestPowerCutAtEveryOperation(t *testing.T) {
	stream := text(0, 3000)
	for stop := 0; ; stop++ {
		m := fsx.NewMem()
		ok(t, m.MkdirAll("/"))
		m.SetFail(func(op fsx.Op) error {
			if op.N >= stop {
				return errPower
			}
			return nil
		})
		o := options(m)
		o.SegmentBytes = 700
		var d Durable
		life := func() error {
			w, err := Create(testDir, testIdentity(), o)
			if err != nil {
				return err
			}
			defer func() { d = w.Durable() }()
			steps := []func() error{
				func() error { return w.BeginRDB(3) },
				func() error { return w.AppendRDB([]byte("RDB"), testStart) },
				func() error { return w.EndRDB(1, true) },
			}
			for at := 0; at < len(stream); at += 300 {
				steps = append(steps,
					func() error { return w.AppendStream(stream[at:at+300], testStart) },
					func() error { _, err := w.Sync(); return err })
			}
			for _, step := range append(steps, w.Seal) {
				if err := step(); err != nil {
					return err
				}
			}
			return nil
		}
		err := life()
		for seed := range uint64(8) {
			c := m.Crash(rand.New(rand.NewPCG(seed, 3)))
			co := options(c)
			w, rec, rerr := Recover(testDir, testJob, 1, d, co)
			if errors.Is(rerr, ErrNoEpoch) && d.IsZero() {
				continue
			}
			if rerr != nil {
				t.Fatalf("cut at operation %d, seed %d: %v", stop, seed, rerr)
			}
			if rec.Durable.Offset < d.Offset || d.RDBDone && !rec.Durable.RDBDone {
				t.Fatalf("cut at operation %d, seed %d: got %+v, and %+v was published", stop, seed, rec.Durable, d)
			}
			if rec.Durable.RDBDone {
				ok(t, w.AppendStream([]byte("on"), testStart))
				ok(t, w.Seal())
				want := append(slices.Clone(stream[:rec.Durable.Offset-1000]), "on"...)
				wantStream(t, group(t, c), 1, 1000, want, ErrEnd)
			}
			wantCheck(t, c, CheckOptions{Vouched: map[repl.GroupID]Durable{1: w.Durable()}}, 0, 0)
		}
		if err == nil {
			return
		}
	}
}
